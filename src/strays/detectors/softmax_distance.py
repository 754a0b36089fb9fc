"""Distance between the two largest class probabilities."""

from torch import Tensor

from strays.cards import Card
from strays.detectors.base import register_detector
from strays.detectors.tempered import TemperedDetector, checked_logits, rival_log_odds

__all__ = ["SoftmaxDistance", "softmax_distance"]


def softmax_distance(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return one minus the largest plus the second largest class probability.

    Args:
        logits: (N, K, ...) class logits, K >= 2.
        temperature: divides the logits, above 0.

    Returns:
        (N, ...) in [0, 1], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape or the temperature is wrong.

    Source: Rottmann et al., IJCNN 2020, the measure D; Di Biase et al., CVPR 2021, equation 2.

    Example:
        >>> import torch
        >>> softmax_distance(torch.tensor([[3.0, 3.0, 3.0], [20.0, 0.0, 0.0]]))
        tensor([1.0000e+00, 6.1835e-09])
    """
    logits = checked_logits(logits, temperature, classes=2)
    # (1 - p1) + p2 from the odds against the winner, for the reason that msp gives.
    odds = rival_log_odds(logits, temperature).exp_()
    others = odds.sum(dim=1)
    return (others + odds.amax(dim=1)) / (1 + others)


@register_detector("softmax-distance")
class SoftmaxDistance(TemperedDetector):
    """One minus the difference of the two largest class probabilities.

    Reference:
        Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation, IJCNN 2020,
        https://arxiv.org/abs/1811.00648

    Args:
        temperature: divides the logits, above 0.
    """

    card = Card(
        title="Softmax distance",
        summary="One minus the difference between the two largest class probabilities.",
        paper="Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation: Detection via "
        "Aggregated Dispersion Measures of Softmax Probabilities, IJCNN 2020",
        year=2020,
        url="https://arxiv.org/abs/1811.00648",
        notes="Also called probability margin. It marks the borders between classes; SynBoost feeds it, rescaled per "
        "image, to its dissimilarity network: here it is never rescaled.",
    )

    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return ``softmax_distance`` at this detector's temperature."""
        return softmax_distance(logits, self.temperature)
