"""Largest class logit."""

from torch import Tensor

from strays.cards import Card
from strays.detectors.base import register_detector
from strays.detectors.tempered import TemperedDetector, checked_logits

__all__ = ["MaxLogit", "max_logit"]


def max_logit(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return minus the largest class logit.

    Args:
        logits: (N, K, ...) class logits.
        temperature: divides the logits, above 0; scales the score and leaves every ranking as it is.

    Returns:
        (N, ...), unbounded, float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape or the temperature is wrong.

    Source: Hendrycks et al., ICML 2022.

    Example:
        >>> import torch
        >>> max_logit(torch.tensor([[1.0, 7.0, 3.0]]))
        tensor([-7.])
    """
    return -checked_logits(logits, temperature).amax(dim=1) / temperature


@register_detector("max-logit")
class MaxLogit(TemperedDetector):
    """Minus the largest class logit.

    Reference:
        Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022,
        https://arxiv.org/abs/1911.11132

    Args:
        temperature: divides the logits, above 0; no ranking depends on it.
    """

    card = Card(
        title="Max-logit",
        summary="Minus the largest class logit, before any softmax.",
        paper="Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022",
        year=2022,
        url="https://arxiv.org/abs/1911.11132",
        notes="Needs raw logits: on averaged probabilities, as in the public code of the paper, it is another score.",
    )

    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return ``max_logit`` at this detector's temperature."""
        return max_logit(logits, self.temperature)
