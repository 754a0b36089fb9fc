"""Ensemble over anomaly scores of masks (EAM)."""

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, register_detector
from strays.detectors.masks import mask_probabilities, scored_by_masks
from strays.prediction import Prediction

__all__ = ["EnsembleAnomaly", "ensemble_anomaly"]


def ensemble_anomaly(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Return - sum_q sigmoid(mask logits)_q max_k softmax(class logits)_qk, k over the real classes.

    Args:
        class_logits: (N, Q, K + 1), the last channel means "no object".
        mask_logits: (N, Q, ...), at the size at which scores are wanted.

    Returns:
        (N, ...) in [-Q, 0], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shapes do not belong together.

    Source: Grcić, Šarić, Šegvić, On Advantages of Mask-level Recognition for Outlier-aware Segmentation, CVPRW 2023.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[[50.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 0.0]]])
        >>> mask = torch.full((1, 1, 1), 50.0)
        >>> ensemble_anomaly(sure, mask), ensemble_anomaly(unsure, mask)
        (tensor([[-1.]]), tensor([[-0.3333]]))
    """
    classes, masks = mask_probabilities(class_logits, mask_logits)
    return -torch.einsum("nq,nq...->n...", classes[..., :-1].amax(-1), masks.to(classes.dtype))


@register_detector("ensemble-anomaly")
class EnsembleAnomaly(Detector):
    """Minus the sum over masks of how surely a pixel lies in the mask times how surely the mask has a class.

    Reference:
        Grcić, Šarić, Šegvić, On Advantages of Mask-level Recognition for Outlier-aware Segmentation, CVPRW 2023,
        https://arxiv.org/abs/2301.03407
    """

    card = Card(
        title="Ensemble over Anomaly scores of Masks (EAM)",
        summary="Minus the sum over masks of mask probability times the largest probability of a real class.",
        paper="Grcić, Šarić, Šegvić, On Advantages of Mask-level Recognition for Outlier-aware Segmentation, "
        "CVPRW 2023",
        year=2023,
        url="https://arxiv.org/abs/2301.03407",
        needs=Needs(masks=True),
        notes="The score alone, without the authors' fine-tuning with negatives. Masks are resized to the image before "
        "the sigmoid. A void class of the network counts as no object.",
    )

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``ensemble_anomaly`` of the masks at the size of the image, (N, H, W)."""
        return scored_by_masks(prediction, "ensemble-anomaly", ensemble_anomaly)
