"""Cross-entropy of labels that name a group of classes: the pixel is one of them, nobody knows which."""

from collections.abc import Sequence

import torch
from torch import Tensor

from strays.errors import InputError
from strays.objectives.inputs import at_labels, checked_targets, labelled_pixels, mean_of, pixels

__all__ = ["partial_cross_entropy"]


def partial_cross_entropy(logits: Tensor, labels: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean of -ln sum_{k in G} p_k over the pixels with a label, a 0-d tensor; 0 without any.

    A group of one class gives the usual cross-entropy, a group of all classes 0.

    Args:
        logits: (N, K, h, w) class logits; brought to the size of the labels bilinearly (``align_corners=False``).
        labels: (N, H, W) integers, indices of groups or 255 = ignore.
        groups: for each group the indices of its classes, in [0, K).

    Raises:
        InputError: if shapes do not fit together, a label is no group, or a group is empty or names no class.

    Source: Bevandić et al., Multi-domain Semantic Segmentation with Overlapping Labels, WACV 2022 (there NLL+).

    Example:
        >>> logits = torch.zeros(1, 4, 1, 2)
        >>> round(float(partial_cross_entropy(logits, torch.tensor([[[0, 255]]]), [(1, 3)])), 4)  # ln 2
        0.6931
    """
    members = _members(groups, logits.shape[1])
    checked_targets(logits.new_zeros(len(logits), len(groups), 1, 1), labels)
    chosen = labelled_pixels(labels)
    log_p = pixels(at_labels(logits, labels), chosen).log_softmax(dim=1)
    outside = ~members.to(logits.device)[labels[chosen].long()]
    return mean_of(-log_p.masked_fill(outside, -torch.inf).logsumexp(dim=1))


def _members(groups: Sequence[Sequence[int]], classes: int) -> Tensor:
    members = torch.zeros(len(groups), classes, dtype=torch.bool)
    for row, group in zip(members, groups, strict=True):
        if not group or not 0 <= min(group) <= max(group) < classes:
            raise InputError(f"expected groups of classes in [0, {classes}), got {tuple(group)}")
        row[list(group)] = True
    return members
