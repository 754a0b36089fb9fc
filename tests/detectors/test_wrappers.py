"""Detectors around detectors: smoothing, mirror averaging, sums of standardised scores."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from strays.detectors import Detector, build_detector
from strays.detectors.combined import Combined, standardized_sum
from strays.detectors.flipped import Flipped
from strays.detectors.smoothed import Smoothed, gaussian_smoothed
from strays.errors import InputError
from strays.prediction import Prediction

SIZE = (12, 16)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prediction(seed: int = 0) -> Prediction:
    return Prediction(random(2, 5, *SIZE, seed=seed), SIZE, image=random(2, 3, *SIZE, seed=seed).sigmoid())


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.5])
def test_smoothing_is_that_of_scipy(sigma) -> None:
    scores = random(3, 20, 9).double()
    expected = [gaussian_filter(one, sigma, mode="nearest", radius=int(np.ceil(4 * sigma))) for one in scores.numpy()]
    np.testing.assert_allclose(gaussian_smoothed(scores, sigma), np.stack(expected), rtol=1e-12, atol=1e-12)


def test_smoothed_smooths_the_score_of_the_other() -> None:
    scores = Smoothed("energy:temperature=2", sigma=1.5)(prediction())
    expected = gaussian_smoothed(build_detector("energy:temperature=2")(prediction()), 1.5)
    assert torch.equal(scores, expected)
    for sigma in (0, -1, float("nan")):
        with pytest.raises(InputError, match="sigma"):
            Smoothed("energy", sigma=sigma)


@dataclass
class Mirror:
    """Passes of a network whose logits are the image itself."""

    image: Tensor

    def again(self, image: Tensor) -> Prediction:
        return Prediction(image.cumsum(-1), SIZE, image=image, passes=Mirror(image))

    def sampled(self, seed: int) -> Prediction:
        raise NotImplementedError


def test_flipped_averages_both_images() -> None:
    image = random(2, 3, *SIZE)
    scores = Flipped("max-logit")(Mirror(image).again(image))
    mirrored = -image.flip(-1).cumsum(-1).amax(1).flip(-1)
    torch.testing.assert_close(scores, (-image.cumsum(-1).amax(1) + mirrored) / 2)
    with pytest.raises(InputError, match="runs the network again"):
        Flipped("energy")(prediction())


def test_combined_standardises_both_scores_on_inliers() -> None:
    seen = [prediction(seed) for seed in range(3)]
    labels = [(random(2, *SIZE, seed=10 + seed) > 0).to(torch.uint8) * 255 for seed in range(3)]
    combined = Combined("energy", "msp", "1+0.5").fit(seen, labels)
    expected = torch.zeros(2, *SIZE, dtype=torch.float64)
    for name, weight in (("energy", 1.0), ("msp", 0.5)):
        inner = build_detector(name)
        inliers = torch.cat([inner(one)[its == 0] for one, its in zip(seen, labels, strict=True)]).double()
        expected += weight * (inner(prediction(7)).double() - inliers.mean()) / inliers.std()
    torch.testing.assert_close(combined(prediction(7)).double(), expected, rtol=1e-5, atol=1e-5)


def test_standardized_sum_is_its_formula() -> None:
    scores, mean, std, weights = random(2, 1, 3, 4), random(2), random(2).abs() + 0.1, random(2)
    loop = sum(weights[d] * (scores[d] - mean[d]) / std[d] for d in range(2))
    torch.testing.assert_close(standardized_sum(scores, mean, std, weights), loop)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Combined(weights="1"), "two weights"),
        (lambda: Combined(weights="a+b"), "two weights"),
        (lambda: Combined("energy", "no-such-score"), "no-such-score"),
        (lambda: Combined("energy", "msp").fit([prediction()], [torch.full((2, *SIZE), 255)]), "no spread"),
        (lambda: Combined("energy", "msp")(prediction()), "has not been fitted"),
    ],
)
def test_what_is_wrong_is_said(make, message) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_fitted_detector_inside_is_saved_with_the_wrapper(tmp_path) -> None:
    inner = Combined("energy", "msp").fit([prediction()], [torch.zeros(2, *SIZE)])
    inner.save(tmp_path / "inner")
    outer = build_detector(f"smoothed(combined@{tmp_path / 'inner'},sigma=2)")
    outer.save(tmp_path / "outer")
    loaded = Detector.load(tmp_path / "outer")
    assert torch.equal(loaded(prediction(3)), gaussian_smoothed(inner(prediction(3)), 2.0))
    assert loaded.settings() == outer.settings()
