"""Clean-up of confidence maps where classes meet: iterative boundary suppression and dilated smoothing."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.kernels.gaussian import gaussian_window

__all__ = [
    "checked_dilation",
    "class_boundaries",
    "dilated_smoothing",
    "expanded_mask",
    "suppressed_boundaries",
    "suppression_radii",
]


def class_boundaries(labels: Tensor) -> Tensor:
    """Return the pixels where classes meet.

    A pixel is one of them if the largest class index among itself and its four direct neighbours differs from the
    smallest one of its full 3x3 window. Indices count as numbers, so a smaller index at a corner of the window makes a
    boundary and a larger one does not. Pixels outside the image are ignored.

    Args:
        labels: (..., H, W) class indices of any integer type.

    Returns:
        (..., H, W) bool.

    Source: Jung et al., ICCV 2021; the two unequal neighbourhoods are those of their code.

    Example:
        >>> class_boundaries(torch.tensor([[1, 1, 1, 2, 2]])).int()
        tensor([[0, 0, 1, 1, 0]], dtype=torch.int32)
    """
    cross = torch.maximum(_over_neighbours(labels, -2, torch.maximum), _over_neighbours(labels, -1, torch.maximum))
    square = _over_neighbours(_over_neighbours(labels, -2, torch.minimum), -1, torch.minimum)
    return cross != square


def expanded_mask(mask: Tensor, radius: int) -> Tensor:
    """Return a mask (..., H, W) grown by the diamond |dy| + |dx| <= ``radius``; radius 0 leaves it as it is.

    Example:
        >>> expanded_mask(torch.tensor([[False, False, False, True]]), 2)
        tensor([[False,  True,  True,  True]])
    """
    for _ in range(radius):  # a diamond of radius r is r steps to direct neighbours, at the edges of the image too
        mask = _over_neighbours(mask, -2, torch.logical_or) | _over_neighbours(mask, -1, torch.logical_or)
    return mask


def _over_neighbours(values: Tensor, dim: int, pick: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return ``pick`` over every pixel and its two neighbours along one dimension; there are none outside the image."""
    result = values.clone()
    shared = values.shape[dim] - 1
    for here, there in ((0, 1), (1, 0)):
        part = result.narrow(dim, here, shared)
        part.copy_(pick(part, values.narrow(dim, there, shared)))
    return result


def suppression_radii(iterations: int = 4, width: int = 4) -> tuple[int, ...]:
    """Return by how much the boundary is expanded in each iteration: from ``width`` - d - 1 in steps of d to 0.

    Args:
        iterations: n, at least 1.
        width: w, a multiple of n; the step d is w / n, and the first radius w - 1.

    Raises:
        InputError: if one is below 1, or the width is not a multiple of the iterations.

    Example:
        >>> suppression_radii(), suppression_radii(iterations=2, width=6)
        ((3, 2, 1, 0), (5, 0))
    """
    if iterations < 1 or width < 1:
        raise InputError(f"expected iterations and a width of at least 1, got iterations={iterations}, width={width}")
    if width % iterations:
        fix = width + iterations - width % iterations
        raise InputError(f"expected a width that is a multiple of iterations={iterations}, got {width}: try {fix}")
    step = width // iterations
    return (*(width - step * done - 1 for done in range(iterations - 1)), 0)


