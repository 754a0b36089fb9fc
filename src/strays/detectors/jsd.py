"""Jensen-Shannon divergence between the class probabilities and the uniform distribution."""

from torch import Tensor

from strays.cards import Card
from strays.detectors.base import register_detector
from strays.detectors.reported import STREET_HAZARDS_TEMPERED, reported
from strays.detectors.tempered import TemperedDetector, checked_logits, tempered
from strays.divergences import jensen_shannon_from_uniform

__all__ = ["JsdToUniform", "jsd_to_uniform"]


def jsd_to_uniform(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return minus the Jensen-Shannon divergence JS(softmax(z / T), U), U uniform over the classes.

    The sign is that of a score: a flat prediction has divergence 0 and ranks highest. Where the same divergence is
    minimised as a training loss on negatives, it has a plus sign and no temperature. Being bounded it saturates: in
    float32, pixels whose largest probability is within about 1e-8 of 1 share the lowest score.

    Args:
        logits: (N, K, ...) class logits, K >= 2.
        temperature: T, above 0; NFlowJS scores with 2.

    Returns:
        (N, ...) in nats, in (-ln 2, 0], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape or the temperature is wrong.

    Source: Grcić et al., Dense Out-of-Distribution Detection by Robust Learning on Synthetic Negative Data, 2024.

    Example:
        >>> import torch
        >>> jsd_to_uniform(torch.tensor([[0.0, 0.0], [1e4, 0.0]]))
        tensor([ 0.0000, -0.2158])
    """
    logits = checked_logits(logits, temperature, classes=2)
    # Subtracted from 0 rather than negated: a flat prediction scores 0, not -0.
    return 0 - jensen_shannon_from_uniform(tempered(logits, temperature))


@register_detector("jsd")
class JsdToUniform(TemperedDetector):
    """Minus the Jensen-Shannon divergence between the class probabilities and the uniform distribution.

    Reference:
        Grcić et al., Dense Out-of-Distribution Detection by Robust Learning on Synthetic Negative Data, Sensors 2024,
        https://arxiv.org/abs/2112.12833

    Args:
        temperature: divides the logits, above 0; the paper's 2 by default.
    """

    card = Card(
        title="Jensen-Shannon divergence to uniform",
        summary="Minus the Jensen-Shannon divergence between the class probabilities and the uniform distribution.",
        paper="Grcić et al., Dense Out-of-Distribution Detection by Robust Learning on Synthetic Negative Data, "
        "Sensors 2024",
        year=2024,
        url="https://arxiv.org/abs/2112.12833",
        published=reported(
            "StreetHazards test",
            {"AP": 0.1212, "FPR95": 0.2564, "AUROC": 0.9081},
            network="SwiftNet-RN18 trained with NFlowJS",
            protocol=STREET_HAZARDS_TEMPERED,
        ),
        notes="The published number belongs to a network trained with the same divergence as a loss.",
    )

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__(temperature)

    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return ``jsd_to_uniform`` at this detector's temperature."""
        return jsd_to_uniform(logits, self.temperature)
