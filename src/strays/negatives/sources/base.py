"""The contract of a source: images with the masks of what is in them, read when they are asked for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from strays.errors import InputError
from strays.registry import Registry

__all__ = ["SOURCES", "Instance", "InstanceImage", "InstanceSource", "open_instances", "register_source"]


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing, or in sources of label maps all pixels of one class.

    Args:
        name: its class, or "" where the source does not tell.
        mask: bool (H, W), with at least one pixel.
        stuff: whether it is no thing, but what things stand on and in front of: sky, road, grass.
    """

    name: str
    mask: NDArray[np.bool_]
    stuff: bool = False


@dataclass(frozen=True, eq=False)
class InstanceImage:
    """An image and the instances in it.

    Args:
        image: uint8 (H, W, 3) RGB.
        instances: what is in it; may overlap, may be none.
    """

    image: NDArray[np.uint8]
    instances: tuple[Instance, ...]

    @property
    def things(self) -> tuple[Instance, ...]:
        """The instances that are no stuff."""
        return tuple(one for one in self.instances if not one.stuff)


class InstanceSource(ABC):
    """The images of one folder.

    Attributes:
        layout: what such a folder looks like, for messages.
        order: who is asked first whether a folder is theirs: 0 the layouts of one data set, 1 anybody's images with
            masks, 2 cut-outs, 3 images alone.
    """

    layout: ClassVar[str]
    order: ClassVar[int] = 0

    @classmethod
    @abstractmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the source in a folder, or None where the folder has another layout.

        Where a layout has splits, the training split is read; others only where there is none.

        Raises:
            InputError: if the layout is this one and nothing in it can be used.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images, those without any instance included."""

    @abstractmethod
    def read(self, index: int) -> InstanceImage:
        """Return the image at ``index`` with its instances.

        Raises:
            InputError: if a file cannot be read or does not fit the other.
        """

    @abstractmethod
    def classes(self, index: int) -> frozenset[str]:
        """Return the names of the classes in an image, without decoding it; none where the source does not tell.

        Raises:
            InputError: if what names them cannot be read.
        """

    @property
    def names(self) -> frozenset[str]:
        """The classes that the source tells apart, in its images or not; none where it does not name them."""
        return frozenset[str]().union(*(self.classes(index) for index in range(len(self))))

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image in pixels; a source that can tell without reading it overrides this."""
        height, width = self.read(index).image.shape[:2]
        return height, width


SOURCES: Registry[type[InstanceSource]] = Registry("source of negatives", "strays.negatives.sources")


def register_source(name: str) -> Callable[[type[InstanceSource]], type[InstanceSource]]:
    """Return a decorator that enters a layout under ``name``."""
    return SOURCES.register(name)


def open_instances(folder: Path) -> InstanceSource:
    """Return the source in a folder, the first in ``order`` and then by name whose layout the folder has.

    Raises:
        InputError: if the folder is missing, or has none of the known layouts, or has no image.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}: check the path behind the = of --negatives")
    kinds = sorted(SOURCES.items(), key=lambda entry: entry[1].order)
    for _, kind in kinds:
        source = kind.open(folder)
        if source is not None and len(source):
            return source
    known = "; ".join(f"{name}: {kind.layout}" for name, kind in kinds)
    raise InputError(f"{folder} has none of the layouts of negatives; point at the folder that has one: {known}")
