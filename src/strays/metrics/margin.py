"""The maximal detection margin: how much freedom one has in choosing a threshold."""

from typing import Literal, NamedTuple, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, State, check_metric, read_pixels
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = ["MARGIN_MEASURES", "Margin", "MarginMeasure", "MarginMetrics", "maximal_detection_margin"]

MarginMeasure: TypeAlias = Literal["F1", "IoU"]
"""What has to stay above a level: F1 = 2 TP / (2 TP + FP + FN), or IoU = TP / (TP + FP + FN)."""
MARGIN_MEASURES: tuple[MarginMeasure, ...] = get_args(MarginMeasure)


class Margin(NamedTuple):
    """An interval of thresholds and its width; all three are 0 where there is none."""

    width: float
    lower: float
    upper: float


class MarginMetrics:
    """The longest interval of thresholds on which F1, or IoU, stays above a level: MDM of Maskomaly, pooled.

    Ackermann, Sakaridis and Yu (BMVC 2023). Scores have to lie in [0, 1]; min-max scale them over the whole data set
    if they do not, since another scale is another margin. As in the authors' code, the thresholds are i / n for i in
    [0, n), a pixel is predicted anomalous where ``score >= threshold`` and ``score > 0``, and the margin is the longest
    run of thresholds with a value above the level, divided by n. The thresholds are known beforehand, so the numbers
    are exact though only counts are kept, 16 bytes per threshold. ``compute`` returns

    - ``MDM-F1`` and ``MDM-IoU``, in [0, 1];
    - ``F1_lower`` and ``F1_upper``, ``IoU_lower`` and ``IoU_upper``: the thresholds that the interval runs between, the
      lowest where several are as wide, and 0 where the level is never exceeded;
    - ``pixels_inlier``, ``pixels_anomaly`` and ``pixels_ignored``.

    Args:
        level: what F1 and IoU have to be above, in [0, 1); 0.7 in the paper, for F1.
        points: n, the number of thresholds.

    Raises:
        InputError: if the level or the number is not as stated.

    Example:
        >>> metrics = MarginMetrics(points=10).update(np.float32([0.1, 0.2, 0.8, 0.9]), np.uint8([0, 0, 1, 1]))
        >>> result = metrics.compute()
        >>> round(result["MDM-F1"], 3), result["F1_lower"], round(result["F1_upper"], 3)
        (0.7, 0.2, 0.9)
    """

    def __init__(self, level: float = 0.7, points: int = 1000) -> None:
        _check_level(level)
        if not isinstance(points, int) or points < 1:
            raise InputError(f"expected a whole number of thresholds from 1 up, got {points}")
        self.level = float(level)
        # Pixels by kind, inlier or anomaly, and by how many of the thresholds predict them anomalous.
        self.counts = np.zeros((2, points + 1), np.int64)
        self.ignored = 0

    @property
    def points(self) -> int:
        """The number of thresholds."""
        return self.counts.shape[1] - 1

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """The thresholds i / n, ascending."""
        return np.arange(self.points) / self.points

    def update(self, scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> Self:
        """Take in scores and mask of any number of pixels; a refused update changes nothing.

        Args:
            scores: float of any shape, in [0, 1], larger = more anomalous.
            mask: uint8 of the same shape, 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            InputError: if an argument is not as stated, or a score is NaN, infinite or outside [0, 1].
        """
        pixels = read_pixels(scores, mask)
        if pixels.scores.size and not 0 <= pixels.scores.min() <= pixels.scores.max() <= 1:
            raise InputError(
                f"a detection margin needs scores in [0, 1], got {pixels.scores.min():g} to {pixels.scores.max():g}: "
                "scale them by the extremes of the whole data set"
            )
        # NumPy compares a score with a threshold in the type of the score, so that 0.7 is reached by float32 0.7.
        passed = np.searchsorted(self.thresholds.astype(pixels.scores.dtype), pixels.scores, "right")
        passed[pixels.scores == 0] = 0
        for kind in (INLIER, ANOMALY):
            self.counts[kind] += np.bincount(passed[pixels.mask == kind], minlength=self.points + 1)
        self.ignored += int(np.count_nonzero(pixels.mask == IGNORE))
        return self

    def merge(self, other: Self) -> Self:
        """Take in what another accumulator has gathered, which stays as it is.

        Raises:
            InputError: if its level or number of thresholds differs.
        """
        if (self.level, self.points) != (other.level, other.points):
            mine, its = (f"level {one.level:g} at {one.points} thresholds" for one in (self, other))
            raise InputError(f"cannot merge margins of different settings: {mine} and {its}")
        self.counts += other.counts
        self.ignored += other.ignored
        return self

    def curve(self, measure: MarginMeasure = "F1") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the thresholds, ascending, and F1 or IoU at each.

        Raises:
            InputError: for another measure, or if there is no anomaly pixel.
        """
        if measure not in MARGIN_MEASURES:
            raise InputError(f"expected a measure among {', '.join(MARGIN_MEASURES)}, got {measure!r}")
        anomalies = int(self.counts[ANOMALY].sum())
        if not anomalies:
            raise InputError("a detection margin needs anomaly pixels, got none: add images with anomalies")
        false, hits = np.cumsum(self.counts[:, ::-1], axis=1)[:, -2::-1]
        weight = 2 if measure == "F1" else 1
        # TP + FN is the number of anomalies, whatever the threshold.
        return self.thresholds, weight * hits / ((weight - 1) * hits + anomalies + false)

    def compute(self) -> dict[str, float]:
        """Return the margins of all pixels so far.

        Raises:
            InputError: if there is no anomaly pixel.
        """
        margins = {measure: maximal_detection_margin(*self.curve(measure), self.level) for measure in MARGIN_MEASURES}
        result = {f"MDM-{measure}": margin.width for measure, margin in margins.items()}
        for measure, margin in margins.items():
            result |= {f"{measure}_lower": margin.lower, f"{measure}_upper": margin.upper}
        inliers, anomalies = (int(self.counts[kind].sum()) for kind in (INLIER, ANOMALY))
        return result | {"pixels_inlier": inliers, "pixels_anomaly": anomalies, "pixels_ignored": self.ignored}

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``."""
        named = {"metric": type(self).__name__, "level": self.level, "ignored": self.ignored}
        return {name: np.array(value) for name, value in named.items()} | {"counts": self.counts.copy()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator wrote the state.
        """
        check_metric(state, cls.__name__)
        metrics = cls(float(state["level"]), state["counts"].shape[1] - 1)
        metrics.counts += state["counts"].astype(np.int64)
        metrics.ignored = int(state["ignored"])
        return metrics


def maximal_detection_margin(
    thresholds: NDArray[np.floating], values: NDArray[np.floating], level: float = 0.7
) -> Margin:
    """Return the longest interval of thresholds on which a metric stays above a level.

    Each point of the curve stands for the thresholds from its own up to the next point, and the last for those up to 1:
    on the thresholds i / n of Maskomaly (Ackermann et al., BMVC 2023) a run of k points above the level is k / n wide.
    Of intervals of one width the lowest counts.

    Args:
        thresholds: float (T,), ascending, in [0, 1].
        values: float (T,), the metric at each threshold, such as F1 or IoU.
        level: what it has to be above, in [0, 1).

    Raises:
        InputError: if an argument is not as stated.

    Example:
        >>> margin = maximal_detection_margin(np.float64([0, 0.25, 0.5, 0.75]), np.float64([0.9, 0.6, 0.8, 0.71]))
        >>> tuple(margin)
        (0.5, 0.5, 1.0)
    """
    _check_level(level)
    _check_curve(thresholds, values)
    edges = np.r_[thresholds.astype(np.float64), 1.0]
    turns = np.flatnonzero(np.diff(np.r_[False, values > level, False]))
    if not turns.size:
        return Margin(0.0, 0.0, 0.0)
    lower, upper = edges[turns[::2]], edges[turns[1::2]]
    # Rounded, so that runs of as many points are as wide wherever they lie.
    longest = int(np.argmax(np.round(upper - lower, 12)))
    return Margin(float(upper[longest] - lower[longest]), float(lower[longest]), float(upper[longest]))


def _check_level(level: float) -> None:
    if not 0 <= level < 1:
        raise InputError(f"expected a level in [0, 1), got {level}: write 70 % as 0.7")


def _check_curve(thresholds: NDArray[np.floating], values: NDArray[np.floating]) -> None:
    if thresholds.ndim != 1 or thresholds.shape != values.shape or not thresholds.size:
        raise InputError(f"expected thresholds (T,) and as many values, got {thresholds.shape} and {values.shape}")
    if not (np.isfinite(values).all() and (np.diff(thresholds) > 0).all()):
        raise InputError("expected ascending thresholds and finite values: sort both by the threshold, without repeats")
    if not 0 <= thresholds[0] <= thresholds[-1] <= 1:
        raise InputError(
            f"expected thresholds in [0, 1], got {thresholds[0]:g} to {thresholds[-1]:g}: scale the scores"
        )
