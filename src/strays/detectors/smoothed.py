"""A score smoothed by a Gaussian."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card
from strays.detectors.base import Detector, register_detector
from strays.detectors.stored import Settings
from strays.detectors.wrapper import Wrapper
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["Smoothed", "gaussian_smoothed"]

_REACH = 4.0
"""The Gaussian is cut off after so many standard deviations."""


def gaussian_smoothed(scores: Tensor, sigma: float) -> Tensor:
    """Return maps (N, H, W) smoothed by a Gaussian of standard deviation ``sigma`` pixels, edge pixels repeated.

    Raises:
        InputError: if ``sigma`` is not a finite number above 0.

    Example:
        >>> gaussian_smoothed(torch.eye(3)[None], 0.5)[0, 1].tolist()[1] > 0.5
        True
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InputError(f"expected a sigma above 0 in pixels, got {sigma}: leave the wrapper out to smooth nothing")
    radius = math.ceil(_REACH * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=scores.dtype, device=scores.device)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    rows = functional.pad(scores[:, None], (0, 0, radius, radius), mode="replicate")
    columns = functional.conv2d(rows, weights.view(1, 1, -1, 1))
    padded = functional.pad(columns, (radius, radius, 0, 0), mode="replicate")
    return functional.conv2d(padded, weights.view(1, 1, 1, -1))[:, 0]


@register_detector("smoothed")
class Smoothed(Wrapper):
    """The score of another detector, smoothed by a Gaussian.

    Reference:
        Tian et al., Pixel-wise Energy-biased Abstention Learning, ECCV 2022, https://arxiv.org/abs/2111.12264, whose
        released code smooths the score that it evaluates

    Args:
        detector: the other one, or a string that describes it.
        sigma: standard deviation in pixels of the image.

    Example:
        >>> Smoothed("msp", sigma=2).settings()
        {'detector': 'msp(temperature=1.0)', 'sigma': 2.0}
    """

    card = Card(
        title="Gaussian smoothing",
        summary="The score of another detector, smoothed by a Gaussian.",
        paper="Tian et al., Pixel-wise Energy-biased Abstention Learning for Anomaly Segmentation, ECCV 2022",
        year=2022,
        url="https://arxiv.org/abs/2111.12264",
        notes="A wrapper: smoothed(DETECTOR,sigma=S). Many published numbers were smoothed so without a word about it.",
    )

    def __init__(self, detector: str | Detector = "energy", sigma: float = 1.0) -> None:
        super().__init__(detector)
        self.sigma = float(sigma)
        gaussian_smoothed(torch.zeros(1, 1, 1), self.sigma)

    def settings(self) -> Settings:
        """Return the inner detector in words, and sigma."""
        return {**super().settings(), "sigma": self.sigma}

    def score(self, prediction: Prediction) -> Tensor:
        """Return the smoothed score (N, H, W) of the inner detector."""
        return gaussian_smoothed(self.inner.score(prediction), self.sigma)
