"""Segments: connected regions of anomalous pixels, each with its place, size and score."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strays.errors import InputError

__all__ = ["Box", "Segment", "find_segments"]

EIGHT = np.ones((3, 3), np.bool_)


class Box(NamedTuple):
    """A rectangle in pixels from the upper left corner of the image; ``right`` and ``bottom`` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Its rows and columns, to index a map with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, eq=False)
class Segment:
    """A connected region of anomalous pixels.

    Args:
        box: the smallest rectangle around it, in pixels of the score map.
        area: number of pixels.
        peak: its largest score.
        mean: the mean of its scores.
        centroid: mean column and mean row of its pixels, (x, y).
        mask: bool (bottom - top, right - left), which pixels of the box belong to it.
    """

    box: Box
    area: int
    peak: float
    mean: float
    centroid: tuple[float, float]
    mask: NDArray[np.bool_]

    def as_dict(self) -> dict[str, object]:
        """Return everything but the mask, ready for JSON."""
        facts = {"area": self.area, "peak": self.peak, "mean": self.mean, "centroid": list(self.centroid)}
        return {"box": self.box._asdict(), **facts}


def find_segments(score: NDArray[np.floating], threshold: float, min_area: int = 1) -> list[Segment]:
    """Return the 8-connected regions with ``score >= threshold``, highest peak first.

    Work grows linearly with the number of pixels, plus one crop per segment. Segments of one peak come in the order of
    their first pixel, row by row.

    Args:
        score: float (H, W), larger = more anomalous.
        threshold: the least score of a pixel that belongs to a segment.
        min_area: segments with fewer pixels are left out.

    Raises:
        InputError: if the score is not two-dimensional or not finite, or the threshold is NaN.

    Example:
        >>> score = np.float32([[0, 2, 0, 0], [1, 0, 0, 5]])
        >>> [(tuple(one.box), one.area, one.peak) for one in find_segments(score, threshold=1)]
        [((3, 1, 4, 2), 1, 5.0), ((0, 0, 2, 2), 2, 2.0)]
    """
    if score.ndim != 2 or not np.isfinite(score).all():
        raise InputError(f"expected finite scores (H, W) to find segments in, got {score.dtype} {score.shape}")
    if np.isnan(threshold):
        raise InputError("expected a threshold in the unit of the score, got NaN")
    numbers, count = ndimage.label(score >= threshold, structure=EIGHT)
    facts = _measure(score, numbers, count)
    boxes = ndimage.find_objects(numbers)
    kept = np.flatnonzero(facts.area >= min_area)
    order = kept[np.argsort(-facts.peak[kept], kind="stable")]
    return [_segment(int(one), facts, boxes[one], numbers) for one in order]


class _Facts(NamedTuple):
    """Per segment, in the order of their numbers: pixels, largest and mean score, mean column and row."""

    area: NDArray[np.int64]
    peak: NDArray[np.floating]
    mean: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def _measure(score: NDArray[np.floating], numbers: NDArray[np.int32], count: int) -> _Facts:
    rows, columns = np.nonzero(numbers)
    owner, values = numbers[rows, columns] - 1, score[rows, columns]
    area = np.bincount(owner, minlength=count)
    peak = np.full(count, -np.inf, score.dtype)
    np.maximum.at(peak, owner, values)
    mean, x, y = (np.bincount(owner, weights, count) / area for weights in (values, columns, rows))
    return _Facts(area, peak, mean, x, y)


def _segment(one: int, facts: _Facts, box: tuple[slice, slice], numbers: NDArray[np.int32]) -> Segment:
    rows, columns = box
    return Segment(
        box=Box(columns.start, rows.start, columns.stop, rows.stop),
        area=int(facts.area[one]),
        peak=float(facts.peak[one]),
        mean=float(facts.mean[one]),
        centroid=(float(facts.x[one]), float(facts.y[one])),
        mask=numbers[box] == one + 1,
    )
