"""Open-set quality: mIoU of a network that answers "anomaly" where the score is above a threshold."""

from collections.abc import Collection, Mapping
from math import fsum
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import (
    Floats,
    Integers,
    State,
    as_array,
    as_integers,
    check_classes,
    check_metric,
    check_shapes,
    read_pixels,
)
from strays.metrics.closed_set import ClassIoU, class_iou, mean_iou
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = [
    "OpenSetConfusion",
    "OpenSetResult",
    "open_set_over_halves",
]


class OpenSetResult(dict[str, float]):
    """Open-set metrics by name, fractions in [0, 1] and pixel counts, with the IoU of each class as attributes.

    Args:
        values: the metrics by name.
        iou: the open IoU of each class, None as in a ``ClosedSetResult``.
        closed_iou: the closed IoU of each class, likewise.
        halves: by name what each half gave alone, where the result is one of ``open_set_over_halves``.
    """

    def __init__(
        self,
        values: Mapping[str, float],
        iou: ClassIoU,
        closed_iou: ClassIoU,
        halves: "Mapping[str, OpenSetResult]" = MappingProxyType({}),
    ) -> None:
        super().__init__(values)
        self.iou = iou
        self.closed_iou = closed_iou
        self.halves = halves

    @property
    def gaps(self) -> ClassIoU:
        """Closed minus open IoU of each class, None where either is not defined."""
        pairs = zip(self.closed_iou, self.iou, strict=True)
        return tuple(None if closed is None or kept is None else closed - kept for closed, kept in pairs)


