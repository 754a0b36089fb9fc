"""Ratio of an outlier head's probability and the density that the class logits stand for."""

from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs, Published
from strays.detectors.base import Detector, class_logits, register_detector, upsampled
from strays.detectors.inputs import check_outlier_logits, outlier_logits_of
from strays.detectors.reported import FISHYSCAPES, SMIYC, STREET_HAZARDS, reported
from strays.detectors.tempered import checked_logits
from strays.prediction import Prediction

__all__ = ["DenseHybrid", "densehybrid"]

_DEEPLAB = "DeepLabV3+ WideResNet-38 trained with DenseHybrid"


def densehybrid(logits: Tensor, outlier_logits: Tensor) -> Tensor:
    """Return ln P(outlier | x) - ln sum_c exp(z_c): the posterior of an outlier against the density of inliers.

    Args:
        logits: (N, K, ...) class logits.
        outlier_logits: (N, 2, ...) logits of the outlier head, channel 1 = outlier.

    Returns:
        (N, ...), unbounded, float32, or float64 for float64 logits.

    Raises:
        InputError: if the shapes are wrong or differ.

    Source: Grcić, Bevandić and Šegvić, DenseHybrid, ECCV 2022, as the released code computes it.

    Example:
        >>> import torch
        >>> densehybrid(torch.tensor([[9.0, 0.0], [1.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 0.0]]))
        tensor([-14.0068,  -2.0064])
    """
    logits, outlier_logits = checked_logits(logits, 1.0), checked_logits(outlier_logits, 1.0)
    check_outlier_logits(logits, outlier_logits)
    return functional.log_softmax(outlier_logits, dim=1)[:, 1] - logits.logsumexp(dim=1)


def _streethazards(recipe: str, ap: float, fpr95: float, auroc: float, open_miou: float) -> tuple[Published, ...]:
    values = {"AP": ap, "FPR95": fpr95, "AUROC": auroc, "open mIoU": open_miou}
    return reported("StreetHazards test", values, f"SwiftNet-RN18 trained with {recipe}", STREET_HAZARDS)


@register_detector("densehybrid")
class DenseHybrid(Detector):
    """Ratio of an outlier head's probability and the density that the class logits stand for.

    Reference:
        Grcić, Bevandić and Šegvić, DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition, ECCV 2022,
        https://arxiv.org/abs/2207.02606
    """

    card = Card(
        title="DenseHybrid",
        summary="Log-probability that an outlier head gives to outliers, minus the log-sum-exp of the class logits.",
        paper="Grcić, Bevandić and Šegvić, DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition, "
        "ECCV 2022",
        year=2022,
        url="https://arxiv.org/abs/2207.02606",
        needs=Needs(outlier_head=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.439, "FPR95": 0.062}, _DEEPLAB, FISHYSCAPES),
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.7796, "FPR95": 0.0981, "sIoU": 0.5417, "PPV": 0.2413, "F1*": 0.3108},
                "LDN-121 trained with DenseHybrid",
                SMIYC,
            ),
            *_streethazards("DenseHybrid", 0.2381, 0.1876, 0.9369, 0.3759),
            *_streethazards("OODHead", 0.2463, 0.1645, 0.9451, 0.4429),
            *_streethazards("NF-Hybrid-JS", 0.1661, 0.2176, 0.9183, 0.3572),
            *_streethazards("NF-Hybrid-LdLx", 0.1667, 0.1926, 0.9239, 0.3788),
            *_streethazards("NF-Hybrid-Ld", 0.1562, 0.2278, 0.9131, 0.3507),
            *_streethazards("NF-OODHead", 0.1213, 0.2173, 0.9203, 0.4176),
        ),
        notes="Reads any network with an outlier head, best one trained by the recipe densehybrid: the log-sum-exp "
        "stands for the density of inliers only where training lowered it on negatives. Both heads are brought to the "
        "size of the image before anything else, and there is no temperature. DenseHybrid and OODHead trained with "
        "objects of ADE20K as negatives, the others with samples of a normalizing flow.",
    )

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``densehybrid`` (N, H, W) of the logits of both heads, each upsampled first.

        Raises:
            InputError: if the network has no outlier head.
        """
        outlier_logits = outlier_logits_of(prediction, "densehybrid")
        logits = upsampled(class_logits(prediction), prediction.size)
        return densehybrid(logits, upsampled(outlier_logits, prediction.size))
