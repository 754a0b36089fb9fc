"""COCO as text files of polygons, as coco128-seg and its like have them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from strays.data.images import read_image
from strays.data.layout import keyed_files
from strays.data.shapes import polygon_mask
from strays.errors import InputError
from strays.negatives.sources.base import Instance, InstanceImage, register_source
from strays.negatives.sources.class_names import COCO
from strays.negatives.sources.pairs import PairedSource, files_ending, paired, read_lines

__all__ = ["CocoPolygons"]

_OWN_NAMES = "classes.txt"
_LARGEST = 1.01
"""Coordinates are fractions of the image, rounded by whoever wrote them."""


@register_source("coco-polygons")
class CocoPolygons(PairedSource):
    """Images with a text file each, a line for every object: ``class x1 y1 x2 y2 ...``, in fractions of the image.

    Images without a text file are left out, as are objects that hold the centre of no pixel. The classes are the 80 of
    COCO unless ``classes.txt`` in the folder names others, one in a line.

    Args:
        pairs: image and text file.
        classes: the names of the classes, in the order of their numbers.
    """

    layout = "images/train2017 with labels/train2017/*.txt, polygons as in coco128-seg"

    def __init__(self, pairs: Iterable[tuple[Path, Path]], classes: Sequence[str] = COCO) -> None:
        super().__init__(pairs)
        self._classes = tuple(classes)

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the images that have a text file, the training split alone if there is one; None in another layout."""
        images, labels = folder / "images", folder / "labels"
        texts = files_ending(labels, (".txt",)) if images.is_dir() and labels.is_dir() else {}
        if not texts:
            return None
        own = folder / _OWN_NAMES
        classes = [line.strip() for line in read_lines(own) if line.strip()] if own.is_file() else COCO
        return cls(paired(keyed_files(images), texts).values(), classes)

    @property
    def names(self) -> frozenset[str]:
        """The classes that numbers stand for, in these images or not."""
        return frozenset(self._classes)

    def classes(self, index: int) -> frozenset[str]:
        """Return the names of the classes in an image; reads its text file alone."""
        return frozenset(name for name, _ in self._polygons(index))

    def read(self, index: int) -> InstanceImage:
        """Return the image at ``index`` and the objects in it."""
        polygons = list(self._polygons(index))
        image = read_image(self.pairs[index][0])
        height, width = image.shape[:2]
        masks = ((name, polygon_mask(points * (width, height), (height, width))) for name, points in polygons)
        return InstanceImage(image, tuple(Instance(name, mask) for name, mask in masks if mask.any()))

    def _polygons(self, index: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
        path = self.pairs[index][1]
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            try:
                yield self._polygon(line.split())
            except ValueError as error:
                raise InputError(f"{path}, line {number}: {error}") from error

    def _polygon(self, words: Sequence[str]) -> tuple[str, NDArray[np.float64]]:
        kind, values = _numbers(words)
        if not 0 <= kind < len(self._classes):
            known = f"there are {len(self._classes)} classes"
            raise ValueError(f"class {kind}, but {known}; name your own in {_OWN_NAMES} in the folder, one in a line")
        if len(values) == 4:
            raise ValueError("a box instead of a polygon; export the data set with segmentation")
        if len(values) < 6 or len(values) % 2:
            raise ValueError(
                f"expected a class and three or more pairs x y, got {len(values)} numbers; export it again"
            )
        if not (values.min() >= 1 - _LARGEST and values.max() <= _LARGEST):
            found = f"expected fractions of width and height, got {values.min():g} to {values.max():g}"
            raise ValueError(f"{found}; divide pixels by the size of the image")
        return self._classes[kind], values.reshape(-1, 2)


def _numbers(words: Sequence[str]) -> tuple[int, NDArray[np.float64]]:
    try:
        return int(words[0]), np.array(words[1:], np.float64)
    except ValueError as error:
        raise ValueError(f"expected a class and numbers, {error}; export it again") from error
