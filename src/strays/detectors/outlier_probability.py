"""Probability of an outlier head that a pixel is one."""

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, Settings, register_detector, upsampled
from strays.detectors.inputs import outlier_logits_of
from strays.detectors.reported import FISHYSCAPES, STREET_HAZARDS_TEMPERED, reported
from strays.detectors.tempered import checked_logits, checked_temperature, tempered
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["OutlierProbability", "outlier_probability"]

_LADDER = "Ladder DenseNet trained with ImageNet boxes"


def outlier_probability(outlier_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """Return the probability softmax(z / T)_1 of an outlier.

    Args:
        outlier_logits: (N, 2, ...), channel 1 = outlier.
        temperature: T, above 0.

    Returns:
        (N, ...) in [0, 1], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape or the temperature is wrong.

    Source: Bevandić et al., GCPR 2019; there T = 1.

    Example:
        >>> outlier_probability(torch.tensor([[0.0, 0.0], [0.0, 4.0]]))
        tensor([0.5000, 0.8808])
    """
    logits = checked_logits(outlier_logits, temperature, classes=2)
    if logits.shape[1] != 2:
        raise InputError(f"expected outlier logits (N, 2, ...), got {tuple(logits.shape)}")
    # A copy, because a view of one channel would keep both in memory.
    return torch.softmax(tempered(logits, temperature), dim=1)[:, 1].clone()


@register_detector("outlier-probability")
class OutlierProbability(Detector):
    """Probability of an outlier, for networks that were trained with an outlier head.

    The outlier logits are brought to the size of the image bilinearly first.

    Reference:
        Bevandić et al., Simultaneous Semantic Segmentation and Outlier Detection in Presence of Domain Shift, GCPR
        2019, https://arxiv.org/abs/1908.01098

    Args:
        temperature: divides the logits, above 0; it does not change the order of the pixels but where they saturate.
    """

    card = Card(
        title="Outlier probability (OP)",
        summary="Probability of an outlier, from a network that was trained with an outlier head.",
        paper="Bevandić et al., Simultaneous Semantic Segmentation and Outlier Detection in Presence of Domain Shift, "
        "GCPR 2019",
        year=2019,
        url="https://arxiv.org/abs/1908.01098",
        needs=Needs(outlier_head=True),
        published=(
            *reported(
                "Fishyscapes Lost & Found test",
                {"AP": 0.3131, "FPR95": 0.1902},
                _LADDER,
                FISHYSCAPES,
            ),
            *reported(
                "Fishyscapes Static test",
                {"AP": 0.9676, "FPR95": 0.0029},
                _LADDER,
                FISHYSCAPES,
            ),
            *reported(
                "StreetHazards test",
                {"AP": 0.2246, "FPR95": 0.3126, "AUROC": 0.9171},
                "SwiftNet-RN18 trained with ADE20K (OODHead)",
                STREET_HAZARDS_TEMPERED,
            ),
            *reported(
                "StreetHazards test",
                {"AP": 0.0383, "FPR95": 0.6912, "AUROC": 0.7003},
                "SwiftNet-RN18 trained with flow samples (NF-OODHead)",
                STREET_HAZARDS_TEMPERED,
            ),
        ),
        notes="Another paper lists 30.92/22.18 and 84.02/10.34 (AP/FPR95) for a second variant on the two Fishyscapes "
        "sets. The temperature of 2 is that of the later paper with the StreetHazards numbers.",
    )

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def settings(self) -> Settings:
        """Return the temperature."""
        return {"temperature": self.temperature}

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``outlier_probability`` (N, H, W) of the upsampled outlier logits.

        Raises:
            InputError: if the network has no outlier head.
        """
        logits = outlier_logits_of(prediction, "outlier-probability")
        return outlier_probability(upsampled(logits, prediction.size), self.temperature)
