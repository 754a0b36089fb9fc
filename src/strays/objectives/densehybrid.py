"""The loss of DenseHybrid: classes, the density of negatives, and an outlier head."""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.inputs import (
    at_labels,
    checked_finite,
    checked_outlier_logits,
    checked_targets,
    checked_weights,
    inlier_pixels,
    labelled_pixels,
    masked_mean,
    mean_cross_entropy,
    mean_of,
    negative_pixels,
    pixels,
    summed,
)
from strays.taxonomy import IGNORE

__all__ = ["PosteriorVoid", "densehybrid_loss"]

PosteriorVoid = Literal["inlier", "ignore"]


def densehybrid_loss(
    logits: Tensor,
    outlier_logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    beta: float = 0.03,
    posterior_weight: float | None = None,
    negative_posterior_weight: float | None = None,
    posterior_void: PosteriorVoid = "inlier",
    margin: float | None = None,
    class_weights: Tensor | None = None,
) -> Mapping[str, Tensor]:
    """Return CE + beta L_x + posterior_weight L_d under ``cross_entropy``, ``density``, ``posterior`` and ``total``.

    CE is the mean cross-entropy of the labelled pixels. L_x is the mean over negatives of ln p(x) - c, where
    ln p(x) = ln sum_k exp(z_k) is a log-density up to a constant and c, the mean of all class logits of the batch, has
    no gradient and only keeps the value small; it may be negative. L_d is the mean over all pixels of the cross-entropy
    of the outlier head, whose target is 1 on negatives and 0 elsewhere. All terms are those of the released code, which
    brings logits to full size like this for ladder DenseNets, and with ``align_corners=True`` for DeepLabV3+: give
    full-size logits for that.

    Args:
        logits: (N, K, h, w) class logits; brought to the size of the labels bilinearly (``align_corners=False``).
        outlier_logits: (N, 2, h', w'), channel 1 = outlier; likewise.
        labels: (N, H, W) integers, class indices or 255.
        mask: (N, H, W) integers: 0 = part of the scene, 1 = negative, 255 = shows no scene.
        beta: weight of L_x, 0 or more.
        posterior_weight: weight of L_d, 0 or more; None takes 10 beta.
        negative_posterior_weight: None means L_d as above. A number makes inliers and negatives two means,
            posterior_weight E_in[-ln P(in)] + negative_posterior_weight E_out[-ln P(out)]: the paper's bound has the
            weights 1 and beta.
        posterior_void: what pixels with label 255 that are no negatives, and pixels with mask 255, are to L_d:
            ``inlier`` as in the released code, or ``ignore``. Where nothing in an image is labelled, as in a whole
            negative image, pixels with mask 255 are ignored in either case: what surrounds an object is no scene then.
        margin: free energy E = -ln p(x) at which a negative is far enough: L_x then is the mean of
            max(0, margin - E)^2, without c. The authors advise it where training is not stable; None = without.
        class_weights: (K,) weights in CE, whose mean is then weighted alike (ours).

    Returns:
        0-d tensors, weighted, and their total. A term for which there are no pixels is 0.

    Raises:
        InputError: if shapes do not fit together, a label is no class, or a parameter is out of range.

    Source: Grcić, Bevandić and Šegvić, DenseHybrid, ECCV 2022; the margin is that of Liu et al., NeurIPS 2020,
    equation 10.

    Example:
        >>> import torch
        >>> labels, mask = torch.tensor([[[0, 255]]]), torch.tensor([[[0, 1]]])
        >>> terms = densehybrid_loss(torch.zeros(1, 4, 1, 2), torch.zeros(1, 2, 1, 2), labels, mask)
        >>> {name: round(float(value), 4) for name, value in terms.items()}  # ln 4, 0.03 ln 4 and 0.3 ln 2
        {'cross_entropy': 1.3863, 'density': 0.0416, 'posterior': 0.2079, 'total': 1.6358}
    """
    checked_targets(logits, labels, mask)
    checked_outlier_logits(outlier_logits, labels)
    posterior_weight = 10 * beta if posterior_weight is None else posterior_weight
    checked_finite(margin=margin)
    checked_weights(beta=beta, posterior_weight=posterior_weight, negative_posterior_weight=negative_posterior_weight)
    logits, negative = at_labels(logits, labels), negative_pixels(mask)
    inlier = _inliers(labels, mask, posterior_void)
    surprise = functional.cross_entropy(at_labels(outlier_logits, labels), negative.long(), reduction="none")
    terms = {
        "cross_entropy": mean_cross_entropy(logits, labels.long().masked_fill(negative, IGNORE), class_weights),
        "density": beta * _density(logits, negative, margin),
        "posterior": _posterior(surprise, inlier, negative, posterior_weight, negative_posterior_weight),
    }
    return summed(terms)


def _inliers(labels: Tensor, mask: Tensor, void: PosteriorVoid) -> Tensor:
    """Return which pixels (N, H, W) are inliers to the outlier head."""
    if void not in get_args(PosteriorVoid):
        raise InputError(f"posterior_void is {void!r}, expected one of {', '.join(get_args(PosteriorVoid))}")
    if void == "ignore":
        return inlier_pixels(labels, mask)
    scenes = labelled_pixels(labels).flatten(1).any(dim=1)[:, None, None]
    return ~negative_pixels(mask) & ((mask == 0) | scenes)


def _density(logits: Tensor, negative: Tensor, margin: float | None) -> Tensor:
    """Return L_x of logits (N, K, H, W); only the negatives are ever exponentiated."""
    log_density = pixels(logits, negative).logsumexp(dim=1)
    excess = log_density - logits.detach().mean() if margin is None else functional.relu(log_density + margin).square()
    return mean_of(excess)


def _posterior(
    surprise: Tensor, inlier: Tensor, negative: Tensor, weight: float, negative_weight: float | None
) -> Tensor:
    if negative_weight is None:
        return weight * masked_mean(surprise, inlier | negative)
    return weight * masked_mean(surprise, inlier) + negative_weight * masked_mean(surprise, negative)
