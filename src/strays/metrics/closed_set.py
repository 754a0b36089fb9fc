"""Closed-set quality of a segmentation network: a mergeable confusion matrix, mIoU and accuracy."""

from collections.abc import Collection, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Integers, State, as_integers, check_classes, check_metric, check_shapes
from strays.taxonomy import IGNORE

__all__ = ["ClassIoU", "ClosedSetResult", "ConfusionMatrix", "class_iou", "mean_iou"]

ClassIoU = tuple[float | None, ...]
"""One entry per class, None for one that has no IoU."""


class ClosedSetResult(dict[str, float]):
    """``mIoU``, ``accuracy`` (share of right pixels) and ``pixels``; the IoU of each class is in ``iou``.

    Args:
        values: the metrics by name, fractions in [0, 1].
        iou: one entry per class, None for a class that occurs neither in the labels nor in the predictions, or that
            the labels cannot name.
    """

    def __init__(self, values: dict[str, float], iou: ClassIoU) -> None:
        super().__init__(values)
        self.iou = iou


class ConfusionMatrix:
    """Counts of labelled pixels by true class and predicted class, pooled over images.

    ``compute`` returns ``mIoU``, the mean of IoU = TP / (TP + FP + FN) over the classes that occur in labels or
    predictions, ``accuracy`` and ``pixels``, with the IoU of each class in ``iou``. ``counts`` is the matrix, int64
    (K, K), a row per true class.

    Args:
        classes: K, at most 255.

    Raises:
        InputError: if the number of classes is not as stated.

    Example:
        >>> matrix = ConfusionMatrix(3).update(np.uint8([0, 0, 1, 1]), np.uint8([0, 1, 1, 255]))
        >>> result = matrix.compute()
        >>> result["mIoU"], result.iou
        (0.5, (0.5, 0.5, None))
    """

    def __init__(self, classes: int) -> None:
        if not 1 <= classes <= IGNORE:
            raise InputError(f"expected 1 to {IGNORE} classes, got {classes}")
        self.counts = np.zeros((classes, classes), np.int64)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.counts)

    def update(self, predicted: Tensor | Integers, labels: Tensor | Integers) -> Self:
        """Take in any number of pixels; a refused update changes nothing.

        Args:
            predicted: integers of any shape, in [0, K) wherever the pixel is labelled.
            labels: integers of the same shape, in [0, K), 255 = ignore.

        Raises:
            InputError: if a type, a shape or a value is not as stated.
        """
        found, true = as_integers(predicted, "predicted classes"), as_integers(labels, "labels")
        check_shapes(found.shape, true.shape, "predicted classes", "labels")
        labelled = true != IGNORE
        columns = check_classes(found[labelled], self.classes, "predicted classes")
        rows = check_classes(true[labelled], self.classes, "labels")
        pairs = np.bincount(rows * self.classes + columns, minlength=self.counts.size)
        self.counts += pairs.reshape(self.counts.shape)
        return self

    def merge(self, other: Self) -> Self:
        """Add the counts of another matrix, which stays as it is.

        Raises:
            InputError: if it has another number of classes.
        """
        if self.classes != other.classes:
            raise InputError(f"cannot merge confusion matrices of {self.classes} and {other.classes} classes")
        self.counts += other.counts
        return self

    def compute(self, named: Collection[int] | None = None) -> ClosedSetResult:
        """Return mIoU, accuracy and the IoU of each class.

        Args:
            named: the classes that the labels can name, where they come from a data set that does not know all of them;
                the others have no IoU. A pixel that is given one of these is still wrong for its own class.

        Raises:
            InputError: if no labelled pixel has come yet.
        """
        pixels, right = int(self.counts.sum()), np.diag(self.counts)
        if not pixels:
            raise InputError(f"mIoU needs labelled pixels, got none: all labels so far are {IGNORE} (ignore)")
        iou = class_iou(self.counts, named)
        values = {"mIoU": mean_iou(iou), "accuracy": int(right.sum()) / pixels, "pixels": pixels}
        return ClosedSetResult(values, iou)

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``."""
        return {"metric": np.array(type(self).__name__), "counts": self.counts.copy()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the matrix whose ``state`` this was.

        Raises:
            InputError: if another accumulator wrote the state.
        """
        check_metric(state, cls.__name__)
        matrix = cls(len(state["counts"]))
        matrix.counts += state["counts"].astype(np.int64)
        return matrix


def class_iou(counts: NDArray[np.int64], named: Collection[int] | None = None) -> ClassIoU:
    """Return TP / (TP + FP + FN) of each class that occurs and that the labels can name.

    Args:
        counts: (K, K), a row per true class, a column per predicted one.
        named: the classes that the labels can name; by default all.
    """
    right = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - right
    pairs = enumerate(zip(right.tolist(), union.tolist(), strict=True))
    return tuple(hit / size if size and (named is None or one in named) else None for one, (hit, size) in pairs)


def mean_iou(iou: Sequence[float | None]) -> float:
    """Return the mean over the classes that have an IoU."""
    present = [value for value in iou if value is not None]
    return sum(present) / len(present)
