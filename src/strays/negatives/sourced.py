"""What kinds of negatives have in common that are cut from the images of a folder."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from strays.errors import InputError
from strays.negatives.base import PastedNegatives
from strays.negatives.sources import InstanceImage, open_instances
from strays.negatives.sources.exclusion import remaining

__all__ = ["Fold", "SourcedNegatives"]

Fold = Literal["all", "train", "val"]

_TRIES = 100
"""How many images are looked at for one negative before the folder is given up."""

_EVERY = 8


class SourcedNegatives(PastedNegatives):
    """Negatives from the images of a folder that remain under an exclusion list, all equally likely.

    Args:
        kind: what the kind is called, for messages.
        folder: a folder with one of the layouts of ``strays.negatives.sources``.
        exclude: exclusion list: images with a class of it are left out.
        min_size: the least height and width of an image in pixels; None for what the list asks for.
        fold: ``val`` takes every eighth image that remains, ``train`` the others, ``all`` all: so that a choice can be
            made on things that training never saw.

    Raises:
        InputError: if no folder is given, it has no known layout, or no image remains.
    """

    def __init__(self, kind: str, folder: Path | None, exclude: str, min_size: int | None, fold: Fold = "all") -> None:
        if folder is None:
            raise InputError(f"{kind} needs a folder of images to cut from: write {kind}=DIR")
        self.kind = kind
        self.folder = folder
        self.exclude = exclude
        self.source = open_instances(folder)
        try:
            self._kept = np.array(remaining(self.source, exclude, min_size), np.int64)
        except InputError as error:
            raise error if str(folder) in str(error) else InputError(f"{folder}: {error}") from error
        self._kept = self._kept[_in_fold(kind, fold, len(self._kept))]
        if not len(self._kept):
            fix = f"exclude fewer classes, such as none with {kind}:exclude=none={folder}, or lower min_size"
            asked = f"exclude={exclude}" if fold == "all" else f"exclude={exclude}, fold={fold}"
            raise InputError(f"{folder}: {asked} leaves none of its {len(self.source)} images; {fix}")

    def __len__(self) -> int:
        """Return the number of images that remain under the exclusion list."""
        return len(self._kept)

    def drawn(self, random: np.random.Generator) -> Iterator[InstanceImage]:
        """Yield up to a hundred different images in random order; one that cannot be read is a warning."""
        for index in random.choice(self._kept, min(_TRIES, len(self._kept)), replace=False):
            try:
                yield self.source.read(int(index))
            except InputError as error:
                warnings.warn(f"no negatives are cut from it: {error}", stacklevel=2)

    def unusable(self, what: str, fix: str) -> InputError:
        """Return the error for a folder in which none of the images that were looked at will do."""
        looked = min(_TRIES, len(self._kept))
        found = f"none of {looked} images looked at has {what} (exclude={self.exclude})"
        return InputError(f"{self.folder}: {found}; {fix}")


def _in_fold(kind: str, fold: Fold, count: int) -> NDArray[np.bool_]:
    if fold not in get_args(Fold):
        raise InputError(f"{kind}: fold is {fold!r}, expected one of {', '.join(get_args(Fold))}")
    numbers = np.arange(count)
    return (numbers >= 0) if fold == "all" else (numbers % _EVERY == 0) == (fold == "val")
