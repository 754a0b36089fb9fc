"""What the tests of negatives share: a source in memory, and patches whose every pixel is known."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.errors import InputError
from strays.negatives import Patch, sourced
from strays.negatives.sources import Instance, InstanceImage, InstanceSource

FOLDER = Path("in/memory")


class Listed(InstanceSource):
    """Images that are there already; a text in place of one is what is wrong with it."""

    layout = "in memory"

    def __init__(self, pictures: Sequence[InstanceImage | str]) -> None:
        self.pictures = pictures

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        return None

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> InstanceImage:
        picture = self.pictures[index]
        if isinstance(picture, str):
            raise InputError(picture)
        return picture

    def classes(self, index: int) -> frozenset[str]:
        picture = self.pictures[index]
        return frozenset() if isinstance(picture, str) else frozenset(one.name for one in picture.instances)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make any folder hold the given images, and return one."""

    def use(*pictures: InstanceImage | str) -> Path:
        monkeypatch.setattr(sourced, "open_instances", lambda folder: Listed(pictures))
        return FOLDER

    return use


@pytest.fixture
def picture() -> Callable[..., InstanceImage]:
    """Make an image of (H, W) with instances in boxes (top, left, height, width), a name behind where there is one."""

    def make(size: tuple[int, int], *boxes: tuple[int | str, ...], value: int = 0) -> InstanceImage:
        rows, columns = np.indices(size)
        image = np.stack([rows, columns, np.full(size, value)], -1).astype(np.uint8)
        instances = []
        for top, left, height, width, *name in boxes:
            mask = np.zeros(size, bool)
            mask[top : top + height, left : left + width] = True
            instances.append(Instance(*name or ("",), mask))
        return InstanceImage(image, tuple(instances))

    return make


@pytest.fixture
def patch() -> Callable[..., Patch]:
    """Make a patch of one class and one colour that no image of ``picture`` has."""

    def make(size: tuple[int, int], label: int = 3) -> Patch:
        def filled(*shape: int, value: int) -> NDArray[np.uint8]:
            return np.full(shape, value, np.uint8)

        return Patch(filled(*size, 3, value=255), filled(*size, value=label), filled(*size, value=0))

    return make


class Unchanged:
    """Remembers a patch, and tells whether it is still what it was."""

    def __init__(self, patch: Patch) -> None:
        self.patch = patch
        self.before = [one.copy() for one in (patch.image, patch.labels, patch.mask)]

    def check(self) -> None:
        for before, now in zip(self.before, (self.patch.image, self.patch.labels, self.patch.mask), strict=True):
            np.testing.assert_array_equal(before, now)


@pytest.fixture
def unchanged() -> type[Unchanged]:
    return Unchanged
