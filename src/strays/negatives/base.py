"""The contract of negatives: an inlier patch in, the same patch with negatives in it out."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from strays.cards import Card
from strays.errors import InputError
from strays.registry import Registry
from strays.specs import parsed_settings
from strays.taxonomy import IGNORE

__all__ = ["NEGATIVES", "Negative", "Negatives", "PastedNegatives", "Patch", "build_negatives", "register_negatives"]

_SPEC = re.compile(r"(?P<kind>[\w-]+)(:(?P<settings>[\w-]+=[^=,]*(,[\w-]+=[^=,]*)*))?(=(?P<source>.+))?")


@dataclass(frozen=True, eq=False)
class Patch:
    """What a network is shown in training.

    Args:
        image: uint8 (h, w, 3) RGB.
        labels: uint8 (h, w) class indices, 255 = no class.
        mask: uint8 (h, w): 0 = part of the scene, 1 = negative, 255 = shows no scene.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    mask: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape[0], self.labels.shape[1]


@dataclass(frozen=True, eq=False)
class Negative:
    """Something that does not belong, ready to be pasted.

    Args:
        image: uint8 (h, w, 3) RGB.
        mask: uint8 (h, w): 1 = negative, 0 = is not pasted, 255 = is pasted and counts nowhere.
        opacity: float32 (h, w) in [0, 1], how much of the scene a pasted pixel covers; all of it by default, as in the
            published methods, none of which blends.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    opacity: NDArray[np.float32] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.mask.shape[0], self.mask.shape[1]

    def fits(self, size: tuple[int, int]) -> bool:
        """Return whether it is at most (h, w) = ``size``."""
        return self.size[0] <= size[0] and self.size[1] <= size[1]

    def pasted(self, patch: Patch, top: int, left: int) -> Patch:
        """Return a copy of a patch with this in it, its upper left corner at (top, left); it has to fit."""
        height, width = self.size
        window = np.s_[top : top + height, left : left + width]
        taken = self.mask != 0
        image, labels, mask = patch.image.copy(), patch.labels.copy(), patch.mask.copy()
        image[window][taken] = self._over(image[window])[taken]
        labels[window][taken] = IGNORE
        mask[window][taken] = self.mask[taken]
        return replace(patch, image=image, labels=labels, mask=mask)

    def placed(self, patch: Patch, random: np.random.Generator) -> Patch:
        """Return a copy of a patch with this at a place where it fits, all of them equally likely."""
        room = [have - want for have, want in zip(patch.size, self.size, strict=True)]
        top, left = (int(random.integers(0, free + 1)) for free in room)
        return self.pasted(patch, top, left)

    def _over(self, scene: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.opacity is None:
            return self.image
        part = self.opacity[..., None]
        return (part * self.image + (1 - part) * scene).round().astype(np.uint8)


class Negatives(ABC):
    """A kind of negatives: seeded by the generator it is given, and by nothing else.

    A subclass under ``@register_negatives(name)`` in a module of ``strays.negatives`` takes the folder it reads from,
    or None, as its only positional argument, and its settings by keyword.

    Attributes:
        card: the facts about the kind.
        everywhere: whether it applies to every patch, whatever else is in it; other kinds are drawn.

    Raises:
        InputError: on construction, if the folder is missing or holds nothing that can be used.
    """

    card: ClassVar[Card]
    everywhere: ClassVar[bool] = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images that negatives are made of; kinds are drawn in proportion to it."""

    @abstractmethod
    def mix(self, patch: Patch, random: np.random.Generator) -> Patch:
        """Return a patch with negatives in it; the one that is given is not changed, and returned where none fits.

        Raises:
            InputError: if nothing that can be used was found.
        """


class PastedNegatives(Negatives):
    """Negatives that are cut out somewhere and pasted into the patch; a subclass defines ``sample``."""

    @abstractmethod
    def sample(self, random: np.random.Generator, size: tuple[int, int]) -> Negative | None:
        """Return a negative of at most (h, w) = ``size``, or None where the one that was drawn does not fit."""

    def mix(self, patch: Patch, random: np.random.Generator) -> Patch:
        """Return a copy of a patch with a negative in it, at a place where it fits, all of them equally likely."""
        negative = self.sample(random, patch.size)
        return patch if negative is None else negative.placed(patch, random)


NEGATIVES: Registry[Callable[..., Negatives]] = Registry("kind of negatives", "strays.negatives")


def register_negatives(name: str) -> Callable[[type[Negatives]], type[Negatives]]:
    """Return a decorator that enters a kind of negatives, built from a folder and keyword arguments, under ``name``."""
    return NEGATIVES.register(name)


def build_negatives(spec: str) -> Negatives:
    """Return the negatives that ``KIND=DIR``, ``KIND:key=value,key=value=DIR`` or ``KIND`` describes.

    Raises:
        InputError: if there is no such kind, setting or folder, or nothing usable in the folder.

    Example:
        >>> build_negatives("void").everywhere
        True
    """
    found = _SPEC.fullmatch(spec.strip())
    if found is None:
        raise InputError(f"expected negatives as KIND=DIR, such as objects=coco128_seg, got {spec!r}")
    name, settings, source = found["kind"], found["settings"] or "", found["source"]
    kind = NEGATIVES[name]
    folder = None if source is None else Path(source).expanduser()
    return kind(folder, **parsed_settings(name, kind, settings.split(",")))
