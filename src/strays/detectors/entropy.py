"""Entropy of the class probabilities."""

import math

from torch import Tensor

from strays.cards import Card
from strays.detectors.base import register_detector
from strays.detectors.reported import FISHYSCAPES, reported
from strays.detectors.tempered import TemperedDetector, checked_logits, rival_log_odds

__all__ = ["Entropy", "entropy"]


def entropy(logits: Tensor, temperature: float = 1.0, normalised: bool = True) -> Tensor:
    """Return the entropy of the class probabilities, as a share of the largest possible one.

    Args:
        logits: (N, K, ...) class logits, K >= 2.
        temperature: divides the logits, above 0.
        normalised: divide by ln K, so that the base of the logarithm does not matter; otherwise nats.

    Returns:
        (N, ...) in [0, 1] up to rounding, or [0, ln K] nats; float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape or the temperature is wrong.

    Example:
        >>> import torch
        >>> entropy(torch.tensor([[0.0, 0.0, 0.0], [1e4, 0.0, 0.0]]))
        tensor([1., 0.])
    """
    logits = checked_logits(logits, temperature, classes=2)
    # With odds o_c = p_c / p_max the entropy is ln(sum o) - sum(o ln o) / sum(o). The winner adds 1, 0 and 1 to these
    # sums; leaving it to log1p makes every term positive: nothing cancels, and p = 0 needs no epsilon.
    log_odds = rival_log_odds(logits, temperature)
    odds = log_odds.exp()
    others = odds.sum(dim=1)
    nats = others.log1p() - (odds * log_odds).sum(dim=1) / (1 + others)
    return nats / math.log(logits.shape[1]) if normalised else nats


@register_detector("entropy")
class Entropy(TemperedDetector):
    """Entropy of the class probabilities divided by the largest possible one.

    Reference:
        Blum et al., The Fishyscapes Benchmark, IJCV 2021, https://arxiv.org/abs/1904.03215

    Args:
        temperature: divides the logits, above 0.
    """

    card = Card(
        title="Softmax entropy",
        summary="Entropy of the class probabilities, as a share of ln K.",
        paper="Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.0293, "FPR95": 0.4483}, protocol=FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.1541, "FPR95": 0.3975}, protocol=FISHYSCAPES),
        ),
        notes="The paper is the benchmark that compares it, not its origin.",
    )

    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return ``entropy`` at this detector's temperature."""
        return entropy(logits, self.temperature)
