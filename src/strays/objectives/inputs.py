"""What the losses do with logits, labels and masks before they add anything up."""

from collections.abc import Mapping

import torch
from torch import Tensor

from strays.errors import InputError
from strays.prediction import resize_maps
from strays.taxonomy import IGNORE

__all__ = ["NEGATIVE", "at_labels", "checked_targets", "labelled_pixels", "masked_mean", "negative_pixels", "summed"]

NEGATIVE = 1
"""The value of a negative pixel in the mask of a batch."""


def checked_targets(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> None:
    """Raise an error that says what fits if logits, labels and mask do not belong to one batch.

    Args:
        logits: (N, K, h, w).
        labels: (N, H, W) integers, class indices below K or 255.
        mask: (N, H, W) integers, 0, 1 = negative or 255; or None.

    Raises:
        InputError: if a shape differs, or a label is neither a class nor 255.
    """
    if logits.ndim != 4 or labels.ndim != 3 or len(logits) != len(labels):
        found = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise InputError(f"expected logits (N, K, h, w) and labels (N, H, W), got {found}")
    if mask is not None and mask.shape != labels.shape:
        raise InputError(f"expected a mask like the labels {tuple(labels.shape)}, got {tuple(mask.shape)}")


def at_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits (N, C, h, w) at the size of labels (N, H, W), in float32, or float64 where they are."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    size = (labels.shape[-2], labels.shape[-1])
    return logits if tuple(logits.shape[-2:]) == size else resize_maps(logits, size)


def labelled_pixels(labels: Tensor) -> Tensor:
    """Return which pixels (N, H, W) have a class."""
    return labels != IGNORE


def negative_pixels(mask: Tensor) -> Tensor:
    """Return which pixels (N, H, W) are negatives."""
    return mask == NEGATIVE


def masked_mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the values where ``chosen`` is true, 0 with a gradient of 0 where it is nowhere.

    Example:
        >>> masked_mean(torch.tensor([1.0, 2.0, torch.inf]), torch.tensor([True, True, False]))
        tensor(1.5000)
    """
    return values[chosen].sum() / chosen.sum().clamp(min=1)


def summed(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weighted terms by name together with their ``total``."""
    return {**terms, "total": torch.stack(list(terms.values())).sum()}
