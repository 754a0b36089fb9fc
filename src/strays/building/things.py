"""What is pasted: things as they were found, and the objects of a folder."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strays.building.classes import extent_in_metres
from strays.errors import InputError
from strays.journal import Record
from strays.negatives import Negative
from strays.negatives.cutting import bounding_box, cut_out, union
from strays.negatives.sources import Instance, InstanceImage, InstanceSource, open_instances
from strays.negatives.sources.coco_json import CocoJson
from strays.negatives.sources.cutouts import Cutouts
from strays.negatives.sources.exclusion import remaining
from strays.negatives.sources.pairs import PairedSource
from strays.specs import parsed_settings

__all__ = ["SEARCHED", "ObjectThings", "Thing", "Things", "hidden_share", "is_upright", "is_whole"]

_SPEC = re.compile(r"objects(:(?P<settings>[\w-]+=[^=,]*(,[\w-]+=[^=,]*)*))?=(?P<folder>.+)")
SEARCHED = 200
"""How many images are looked at for one frame before the search is given up."""
_BORDER = 2
_CONNECTED = 0.9
_SOLE, _SLACK = 0.12, 0.08


@dataclass(frozen=True, eq=False)
class Thing:
    """One thing, or all of an image together, as it was found.

    Args:
        image: uint8 (H, W, 3) RGB, all of it.
        mask: bool (H, W), with at least one pixel.
        name: its class, or "" where nobody tells.
        origin: where it was found, for the manifest.
        metres_per_pixel: how large its pixels are, None where only its class can tell.
        others: bool (H, W), where there are things that may hide a part of it.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    name: str
    origin: Record
    metres_per_pixel: float | None = None
    others: NDArray[np.bool_] | None = None

    @property
    def cut(self) -> Negative:
        """Its pixels within the box around them."""
        return cut_out(self.image, self.mask)

    def metres(self, random: np.random.Generator) -> float:
        """Return how many metres a pixel of it is; by its class, a little different for each of them."""
        if self.metres_per_pixel is not None:
            return self.metres_per_pixel
        metres, pixels = extent_in_metres(self.name, self.cut.size)
        return metres / pixels * float(np.exp(random.uniform(-0.15, 0.25)))


class Things(ABC):
    """Where things come from."""

    @abstractmethod
    def drawn(self, random: np.random.Generator, apart_from: str = "") -> Iterator[Thing]:
        """Yield things one by one, from images in random order.

        Args:
            random: where the chance comes from.
            apart_from: the name of a frame that nothing is cut out of.
        """


class ObjectThings(Things):
    """The objects of a folder, as negatives are cut from.

    Args:
        spec: ``DIR``, ``objects=DIR``, or ``objects:exclude=meta-ood,min_size=480=DIR``: as for negatives, images with
            a class of a list, or with smaller sides, are left out.
        wanted: whether things of a class are; "" is the class of those that nobody tells.
        exclude: the exclusion list where the specification names none.
        named: classes that the folder has to know.

    Raises:
        InputError: if there is no such folder, it holds no objects, or none of the wanted classes.
    """

    def __init__(
        self,
        spec: str,
        wanted: Callable[[str], bool],
        exclude: str = "none",
        named: Collection[str] = (),
    ) -> None:
        self.folder, self.exclude, min_size = _parsed(spec, exclude)
        self.source = _opened(self.folder)
        _check_names(self.source, self.folder, named)
        self.wanted = wanted
        kept = remaining(self.source, self.exclude, min_size)
        self.names = self.source.names
        if self.names:
            kept = [index for index in kept if any(map(wanted, self.source.classes(index)))]
        self._kept = np.array(kept, np.int64)
        if not kept:
            known = f"; its classes: {', '.join(sorted(self.names))}" if self.names else ""
            raise InputError(f"{self.folder}: none of its {len(self.source)} images has an object to paste{known}")

    def __len__(self) -> int:
        """Return the number of images with something to paste, as far as their classes tell."""
        return len(self._kept)

    def drawn(self, random: np.random.Generator, apart_from: str = "") -> Iterator[Thing]:
        """Yield objects one by one, those of an image in random order."""
        for index, picture in self._pictures(random):
            crowd = np.sum([one.mask for one in picture.things], axis=0, dtype=np.int32)
            for number in random.permutation(len(picture.instances)):
                one = picture.instances[number]
                if self._is_wanted(one):
                    others = crowd - one.mask > 0
                    yield Thing(picture.image, one.mask, one.name, self._origin(index, [int(number)]), others=others)

    def united(self, random: np.random.Generator) -> Iterator[Thing]:
        """Yield all objects of an image together, image by image."""
        for index, picture in self._pictures(random):
            numbers = [number for number, one in enumerate(picture.instances) if self._is_wanted(one)]
            if numbers:
                name = "+".join(sorted({picture.instances[number].name for number in numbers} - {""}))
                mask = union(picture.instances[number].mask for number in numbers)
                yield Thing(picture.image, mask, name, self._origin(index, numbers))

    def _pictures(self, random: np.random.Generator) -> Iterator[tuple[int, InstanceImage]]:
        for index in random.choice(self._kept, min(SEARCHED, len(self._kept)), replace=False):
            try:
                yield int(index), self.source.read(int(index))
            except InputError:  # one damaged image of many costs nothing
                continue

    def _is_wanted(self, one: Instance) -> bool:
        return not one.stuff and (self.wanted(one.name) if self.names else True)

    def _origin(self, index: int, numbers: Sequence[int]) -> Record:
        return {"image": _image_path(self.source, index), "index": index, "instances": list(numbers)}


