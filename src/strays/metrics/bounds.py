"""Certified bounds of AP, AUROC and FPR where scores are known only up to the key that they share."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from strays.metrics.curves import FprRule, Ranking

__all__ = ["Bounds", "ap_bounds", "auroc_bounds", "fpr_bounds"]

_ROUNDING = 1e-12
"""Room for the rounding of sums in float64, far above what they lose."""


class Bounds(NamedTuple):
    """The lowest and the highest value that agrees with what is known."""

    lower: float
    upper: float


def ap_bounds(ranking: Ranking, tied: NDArray[np.bool_]) -> Bounds:
    """Return bounds of the average precision over all orders, with or without ties, of the scores inside each key.

    AP averages over the anomalies the precision at their own score. Let a key hold p anomalies and q inliers, with a
    anomalies and b inliers above it, and take its r-th anomaly from the top. At its score there are a + j anomalies,
    j in [r, p], and b + l inliers, l in [0, q], so its precision lies between (a + r) / (a + r + b + q), reached when
    all inliers come first, and (a + p) / (a + p + b), reached when the anomalies are tied and come first. The sum
    over r of the former is p - (b + q) * sum 1 / (a + r + b + q), and as 1/x is convex, each term of that sum is at
    most its integral over [r - 1/2, r + 1/2]: a logarithm.

    Args:
        ranking: counts per key, descending.
        tied: (T,) which keys hold one score alone, so that nothing is left open inside.
    """
    p, precision = ranking.anomalies, ranking.precision
    above, below = ranking.tps - p, ranking.fps
    upper = ranking.tps / (ranking.tps + below - ranking.inliers + (ranking.tps == 0))
    lower = p - below * np.log1p(p / (above + below + 0.5))
    return _widened(
        np.sum(np.where(tied, p * precision, lower)) / ranking.tps[-1],
        np.sum(p * np.where(tied, precision, upper)) / ranking.tps[-1],
    )


def auroc_bounds(ranking: Ranking, tied: NDArray[np.bool_]) -> Bounds:
    """Return bounds of AUROC, the share of (anomaly, inlier) pairs in the right order, a tie counting one half.

    Pairs in different keys are known. Of the p * q pairs inside a key none (inliers first) to all (anomalies first)
    are right.
    """
    half = np.where(tied, 0.0, ranking.anomalies / 2)
    middle = ranking.tps - ranking.anomalies / 2
    lower, upper = ((middle + shift) / ranking.tps[-1] for shift in (-half, half))
    return _widened(*(np.sum(ranking.inliers * share) / ranking.fps[-1] for share in (lower, upper)))


def fpr_bounds(ranking: Ranking, tied: NDArray[np.bool_], tpr: float, rule: FprRule) -> Bounds:
    """Return bounds of the false-positive rate at a true-positive rate under a rule.

    The ends of all keys are points of the true curve, and its other points lie inside keys. So the first point that
    reaches the rate lies in the first key whose end does, and its FPR between the FPR at the two ends of that key. For
    ``argmin`` and ``interpolated`` the point, or both points, have a TPR between those of the two ends; of several
    points with the TPR of the lower end the last counts, and that one may lie in the next key with anomalies.
    """
    tps, value = ranking.tps, ranking.fpr_at(tpr, rule)
    key = int(np.searchsorted(ranking.tpr, tpr, "right" if rule == "strict" else "left"))
    last = key
    if rule in ("argmin", "interpolated") and tps[key] < tps[-1]:
        last = int(np.searchsorted(tps, tps[key], "right"))
    if tied[key] and tied[last]:
        return Bounds(value, value)
    before = ranking.fps[key] - ranking.inliers[key]
    bounds = Bounds(float(before / ranking.fps[-1]), float(ranking.fpr[last]))
    return _widened(*bounds) if rule == "interpolated" else bounds


def _widened(lower: float, upper: float) -> Bounds:
    return Bounds(max(0.0, float(lower) - _ROUNDING), min(1.0, float(upper) + _ROUNDING))
