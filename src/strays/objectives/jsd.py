"""Cross-entropy on the classes, Jensen-Shannon divergence to the uniform distribution on negatives."""

from collections.abc import Mapping

from torch import Tensor

from strays.divergences import jensen_shannon_from_uniform
from strays.objectives.inputs import (
    at_labels,
    checked_targets,
    checked_weights,
    mean_cross_entropy,
    negative_pixels,
    pixels,
    summed,
)
from strays.taxonomy import IGNORE

__all__ = ["jsd_to_uniform_loss"]


def jsd_to_uniform_loss(
    logits: Tensor, labels: Tensor, mask: Tensor, weight: float = 0.03, class_weights: Tensor | None = None
) -> Mapping[str, Tensor]:
    """Return CE + weight JSD under ``cross_entropy``, ``divergence`` and ``total``.

    CE is the mean cross-entropy of the labelled pixels, JSD the mean over negatives of the Jensen-Shannon divergence
    between their class probabilities and the uniform distribution. It is at most ln 2, and its gradient is bounded
    too, which makes it forgive negatives that show a known class.

    Args:
        logits: (N, K, h, w) class logits; brought to the size of the labels bilinearly (``align_corners=False``).
        labels: (N, H, W) integers, class indices or 255.
        mask: (N, H, W) integers: 0 = part of the scene, 1 = negative, 255 = shows no scene.
        weight: of the divergence, 0 or more.
        class_weights: (K,) weights in CE, whose mean is then weighted alike (ours).

    Returns:
        0-d tensors, weighted, and their total. A term for which there are no pixels is 0.

    Raises:
        InputError: if shapes do not fit together, a label is no class, or the weight is out of range.

    Source: Grcić et al., Dense Out-of-Distribution Detection by Robust Learning on Synthetic Negative Data, 2024; there
    the negatives are samples of a normalizing flow.

    Example:
        >>> import torch
        >>> labels, mask = torch.tensor([[[0, 255]]]), torch.tensor([[[0, 1]]])
        >>> logits = torch.tensor([[0.0, 9e3], [0.0, 0.0]]).view(1, 2, 1, 2)
        >>> terms = jsd_to_uniform_loss(logits, labels, mask, weight=1)
        >>> {name: round(float(value), 4) for name, value in terms.items()}
        {'cross_entropy': 0.6931, 'divergence': 0.2158, 'total': 0.9089}
    """
    checked_targets(logits, labels, mask)
    checked_weights(weight=weight)
    logits, negative = at_labels(logits, labels), negative_pixels(mask)
    divergence = jensen_shannon_from_uniform(pixels(logits, negative))
    terms = {
        "cross_entropy": mean_cross_entropy(logits, labels.long().masked_fill(negative, IGNORE), class_weights),
        "divergence": weight * divergence.sum() / max(1, len(divergence)),
    }
    return summed(terms)
