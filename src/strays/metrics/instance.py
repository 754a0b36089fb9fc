"""Average precision of single anomalous objects, as OoDIS reports it."""

from typing import NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, Integers, State, as_array, as_integers, check_metric, check_shapes

__all__ = ["INSTANCE_LEVELS", "InstanceMetrics", "InstanceOutcomes", "instance_outcomes"]

INSTANCE_LEVELS = tuple(level / 100 for level in range(50, 100, 5))
"""What the IoU of a predicted and a true instance has to be above: 0.50, 0.55, ... 0.95."""

FALSE, FOUND, SET_ASIDE = 0, 1, -1
"""What becomes of a predicted instance: a false positive, a true positive, or neither."""

_MIN_TRUTH = 10

Masks = Tensor | NDArray[np.bool_] | Integers


class InstanceOutcomes(NamedTuple):
    """What became of the predicted instances of one image.

    Args:
        outcomes: int8 (N, 10), per prediction and level: 1 true positive, 0 false positive, -1 counts nowhere.
        truths: the number of true instances that count.
    """

    outcomes: NDArray[np.int8]
    truths: int


class InstanceMetrics:
    """Average precision of anomaly instances: OoDIS (Nekrasov et al., 2024), pooled over a data set, one class.

    OoDIS runs the instance evaluation of Cityscapes (Cordts et al., CVPR 2016) with smaller true instances allowed.
    At each of ten levels of IoU, 0.50 to 0.95, a true instance is found by the predictions whose IoU with it is *above*
    the level: the one with the highest score is a true positive and the others are false positives. A prediction that
    finds none is a false positive, unless more than that level of its pixels are ignored or lie on true instances that
    are too small to count, or it finds one of those: then it counts nowhere. ``compute`` returns

    - ``AP50``, ``AP55``, ... ``AP95``: the area under the precision-recall curve at each level, by the trapezoidal rule
      through one point per distinct score and the point of recall 0 and precision 1. It is neither COCO's interpolated
      average at 101 recalls nor the step sum of the pixel metrics, and need not agree with them; 0 without predictions;
    - ``AP``: the mean of the ten;
    - ``instances_truth`` and ``instances_predicted``, those that count at the lowest level.

    Predictions may overlap, true instances may not. It keeps 18 bytes per predicted instance.

    Args:
        min_truth: the smallest true instance that counts, in pixels: 10 in OoDIS, 100 in Cityscapes.

    Raises:
        InputError: if the size is negative.

    Example:
        >>> truth = np.zeros((8, 8), np.int64); truth[:4, :4], truth[5:, 5:] = 1, 2
        >>> masks = np.stack([truth == 1, truth == 0])
        >>> result = InstanceMetrics(min_truth=1).update(masks, np.float32([0.9, 0.6]), truth).compute()
        >>> result["AP50"], result["AP"], result["instances_truth"]
        (0.5, 0.5, 2)
    """

    def __init__(self, min_truth: int = _MIN_TRUTH) -> None:
        if min_truth < 0:
            raise InputError(f"expected a size of 0 pixels or more, got {min_truth}")
        self.min_truth = min_truth
        self.truths = 0
        self._scores: list[NDArray[np.float64]] = []
        self._outcomes: list[NDArray[np.int8]] = []

    def update(
        self,
        predicted: Masks,
        scores: Tensor | Floats,
        truth: Tensor | Integers,
        ignore: Tensor | NDArray[np.bool_] | None = None,
    ) -> Self:
        """Take in one image; a refused update changes nothing.

        Args:
            predicted: bool (N, H, W), a mask per predicted instance, which may overlap; or integers (H, W), where the
                pixels of the instance with ``scores[i]`` are i + 1, and 0 is none.
            scores: float (N,), how sure each prediction is.
            truth: integers (H, W), one number from 1 up per true instance, 0 = none.
            ignore: bool (H, W), True where nothing counts, such as ``mask == 255``; there is no instance there,
                whatever ``truth`` says.

        Raises:
            InputError: if an argument is not as stated.
        """
        outcomes, truths = instance_outcomes(predicted, scores, truth, ignore, self.min_truth)
        self._scores.append(as_array(scores).astype(np.float64))
        self._outcomes.append(outcomes)
        self.truths += truths
        return self

    def merge(self, other: Self) -> Self:
        """Take in the instances of another accumulator, which stays as it is.

        Raises:
            InputError: if its smallest instance has another size.
        """
        if self.min_truth != other.min_truth:
            raise InputError(f"cannot merge metrics with instances from {self.min_truth} and {other.min_truth} pixels")
        self._scores += other._scores
        self._outcomes += other._outcomes
        self.truths += other.truths
        return self

    def compute(self) -> dict[str, float]:
        """Return the metrics of all images so far; they do not depend on the order of the images.

        Raises:
            InputError: if there is no true instance that counts.
        """
        if not self.truths:
            raise InputError(
                f"instance metrics need true instances of at least {self.min_truth} pixels, got none: add images with "
                "anomalies, or lower min_truth"
            )
        scores, outcomes = self._all_scores(), self._all_outcomes()
        areas = [_area(scores, column, self.truths) for column in outcomes.T]
        result = {"AP": float(np.mean(areas))}
        result |= {f"AP{round(100 * level)}": area for level, area in zip(INSTANCE_LEVELS, areas, strict=True)}
        counted = int(np.count_nonzero(outcomes[:, 0] != SET_ASIDE))
        return result | {"instances_truth": self.truths, "instances_predicted": counted}

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``."""
        named = {"metric": type(self).__name__, "min_truth": self.min_truth, "truths": self.truths}
        arrays = {"scores": self._all_scores(), "outcomes": self._all_outcomes()}
        return {name: np.array(value) for name, value in (named | arrays).items()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator wrote the state.
        """
        check_metric(state, cls.__name__)
        metrics = cls(int(state["min_truth"]))
        metrics.truths = int(state["truths"])
        metrics._scores = [state["scores"].astype(np.float64)]
        metrics._outcomes = [state["outcomes"].astype(np.int8)]
        return metrics

    def _all_scores(self) -> NDArray[np.float64]:
        return np.concatenate([np.empty(0), *self._scores])

    def _all_outcomes(self) -> NDArray[np.int8]:
        return np.concatenate([np.empty((0, len(INSTANCE_LEVELS)), np.int8), *self._outcomes])


