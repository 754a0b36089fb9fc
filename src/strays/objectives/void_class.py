"""Cross-entropy with one class more: void, to which all negatives belong."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from strays.objectives.inputs import (
    at_labels,
    checked_class_weights,
    checked_targets,
    inlier_pixels,
    negative_pixels,
    summed,
)
from strays.taxonomy import IGNORE

__all__ = ["void_class_loss"]


def void_class_loss(
    logits: Tensor, labels: Tensor, mask: Tensor, class_weights: Tensor | None = None
) -> Mapping[str, Tensor]:
    """Return the mean cross-entropy over pixels with a class and negatives, whose target is the void channel.

    Args:
        logits: (N, K + 1, h, w), the void channel last; brought to the size of the labels bilinearly
            (``align_corners=False``).
        labels: (N, H, W) integers, class indices below K or 255.
        mask: (N, H, W) integers: 0 = part of the scene, 1 = negative, 255 = shows no scene. A pixel counts if it is a
            negative, or part of the scene with a class; void that is no negative does not.
        class_weights: (K,) weights of the classes (ours), void having 1; the mean is then weighted alike.

    Returns:
        0-d tensors ``cross_entropy`` and ``void``, the shares of the mean that pixels with a class and negatives have,
        and their ``total``. A term for which there are no pixels is 0.

    Raises:
        InputError: if shapes do not fit together, a label is no class, or there is not one weight for each class.

    Source: the void classifier of Blum et al., The Fishyscapes Benchmark, IJCV 2021. Its training code is not public.

    Example:
        >>> labels, mask = torch.tensor([[[0, 2, 255, 255]]]), torch.tensor([[[0, 0, 1, 0]]])
        >>> terms = void_class_loss(torch.zeros(1, 4, 1, 4), labels, mask)
        >>> {name: round(float(value), 4) for name, value in terms.items()}  # two and one of three times ln 4
        {'cross_entropy': 0.9242, 'void': 0.4621, 'total': 1.3863}
    """
    checked_targets(logits, labels, mask)
    checked_targets(logits[:, :-1], labels)
    logits, classes = at_labels(logits, labels), logits.shape[1] - 1
    weights = _with_void(class_weights, classes).to(logits)
    inlier, negative = inlier_pixels(labels, mask), negative_pixels(mask)
    targets = labels.long().masked_fill(~inlier, IGNORE).masked_fill(negative, classes)
    surprise = functional.cross_entropy(logits, targets, weights, ignore_index=IGNORE, reduction="none")
    mass = weights[targets[inlier | negative]].sum().clamp(min=torch.finfo(weights.dtype).tiny)
    return summed({"cross_entropy": surprise[inlier].sum() / mass, "void": surprise[negative].sum() / mass})


def _with_void(class_weights: Tensor | None, classes: int) -> Tensor:
    """Return the weights (K + 1,) of the classes and of void."""
    if class_weights is None:
        return torch.ones(classes + 1)
    return functional.pad(checked_class_weights(class_weights, classes), (0, 1), value=1.0)
