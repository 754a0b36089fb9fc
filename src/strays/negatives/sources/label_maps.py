"""Sources of label maps: an instance is all that bears one label in an image, or one number in a second map."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from strays.data.images import read_map
from strays.errors import InputError
from strays.negatives.sources.base import Instance, InstanceImage
from strays.negatives.sources.pairs import PairedSource, checked_size

__all__ = ["LabelMapSource"]


class LabelMapSource(PairedSource):
    """Images with label maps.

    Attributes:
        legend: the classes by their labels.
        nothing: the labels, and the numbers in instance maps, of what belongs to no instance.
        stuff: the classes that are no things.

    Args:
        pairs: image and label map.
        instance_maps: for every pair a map of whole numbers that parts the instances, or none at all.
    """

    legend: ClassVar[Mapping[int, str]]
    nothing: ClassVar[frozenset[int]] = frozenset()
    stuff: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, pairs: Iterable[tuple[Path, Path]], instance_maps: Iterable[Path] = ()) -> None:
        super().__init__(pairs)
        self.instance_maps = tuple(instance_maps)

    @property
    def names(self) -> frozenset[str]:
        """The classes of the data set, in these images or not."""
        return frozenset(self.legend.values())

    def classes(self, index: int) -> frozenset[str]:
        """Return the names of the classes in an image; decodes its label map, not the image."""
        path = self.pairs[index][1]
        return frozenset(self.legend[label] for label in self._labels_in(read_map(path), path))

    def read(self, index: int) -> InstanceImage:
        """Return the image at ``index``, and what each label or number in it covers."""
        image, labels = self.image_and_map(index)
        present = self._labels_in(labels, self.pairs[index][1])
        if not self.instance_maps:
            return InstanceImage(image, tuple(self._instance(label, labels == label) for label in present))
        path = self.instance_maps[index]
        numbers = checked_size(read_map(path), path, image, self.pairs[index][0])
        return InstanceImage(image, tuple(self._regions(labels, numbers)))

    def _regions(self, labels: NDArray[np.uint8], numbers: NDArray[np.uint8]) -> Iterator[Instance]:
        """Yield what bears one number, called after the most frequent label in it; without any it is nothing."""
        for number in _present(numbers):
            if number in self.nothing:
                continue
            mask = numbers == number
            counts = np.bincount(labels[mask], minlength=256)
            counts[list(self.nothing)] = 0
            if counts.any():
                yield self._instance(int(counts.argmax()), mask)

    def _instance(self, label: int, mask: NDArray[np.bool_]) -> Instance:
        name = self.legend[label]
        return Instance(name, mask, name in self.stuff)

    def _labels_in(self, labels: NDArray[np.uint8], path: Path) -> list[int]:
        present = [label for label in _present(labels) if label not in self.nothing]
        unknown = [label for label in present if label not in self.legend]
        if unknown:
            known = sorted({*self.legend, *self.nothing})
            last = f" and {known[-1]}" if known[-1] >= len(known) else ""
            expected = f"{known[0]} to {len(known) - 1 - bool(last)}{last}"
            raise InputError(f"{path}: label {unknown[0]}, expected {expected}; put the release's map in its place")
        return present


def _present(values: NDArray[np.uint8]) -> list[int]:
    """Return the values in a map in ascending order."""
    return [int(value) for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256))]
