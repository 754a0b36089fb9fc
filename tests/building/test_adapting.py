"""Light, sharpness and edges against Pillow, SciPy and what the words say."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from strays.building.adapting import EDGE, luminance, matched_light, matching_blur, soft_edge


def noise(shape: tuple[int, ...], low: int, high: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def test_luminance_is_that_of_pillow() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    grey = np.asarray(Image.fromarray(picture).convert("L"), float)
    assert np.abs(luminance(picture.astype(np.float32)) - grey).max() <= 1


@pytest.mark.parametrize(("low", "high"), [(0, 60), (150, 250)])
def test_light_moves_towards_the_surroundings(low: int, high: int) -> None:
    thing, around, inside = noise((20, 20, 3), 80, 140), noise((500, 3), low, high, 1), np.ones((20, 20), bool)
    target = luminance(around).mean()
    away = [abs(luminance(matched_light(thing, inside, around, part)).mean() - target) for part in (0, 0.3, 0.6, 1)]
    assert away == sorted(away, reverse=True)
    assert away[0] == pytest.approx(abs(luminance(thing).mean() - target), abs=0.1)
    assert away[-1] < away[0] / 3


def test_no_strength_changes_nothing_and_dark_stays_dark() -> None:
    around, inside = noise((300, 3), 100, 200, 1), np.ones((16, 16), bool)
    black, bright = noise((16, 16, 3), 0, 20), noise((16, 16, 3), 190, 250)
    np.testing.assert_allclose(matched_light(bright, inside, around, 0), bright, atol=1e-2)
    lit = [luminance(matched_light(one, inside, around, 0.6)).mean() for one in (black, bright)]
    assert lit[0] < 40 < 120 < lit[1]


def test_a_thing_takes_on_the_tint_of_the_surroundings() -> None:
    thing, inside = np.full((10, 10, 3), 100, np.float32), np.ones((10, 10), bool)
    orange = np.full((50, 3), (150, 100, 50), np.float32)
    red, green, blue = matched_light(thing, inside, orange, 0.6)[5, 5]
    assert red > green > blue


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.25])
def test_the_blur_is_the_one_that_the_scene_has(sigma: float) -> None:
    scene = ndimage.gaussian_filter(noise((80, 80), 0, 255), sigma)
    assert matching_blur(noise((60, 60), 0, 255, 1), np.ones((60, 60), bool), scene) == pytest.approx(sigma, rel=0.3)


def test_what_is_less_sharp_than_the_scene_stays_as_it_is() -> None:
    smooth = ndimage.gaussian_filter(noise((60, 60), 0, 255), 1.5)
    assert matching_blur(smooth, np.ones((60, 60), bool), noise((80, 80), 0, 255, 1)) == 0


def test_an_edge_is_soft_and_never_faint() -> None:
    alpha = np.zeros((20, 20), np.float32)
    alpha[5:15, 5:15] = 1
    soft = soft_edge(alpha, 1.0)
    assert soft[10, 10] == pytest.approx(1, abs=1e-3)
    assert set(np.unique(soft[soft > 0] < EDGE)) == {False}
    expected = ndimage.gaussian_filter(alpha, 1.0)
    np.testing.assert_allclose(soft[expected >= EDGE], expected[expected >= EDGE], atol=1e-6)
    np.testing.assert_array_equal(soft_edge(alpha, 0), alpha)
