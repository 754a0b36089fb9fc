"""One frame in, the same frame with things pasted into it out: like Fishyscapes Static, cut and paste, WD-Pascal."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from strays.building.ground import EYE, SHORTEST, Ground, find_place, read_ground
from strays.building.labelled import RECOGNISABLE
from strays.building.paste import Blending, blended, frame_generator, trimmed
from strays.building.things import ObjectThings, Thing, Things, hidden_share, is_upright, is_whole
from strays.errors import InputError
from strays.journal import Record
from strays.negatives import Negative, Patch
from strays.negatives.cutting import bounding_box, mirrored
from strays.scene import ANOMALY, Scene
from strays.taxonomy import IGNORE, Taxonomy

__all__ = ["LEAST_SHARE", "STYLES", "Composite", "Paster", "Style"]

Style = Literal["fishyscapes", "cut-and-paste", "wd-pascal"]
STYLES: tuple[Style, ...] = get_args(Style)

LEAST_SHARE = 0.007
"""The share of the frame that an object of WD-Pascal has to cover more than."""

_CANDIDATES = 60
"""How many things are tried for one place in a frame."""
_SMALLEST = 40
"""The longer side in pixels that an object needs to be scaled."""
_LEAST = {"anomaly": SHORTEST, "control": RECOGNISABLE}
_HIDDEN = 0.3
"""The largest share of its rim that other objects may have."""
_PLACES = 20


@dataclass(frozen=True, eq=False)
class Composite:
    """A frame and what was pasted into it.

    Args:
        image: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W), 1 = pasted anomaly, 0 = all else, pasted controls among it, 255 = counts nowhere.
        controls: bool (H, W), where things of the inlier classes were pasted.
        objects: what was pasted, for the manifest.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    controls: NDArray[np.bool_]
    objects: tuple[Record, ...] = field(default=())


@dataclass(frozen=True)
class Paster:
    """Pastes things into frames; what a frame becomes depends on the frame, its name and the settings alone.

    Args:
        style: ``fishyscapes`` scales, lights and blends things and stands them on the road. ``cut-and-paste`` is
            AnomalyMix: all objects of an image as they are, anywhere. ``wd-pascal`` pastes one object that covers more
            than 0.7 % of the frame, as it is, anywhere.
        anomalies: where anomalies come from.
        controls: where things of the inlier classes come from; None for none.
        taxonomy: the classes of the frames; ``fishyscapes`` needs them.
        seed: decides all chance.
        per_frame: how many anomalies, and as many controls, at least and at most; other styles paste one.
        blending: how ``fishyscapes`` makes them fit.
        horizon: as a share of the height; by default estimated from the labels of each frame.
        eye: height of the camera above the road in metres.

    Reference:
        Blum et al., "The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation", IJCV 2021, of whose
        Static set ``fishyscapes`` has the idea, not the code. Tian et al., ECCV 2022 (AnomalyMix). Bevandić et al.,
        "Simultaneous Semantic Segmentation and Outlier Detection in Presence of Domain Shift", GCPR 2019 (WD-Pascal).
    """

    style: Style
    anomalies: ObjectThings
    controls: Things | None = None
    taxonomy: Taxonomy | None = None
    seed: int = 0
    per_frame: tuple[int, int] = (1, 1)
    blending: Blending = field(default_factory=Blending)
    horizon: float | None = None
    eye: float = EYE

    def __call__(self, scene: Scene) -> Composite:
        """Return a frame with things in it, without them where none fits.

        Raises:
            InputError: if the style needs labels and the frame has none.
        """
        random = frame_generator(self.seed, scene.name)
        frame = _Frame(scene, _background(scene, self.style))
        if self.style == "fishyscapes":
            self._stand(frame, random)
        else:
            self._drop(frame, random)
        return Composite(frame.image, frame.mask, frame.controls, tuple(frame.objects))

    def _stand(self, frame: "_Frame", random: np.random.Generator) -> None:
        """Stand anomalies and controls on the road of a frame."""
        if frame.scene.labels is None or self.taxonomy is None:
            raise InputError(f"{frame.scene.name} has no labels, and fishyscapes stands things on the road")
        ground = read_ground(frame.scene.labels, self.taxonomy, self.eye, self.horizon)
        count = int(random.integers(self.per_frame[0], self.per_frame[1] + 1))
        for _ in range(count):
            self._one(frame, ground, self.anomalies, "anomaly", random)
        for _ in range(count if self.controls else 0):
            self._one(frame, ground, self.controls, "control", random)

    def _one(
        self, frame: "_Frame", ground: Ground, things: Things | None, kind: str, random: np.random.Generator
    ) -> None:
        candidates = () if things is None else things.drawn(random, frame.scene.name)
        for thing in islice(filter(_is_usable, candidates), _CANDIDATES):
            cut, flip = _outlined(thing), bool(random.random() < 0.5)
            cut = mirrored(cut) if flip else cut
            place = find_place(ground, cut, thing.metres(random), frame.taken, random, _LEAST[kind])
            if place is not None:
                pasted = blended(frame.image, cut, place, self.blending)
                frame.add(pasted.image, pasted.where, kind, thing, {"scale": place.scale, "mirrored": flip})
                return

    def _drop(self, frame: "_Frame", random: np.random.Generator) -> None:
        """Paste an anomaly, and a control, into a frame as they are."""
        united = self.style == "cut-and-paste"
        found = self.anomalies.united(random) if united else self.anomalies.drawn(random)
        least = 0 if united else LEAST_SHARE
        self._dropped(frame, _fitting(found, frame.scene.size, least), "anomaly", random)
        if self.controls is not None:
            found = self.controls.drawn(random, frame.scene.name)
            self._dropped(frame, _fitting(found, frame.scene.size), "control", random)

    def _dropped(self, frame: "_Frame", things: Iterable[Thing], kind: str, random: np.random.Generator) -> None:
        for thing in islice(things, _CANDIDATES):
            for image, where in islice(_anywhere(frame, thing, random), _PLACES):
                if not (where & frame.taken).any():
                    frame.add(image, where, kind, thing, {"scale": 1.0, "mirrored": False})
                    return