class OpenSetConfusion:
    """Open-set mIoU: the confusion of a network that answers "anomaly" where the score is above a threshold.

    DenseHybrid (Grcić et al., ECCV 2022). A pixel is predicted an anomaly where ``score > threshold``, else it gets
    the class that the network gives it. A pixel is *known* where the mask says inlier (0) and the label is a class;
    it is an *anomaly* where the mask says 1, whatever the label. All others count nowhere. ``compute`` returns

    - ``open_mIoU``: the mean of IoU = TP / (TP + FP + FN) over the classes that occur. Anomalies that were not found
      are false positives of the class they were given, refused known pixels are false negatives of their own class;
      the IoU of the anomalies is not averaged;
    - ``closed_mIoU``: the mIoU of the same network on the known pixels only, none refused: what ``ConfusionMatrix``
      returns where every other label is 255;
    - ``gap``: closed minus open, which a perfect detector brings to 0;
    - ``anomalies_found`` and ``inliers_refused``, the shares of the anomalies and of the known pixels above the
      threshold, and ``anomaly_IoU``; without anomalies only the second is there;
    - ``threshold``, ``images``, ``pixels_known``, ``pixels_anomaly`` and ``pixels_ignored``.

    The result's ``iou``, ``closed_iou`` and ``gaps`` hold one entry per class. A class may occur in one mean and not in
    the other: one that is predicted on anomalies alone has an open IoU of 0 and no closed one. ``counts`` is int64
    (K + 1, K, 2): by true class, K being the anomalies, by class given, and by whether the pixel was refused.

    Args:
        classes: K, the number of known classes, at most 255.
        threshold: the largest score that is not refused, as from ``OpenSetThreshold``.

    Raises:
        InputError: if the number of classes is not as stated, or the threshold is not finite.

    Example:
        >>> labels, mask = np.uint8([[0, 0, 1, 1, 255, 255]]), np.uint8([[0, 0, 0, 0, 1, 1]])
        >>> predicted, scores = np.uint8([[0, 0, 1, 1, 1, 1]]), np.float32([[0, 1, 5, 2, 9, 3]])
        >>> result = OpenSetConfusion(2, threshold=4).update(predicted, scores, labels, mask).compute()
        >>> result["closed_mIoU"], round(result["open_mIoU"], 4), [round(value, 4) for value in result.iou]
        (1.0, 0.6667, [1.0, 0.3333])
        >>> result["anomalies_found"], result["inliers_refused"]
        (0.5, 0.25)
    """

    def __init__(self, classes: int, threshold: float) -> None:
        if not 1 <= classes <= IGNORE:
            raise InputError(f"expected 1 to {IGNORE} classes, got {classes}")
        if not np.isfinite(threshold):
            raise InputError(f"expected a finite threshold, got {threshold}: estimate one with OpenSetThreshold")
        self.threshold = float(threshold)
        self.counts = np.zeros((classes + 1, classes, 2), np.int64)
        self.images = 0
        self.ignored = 0

    @property
    def classes(self) -> int:
        """The number of known classes."""
        return self.counts.shape[1]

    def update(
        self,
        predicted: Tensor | Integers,
        scores: Tensor | Floats,
        labels: Tensor | Integers,
        mask: Tensor | NDArray[np.uint8],
    ) -> Self:
        """Take in one image, or several of one size; a refused update changes nothing.

        Args:
            predicted: integers (H, W) or (N, H, W), the most probable class: in [0, K) on known pixels and anomalies.
            scores: float of the same shape, larger = more anomalous.
            labels: integers of the same shape, in [0, K) or 255 = none on inlier pixels; not read elsewhere.
            mask: uint8 of the same shape, 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            InputError: if a type, a shape or a value is not as stated, or a score is NaN or infinite.
        """
        pixels, shape = read_pixels(scores, mask), as_array(scores).shape
        if len(shape) < 2:
            raise InputError(f"expected scores (H, W) or (N, H, W), got {shape}: keep the shape, images are counted")
        given, true = _integers(predicted, "predicted classes", shape), _integers(labels, "labels", shape)
        known = np.flatnonzero((pixels.mask == INLIER) & (true != IGNORE))
        # Where the mask says anomaly the label is not looked at: it may be 255, or that of the scene behind an object.
        anomalous = np.flatnonzero(pixels.mask == ANOMALY)
        counted = np.r_[known, anomalous]
        rows = np.r_[check_classes(true[known], self.classes, "labels"), np.full(anomalous.size, self.classes)]
        columns = check_classes(given[counted], self.classes, "predicted classes")
        # As a float64 the threshold is compared exactly, whatever the type of the scores.
        refused = pixels.scores[counted] > np.float64(self.threshold)
        cells = (rows * self.classes + columns) * 2 + refused
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)
        self.images += int(np.prod(shape[:-2], dtype=np.int64))
        self.ignored += true.size - counted.size
        return self

    def merge(self, other: Self) -> Self:
        """Add the counts of another accumulator, which stays as it is.

        Raises:
            InputError: if its threshold or number of classes differs.
        """
        if (self.classes, self.threshold) != (other.classes, other.threshold):
            mine, its = (f"{one.classes} classes at {one.threshold}" for one in (self, other))
            raise InputError(f"cannot merge open-set metrics of {mine} and {its}: open_set_over_halves joins those")
        self.counts += other.counts
        self.images += other.images
        self.ignored += other.ignored
        return self

    def compute(self, named: Collection[int] | None = None) -> OpenSetResult:
        """Return the metrics of all images so far.

        Args:
            named: the classes that the labels can name, as for ``ConfusionMatrix``; by default all.

        Raises:
            InputError: if no known pixel has come yet.
        """
        result = _result(self.counts, named)
        result |= {"threshold": self.threshold} | _sizes(self)
        return result

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``."""
        numbers = {"threshold": self.threshold, "images": self.images, "ignored": self.ignored}
        named = {name: np.array(value) for name, value in numbers.items()}
        return {"metric": np.array(type(self).__name__), "counts": self.counts.copy()} | named

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator wrote the state.
        """
        check_metric(state, cls.__name__)
        confusion = cls(state["counts"].shape[1], float(state["threshold"]))
        confusion.counts += state["counts"].astype(np.int64)
        confusion.images, confusion.ignored = int(state["images"]), int(state["ignored"])
        return confusion


