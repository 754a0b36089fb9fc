"""Cutting out of images: boxes, windows, objects with clean edges, and ranges in words."""

from collections.abc import Iterable
from math import inf

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strays.errors import InputError
from strays.negatives.base import Negative

__all__ = [
    "Box",
    "Span",
    "bounding_box",
    "covering_box",
    "cut_out",
    "mirrored",
    "parse_span",
    "random_box",
    "resized_cut",
    "union",
    "view",
    "view_map",
]

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels, as Pillow has them; they may lie between pixels."""

Span = tuple[float, float]
"""The least and the largest value of a setting that is drawn."""


def parse_span(setting: str, text: str | float, least: float, most: float = inf, whole: bool = False) -> Span:
    """Return the range that ``LOW+HIGH`` says, or one number alone.

    Args:
        setting: what is set, for messages.
        text: in words, or a number.
        least: what both ends have to be at least.
        most: what both ends have to be at most.
        whole: whether they have to be whole numbers.

    Raises:
        InputError: if it is no such range.

    Example:
        >>> parse_span("side", "0.1+0.6", 0, 1), parse_span("count", 2, 1, whole=True)
        ((0.1, 0.6), (2.0, 2.0))
    """
    low, plus, high = str(text).partition("+")
    try:
        span = float(low), float(high if plus else low)
    except ValueError:
        span = (inf, -inf)
    fits = least <= span[0] <= span[1] <= most and span[1] < inf
    if not fits or (whole and not all(end.is_integer() for end in span)):
        kind = "whole numbers" if whole else "numbers"
        above = f"{least:g} to {most:g}" if most < inf else f"{least:g}"
        raise InputError(f"{setting}: expected LOW+HIGH, two {kind} from {above}, or one of them, got {text!r}")
    return span


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest box around the pixels of a mask (H, W) that has some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def union(masks: Iterable[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return the pixels that are in at least one of the masks."""
    together: NDArray[np.bool_] = np.logical_or.reduce(list(masks))
    return together


def cut_out(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Negative:
    """Return the masked pixels of an image (H, W, 3) within the box around them."""
    box = bounding_box(mask)
    return Negative(image[box], mask[box].astype(np.uint8))


def resized_cut(negative: Negative, size: tuple[int, int]) -> Negative:
    """Return a negative of mask 0 and 1 at (h, w) = ``size``.

    No colour from around the object bleeds into its edge; a pixel is part of it where at least half of it is, or, of
    an object too thin for that, any of it.
    """
    alpha = np.where(negative.mask, np.uint8(255), np.uint8(0))
    layered = Image.fromarray(np.dstack([negative.image, alpha]))
    pixels = np.asarray(layered.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    taken = pixels[..., 3] >= 128
    if not taken.any():
        taken = pixels[..., 3] == pixels[..., 3].max()
    return Negative(np.ascontiguousarray(pixels[..., :3]), taken.astype(np.uint8))


def mirrored(negative: Negative) -> Negative:
    """Return a negative with left and right exchanged."""
    opacity = None if negative.opacity is None else negative.opacity[:, ::-1]
    return Negative(negative.image[:, ::-1], negative.mask[:, ::-1], opacity)


def random_box(size: tuple[int, int], want: tuple[float, float], random: np.random.Generator) -> Box:
    """Return a box of (h, w) = ``want`` somewhere in an image of (H, W) = ``size``, all places equally likely."""
    height, width = (min(float(have), part) for have, part in zip(size, want, strict=True))
    top, left = random.uniform(0, size[0] - height), random.uniform(0, size[1] - width)
    return left, top, min(left + width, size[1]), min(top + height, size[0])


def covering_box(size: tuple[int, int], patch: tuple[int, int], scale: float, random: np.random.Generator) -> Box:
    """Return a random box of an image of (H, W) = ``size`` that fills a patch of (h, w) = ``patch``.

    Args:
        size: of the image.
        patch: of what is shown.
        scale: how many times larger than in the image things are shown; more, where the image would not fill the patch.
        random: where the chance comes from.
    """
    enough = max(scale, *(want / have for want, have in zip(patch, size, strict=True)))
    return random_box(size, (patch[0] / enough, patch[1] / enough), random)


def view(image: NDArray[np.uint8], box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what a box of an image (H, W, 3) shows at (h, w) = ``size``, by Pillow's antialiased bilinear filter."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))


def view_map(values: NDArray[np.uint8], box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what a box of a map (H, W) shows at (h, w) = ``size``, by nearest neighbour."""
    return np.asarray(Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.NEAREST, box=box))
