"""Miniature data sets for the tests of the readers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an array under a path relative to ``tmp_path``, as what the suffix or ``kind`` says."""

    def write(name: str, values: NDArray[np.generic], kind: str | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path, format=kind)
        return path

    return write


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """A picture of 8 x 12 pixels."""
    return np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)


@pytest.fixture
def stripes() -> Callable[..., NDArray[np.uint8]]:
    """Make a map of 8 x 12 pixels that holds the given values in vertical stripes."""

    def make(*values: int) -> NDArray[np.uint8]:
        return np.tile(np.resize(np.array(values, np.uint8), 12), (8, 1))

    return make