def instance_outcomes(
    predicted: Masks,
    scores: Tensor | Floats,
    truth: Tensor | Integers,
    ignore: Tensor | NDArray[np.bool_] | None = None,
    min_truth: int = _MIN_TRUTH,
) -> InstanceOutcomes:
    """Return which predicted instances of one image are true positives at each level of IoU.

    ``InstanceMetrics`` states the rules, the arguments and the errors. A prediction without a pixel counts nowhere.

    Example:
        >>> truth = np.int64([[1, 1, 0, 2]])
        >>> outcomes, truths = instance_outcomes(np.int64([[1, 1, 1, 0]]), np.float32([0.8]), truth, min_truth=2)
        >>> outcomes.tolist(), truths
        ([[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]], 1)
    """
    sureness = _read_scores(scores)
    region, sizes = _read_truth(truth, ignore)
    masks = _read_predicted(predicted, sureness.size, region.shape)
    counts = _shared(masks, sureness.size, region, sizes.size)
    kept = sizes >= min_truth
    shared, area = counts[:, 1:-1], np.maximum(counts.sum(axis=1), 1)
    overlap = shared / (area[:, None] + sizes - shared)
    levels = np.array(INSTANCE_LEVELS)[:, None]
    hits = overlap > levels[..., None]  # per level, prediction and true instance
    aside = (counts[:, -1] + shared[:, ~kept].sum(axis=1)) / area > levels
    aside = np.where(hits.any(axis=2), ~hits[..., kept].any(axis=2), aside) | ~counts.any(axis=1)
    outcomes = np.where(aside, SET_ASIDE, FALSE)
    level, best = _best(hits[..., kept], sureness)
    outcomes[level, best] = FOUND
    return InstanceOutcomes(outcomes.T.astype(np.int8), int(np.count_nonzero(kept)))


