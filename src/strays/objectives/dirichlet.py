"""The loss of a prior network: a sharp Dirichlet distribution where the class is known, a flat one on negatives."""

import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, FunctionCtx, once_differentiable

from strays.errors import InputError
from strays.objectives.inputs import (
    Direction,
    at_labels,
    checked_class_weights,
    checked_direction,
    checked_targets,
    checked_weights,
    inlier_pixels,
    mean_of,
    negative_pixels,
    pixels,
    summed,
)

__all__ = ["checked_concentration", "dirichlet_divergence", "dirichlet_loss"]

_EPSILON = 1e-8
"""The released code adds it to the arguments of the gamma functions: it bounds the loss where concentrations vanish."""
_LARGE = 32.0
"""From here on the asymptotic series are exact in float64; they cancel less, which float32 needs."""
_STEEP = 30.0
"""Concentrations grow linearly from exp(30) on, where the forward divergence would overflow."""
_CHUNK = 2**16


def dirichlet_loss(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    direction: Direction = "reverse",
    concentration: float = 100.0,
    gamma: float = 1.0,
    class_weights: Tensor | None = None,
) -> Mapping[str, Tensor]:
    """Return (mean_in D + gamma mean_out D) / concentration under ``inliers``, ``negatives`` and ``total``.

    D is the divergence between the Dirichlet distribution with concentrations exp(logits) and its target, see
    ``dirichlet_divergence``: a sharp one for pixels with a class, a flat one for negatives.

    Args:
        logits: (N, K, h, w) class logits; brought to the size of the labels bilinearly (``align_corners=False``).
        labels: (N, H, W) integers, class indices or 255.
        mask: (N, H, W) integers: 0 = part of the scene, 1 = negative, 255 = shows no scene.
        direction: ``"reverse"`` is KL(model || target), ``"forward"`` is KL(target || model).
        concentration: what the target of a known class has more than 1, above 0; all of the loss is divided by it.
        gamma: weight of the negatives, 0 or more.
        class_weights: (K,) weights of the classes (ours); the mean over pixels with a class is then weighted alike.

    Returns:
        0-d tensors, weighted, and their total. A term for which there are no pixels is 0.

    Raises:
        InputError: if shapes do not fit together, a label is no class, or a parameter is out of range.

    Source: Malinin and Gales, NeurIPS 2019, with the parameters of its released code.

    Example:
        >>> labels, mask = torch.tensor([[[0, 255]]]), torch.tensor([[[0, 1]]])
        >>> terms = dirichlet_loss(torch.zeros(1, 4, 1, 2), labels, mask)
        >>> {name: round(float(value), 4) for name, value in terms.items()}  # the flat distribution suits negatives
        {'inliers': 1.7125, 'negatives': 0.0, 'total': 1.7125}
    """
    checked_targets(logits, labels, mask)
    checked_weights(gamma=gamma)
    scale = 1 / checked_concentration(concentration)
    logits, inlier = at_labels(logits, labels), inlier_pixels(labels, mask)
    known = labels[inlier].long()
    sharp = dirichlet_divergence(pixels(logits, inlier), known, direction, concentration)
    flat = dirichlet_divergence(pixels(logits, negative_pixels(mask)), None, direction, concentration)
    weights = None if class_weights is None else checked_class_weights(class_weights, logits.shape[1]).to(sharp)[known]
    return summed({"inliers": scale * mean_of(sharp, weights), "negatives": gamma * scale * mean_of(flat)})


