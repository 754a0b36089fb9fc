"""Cross-entropy on the classes, as much entropy as there can be on negatives."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from strays.objectives.inputs import (
    Direction,
    at_labels,
    checked_direction,
    checked_targets,
    checked_weights,
    inlier_pixels,
    mean_cross_entropy,
    mean_of,
    negative_pixels,
    pixels,
    summed,
)
from strays.taxonomy import IGNORE

__all__ = ["max_entropy_loss"]


def max_entropy_loss(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    weight: float = 1.0,
    direction: Direction = "reverse",
    class_weights: Tensor | None = None,
) -> Mapping[str, Tensor]:
    """Return CE + weight D under ``cross_entropy``, ``divergence`` and ``total``.

    CE is the mean cross-entropy of the pixels with a class, D the mean over negatives of the Kullback-Leibler
    divergence between their class probabilities p and the uniform distribution U, 0 where the entropy H is largest.

    Args:
        logits: (N, K, h, w) class logits; brought to the size of the labels bilinearly (``align_corners=False``).
        labels: (N, H, W) integers, class indices or 255.
        mask: (N, H, W) integers: 0 = part of the scene, 1 = negative, 255 = shows no scene.
        weight: of the divergence, 0 or more.
        direction: ``"reverse"`` is KL(p || U) = ln K - H(p), at most ln K; ``"forward"`` is
            KL(U || p) = -ln K - (sum_k ln p_k) / K, without a bound.
        class_weights: (K,) weights in CE, whose mean is then weighted alike (ours).

    Returns:
        0-d tensors, weighted, and their total. A term for which there are no pixels is 0.

    Raises:
        InputError: if shapes do not fit together, a label is no class, or a parameter is out of range.

    Source: the softmax entropy trained with outliers of Blum et al., The Fishyscapes Benchmark, IJCV 2021. Its training
    code is not public; the weight is our choice.

    Example:
        >>> labels, mask = torch.tensor([[[0, 255]]]), torch.tensor([[[0, 1]]])
        >>> logits = torch.tensor([[0.0, 9.0], [0.0, 0.0]]).view(1, 2, 1, 2)
        >>> terms = max_entropy_loss(logits, labels, mask)
        >>> {name: round(float(value), 4) for name, value in terms.items()}  # ln 2, and nearly ln 2 - 0
        {'cross_entropy': 0.6931, 'divergence': 0.6919, 'total': 1.3851}
    """
    checked_targets(logits, labels, mask)
    checked_weights(weight=weight)
    logits = at_labels(logits, labels)
    targets = labels.long().masked_fill(~inlier_pixels(labels, mask), IGNORE)
    divergence = _from_uniform(pixels(logits, negative_pixels(mask)), checked_direction(direction))
    terms = {
        "cross_entropy": mean_cross_entropy(logits, targets, class_weights),
        "divergence": weight * mean_of(divergence),
    }
    return summed(terms)


def _from_uniform(logits: Tensor, direction: Direction) -> Tensor:
    """Return the divergence (M,) between the probabilities of logits (M, K) and the uniform distribution."""
    log_p = torch.log_softmax(logits, dim=1)
    if direction == "reverse":
        # p ln p is 0 for a class with a logit of minus infinity, and so is its gradient.
        possible = log_p.where(log_p > -torch.inf, 0)
        return math.log(logits.shape[1]) + (log_p.exp() * possible).sum(dim=1)
    return -math.log(logits.shape[1]) - log_p.mean(dim=1)