def is_whole(mask: NDArray[np.bool_]) -> bool:
    """Return whether a thing (H, W) lies in the image with all its sides, and in one piece as good as."""
    rows, columns = bounding_box(mask)
    inside = min(rows.start, columns.start, mask.shape[0] - rows.stop, mask.shape[1] - columns.stop) >= _BORDER
    if not inside:
        return False
    regions, _ = ndimage.label(mask[rows, columns], np.ones((3, 3)))
    return bool(np.bincount(regions.ravel())[1:].max() >= _CONNECTED * mask.sum())


def is_upright(mask: NDArray[np.bool_]) -> bool:
    """Return whether a thing (H, W) has its middle above its sole, as what is cut off by something else rarely has."""
    mask = mask[bounding_box(mask)]
    height, width = mask.shape
    sole = np.flatnonzero(mask[height - max(1, round(_SOLE * height)) :].any(0))
    middle, slack = float(np.nonzero(mask)[1].mean()), _SLACK * width
    return bool(sole[0] - slack <= middle <= sole[-1] + slack)


def hidden_share(mask: NDArray[np.bool_], others: NDArray[np.bool_]) -> float:
    """Return the share of the rim around a thing (H, W) that other things (H, W) have, which may hide a part of it."""
    rows, columns = bounding_box(mask)
    wider = np.s_[max(0, rows.start - 2) : rows.stop + 2, max(0, columns.start - 2) : columns.stop + 2]
    rim = ndimage.binary_dilation(mask[wider], iterations=2) & ~mask[wider]
    return float((others[wider] & rim).sum() / max(1, rim.sum()))


def _parsed(spec: str, exclude: str) -> tuple[Path, str, int | None]:
    """Return folder, exclusion list and smallest size of a specification."""
    folder = Path(spec).expanduser()
    found = None if folder.is_dir() else _SPEC.fullmatch(spec.strip())
    if found is None:
        return folder, exclude, None
    settings = parsed_settings("objects", _settings, (found["settings"] or "").split(","))
    size = settings.get("min_size")
    least = size if isinstance(size, int) else None
    return Path(found["folder"]).expanduser(), str(settings.get("exclude", exclude)), least


def _opened(folder: Path) -> InstanceSource:
    if not folder.is_dir():
        raise InputError(f"no folder {folder} with objects to paste: name a folder, or objects=DIR")
    return open_instances(folder)


def _check_names(source: InstanceSource, folder: Path, named: Collection[str]) -> None:
    names = source.names
    if named and not names:
        raise InputError(f"{folder} does not tell the classes of its objects: take a folder that does")
    if missing := sorted(set(named) - names):
        raise InputError(f"{folder} has no class {', '.join(missing)}; its classes: {', '.join(sorted(names))}")


def _settings(exclude: str = "none", min_size: int = 0) -> None:
    """Take the settings that specify objects to paste."""


def _image_path(source: InstanceSource, index: int) -> str | None:
    """Return the file that an image is read from, where the source is one of ours."""
    if isinstance(source, PairedSource):
        return str(source.pairs[index][0])
    if isinstance(source, Cutouts):
        return str(source.paths[index])
    return str(source.images[index].path) if isinstance(source, CocoJson) else None
