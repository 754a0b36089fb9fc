"""Miniature copies of the layouts, written as their owners release them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.uint8]
Save = Callable[..., Path]
Write = Callable[[str, str], Path]

SIZE = (9, 14)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an array under a path relative to ``tmp_path``; with a palette where ``palette`` says so."""

    def write(name: str, values: NDArray[np.generic], palette: bool = False) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(values)
        if palette:
            image.putpalette([(37 * number) % 256 for number in range(768)])
        image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
        return path

    return write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a text under a path relative to ``tmp_path``."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return put


@pytest.fixture
def photo() -> Array:
    """A picture of 9 x 14 pixels."""
    return np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture
def blocks() -> Callable[..., Array]:
    """Make a map of 9 x 14 pixels of one value with blocks of others: ``(value, top, bottom, left, right)``."""

    def make(ground: int, *others: tuple[int, int, int, int, int]) -> Array:
        values = np.full(SIZE, ground, np.uint8)
        for value, top, bottom, left, right in others:
            values[top:bottom, left:right] = value
        return values

    return make