def suppressed_boundaries(confidence: Tensor, labels: Tensor, iterations: int = 4, width: int = 4) -> Tensor:
    """Return a map whose values near class boundaries come from the surroundings, from the outside inwards.

    Each iteration expands the boundary by one radius of ``suppression_radii``; every pixel inside takes the mean of the
    current values in its 3x3 window that lie outside, edge pixels being repeated beyond the image, and keeps its own
    value where there is none. Pixels outside stay as they are.

    Args:
        confidence: (N, H, W), of any sign: the negative of a map gives the negative of its result.
        labels: (N, H, W) predicted class indices, of any integer type.
        iterations: how often the boundary is narrowed, at least 1.
        width: how far it reaches at first, a multiple of the iterations.

    Returns:
        (N, H, W) float32, or float64 for a float64 map.

    Raises:
        InputError: if the shapes do not fit, or the width is not a multiple of the iterations.

    Source: Jung et al., ICCV 2021, iterative boundary suppression.

    Example:
        >>> confidence = torch.tensor([[[8.0, 8.0, 8.0, 1.0, 2.0, 6.0, 6.0, 6.0]]])
        >>> labels = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1]]])
        >>> suppressed_boundaries(confidence, labels, iterations=1, width=1)
        tensor([[[8., 8., 8., 8., 6., 6., 6., 6.]]])
    """
    values = _checked_maps(confidence)
    if labels.shape != confidence.shape:
        raise InputError(
            f"expected labels of the shape {tuple(confidence.shape)} of the confidence, got {tuple(labels.shape)}: "
            "bring both to the size of the image first"
        )
    boundaries = class_boundaries(labels)
    for radius in suppression_radii(iterations, width):
        values = _filled(values, expanded_mask(boundaries, radius))
    return values


def _filled(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values with those inside the mask replaced by the mean of those outside it in their 3x3 window."""
    total = _window_sums(torch.where(mask, 0, values))
    count = _window_sums((~mask).to(values.dtype))
    return torch.where(mask & (count > 0), total / count.clamp(min=1), values)


def _window_sums(values: Tensor) -> Tensor:
    """Return the sums over 3x3 windows, edge pixels repeated."""
    padded = functional.pad(values, (1, 1, 1, 1), mode="replicate")
    columns = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]


def dilated_smoothing(confidence: Tensor, sigma: float = 1.0, kernel: int = 7, dilation: int = 6) -> Tensor:
    """Return a map convolved with a dilated Gaussian, edge pixels repeated beyond the image.

    Args:
        confidence: (N, H, W), of any sign.
        sigma: standard deviation in steps of ``dilation`` pixels, above 0.
        kernel: number of weights in each direction, odd.
        dilation: pixels between them, at least 1; the kernel reaches ``dilation`` * (``kernel`` // 2) pixels.

    Returns:
        (N, H, W) float32, or float64 for a float64 map.

    Raises:
        InputError: if the map is not (N, H, W), sigma is not above 0, the kernel not odd, or the dilation below 1.

    Source: Jung et al., ICCV 2021, dilated smoothing.

    Example:
        >>> peak = torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]]])
        >>> dilated_smoothing(peak, sigma=0.5, kernel=3, dilation=2).round(decimals=3)
        tensor([[[0.1070, 0.0000, 0.7870, 0.0000, 0.1070, 0.0000, 0.0000]]])
    """
    weights = gaussian_window(sigma, kernel)
    checked_dilation(dilation)
    values = _checked_maps(confidence)
    for dim in (-2, -1):  # a two-dimensional Gaussian is the product of two one-dimensional ones
        values = _weighted_along(values, dim, weights, dilation)
    return values


def _weighted_along(values: Tensor, dim: int, weights: tuple[float, ...], dilation: int) -> Tensor:
    size = values.shape[dim]
    reach = dilation * (len(weights) // 2)
    padded = functional.pad(values, (0, 0, reach, reach) if dim == -2 else (reach, reach, 0, 0), mode="replicate")
    result = torch.zeros_like(values)
    for step, weight in enumerate(weights):
        result.add_(padded.narrow(dim, step * dilation, size), alpha=weight)
    return result


def checked_dilation(dilation: int) -> int:
    """Return a dilation.

    Raises:
        InputError: if it is below 1.
    """
    if dilation < 1:
        raise InputError(f"expected a dilation of at least 1, got {dilation}: 1 takes neighbouring pixels")
    return dilation


def _checked_maps(maps: Tensor) -> Tensor:
    """Return maps (N, H, W) in float32, or in float64 if they came so."""
    if maps.ndim != 3:
        fix = ": add a batch dimension with confidence[None]" if maps.ndim == 2 else ""
        raise InputError(f"expected a confidence (N, H, W), got {tuple(maps.shape)}{fix}")
    return maps if maps.dtype == torch.float64 else maps.float()
