"""What another camera makes of an image: none of it, each alone, and the same again."""

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.training import cameras
from strays.training.cameras import another_camera


@pytest.fixture
def image() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:48, :64]
    return np.stack([4 * columns, 5 * rows, 128 + 60 * ((rows // 4 + columns // 4) % 2)], -1).astype(np.uint8)


def sharpness(image: NDArray[np.uint8]) -> float:
    return float(np.abs(np.diff(image.astype(float), axis=1)).mean())


def test_strength_zero_changes_nothing_and_draws_nothing(image: NDArray[np.uint8]) -> None:
    random, other = np.random.default_rng(0), np.random.default_rng(0)
    assert another_camera(image, 0, random) is image
    assert random.random() == other.random()


@pytest.mark.parametrize("strength", [0.1, 1.0, 3.0])
def test_a_changed_copy_of_the_same_kind(image: NDArray[np.uint8], strength: float) -> None:
    before, changed = image.copy(), 0
    for seed in range(20):
        found = another_camera(image, strength, np.random.default_rng(seed))
        assert (found.shape, found.dtype) == (image.shape, np.uint8)
        changed += not np.array_equal(found, image)
    assert np.array_equal(image, before)
    assert 10 <= changed <= 20


def test_the_same_chance_gives_the_same_image(image: NDArray[np.uint8]) -> None:
    first, again = (another_camera(image, 1, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, another_camera(image, 1, np.random.default_rng(6)))


def test_darkness_takes_light_and_the_least_of_blue() -> None:
    grey = np.full((8, 8, 3), 200, np.uint8)
    shades = np.array([cameras._darkened(grey, 1, np.random.default_rng(seed))[0, 0] for seed in range(50)])
    assert shades.max() <= 200
    assert 36 <= shades.min() <= 60
    assert (shades[:, 2] >= shades[:, 0]).all()


def test_a_coarser_image_is_smoother(image: NDArray[np.uint8]) -> None:
    found = [cameras._coarser(image, 1, np.random.default_rng(seed)) for seed in range(10)]
    assert all(sharpness(one) <= sharpness(image) for one in found)
    assert min(map(sharpness, found)) < 0.9 * sharpness(image)
    assert all(abs(one.mean() - image.mean()) < 2 for one in found)


def test_noise_has_the_deviation_that_was_drawn() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    found = [float(cameras._noisy(grey, 1, np.random.default_rng(seed)).std()) for seed in range(30)]
    assert 8 < max(found) < 12.5
    assert min(found) < 4
    assert abs(float(cameras._noisy(grey, 1, np.random.default_rng(0)).mean()) - 128) < 0.5


def test_compression_changes_more_with_strength(image: NDArray[np.uint8]) -> None:
    weak, strong = (cameras._compressed(image, one, np.random.default_rng(3)).astype(int) - image for one in (0.1, 1.5))
    assert 0 < np.abs(weak).mean() < np.abs(strong).mean()
    assert abs(strong.mean()) < 2