def open_set_over_halves(halves: Mapping[str, OpenSetConfusion], named: Collection[int] | None = None) -> OpenSetResult:
    """Return the open-set metrics of a data set in two halves, each at the threshold of the other.

    DenseHybrid (Grcić et al., ECCV 2022) reports StreetHazards so, the halves being the towns ``t5`` and ``t6``. No map
    is kept, but every image is scored twice. First pass: one ``OpenSetThreshold`` per half, with ``downsampling=2`` for
    the authors' protocol, then ``crossed_thresholds``. Second pass: one ``OpenSetConfusion`` per half at its threshold,
    then this. All of them merge and store, so either pass may be spread over workers, or go on after a stop.

    The result is that of ``OpenSetConfusion`` without ``threshold``. ``open_mIoU`` is the mean over the halves weighted
    by their numbers of images. All else counts both halves together, ``closed_mIoU`` and the IoU of each class too (so
    the mean of ``iou`` need not be ``open_mIoU``); ``gap`` is ``closed_mIoU`` minus ``open_mIoU``. What each half gives
    alone, its threshold included, is in ``halves``.

    Args:
        halves: by name; there may be more than two.
        named: the classes that the labels can name, as for ``ConfusionMatrix``; by default all.

    Raises:
        InputError: if there is none, their numbers of classes differ, or one has no known pixel.

    Example:
        >>> from strays.metrics import OpenSetThreshold, crossed_thresholds
        >>> towns = {"t5": np.float32([[1, 2, 3, 4]]), "t6": np.float32([[5, 6, 7, 8]])}
        >>> mask, labels = np.uint8([[0, 0, 1, 1]]), np.uint8([[0, 0, 255, 255]])
        >>> first = {town: OpenSetThreshold(exact=True) for town in towns}
        >>> for town, scores in towns.items():
        ...     _ = first[town].update(scores, mask)
        >>> second = {town: OpenSetConfusion(1, threshold) for town, threshold in crossed_thresholds(first).items()}
        >>> for town, scores in towns.items():
        ...     _ = second[town].update(np.zeros_like(labels), scores, labels, mask)
        >>> result = open_set_over_halves(second)
        >>> {town: (half["threshold"], half["open_mIoU"]) for town, half in result.halves.items()}, result["open_mIoU"]
        ({'t5': (7.0, 0.5), 't6': (3.0, 0.0)}, 0.25)
    """
    classes = {half.classes for half in halves.values()}
    if len(classes) != 1:
        raise InputError(f"expected halves of one number of classes, got {sorted(classes)}: count all with the same")
    results = {name: _computed(name, half, named) for name, half in halves.items()}
    parts = tuple(halves.values())
    pooled = _result(np.sum([part.counts for part in parts], axis=0), named)
    total = fsum(result["images"] * result["open_mIoU"] for result in results.values())
    mean = total / sum(part.images for part in parts)
    values = pooled | {"open_mIoU": mean, "gap": pooled["closed_mIoU"] - mean} | _sizes(*parts)
    return OpenSetResult(values, pooled.iou, pooled.closed_iou, results)


def _integers(values: Tensor | Integers, what: str, shape: tuple[int, ...]) -> Integers:
    array = as_integers(values, what)
    check_shapes(array.shape, shape, what, "scores")
    return array.reshape(-1)


def _result(counts: NDArray[np.int64], named: Collection[int] | None) -> OpenSetResult:
    """Return all metrics that follow from the counts (K + 1, K, 2)."""
    known = counts[:-1]
    if not known.any():
        raise InputError("open-set mIoU needs known pixels, got none so far: mask 0 and the label of a class together")
    kept, refused = counts[..., 0], counts[..., 1].sum(axis=1)
    anomaly = len(known)
    *iou, anomaly_iou = class_iou(np.c_[kept, refused], None if named is None else {*named, anomaly})
    closed_iou = class_iou(known.sum(axis=2), named)
    values = {"open_mIoU": mean_iou(iou), "closed_mIoU": mean_iou(closed_iou)}
    values["gap"] = values["closed_mIoU"] - values["open_mIoU"]
    if (anomalies := int(counts[-1].sum())) and anomaly_iou is not None:
        values |= {"anomaly_IoU": anomaly_iou, "anomalies_found": int(refused[-1]) / anomalies}
    values["inliers_refused"] = int(refused[:-1].sum()) / int(known.sum())
    return OpenSetResult(values, tuple(iou), closed_iou)


def _sizes(*parts: OpenSetConfusion) -> dict[str, int]:
    return {
        "images": sum(part.images for part in parts),
        "pixels_known": sum(int(part.counts[:-1].sum()) for part in parts),
        "pixels_anomaly": sum(int(part.counts[-1].sum()) for part in parts),
        "pixels_ignored": sum(part.ignored for part in parts),
    }


def _computed(name: str, half: OpenSetConfusion, named: Collection[int] | None) -> OpenSetResult:
    try:
        return half.compute(named)
    except InputError as error:
        raise InputError(f"half {name}: {error}") from error
