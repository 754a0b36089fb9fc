"""Rejected by all (RbA): no class of a mask network claims the pixel."""

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, register_detector
from strays.detectors.masks import mask_probabilities, scored_by_masks
from strays.prediction import Prediction

__all__ = ["RejectedByAll", "rejected_by_all"]


def rejected_by_all(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Return - sum_k tanh(L_k), where L_k = sum_q softmax(class logits)_qk sigmoid(mask logits)_q.

    L_k is what the masks of class k add up to; every class votes against an anomaly, "no object" does not vote. That
    the squashing function is tanh is taken from the authors' released code.

    Args:
        class_logits: (N, Q, K + 1), the last channel means "no object".
        mask_logits: (N, Q, ...), at the size at which scores are wanted.

    Returns:
        (N, ...) in (-K, 0], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shapes do not belong together.

    Source: Nayal et al., RbA, ICCV 2023, and its evaluation code.

    Example:
        >>> import torch
        >>> nothing = torch.tensor([[[0.0, 0.0, 50.0]]])  # a query that has found no object
        >>> car = torch.tensor([[[50.0, 0.0, 0.0]]])
        >>> mask = torch.full((1, 1, 1), 50.0)
        >>> rejected_by_all(nothing, mask) > rejected_by_all(car, mask)
        tensor([[True]])
    """
    classes, masks = mask_probabilities(class_logits, mask_logits)
    votes = torch.einsum("nqk,nq...->nk...", classes[..., :-1], masks.to(classes.dtype))
    return -votes.tanh().sum(1)


@register_detector("rejected-by-all")
class RejectedByAll(Detector):
    """Minus the sum over classes of the squashed strength with which the masks of a class claim a pixel.

    Reference:
        Nayal et al., RbA: Segmenting Unknown Regions Rejected by All, ICCV 2023, https://arxiv.org/abs/2211.14293
    """

    card = Card(
        title="Rejected by All (RbA)",
        summary="Minus the sum over classes of tanh of the composed mask score of the class.",
        paper="Nayal et al., RbA: Segmenting Unknown Regions Rejected by All, ICCV 2023",
        year=2023,
        url="https://arxiv.org/abs/2211.14293",
        needs=Needs(masks=True),
        notes="The score alone, without the authors' fine-tuning with negatives. The squashing function is tanh, as in "
        "the released code. Masks are resized to the image before the sigmoid. A void class of the network counts as "
        "no object.",
    )

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``rejected_by_all`` of the masks at the size of the image, (N, H, W)."""
        return scored_by_masks(prediction, "rejected-by-all", rejected_by_all)
