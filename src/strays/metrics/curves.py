"""Average precision, AUROC, FPR at a TPR and best F1 from counts per distinct score; curves to plot."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, Pixels, read_pixels
from strays.scene import ANOMALY, INLIER

__all__ = [
    "FPR_RULES",
    "Curve",
    "FprRule",
    "Ranking",
    "auroc",
    "average_precision",
    "best_f1",
    "check_fpr_rule",
    "fpr_at_tpr",
    "rank_scores",
]

FprRule: TypeAlias = Literal["first", "strict", "argmin", "interpolated"]
"""Which point of the ROC curve "FPR at TPR t" means: see ``fpr_at_tpr``."""
FPR_RULES: tuple[FprRule, ...] = get_args(FprRule)


@dataclass(frozen=True, eq=False)
class Ranking:
    """How many anomaly and inlier pixels have each distinct score, from the highest score down.

    Args:
        anomalies: int64 (T,) counts.
        inliers: int64 (T,) counts.

    Raises:
        InputError: if there is no anomaly or no inlier pixel, so that no metric is defined.
    """

    anomalies: NDArray[np.int64]
    inliers: NDArray[np.int64]

    def __post_init__(self) -> None:
        anomalies, inliers = int(self.anomalies.sum()), int(self.inliers.sum())
        if not anomalies or not inliers:
            missing = "anomaly" if not anomalies else "inlier"
            raise InputError(
                f"AP, AUROC and FPR need anomaly and inlier pixels, got {anomalies} anomaly and {inliers} inlier "
                f"pixels: add images with {missing} pixels, or check the mask values"
            )

    @cached_property
    def tps(self) -> NDArray[np.int64]:
        """Anomaly pixels at or above each score, (T,)."""
        return np.cumsum(self.anomalies)

    @cached_property
    def fps(self) -> NDArray[np.int64]:
        """Inlier pixels at or above each score, (T,)."""
        return np.cumsum(self.inliers)

    @cached_property
    def tpr(self) -> NDArray[np.float64]:
        """True-positive rate, also called recall, at each score, (T,)."""
        rate: NDArray[np.float64] = self.tps / self.tps[-1]
        return rate

    @cached_property
    def fpr(self) -> NDArray[np.float64]:
        """False-positive rate at each score, (T,)."""
        rate: NDArray[np.float64] = self.fps / self.fps[-1]
        return rate

    @cached_property
    def precision(self) -> NDArray[np.float64]:
        """Share of anomalies among the pixels at or above each score, (T,)."""
        return self.tps / (self.tps + self.fps)

    def average_precision(self) -> float:
        """Return the step sum of precision over recall, as scikit-learn defines it."""
        return float(np.sum(self.anomalies * self.precision) / self.tps[-1])

    def auroc(self) -> float:
        """Return the area under the ROC curve; a tie between an anomaly and an inlier counts one half."""
        above = self.tps - self.anomalies / 2
        return float(np.sum(self.inliers * (above / self.tps[-1])) / self.fps[-1])

    def fpr_at(self, tpr: float, rule: FprRule = "first") -> float:
        """Return the false-positive rate at a true-positive rate; ``fpr_at_tpr`` states the rules."""
        full = int(np.searchsorted(self.tps, self.tps[-1]))
        reached, costs = self.tpr[: full + 1], self.fpr[: full + 1]
        if rule == "interpolated":
            return float(np.interp(tpr, np.r_[0.0, reached], np.r_[0.0, costs]))
        if rule == "argmin":
            distance = np.abs(reached - tpr)[::-1]
            return float(costs[full - int(np.argmin(distance))])
        return float(costs[np.searchsorted(reached, tpr, "right" if rule == "strict" else "left")])

    def best_f1(self) -> tuple[float, int]:
        """Return the largest F1 and the index of the (highest) score that reaches it."""
        f1 = 2 * self.tps / (self.tps + self.fps + self.tps[-1])
        best = int(np.argmax(f1))
        return float(f1[best]), best


@dataclass(frozen=True, eq=False)
class Curve:
    """The precision-recall and ROC curves, one point per distinct threshold, from the highest down.

    Args:
        thresholds: float64 (T,); a point counts the pixels with ``score >= threshold``.
        tpr: float64 (T,) in [0, 1].
        fpr: float64 (T,) in [0, 1].
        precision: float64 (T,) in [0, 1].
    """

    thresholds: NDArray[np.float64]
    tpr: NDArray[np.float64]
    fpr: NDArray[np.float64]
    precision: NDArray[np.float64]

    @property
    def recall(self) -> NDArray[np.float64]:
        """The true-positive rate under its other name."""
        return self.tpr

    def __len__(self) -> int:
        return len(self.thresholds)

    def thinned(self, points: int) -> "Curve":
        """Return at most ``points`` points, for plots: the first, the last, and others spaced evenly along the curve.

        Raises:
            InputError: if fewer than two points are asked for.
        """
        if points < 2:
            raise InputError(f"expected at least 2 points, got {points}: a curve needs its two ends")
        if len(self) <= points:
            return self
        moves = sum(np.abs(np.diff(axis)) for axis in (self.tpr, self.fpr, self.precision))
        path = np.r_[0.0, np.cumsum(moves)]
        kept = np.searchsorted(path, np.linspace(0, path[-1], points)[:-1])
        return self._at(np.unique(np.r_[kept, len(self) - 1]))

    def _at(self, kept: NDArray[np.int64]) -> "Curve":
        return Curve(self.thresholds[kept], self.tpr[kept], self.fpr[kept], self.precision[kept])


def rank_scores(inliers: Floats, anomalies: Floats) -> tuple[NDArray[np.float64], Ranking]:
    """Return the distinct scores, descending, and how many pixels of either kind have each."""
    counted = [np.unique(scores, return_counts=True) for scores in (inliers, anomalies)]
    distinct = np.union1d(counted[0][0], counted[1][0])
    counts = np.zeros((2, distinct.size), np.int64)
    for kind, (values, times) in enumerate(counted):
        counts[kind, np.searchsorted(distinct, values)] = times
    return distinct[::-1].astype(np.float64), Ranking(anomalies=counts[1, ::-1], inliers=counts[0, ::-1])


def average_precision(scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> float:
    """Return the average precision of the anomaly pixels, exact, with ties as scikit-learn counts them.

    Args:
        scores: float of any shape, larger = more anomalous.
        mask: uint8 of the same shape, 0 inlier, 1 anomaly, 255 ignore.

    Raises:
        InputError: if an argument is not as stated, a score is not finite, or a kind of pixel is missing.

    Example:
        >>> scores, mask = np.float32([0.1, 0.4, 0.35, 0.8]), np.uint8([0, 0, 1, 1])
        >>> round(average_precision(scores, mask), 4), auroc(scores, mask), fpr_at_tpr(scores, mask)
        (0.8333, 0.75, 0.5)
    """
    return _rank(read_pixels(scores, mask))[1].average_precision()


def auroc(scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> float:
    """Return the area under the ROC curve, exact; arguments and errors as in ``average_precision``."""
    return _rank(read_pixels(scores, mask))[1].auroc()


def fpr_at_tpr(
    scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8], tpr: float = 0.95, rule: FprRule = "first"
) -> float:
    """Return the false-positive rate at a true-positive rate, exact; other arguments as in ``average_precision``.

    Papers differ in the point of the ROC curve that they mean. With one point per distinct score:

    - ``first``: the first point with TPR >= ``tpr`` (Fishyscapes, SegmentMeIfYouCan). The default.
    - ``strict``: the first point with TPR > ``tpr`` (DenseHybrid, NFlowJS, RbA).
    - ``argmin``: the point whose TPR is nearest to ``tpr``; of two as near the one with the higher TPR, and of several
      with that TPR the one with the highest FPR, but the lowest where the TPR is 1 (the CAOS benchmark's code).
    - ``interpolated``: linear interpolation between the points around ``tpr`` (SML, the ``ood-metrics`` package).

    Raises:
        InputError: as ``average_precision``, and for an unknown rule or a rate outside (0, 1].
    """
    check_fpr_rule(tpr, rule)
    return _rank(read_pixels(scores, mask))[1].fpr_at(tpr, rule)


def best_f1(scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> tuple[float, float]:
    """Return the best F1 over all thresholds, and the threshold (``score >= threshold``) that reaches it."""
    thresholds, ranking = _rank(read_pixels(scores, mask))
    value, best = ranking.best_f1()
    return value, float(thresholds[best])


def check_fpr_rule(tpr: float, rule: str) -> None:
    """Refuse a true-positive rate or a rule that ``fpr_at_tpr`` does not know."""
    if rule not in FPR_RULES:
        raise InputError(f"expected an FPR rule among {', '.join(FPR_RULES)}, got {rule!r}")
    if not 0 < tpr <= 1:
        raise InputError(f"expected a true-positive rate in (0, 1], got {tpr}: write 95 % as 0.95")
    if rule == "strict" and tpr == 1:
        raise InputError("no point has a TPR above 1: take a smaller rate, or the rule 'first'")


def _rank(pixels: Pixels) -> tuple[NDArray[np.float64], Ranking]:
    return rank_scores(pixels.of(INLIER), pixels.of(ANOMALY))