def dirichlet_divergence(
    logits: Tensor, labels: Tensor | None = None, direction: Direction = "reverse", concentration: float = 100.0
) -> Tensor:
    """Return the Kullback-Leibler divergence between Dir(exp(logits)) and a sharp or flat Dirichlet distribution.

    KL(a || b) = ln G(a_0) - ln G(b_0) + sum_k [ln G(b_k) - ln G(a_k) + (a_k - b_k) (psi(a_k) - psi(a_0))] with
    a_0 = sum_k a_k, and 1e-8 added to every argument of G and psi. The target has ``concentration`` + 1 for the class
    and 1 for the others, or 1 for all.

    Args:
        logits: (M, K), K >= 2, the logarithms of the concentrations of the model.
        labels: (M,) class indices, or None for the flat target.
        direction: ``"reverse"`` is KL(model || target), ``"forward"`` is KL(target || model). The forward one grows
            like exp(logits); beyond 30 it goes on along its tangent, so that it stays finite and has a gradient.
        concentration: above 0.

    Returns:
        (M,), 0 or more but for rounding and the 1e-8; float32, or float64 for float64 logits. The gradient is computed
        along with it, some thousand pixels at a time, and is all that is kept; it cannot be derived again.

    Raises:
        InputError: if a shape is wrong, a label is no class, or a parameter is out of range.

    Source: Malinin and Gales, NeurIPS 2018 and 2019.

    Example:
        >>> dirichlet_divergence(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 0]))
        tensor([95.3849,  0.2348])
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"expected logits (M, K) of M pixels and K >= 2 classes, got {tuple(logits.shape)}")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    divergence = _reverse if checked_direction(direction) == "reverse" else _forward
    extra = 0.0 if labels is None else checked_concentration(concentration)
    targets = torch.zeros(len(logits), dtype=torch.long, device=logits.device) if labels is None else labels.long()
    if targets.shape != logits.shape[:1] or bool(((targets < 0) | (targets >= logits.shape[1])).any()):
        raise InputError(f"expected {len(logits)} labels in [0, {logits.shape[1]}), got {tuple(targets.shape)}")
    found = _PixelByPixel.apply(logits, targets, divergence, extra)  # type: ignore[no-untyped-call]
    return cast(Tensor, found)


class _PixelByPixel(torch.autograd.Function):
    """A loss of single pixels whose gradient is found along with it: of all that is in between nothing is kept."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        targets: Tensor,
        divergence: Callable[[Tensor, Tensor, float], Tensor],
        extra: float,
    ) -> Tensor:
        values: list[Tensor] = []
        slopes: list[Tensor] = []
        for some, target in zip(torch.split(logits, _CHUNK), torch.split(targets, _CHUNK), strict=True):
            with torch.set_grad_enabled(logits.requires_grad):
                z = some.detach().requires_grad_(logits.requires_grad)
                value = divergence(z, target, extra)
                slopes += torch.autograd.grad(value.sum(), z) if logits.requires_grad else ()
            values.append(value.detach())
        ctx.save_for_backward(*([torch.cat(slopes)] if slopes else []))
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, given: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return given[:, None] * slopes, None, None, None


def checked_concentration(concentration: float) -> float:
    """Return the concentration of a target.

    Raises:
        InputError: if it is not a finite number above 0.
    """
    if not 0 < concentration < math.inf:
        raise InputError(f"concentration is {concentration}, expected a finite number above 0: 100 is usual")
    return concentration


def _reverse(z: Tensor, targets: Tensor, extra: float) -> Tensor:
    # The terms of the definition grow like a ln a and cancel. With s(a) = a psi(a) - ln G(a) - a, which grows like
    # ln a, nothing of the kind is left, as sum_k a_k - a_0 = 0.
    psi, spread = _gamma_functions(z)
    psi0, spread0 = _gamma_functions(torch.logsumexp(z, dim=1))
    gaps = psi - psi0[:, None]
    of_target = gaps.sum(dim=1) + extra * gaps.gather(1, targets[:, None])[:, 0]
    return spread.sum(dim=1) - spread0 - of_target + _log_beta(z.shape[1], extra)


def _forward(z: Tensor, targets: Tensor, extra: float) -> Tensor:
    a = z.clamp(max=_STEEP).exp() * (1 + (z - _STEEP).clamp(min=0))
    a0 = a.sum(dim=1)
    log_beta = (a + _EPSILON).lgamma().sum(dim=1) - (a0 + _EPSILON).lgamma()
    total = z.shape[1] + extra
    rest = _digamma_of(1.0) - _digamma_of(total)
    raised = _digamma_of(1 + extra) - _digamma_of(1.0)
    slopes = (total - a0) * rest + (1 + extra - a.gather(1, targets[:, None])[:, 0]) * raised
    return log_beta - _log_beta(z.shape[1], extra) + slopes


def _log_beta(classes: int, extra: float) -> float:
    """Return sum_k ln G(b_k) - ln G(b_0) of the target."""
    one, raised, total = (math.lgamma(b + _EPSILON) for b in (1, 1 + extra, classes + extra))
    return (classes - 1) * one + raised - total


def _digamma_of(value: float) -> float:
    return float(torch.tensor(value + _EPSILON, dtype=torch.float64).digamma())


def _gamma_functions(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return psi(a + epsilon) and a psi(a + epsilon) - ln G(a + epsilon) - a of a = exp(z), for any z."""
    bound = math.log(_LARGE)
    a, r = z.clamp(max=bound).exp(), (-z.clamp(min=bound)).exp()  # each is bounded where the other one is taken
    x = a + _EPSILON
    psi = x.digamma()
    psi_series = z + r * (_EPSILON - 1 / 2 + r * (-1 / 12 + r**2 * (1 / 120 - r**2 / 252)))
    corrections = r * (-1 / 6 + r**2 * (1 / 90 - r**2 * (1 / 210 - r**2 / 210)))
    spread_series = (z - 1 - math.log(2 * math.pi)) / 2 + corrections + _EPSILON * (1 - z)
    small = z < bound
    return torch.where(small, psi, psi_series), torch.where(small, a * psi - x.lgamma() - a, spread_series)
