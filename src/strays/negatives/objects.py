"""Objects that are cut out of other images and pasted into the scene."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strays.cards import Card
from strays.errors import InputError
from strays.negatives.base import Negative, Patch, register_negatives
from strays.negatives.cutting import (
    Span,
    bounding_box,
    cut_out,
    mirrored,
    parse_span,
    random_box,
    resized_cut,
    union,
    view,
    view_map,
)
from strays.negatives.sourced import Fold, SourcedNegatives
from strays.negatives.sources import Instance, InstanceImage

__all__ = ["Cut", "Objects", "random_rectangle", "two_labels"]

Cut = Literal["instance", "union", "rectangle-or-labels"]

_CUTS = ("instance", "union", "rectangle-or-labels")
_SIDE, _LEAST = "0.1+0.6", 32
_MISFITS = 20
"""How many instances that are larger than the patch are drawn before it stays as it is."""
_SMALLEST, _STEP = 16, 8
_ADVICE = "name a folder with masks or annotations; patches=DIR needs none"


@register_negatives("objects")
class Objects(SourcedNegatives):
    """Objects by their masks, neither blended nor tinted.

    Three ways to cut: ``instance`` takes one instance of an image (ours). ``union`` is AnomalyMix of PEBAL: all
    instances of an image as they stand, so several objects at once. ``rectangle-or-labels`` is that of DenseHybrid: a
    window of the resized image, of which a rectangle of any content or the pixels of two of its classes are taken; the
    window has a random place in the patch, what is taken keeps its place in the window.

    Reference:
        Tian et al., "Pixel-wise Energy-biased Abstention Learning for Anomaly Segmentation on Complex Urban Driving
        Scenes", ECCV 2022. Grcić et al., "DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition", ECCV
        2022.

    Args:
        folder: images with instances.
        cut: ``instance``, ``union`` or ``rectangle-or-labels``. Sky, road and other stuff is no object to the first
            two.
        exclude: exclusion list, by whose classes images are left out; PEBAL has ``meta-ood``.
        min_size: the least height and width of an image in pixels; by default what the list asks for.
        fold: ``train`` leaves every eighth image out, ``val`` takes just those; ``all`` by default.
        side: LOW+HIGH, the longer side as a share of the patch's shorter side, drawn log-uniformly; ``none`` leaves
            the size. By default ``0.1+0.6`` for ``instance`` and ``none`` for the others, as published. What is not
            resized and larger than the patch is not pasted; of ``instance``, others are tried first.
        flip: whether half of the objects are mirrored; by default for ``instance`` only.
        count: how many are pasted into a patch, a number or LOW+HIGH.
        least: the longer side in pixels that an instance needs; by default 32 where it is resized, else 1.
        feather: width in pixels of a blended edge; none in any published method.
        rectangle: probability of a rectangle in ``rectangle-or-labels``.
        short: the shorter side in pixels that ``rectangle-or-labels`` resizes images to.
        zoom: LOW+HIGH, the random scale on top of that, drawn uniformly.
        window: side in pixels of the square window that it cuts, at most as large as the patch.

    Raises:
        InputError: if a setting is wrong, or the folder holds nothing that can be used.
    """

    card: ClassVar[Card] = Card(
        title="Pasted objects",
        summary="Objects cut out of other images by their masks, pasted at a random place in the scene.",
        paper="Pixel-wise Energy-biased Abstention Learning for Anomaly Segmentation on Complex Urban Driving Scenes",
        year=2022,
        url="https://arxiv.org/abs/2111.12264",
        notes="cut=union and cut=rectangle-or-labels place as PEBAL and DenseHybrid do, but in the crop that is shown. "
        "cut=instance, the sizes, the mirroring and the number of objects are our own choices.",
    )

    def __init__(
        self,
        folder: Path | None = None,
        /,
        *,
        cut: Cut = "instance",
        exclude: str = "none",
        min_size: int | None = None,
        fold: Fold = "all",
        side: str = "auto",
        flip: bool | None = None,
        count: int | str = 1,
        least: int | None = None,
        feather: int = 0,
        rectangle: float = 0.5,
        short: int = 384,
        zoom: str = "0.5+2",
        window: int = 192,
    ) -> None:
        if cut not in _CUTS:
            raise InputError(f"objects: cut is {cut!r}, expected one of {', '.join(_CUTS)}")
        _check(least=(least or 0, 0), feather=(feather, 0), short=(short, 1), window=(window, 1))
        self.cut = cut
        ours = cut == "instance"
        self.side = _side(_SIDE if ours and side == "auto" else side)
        self.flip = ours if flip is None else flip
        self.count = parse_span("objects: count", count, 1, whole=True)
        self.least = (_LEAST if ours and self.side else 1) if least is None else least
        self.feather = feather
        self.rectangle = parse_span("objects: rectangle", rectangle, 0, 1)[0]
        self.short = short
        self.zoom = parse_span("objects: zoom", zoom, 1e-3)
        self.window = window
        super().__init__("objects", folder, exclude, min_size, fold)

    def mix(self, patch: Patch, random: np.random.Generator) -> Patch:
        """Return the patch with objects in it, each at a place where it fits, all of them equally likely."""
        least, most = (int(end) for end in self.count)
        for _ in range(int(random.integers(least, most + 1))):
            patch = super().mix(patch, random)
        return patch

    def sample(self, random: np.random.Generator, size: tuple[int, int]) -> Negative | None:
        """Return what was cut, at most (h, w) = ``size``; None where it is larger.

        Raises:
            InputError: if no image that was looked at has anything to cut.
        """
        cut: Negative | None = None
        for cut in islice(self._cuts(random, size), _MISFITS if self.cut == "instance" else 1):
            scaled = cut if self.side is None else _scaled(cut, self.side, size, random)
            if scaled.fits(size):
                return self._finished(scaled, random)
        if cut is None:
            raise self.unusable(*self._missing())
        return None

    def _cuts(self, random: np.random.Generator, size: tuple[int, int]) -> Iterator[Negative]:
        if self.cut == "rectangle-or-labels":
            yield from self._windows(random, size)
            return
        for picture in self.drawn(random):
            large = [one.mask for one in picture.things if _longer_side(one.mask) >= self.least]
            if self.cut == "union" and large:
                yield cut_out(picture.image, union(large))
            elif large:
                yield from (cut_out(picture.image, large[index]) for index in random.permutation(len(large)))

    def _windows(self, random: np.random.Generator, size: tuple[int, int]) -> Iterator[Negative]:
        by_labels = random.random() >= self.rectangle
        for picture in self.drawn(random):
            image, seen = self._window(picture, random, size)
            shape = image.shape[0], image.shape[1]
            mask = two_labels(picture.instances, seen, random) if by_labels else random_rectangle(shape, random)
            if mask is not None:
                yield Negative(image, mask.astype(np.uint8))

    def _window(
        self, picture: InstanceImage, random: np.random.Generator, size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], Callable[[NDArray[np.bool_]], NDArray[np.bool_]]]:
        """Return a random window of a resized image, and what gives the same window of a mask."""
        have = picture.image.shape[0], picture.image.shape[1]
        scale = self.short / min(have) * random.uniform(*self.zoom)
        height, width = (
            max(1, min(self.window, most, round(side * scale))) for side, most in zip(have, size, strict=True)
        )
        box = random_box(have, (height / scale, width / scale), random)
        image = view(picture.image, box, (height, width))
        return image, lambda mask: view_map(mask.view(np.uint8), box, (height, width)).view(np.bool_)

    def _finished(self, negative: Negative, random: np.random.Generator) -> Negative:
        if self.flip and random.random() < 0.5:
            negative = mirrored(negative)
        return _feathered(negative, self.feather) if self.feather else negative

    def _missing(self) -> tuple[str, str]:
        if self.cut == "instance" and self.least > 1:
            return f"an object of at least {self.least} pixels", f"set objects:least=1={self.folder}, or {_ADVICE}"
        return "an object to cut out", _ADVICE


def random_rectangle(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.bool_]:
    """Return a mask of (h, w) = ``size`` that is True in a rectangle anywhere in it.

    Its height and width are drawn independently from 16, 24, 32, ... below the shorter side; in a window too small for
    that both are half of the shorter side.
    """
    shorter = min(size)
    sides = range(_SMALLEST, shorter, _STEP) or (max(1, shorter // 2),)
    height, width = (int(random.choice(sides)) for _ in range(2))
    top, left = (int(random.integers(0, have - want + 1)) for have, want in zip(size, (height, width), strict=True))
    mask = np.zeros(size, np.bool_)
    mask[top : top + height, left : left + width] = True
    return mask


def two_labels(
    instances: tuple[Instance, ...],
    seen: Callable[[NDArray[np.bool_]], NDArray[np.bool_]],
    random: np.random.Generator,
) -> NDArray[np.bool_] | None:
    """Return the union of the masks of two ids, drawn with replacement from those in a window; None where none is.

    Args:
        instances: what is in the image; instances of one name are one id, those without a name one id each.
        seen: gives the window of a mask.
        random: where the chance comes from.
    """
    ids: dict[str | int, list[NDArray[np.bool_]]] = {}
    for number, one in enumerate(instances):
        ids.setdefault(one.name or number, []).append(one.mask)
    masks = [mask for group in ids.values() if (mask := seen(union(group))).any()]
    if not masks:
        return None
    first, second = (int(random.integers(len(masks))) for _ in range(2))
    return masks[first] | masks[second]


def _side(text: str) -> Span | None:
    return None if text in ("auto", "none") else parse_span("objects: side", text, 1e-6, 1)


def _longer_side(mask: NDArray[np.bool_]) -> int:
    rows, columns = bounding_box(mask)
    return max(int(rows.stop - rows.start), int(columns.stop - columns.start))


def _scaled(negative: Negative, side: Span, size: tuple[int, int], random: np.random.Generator) -> Negative:
    """Return a negative whose longer side is a random share of the shorter side of a patch."""
    tight = cut_out(negative.image, negative.mask.astype(np.bool_))
    share = float(np.exp(random.uniform(*np.log(side))))
    scale = share * min(size) / max(tight.size)
    height, width = (max(1, round(scale * have)) for have in tight.size)
    return resized_cut(tight, (height, width))


def _feathered(negative: Negative, width: int) -> Negative:
    """Return a negative that grows opaque over so many pixels from its edge inwards."""
    inside = np.pad(negative.mask, 1)
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
    return replace(negative, opacity=np.clip(depth / (width + 1), 0, 1).astype(np.float32))


def _check(**settings: tuple[int, int]) -> None:
    for name, (value, least) in settings.items():
        if value < least:
            raise InputError(f"objects: {name} is {value}, expected a whole number from {least}")
