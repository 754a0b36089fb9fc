"""Maximum softmax probability."""

from torch import Tensor

from strays.cards import Card
from strays.detectors.base import register_detector
from strays.detectors.reported import FISHYSCAPES, SMIYC, VOID_CHECKPOINTS, reported
from strays.detectors.tempered import TemperedDetector, checked_logits, rival_log_odds

__all__ = ["Msp", "msp"]

_ENET = "ENet trained with a void class, void dropped"


def msp(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return one minus the largest class probability.

    Args:
        logits: (N, K, ...) class logits, K >= 2.
        temperature: divides the logits, above 0.

    Returns:
        (N, ...) in [0, 1 - 1/K], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape or the temperature is wrong.

    Source: Hendrycks and Gimpel, ICLR 2017.

    Example:
        >>> import torch
        >>> msp(torch.tensor([[0.0, 0.0], [20.0, 0.0], [40.0, 0.0]]))
        tensor([5.0000e-01, 2.0612e-09, 4.2484e-18])
    """
    logits = checked_logits(logits, temperature, classes=2)
    # 1 - max(p) is 0 in float32 as soon as max(p) rounds to 1, which ties most of a well-known road. The sum of the
    # other probabilities is the same number and keeps seven digits however small it gets.
    others = rival_log_odds(logits, temperature).exp_().sum(dim=1)
    return others / (1 + others)


@register_detector("msp")
class Msp(TemperedDetector):
    """One minus the largest class probability.

    Reference:
        Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
        Networks, ICLR 2017, https://arxiv.org/abs/1610.02136

    Args:
        temperature: divides the logits, above 0.
    """

    card = Card(
        title="Maximum softmax probability",
        summary="One minus the probability of the most probable class.",
        paper="Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in "
        "Neural Networks, ICLR 2017",
        year=2017,
        url="https://arxiv.org/abs/1610.02136",
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.0177, "FPR95": 0.4485}, protocol=FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.1288, "FPR95": 0.3983}, protocol=FISHYSCAPES),
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.2797, "FPR95": 0.7205, "sIoU": 0.1548, "PPV": 0.1529, "F1*": 0.0537},
                protocol=SMIYC,
            ),
            *reported(
                "RoadObstacle21 test",
                {"AP": 0.1572, "FPR95": 0.1660, "sIoU": 0.1972, "PPV": 0.1593, "F1*": 0.0625},
                protocol=SMIYC,
            ),
            *reported(
                "LostAndFound-NoKnown test",
                {"AP": 0.3014, "FPR95": 0.3320, "sIoU": 0.1420, "PPV": 0.6223, "F1*": 0.1032},
                protocol=SMIYC,
            ),
            *reported("RoadAnomaly21 validation", {"AP": 0.2683, "FPR95": 0.7590}, _ENET, VOID_CHECKPOINTS),
            *reported("RoadObstacle21 validation", {"AP": 0.0647, "FPR95": 0.3018}, _ENET, VOID_CHECKPOINTS),
            *reported("Fishyscapes Static validation", {"AP": 0.1045, "FPR95": 0.4208}, _ENET, VOID_CHECKPOINTS),
            *reported("RoadAnomaly", {"AP": 0.1336, "FPR95": 0.7462}, _ENET, VOID_CHECKPOINTS),
        ),
        notes="The baseline of every benchmark of the field.",
    )

    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return ``msp`` at this detector's temperature."""
        return msp(logits, self.temperature)
