"""Features of a padded image, brought back to the part that shows the image."""

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cropped_maps"]


def cropped_maps(maps: Tensor, content: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the part of maps (N, C, h, w) that shows the image, which lies at the top left of what was padded.

    Where the image ends between two pixels of the maps, they are sampled anew over exactly that part.

    Args:
        maps: what a network gave for the padded image, at any stride.
        content: (H, W) of the image.
        size: (H, W) of the padded image.

    Example:
        >>> cropped_maps(torch.rand(1, 4, 6, 8), (24, 32), (48, 64)).shape
        torch.Size([1, 4, 3, 4])
    """
    height, width = (whole * part / full for whole, part, full in zip(maps.shape[-2:], content, size, strict=True))
    rows, columns = math.ceil(height), math.ceil(width)
    if (rows, columns) == (height, width):
        return maps[..., :rows, :columns]
    y, x = height / maps.shape[-2], width / maps.shape[-1]
    affine = torch.tensor([[[x, 0, x - 1], [0, y, y - 1]]], dtype=maps.dtype, device=maps.device)
    grid = functional.affine_grid(affine, [1, 1, rows, columns], align_corners=False)
    grid = grid.expand(len(maps), -1, -1, -1)
    return functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)
