"""What the losses do with logits, labels and masks before they add anything up."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.prediction import resize_maps
from strays.taxonomy import IGNORE

__all__ = [
    "NEGATIVE",
    "Direction",
    "at_labels",
    "checked_class_weights",
    "checked_direction",
    "checked_finite",
    "checked_outlier_logits",
    "checked_targets",
    "checked_weights",
    "inlier_pixels",
    "labelled_pixels",
    "masked_mean",
    "mean_cross_entropy",
    "mean_of",
    "negative_pixels",
    "pixels",
    "summed",
]

NEGATIVE = 1
"""The value of a negative pixel in the mask of a batch."""

Direction = Literal["reverse", "forward"]
"""Of a Kullback-Leibler divergence: KL(model || target) or KL(target || model)."""


def checked_targets(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> None:
    """Raise an error that says what fits if logits, labels and mask do not belong to one batch.

    Args:
        logits: (N, K, h, w).
        labels: (N, H, W) integers, class indices below K or 255.
        mask: (N, H, W) integers, 0, 1 = negative or 255; or None.

    Raises:
        InputError: if a shape differs, a label is neither a class nor 255, or a mask holds another value.
    """
    if logits.ndim != 4 or labels.ndim != 3 or len(logits) != len(labels):
        found = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise InputError(f"expected logits (N, K, h, w) and labels (N, H, W), got {found}")
    if mask is not None:
        _check_mask(mask, labels)
    strange = labels[(labels != IGNORE) & ((labels < 0) | (labels >= logits.shape[1]))]
    if len(strange):
        raise InputError(
            f"expected labels below {logits.shape[1]}, the number of classes of the logits, or {IGNORE}, got "
            f"{int(strange[0])}: check the labels with strays doctor"
        )


def _check_mask(mask: Tensor, labels: Tensor) -> None:
    if mask.shape != labels.shape:
        raise InputError(f"expected a mask like the labels {tuple(labels.shape)}, got {tuple(mask.shape)}")
    strange = mask[(mask != 0) & (mask != NEGATIVE) & (mask != IGNORE)]
    if len(strange):
        raise InputError(
            f"expected a mask of 0, {NEGATIVE} = negative and {IGNORE}, got {strange[0].item()}: give negatives the "
            f"value {NEGATIVE}, where authors have 254 with (mask == 254).long()"
        )


def checked_outlier_logits(outlier_logits: Tensor, labels: Tensor) -> Tensor:
    """Return outlier logits (N, 2, h, w) that belong to labels (N, H, W).

    Raises:
        InputError: if their shape is another.
    """
    shape = tuple(outlier_logits.shape)
    if len(shape) != 4 or shape[:2] != (len(labels), 2):
        raise InputError(f"expected outlier logits ({len(labels)}, 2, h, w), got {shape}")
    return outlier_logits


def checked_class_weights(weights: Tensor, classes: int) -> Tensor:
    """Return weights (K,) of K classes.

    Raises:
        InputError: if there is not one weight for each class.
    """
    if tuple(weights.shape) != (classes,):
        raise InputError(f"expected one weight for each of {classes} classes, got {tuple(weights.shape)}")
    return weights


def checked_weights(**weights: float | None) -> None:
    """Raise an error that names the first weight that is neither None nor a finite number from 0.

    Raises:
        InputError: if there is one.
    """
    for name, weight in weights.items():
        if weight is not None and not 0 <= weight < math.inf:
            raise InputError(f"{name} is {weight}, expected a finite number, 0 or more")


def checked_finite(**numbers: float | None) -> None:
    """Raise an error that names the first number that is neither None nor finite.

    Raises:
        InputError: if there is one.
    """
    for name, number in numbers.items():
        if number is not None and not math.isfinite(number):
            raise InputError(f"{name} is {number}, expected a finite number")


def checked_direction(direction: Direction) -> Direction:
    """Return the direction of a Kullback-Leibler divergence between a model and its target.

    Raises:
        InputError: if it is neither ``"reverse"``, KL(model || target), nor ``"forward"``, KL(target || model).
    """
    if direction not in get_args(Direction):
        raise InputError(
            f"direction is {direction!r}: expected 'reverse', KL(model || target), or 'forward', KL(target || model)"
        )
    return direction


def at_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits (N, C, h, w) at the size of labels (N, H, W), in float32, or float64 where they are."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    size = (labels.shape[-2], labels.shape[-1])
    return logits if tuple(logits.shape[-2:]) == size else resize_maps(logits, size)


def labelled_pixels(labels: Tensor) -> Tensor:
    """Return which pixels (N, H, W) have a class."""
    return labels != IGNORE


def inlier_pixels(labels: Tensor, mask: Tensor) -> Tensor:
    """Return which pixels (N, H, W) are part of the scene and have a class."""
    return labelled_pixels(labels) & (mask == 0)


def negative_pixels(mask: Tensor) -> Tensor:
    """Return which pixels (N, H, W) are negatives."""
    return mask == NEGATIVE


def pixels(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the vectors (P, C) of maps (N, C, H, W) at the P pixels where ``chosen`` (N, H, W) is true."""
    return values.movedim(1, -1)[chosen]


def mean_of(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of values (M,), weighted by any weights (M,); 0 with a gradient of 0 without any value."""
    if weights is None:
        return values.sum() / max(1, len(values))
    return (weights * values).sum() / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)


def masked_mean(values: Tensor, chosen: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``mean_of`` the values where ``chosen`` is true, weighted by weights of their shape where there are any.

    Example:
        >>> masked_mean(torch.tensor([1.0, 2.0, torch.inf]), torch.tensor([True, True, False]))
        tensor(1.5000)
    """
    return mean_of(values[chosen], None if weights is None else weights[chosen])


def mean_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over the pixels with a target, 0 with a gradient of 0 where there is none.

    Args:
        logits: (N, C, h, w); brought to the size of the targets bilinearly (``align_corners=False``).
        targets: (N, H, W) integers, channels of the logits or 255 = ignore.
        weights: (C,) weight of the channels; the mean is then weighted alike.

    Raises:
        InputError: if there is not one weight for every channel.
    """
    logits, targets = at_labels(logits, targets), targets.long()
    if weights is None:
        surprise = functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
        return masked_mean(surprise, labelled_pixels(targets))
    weights = checked_class_weights(weights, logits.shape[1]).to(logits)
    total = functional.cross_entropy(logits, targets, weights, ignore_index=IGNORE, reduction="sum")
    mass = weights[targets[labelled_pixels(targets)]].sum()
    return total / mass.clamp(min=torch.finfo(mass.dtype).tiny)


def summed(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weighted terms by name together with their ``total``."""
    return {**terms, "total": torch.stack(list(terms.values())).sum()}
