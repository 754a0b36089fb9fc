"""Probability of an outlier head times one minus the largest class probability."""

from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import class_logits, register_detector, upsampled
from strays.detectors.inputs import check_outlier_logits, outlier_logits_of
from strays.detectors.msp import msp
from strays.detectors.outlier_probability import OutlierProbability, outlier_probability
from strays.detectors.reported import STREET_HAZARDS_TEMPERED, reported
from strays.prediction import Prediction

__all__ = ["OutlierProbabilityMsp", "outlier_probability_msp"]


def outlier_probability_msp(logits: Tensor, outlier_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """Return softmax(d / T)_1 (1 - max_c softmax(z / T)_c): pixels that are outliers and of no class.

    Args:
        logits: (N, K, ...) class logits z, K >= 2.
        outlier_logits: (N, 2, ...) outlier logits d, channel 1 = outlier, of the same size.
        temperature: T of both, above 0.

    Returns:
        (N, ...) in [0, 1 - 1/K], float32, or float64 for float64 logits.

    Raises:
        InputError: if a shape or the temperature is wrong.

    Source: Bevandić et al., Image and Vision Computing 2022.

    Example:
        >>> import torch
        >>> outlier_probability_msp(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.zeros(2, 2))
        tensor([0.2500, 0.0055])
    """
    check_outlier_logits(logits, outlier_logits)
    return outlier_probability(outlier_logits, temperature) * msp(logits, temperature)


@register_detector("outlier-probability-msp")
class OutlierProbabilityMsp(OutlierProbability):
    """Outlier probability times one minus the largest class probability, the void channel left out.

    Both kinds of logits are brought to the size of the image bilinearly first.

    Reference:
        Bevandić et al., Dense Open-set Recognition Based on Training with Noisy Negative Images, Image and Vision
        Computing 2022, https://arxiv.org/abs/2101.09193

    Args:
        temperature: divides both kinds of logits, above 0.
    """

    card = Card(
        title="Outlier probability times MSP (OP x MS)",
        summary="Probability that an outlier head gives to a pixel, times one minus its largest class probability.",
        paper="Bevandić et al., Dense Open-set Recognition Based on Training with Noisy Negative Images, Image and "
        "Vision Computing 2022",
        year=2022,
        url="https://arxiv.org/abs/2101.09193",
        needs=Needs(outlier_head=True),
        published=(
            *reported(
                "StreetHazards test",
                {"AP": 0.2252, "FPR95": 0.1906, "AUROC": 0.9354},
                "SwiftNet-RN18 trained with ADE20K (OODHead)",
                STREET_HAZARDS_TEMPERED,
            ),
            *reported(
                "StreetHazards test",
                {"AP": 0.0887, "FPR95": 0.2399, "AUROC": 0.9055},
                "SwiftNet-RN18 trained with flow samples (NF-OODHead)",
                STREET_HAZARDS_TEMPERED,
            ),
            *reported(
                "StreetHazards test",
                {"AP": 0.1708, "FPR95": 0.2194, "AUROC": 0.9213},
                "SwiftNet-RN18 trained with ADE20K (DenseHybrid)",
                STREET_HAZARDS_TEMPERED,
            ),
            *reported(
                "StreetHazards test",
                {"AP": 0.1435, "FPR95": 0.2303, "AUROC": 0.9096},
                "SwiftNet-RN18 trained with flow samples (NF-Hybrid-LdLx)",
                STREET_HAZARDS_TEMPERED,
            ),
        ),
        notes="The source of the numbers states a temperature of 2 without saying which logits it divides; here it is "
        "both.",
    )

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``outlier_probability_msp`` (N, H, W) of the upsampled logits.

        Raises:
            InputError: if the network has no outlier head.
        """
        outlier_logits = upsampled(outlier_logits_of(prediction, "outlier-probability-msp"), prediction.size)
        logits = upsampled(class_logits(prediction), prediction.size)
        return outlier_probability_msp(logits, outlier_logits, self.temperature)
