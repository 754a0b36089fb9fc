"""Cross-entropy on class labels, with class weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

from strays.errors import InputError
from strays.objectives.inputs import checked_targets, mean_cross_entropy

__all__ = ["cross_entropy_loss", "inverse_log_weights"]


def cross_entropy_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Mapping[str, Tensor]:
    """Return the mean cross-entropy over labelled pixels under ``cross_entropy`` and ``total``.

    Args:
        logits: (N, K, h, w); brought to the size of the labels bilinearly (``align_corners=False``).
        labels: (N, H, W) integers, class indices or 255 = ignore. Without any labelled pixel the loss is 0.
        weights: (K,) weight per class; the mean is then weighted alike.

    Raises:
        InputError: if shapes do not fit together, or a label is no class.

    Example:
        >>> loss = cross_entropy_loss(torch.zeros(1, 4, 2, 2), torch.zeros(1, 8, 8, dtype=torch.long))
        >>> round(float(loss["total"]), 4)
        1.3863
    """
    checked_targets(logits, labels)
    loss = mean_cross_entropy(logits, labels, weights)
    return {"cross_entropy": loss, "total": loss}


def inverse_log_weights(counts: Tensor, offset: float = 1.1) -> Tensor:
    """Return class weights 1 / ln(offset + share), scaled to mean 1 (Paszke et al. 2016, section 5.2).

    Args:
        counts: (K,) labelled pixels per class.
        offset: above 1; larger makes the weights more alike, ENet takes 1.02.

    Raises:
        InputError: if no pixel is labelled, or the offset would make weights infinite or negative.
    """
    if not offset > 1:
        raise InputError(f"offset is {offset}, expected more than 1: classes without pixels have a share of 0")
    if counts.sum() == 0:
        raise InputError("class weights need labelled pixels, and there are none: check the labels with strays doctor")
    weights = 1 / torch.log(offset + counts.double() / counts.sum())
    return (weights / weights.mean()).float()