def _best(hits: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return levels and predictions of the true positives: of those that find an instance the one with the top score.

    As levels are 0.5 or more and true instances apart, a prediction finds one instance at most.
    """
    order = np.argsort(-scores, kind="stable")
    level, instance = np.nonzero(hits.any(axis=1))
    if not level.size:
        return level, level
    return level, order[hits[:, order].argmax(axis=1)[level, instance]]


def _shared(
    predicted: NDArray[np.bool_] | Integers, count: int, region: NDArray[np.int64], truths: int
) -> NDArray[np.int64]:
    """Return int64 (count, truths + 2): pixels of each prediction on no instance, on each, and on ignored pixels."""
    width = truths + 2
    if predicted.ndim == 3:
        counts = [np.bincount(region[mask], minlength=width) for mask in predicted]
        return np.array(counts, np.int64).reshape(count, width)
    pairs = np.bincount((predicted.astype(np.int64) * width + region).ravel(), minlength=(count + 1) * width)
    return pairs.reshape(count + 1, width)[1:]


def _area(scores: NDArray[np.float64], outcomes: NDArray[np.int8], truths: int) -> float:
    """Return the area under the precision-recall curve of one level."""
    counted = outcomes != SET_ASIDE
    distinct, where = np.unique(-scores[counted], return_inverse=True)
    found, false = (np.bincount(where[outcomes[counted] == kind], minlength=distinct.size) for kind in (FOUND, FALSE))
    tps, fps = np.cumsum(found), np.cumsum(false)
    recall, precision = np.r_[0.0, tps / truths], np.r_[1.0, tps / (tps + fps)]
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1])) / 2)


def _read_scores(scores: Tensor | Floats) -> NDArray[np.float64]:
    array = as_array(scores)
    if array.ndim != 1 or array.dtype.kind != "f" or not np.isfinite(array.astype(np.float64)).all():
        raise InputError(f"expected finite scores (N,), one per predicted instance, got {array.dtype} {array.shape}")
    return array.astype(np.float64)


def _read_truth(
    truth: Tensor | Integers, ignore: Tensor | NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the map (H, W) with 0 for no instance, 1 to T for the instances and T + 1 for ignored, and T sizes."""
    numbers = as_integers(truth, "true instances")
    ignored = cast(NDArray[np.bool_], np.zeros(numbers.shape, np.bool_) if ignore is None else as_array(ignore))
    lowest = int(numbers.min()) if numbers.size else 0
    if numbers.ndim != 2 or lowest < 0:
        raise InputError(
            f"expected true instances (H, W), numbered from 1 up with 0 for none, got {numbers.shape} from {lowest} up"
        )
    if ignored.dtype != np.bool_:
        raise InputError(f"expected ignored pixels as bool, got {ignored.dtype}: write mask == 255")
    check_shapes(ignored.shape, numbers.shape, "ignored pixels", "true instances")
    inside = (numbers > 0) & ~ignored
    _, which, sizes = np.unique(numbers[inside], return_inverse=True, return_counts=True)
    region = np.zeros(numbers.shape, np.int64)
    region[inside] = which + 1
    region[ignored] = sizes.size + 1
    return region, sizes.astype(np.int64)


def _read_predicted(predicted: Masks, count: int, size: tuple[int, ...]) -> NDArray[np.bool_] | Integers:
    """Return the predictions as they came, once they are as ``InstanceMetrics.update`` states."""
    array = cast(NDArray[np.bool_] | Integers, as_array(predicted))
    if array.dtype == np.bool_ and array.shape == (count, *size):
        return array
    if array.dtype.kind not in "iu" or array.shape != size:
        raise InputError(
            f"expected masks of bool {(count, *size)}, one per score, or a map of integers {size}, got {array.dtype} "
            f"{array.shape}: resize the predictions to the true instances"
        )
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= count:
        found = f"{array.min()} to {array.max()}"
        raise InputError(
            f"expected instances numbered from 1 to {count}, as many as scores, got {found}: renumber them"
        )
    return array