class _Frame:
    """A frame while things are pasted into it."""

    def __init__(self, scene: Scene, mask: NDArray[np.uint8]) -> None:
        self.scene = scene
        self.image = scene.image
        self.mask = mask
        self.controls = np.zeros(scene.size, np.bool_)
        self.taken = np.zeros(scene.size, np.bool_)
        self.objects: list[Record] = []

    def add(self, image: NDArray[np.uint8], where: NDArray[np.bool_], kind: str, thing: Thing, how: Record) -> None:
        """Take over an image in which a thing was pasted, and note where and what it is."""
        self.image = image
        self.mask[where] = ANOMALY if kind == "anomaly" else 0
        self.controls[where] = kind == "control"
        self.taken |= where
        rows, columns = bounding_box(where)
        box = [columns.start, rows.start, columns.stop, rows.stop]
        facts: Record = {"kind": kind, "class": thing.name, **thing.origin, "box": box, "pixels": int(where.sum())}
        self.objects.append({**facts, **how})


def _background(scene: Scene, style: Style) -> NDArray[np.uint8]:
    """Return the mask of a frame before anything is pasted: 255 where it counts nowhere.

    What was no inlier before counts nowhere, nor does what has no class or shows no scene; only WD-Pascal counts these.
    """
    mask = np.zeros(scene.size, np.uint8)
    if scene.mask is not None:
        mask[scene.mask != 0] = IGNORE
    if style != "wd-pascal":
        if scene.labels is not None:
            mask[scene.labels == IGNORE] = IGNORE
        if scene.outside is not None:
            mask[scene.outside] = IGNORE
    return mask


def _is_usable(thing: Thing) -> bool:
    """Return whether a thing is whole, upright, in view and large enough to be scaled; cut out by labels it is."""
    if thing.metres_per_pixel is not None:
        return True
    if max(thing.cut.size) < _SMALLEST or not (is_whole(thing.mask) and is_upright(thing.mask)):
        return False
    return thing.others is None or hidden_share(thing.mask, thing.others) <= _HIDDEN


def _outlined(thing: Thing) -> Negative:
    """Return a thing ready to be scaled: outlines drawn by hand are trimmed, labels of every pixel are exact."""
    return trimmed(thing.cut) if thing.metres_per_pixel is None else thing.cut


def _fitting(things: Iterable[Thing], size: tuple[int, int], share: float = 0) -> Iterator[Thing]:
    """Yield those of some things that lie in a frame of (H, W) = ``size`` and cover more than a share of it."""
    for one in things:
        if one.cut.fits(size) and float(one.mask.sum()) > share * size[0] * size[1]:
            yield one


def _anywhere(
    frame: _Frame, thing: Thing, random: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield images with a thing at places that are all equally likely, and where it is in them."""
    nothing = np.zeros(frame.scene.size, np.uint8)
    patch = Patch(frame.image, nothing, nothing)
    while True:
        placed = thing.cut.placed(patch, random)
        yield placed.image, placed.mask == 1
