"""Entropy maximisation of Chan et al.: one sum over all pixels, in which every negative has a uniform target."""

from collections.abc import Mapping

import torch
from torch import Tensor

from strays.errors import InputError
from strays.objectives.inputs import (
    at_labels,
    checked_targets,
    inlier_pixels,
    mean_cross_entropy,
    mean_of,
    negative_pixels,
    pixels,
    summed,
)
from strays.taxonomy import IGNORE

__all__ = ["checked_alpha", "meta_entropy_loss"]


def meta_entropy_loss(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    alpha: float = 0.9,
    separate: bool = False,
    class_weights: Tensor | None = None,
) -> Mapping[str, Tensor]:
    """Return -[(1 - a) sum_in ln p_y + a sum_out (sum_k ln p_k) / K] / (N K H W), a = ``alpha``, by terms.

    The sums are over the pixels with a class and over the negatives; the divisor counts every entry of the logits at
    the size of the labels, so that void and the pixels around an object make the loss smaller.

    Args:
        logits: (N, K, h, w) class logits; brought to the size of the labels bilinearly (``align_corners=False``).
        labels: (N, H, W) integers, class indices or 255.
        mask: (N, H, W) integers: 0 = part of the scene, 1 = negative, 255 = shows no scene.
        alpha: weight of a negative beside 1 - alpha of a pixel with a class, in [0, 1].
        separate: divide each sum by the number of its own pixels instead (ours): what they weigh then does not depend
            on how many there are.
        class_weights: (K,) weights of the classes (ours); the mean over pixels with a class is then weighted alike,
            and their share of the loss stays as it is.

    Returns:
        0-d tensors ``cross_entropy`` and ``uniform`` (the cross-entropy of negatives), weighted, and their ``total``. A
        term for which there are no pixels is 0.

    Raises:
        InputError: if shapes do not fit together, a label is no class, or alpha is out of range.

    Source: Chan, Rottmann and Gottschalk, ICCV 2021, with the normalisation of the released code.

    Example:
        >>> labels, mask = torch.tensor([[[0, 3], [255, 255]]]), torch.tensor([[[0, 0], [1, 0]]])
        >>> terms = meta_entropy_loss(torch.zeros(1, 4, 2, 2), labels, mask)
        >>> {name: round(float(value), 4) for name, value in terms.items()}  # ln 4 by 0.1 * 2 / 16 and by 0.9 / 16
        {'cross_entropy': 0.0173, 'uniform': 0.078, 'total': 0.0953}
    """
    checked_targets(logits, labels, mask)
    checked_alpha(alpha)
    logits = at_labels(logits, labels)
    inlier, negative = inlier_pixels(labels, mask), negative_pixels(mask)
    in_mean = mean_cross_entropy(logits, labels.long().masked_fill(~inlier, IGNORE), class_weights)
    surprise = -torch.log_softmax(pixels(logits, negative), dim=1).mean(dim=1)
    shares = [1.0 if separate else one.sum().to(logits) / max(1, logits.numel()) for one in (inlier, negative)]
    return summed(
        {"cross_entropy": (1 - alpha) * shares[0] * in_mean, "uniform": alpha * shares[1] * mean_of(surprise)}
    )


def checked_alpha(alpha: float) -> float:
    """Return the weight of a negative.

    Raises:
        InputError: if it is not in [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}, expected 0 to 1: the weight of a negative, 0.9 as published")
    return alpha
