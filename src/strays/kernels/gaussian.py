"""Gaussian blur with a kernel of stated size and mirrored edges."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError

__all__ = ["gaussian_blurred", "gaussian_window"]


def gaussian_window(sigma: float = 1.0, kernel: int = 7) -> tuple[float, ...]:
    """Return the weights of a Gaussian at the offsets -(``kernel`` // 2) ... ``kernel`` // 2, with the sum 1.

    Args:
        sigma: standard deviation in steps of the kernel, above 0.
        kernel: number of weights, odd.

    Raises:
        InputError: if sigma is not above 0, or the kernel is not odd.

    Example:
        >>> [round(weight, 3) for weight in gaussian_window(sigma=0.5, kernel=3)]
        [0.107, 0.787, 0.107]
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InputError(f"expected a sigma above 0, got {sigma}")
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"expected an odd kernel of at least 1, got {kernel}: try {max(kernel, 0) + 1}")
    distances = [offset / sigma for offset in range(-(kernel // 2), kernel // 2 + 1)]
    weights = [math.exp(-distance * distance / 2) for distance in distances]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def gaussian_blurred(maps: Tensor, sigma: float = 1.0, kernel: int = 7) -> Tensor:
    """Return maps convolved with a square Gaussian kernel, mirrored at their edges, which are not repeated.

    OpenCV, Kornia and torchvision call such edges "reflect", SciPy calls them "mirror".

    Args:
        maps: (N, H, W), float32 or float64, larger than ``kernel`` // 2 in both directions.
        sigma: standard deviation in pixels, above 0.
        kernel: weights in each direction, odd; 1 blurs nothing.

    Returns:
        (N, H, W) of the same type.

    Raises:
        InputError: if the shape does not fit, sigma is not above 0 or the kernel not odd.

    Example:
        >>> gaussian_blurred(torch.tensor([[[0.0, 1.0, 0.0]] * 3]), sigma=0.5, kernel=3)[0, 0]
        tensor([0.2130, 0.7870, 0.2130])
    """
    weights, reach = gaussian_window(sigma, kernel), kernel // 2
    if maps.ndim != 3 or min(maps.shape[-2:]) <= reach:
        fix = ": add a batch dimension with maps[None]" if maps.ndim == 2 else ""
        raise InputError(f"expected maps (N, H, W) of more than {reach} rows and columns, got {tuple(maps.shape)}{fix}")
    for dim, around in ((-2, (0, 0, reach, reach)), (-1, (reach, reach, 0, 0))):
        maps = _weighted_along(functional.pad(maps, around, mode="reflect"), dim, weights)
    return maps


def _weighted_along(padded: Tensor, dim: int, weights: tuple[float, ...]) -> Tensor:
    # Shifted sums, as autocast and TF32 would round what a convolution computes.
    size = padded.shape[dim] - len(weights) + 1
    result = torch.zeros_like(padded.narrow(dim, 0, size))
    for step, weight in enumerate(weights):
        result.add_(padded.narrow(dim, step, size), alpha=weight)
    return result
