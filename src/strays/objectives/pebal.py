"""The loss of PEBAL: abstention with an energy for its penalty, and energies kept apart."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import torch
from torch import Tensor

from strays.errors import InputError
from strays.kernels.gaussian import gaussian_blurred
from strays.objectives.inputs import (
    at_labels,
    checked_class_weights,
    checked_finite,
    checked_targets,
    checked_weights,
    inlier_pixels,
    masked_mean,
    mean_of,
    negative_pixels,
    summed,
)

__all__ = ["OutlierAbstention", "Smoothness", "Sparsity", "pebal_loss"]

OutlierAbstention = Literal["classes", "channel"]
Smoothness = Literal["squared", "absolute"]
Sparsity = Literal["norm", "mean"]

_LEAST_PENALTY = 1e-6
_LEAST_LOG_SUM = math.log(1e-7)

Choice = TypeVar("Choice")


def pebal_loss(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    m_in: float | Tensor = -12.0,
    m_out: float | Tensor = -6.0,
    class_weights: Tensor | None = None,
    *,
    detach_penalty: bool = False,
    blur_penalty: bool = True,
    outlier_abstention: OutlierAbstention = "classes",
    smoothness: Smoothness = "squared",
    sparsity: Sparsity = "norm",
    outlier_weight: float = 0.1,
    energy_weight: float = 0.1,
    sparsity_weight: float = 5e-4,
    smoothness_weight: float = 3e-6,
) -> Mapping[str, Tensor]:
    """Return the seven weighted terms of pixel-wise energy-biased abstention learning, and their ``total``.

    With p the softmax over all channels, r that of abstention, and E = -ln sum_k exp(z_k) over the classes, abstaining
    is worth r / a, where the penalty a = E^2 is blurred by a Gaussian (7 x 7, sigma 1). The terms:

    - ``abstention_plain``, ``abstention_inlier``: the mean of -ln(p_y + r / a) over labelled pixels, of the images
      without and of those with negatives, either with a mean of its own.
    - ``abstention_outlier``: the mean of -ln max(p_k + r / a, 1e-7) over negatives and all classes k.
    - ``energy_inlier``, ``energy_outlier``: the means of max(E - m_in, 0)^2 over labelled pixels and of
      max(m_out - E, 0)^2 over negatives, each halved in a batch that has negatives.
    - ``sparsity``: the Euclidean norm of the energies of all negatives in the batch.
    - ``smoothness``: half the sum of squared differences of E between neighbours, over the whole batch, ignored pixels
      and negatives too.

    The defaults are those of the authors' code; ``detach_penalty``, ``blur_penalty`` and ``outlier_abstention`` offer
    how the paper reads, ``smoothness`` and ``sparsity`` means and absolute values in the same places.

    Args:
        logits: (N, K + 1, h, w), the channel of abstention last; brought to the size of the labels bilinearly.
        labels: (N, H, W) integers, class indices below K, or 255 = ignore.
        mask: (N, H, W) integers, 0 = part of the scene, 1 = negative, 255 = neither; the scene's labelled pixels are
            inliers, all but these and negatives is ignored.
        m_in: above it the energy of labelled pixels costs something.
        m_out: below it the energy of negatives does.
        class_weights: (K,) weights in the means over labelled pixels of the abstention (ours; the authors have none).
        detach_penalty: whether a is a constant to the gradient, as the paper is usually read.
        blur_penalty: whether a is blurred, of which the paper says nothing.
        outlier_abstention: ``channel`` takes -ln(r + r / a), abstention as the class of negatives (equation 3).
        smoothness: ``absolute`` takes absolute instead of squared differences.
        sparsity: ``mean`` takes the mean of absolute energies instead of their norm.
        outlier_weight: of ``abstention_outlier``.
        energy_weight: of the energies' four terms.
        sparsity_weight: of the sparsity within these.
        smoothness_weight: of the smoothness within these.

    Returns:
        0-d tensors, float32, or float64 for float64 logits. A term without pixels is 0. The penalty is at least 1e-6,
        which is ours: for energies around 0 abstention would be worth infinitely much.

    Raises:
        InputError: if shapes or labels do not fit, the labels have fewer than 4 rows or columns, an option is none of
            its words, or a weight is out of range.

    Source: Tian et al., Pixel-wise Energy-biased Abstention Learning for Anomaly Segmentation on Complex Urban Driving
    Scenes, ECCV 2022 (abstention: equation 3), and its code.

    Example:
        >>> logits = torch.tensor([10.0, 0.0, 5.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
        >>> labels, mask = torch.zeros(2, 1, 4, 4, dtype=torch.long)
        >>> {name: round(float(value), 4) for name, value in pebal_loss(logits, labels, mask).items() if value}
        {'abstention_plain': 0.0067, 'energy_inlier': 0.4, 'total': 0.4067}
    """
    outlier_term = _chosen("outlier_abstention", outlier_abstention, _OUTLIER)
    size_of = _chosen("sparsity", sparsity, _SPARSITY)
    power = _chosen("smoothness", smoothness, _POWERS)
    checked_weights(outlier_weight=outlier_weight, energy_weight=energy_weight)
    checked_weights(sparsity_weight=sparsity_weight, smoothness_weight=smoothness_weight)
    checked_finite(m_in=float(m_in), m_out=float(m_out))
    _check(logits, labels, mask, class_weights)
    logits, negative = at_labels(logits, labels), negative_pixels(mask)
    inlier = inlier_pixels(labels, mask)
    energies = -torch.logsumexp(logits[:, :-1], dim=1)
    log_p = torch.log_softmax(logits, dim=1)
    log_worth = log_p[:, -1] - _penalty(energies, blur_penalty, detach_penalty).log()
    share = 1 - 0.5 * negative.any()  # of either hinge
    return summed(
        {
            **_inlier_abstention(log_p, log_worth, labels.long(), inlier, negative, class_weights),
            "abstention_outlier": outlier_weight * outlier_term(log_p, log_worth, negative),
            "energy_inlier": energy_weight * (share * masked_mean((energies - m_in).relu().square(), inlier)),
            "energy_outlier": energy_weight * (share * masked_mean((m_out - energies).relu().square(), negative)),
            "sparsity": energy_weight * sparsity_weight * size_of(energies[negative]),
            "smoothness": energy_weight * smoothness_weight / 2 * _roughness(energies, power),
        }
    )


def _check(logits: Tensor, labels: Tensor, mask: Tensor, class_weights: Tensor | None) -> None:
    if logits.ndim != 4 or logits.shape[1] < 2:
        raise InputError(f"expected logits (N, K + 1, h, w), the channel of abstention last, got {tuple(logits.shape)}")
    checked_targets(logits[:, :-1], labels, mask)
    if class_weights is not None:
        checked_class_weights(class_weights, logits.shape[1] - 1)


def _penalty(energies: Tensor, blur: bool, detach: bool) -> Tensor:
    """Return what abstaining is divided by, (N, H, W)."""
    penalty = energies.detach().square() if detach else energies.square()
    penalty = gaussian_blurred(penalty) if blur else penalty
    return penalty.clamp(min=_LEAST_PENALTY)


def _inlier_abstention(
    log_p: Tensor, log_worth: Tensor, labels: Tensor, inlier: Tensor, negative: Tensor, weights: Tensor | None
) -> dict[str, Tensor]:
    """Return the means of -ln(p_y + r / a) over inliers of the images without, and of those with negatives."""
    targets = labels.masked_fill(~inlier, 0)
    # The logarithm of the sum from those of its parts: no probability is 0 then, whatever the logits are.
    surprise = -torch.logaddexp(log_p.gather(1, targets[:, None])[:, 0], log_worth)
    mixed = negative.flatten(1).any(dim=1)[:, None, None]
    weight = None if weights is None else weights.to(surprise)[targets]
    means = [masked_mean(surprise, inlier & images, weight) for images in (~mixed, mixed)]
    return {"abstention_plain": means[0], "abstention_inlier": means[1]}


def _over_classes(log_p: Tensor, log_worth: Tensor, negative: Tensor) -> Tensor:
    of_classes = log_p[:, :-1].movedim(1, -1)[negative]
    sums = torch.logaddexp(of_classes, log_worth[negative][:, None]).clamp(min=_LEAST_LOG_SUM)
    return mean_of(-sums.flatten())


def _of_abstention(log_p: Tensor, log_worth: Tensor, negative: Tensor) -> Tensor:
    return masked_mean(-torch.logaddexp(log_p[:, -1], log_worth).clamp(min=_LEAST_LOG_SUM), negative)


def _absolute_mean(energies: Tensor) -> Tensor:
    return mean_of(energies.abs())


def _roughness(energies: Tensor, power: int) -> Tensor:
    down, right = energies.diff(dim=-2), energies.diff(dim=-1)
    return down.abs().pow(power).sum() + right.abs().pow(power).sum()


def _chosen(setting: str, word: str, choices: Mapping[str, Choice]) -> Choice:
    if word not in choices:
        raise InputError(f"{setting} is {word!r}, expected one of {', '.join(choices)}")
    return choices[word]


_OUTLIER: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "classes": _over_classes,
    "channel": _of_abstention,
}
_SPARSITY: Mapping[str, Callable[[Tensor], Tensor]] = {"norm": torch.linalg.vector_norm, "mean": _absolute_mean}
_POWERS: Mapping[str, int] = {"squared": 2, "absolute": 1}
