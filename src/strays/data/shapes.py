"""Masks from how annotations write them down: polygons and run lengths."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strays.errors import InputError

__all__ = ["decoded_counts", "polygon_mask", "run_length_mask"]


def polygon_mask(points: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centres lie inside a closed polygon, by the even-odd rule.

    The pixel in column c and row r covers [c, c + 1) x [r, r + 1); its centre is (c + 0.5, r + 0.5). A centre on a left
    or upper edge is inside, one on a right or lower edge is not, so polygons that share an edge share no pixel and
    leave none out. pycocotools samples the same centres after it has rounded the points to fifths of a pixel.

    Args:
        points: (V, 2) x and y in pixels; what lies outside the image is cut off.
        size: (H, W) of the image.

    Example:
        >>> polygon_mask(np.array([[0, 0], [2, 0], [2, 1], [0, 1]]), (2, 3)).astype(int).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    mask = np.zeros(size, np.bool_)
    rows, columns = _crossings(np.asarray(points, np.float64), size)
    if len(rows):
        top, left = rows.min(), columns.min()
        height, width = int(rows.max() - top) + 1, int(columns.max() - left)
        places = (rows - top) * (width + 1) + columns - left
        toggles = np.bincount(places, minlength=height * (width + 1)).reshape(height, width + 1)
        mask[top : top + height, left : left + width] = toggles.cumsum(axis=1)[:, :-1] % 2 == 1
    return mask


def _crossings(points: NDArray[np.float64], size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where edges cross the lines through the centres of rows: the row, and the first column right of it."""
    start, end = points, np.roll(points, -1, axis=0)
    # Every edge goes downwards, so that one which is walked there and back cancels itself exactly.
    down = (start[:, 1] <= end[:, 1])[:, None]
    upper, lower = np.where(down, start, end), np.where(down, end, start)
    first, stop = (np.clip(np.ceil(one[:, 1] - 0.5), 0, size[0]).astype(np.int64) for one in (upper, lower))
    counts = stop - first
    edge = np.repeat(np.arange(len(points)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    share = (rows + 0.5 - upper[edge, 1]) / (lower - upper)[edge, 1]
    x = upper[edge, 0] + share * (lower - upper)[edge, 0]
    return rows, np.clip(np.ceil(x - 0.5), 0, size[1]).astype(np.int64)


def run_length_mask(counts: Sequence[int] | NDArray[np.integer] | str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask that alternating runs of 0 and 1 stand for, column by column, as COCO writes them.

    Args:
        counts: the lengths, the first of them a run of zeros; or the text that the COCO API packs them into.
        size: (H, W).

    Raises:
        InputError: if the runs do not fill the mask exactly.

    Example:
        >>> run_length_mask([1, 2, 3], (2, 3)).astype(int).tolist()
        [[0, 1, 0], [1, 0, 0]]
    """
    runs = np.asarray(decoded_counts(counts) if isinstance(counts, str) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        what = f"expected runs that add up to {size[0]} x {size[1]} = {size[0] * size[1]} pixels, got {runs.sum()}"
        raise InputError(f"{what}; export the annotation again")
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(columns.reshape(size[1], size[0]).T)


def decoded_counts(text: str) -> list[int]:
    """Return the run lengths in a text of the COCO API.

    Each character carries five bits and whether more of the number follow, lowest first, in two's complement; from the
    fourth number on it is the difference to the number two before.

    Raises:
        InputError: if a character cannot be one, or the text ends within a number.

    Example:
        >>> decoded_counts("123O")
        [1, 2, 3, 1]
    """
    codes = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    if ((codes < 0) | (codes > 63)).any() or (len(codes) and codes[-1] & 32):
        raise InputError(f"expected run lengths as the COCO API packs them, got {text[:20]!r}; export it again")
    counts: list[int] = []
    number = shift = 0
    for code in codes.tolist():
        number |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        number -= (code & 16) << (shift - 4)
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return counts
