"""Pixel metrics pooled over a data set, in one accumulator of fixed size."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, State, check_metric, read_pixels
from strays.metrics.bounds import Bounds, ap_bounds, auroc_bounds, fpr_bounds
from strays.metrics.curves import Curve, FprRule, check_fpr_rule
from strays.metrics.stores import AllScores, KeyHistogram, ScoreStore
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = ["PixelHistogram", "PixelMetrics", "PixelResult", "PixelSettings"]


class PixelResult(dict[str, float]):
    """Pixel metrics by name: fractions in [0, 1] and pixel counts, ready for JSON.

    What is certain of them is in ``bounds``, also as ``result["bounds"]``, though it is no entry.

    Args:
        values: the metrics by name.
        bounds: for AP, AUROC and the FPR the interval that the exact value certainly lies in.
    """

    def __init__(self, values: dict[str, float], bounds: dict[str, Bounds]) -> None:
        super().__init__(values)
        self.bounds = bounds

    def __missing__(self, name: str) -> dict[str, Bounds]:
        if name == "bounds":
            return self.bounds
        raise KeyError(name)


@dataclass(frozen=True, eq=False)
class PixelHistogram:
    """Pixels per interval of the score, for plots.

    Args:
        edges: float64 (B + 1,), ascending.
        inliers: int64 (B,) counts.
        anomalies: int64 (B,) counts.
    """

    edges: NDArray[np.float64]
    inliers: NDArray[np.int64]
    anomalies: NDArray[np.int64]


@dataclass(frozen=True)
class PixelSettings:
    """How pixel metrics are computed; two accumulators merge where these agree.

    Raises:
        InputError: if the rate is outside (0, 1] or the rule is unknown.
    """

    exact: bool = False
    tpr: float = 0.95
    fpr_rule: FprRule = "first"

    def __post_init__(self) -> None:
        check_fpr_rule(self.tpr, self.fpr_rule)

    @property
    def fpr_name(self) -> str:
        """What the false-positive rate is called in results, such as ``FPR95``."""
        return f"FPR{100 * self.tpr:g}"

    def store(self) -> ScoreStore:
        """Return an empty memory for pixels."""
        return AllScores() if self.exact else KeyHistogram()

    def evaluate(self, store: ScoreStore) -> PixelResult:
        """Return the metrics of the pixels in a store."""
        ranked = store.ranked()
        counts, tied = ranked.counts, ranked.tied
        fpr, (f1, best) = counts.fpr_at(self.tpr, self.fpr_rule), counts.best_f1()
        values = {"AP": counts.average_precision(), "AUROC": counts.auroc(), self.fpr_name: fpr, "F1": f1}
        values["threshold"] = float(ranked.thresholds(slice(best, best + 1))[0])
        names = {INLIER: "inlier", ANOMALY: "anomaly", IGNORE: "ignored"}
        values |= {f"pixels_{names[kind]}": number for kind, number in store.pixels().items()}
        bounds = {"AP": ap_bounds(counts, tied), "AUROC": auroc_bounds(counts, tied)}
        return PixelResult(values, bounds | {self.fpr_name: fpr_bounds(counts, tied, self.tpr, self.fpr_rule)})

    def state(self, metric: str) -> State:
        """Return the settings as arrays, with the name of the accumulator that they belong to."""
        settings = (("metric", metric), ("exact", self.exact), ("tpr", self.tpr), ("fpr_rule", self.fpr_rule))
        return {name: np.array(value) for name, value in settings}

    @classmethod
    def from_state(cls, state: State, metric: str) -> Self:
        """Return the settings in a stored state.

        Raises:
            InputError: if another accumulator wrote the state.
        """
        check_metric(state, metric)
        return cls(bool(state["exact"]), float(state["tpr"]), str(state["fpr_rule"]))  # type: ignore[arg-type]

    def check_same(self, other: "PixelSettings") -> None:
        """Refuse other settings than these."""
        if self != other:
            raise InputError(f"cannot merge metrics of different settings: {self} and {other}")


class PixelMetrics:
    """AP, AUROC, FPR at a TPR and best F1 over all pixels of a data set ("pooled").

    By default it counts pixels per ``float_key`` of their score: 19 MB, however many images come, any range of scores,
    less than 20 ns per pixel. Pixels that share a key count as tied (their scores agree to four significant digits,
    to two beyond 256 or below 3e-5), and ``bounds`` of the result certify how much their true order could change: the
    exact values lie within. For float16 and bfloat16 scores below 256 in magnitude the result is exact. With
    ``exact=True`` every score is kept, and the result equals scikit-learn's.

    ``compute`` returns ``AP``, ``AUROC``, ``FPR95`` (named after ``tpr``), ``F1`` (the best over all thresholds),
    ``threshold`` (the one that reaches it: ``score >= threshold``; the lowest float32 of its key), ``pixels_inlier``,
    ``pixels_anomaly`` and ``pixels_ignored``.

    Args:
        exact: keep every score instead of counts per key.
        tpr: the true-positive rate of the false-positive rate, in (0, 1].
        fpr_rule: which point of the ROC curve that means: see ``fpr_at_tpr``.

    Raises:
        InputError: if the rate or the rule is not as stated.

    Example:
        >>> metrics = PixelMetrics()
        >>> metrics.update(np.float32([[0.1, 0.4], [0.35, 0.8]]), np.uint8([[0, 0], [1, 1]])).compute()["AUROC"]
        0.75
    """

    aggregation: ClassVar[str] = "pooled"

    def __init__(self, exact: bool = False, tpr: float = 0.95, fpr_rule: FprRule = "first") -> None:
        self.settings = PixelSettings(exact, tpr, fpr_rule)
        self._store = self.settings.store()

    def update(self, scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> Self:
        """Take in scores and mask of any number of pixels; a refused update changes nothing.

        Args:
            scores: float16, bfloat16, float32 or float64 of any shape, larger = more anomalous.
            mask: uint8 of the same shape, 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            InputError: if an argument is not as stated, or a score is NaN or infinite.
        """
        self._store.add(read_pixels(scores, mask))
        return self

    def merge(self, other: Self) -> Self:
        """Take in what another accumulator has gathered, which stays as it is.

        Raises:
            InputError: if its settings differ.
        """
        self.settings.check_same(other.settings)
        self._store.merge(other._store)
        return self

    def compute(self) -> PixelResult:
        """Return the metrics of all pixels so far.

        Raises:
            InputError: if there is no anomaly or no inlier pixel.
        """
        return self.settings.evaluate(self._store)

    def curve(self) -> Curve:
        """Return the PR and ROC curves, one point per distinct score or key; raises like ``compute``."""
        ranked = self._store.ranked()
        counts = ranked.counts
        return Curve(ranked.thresholds(), counts.tpr, counts.fpr, counts.precision)

    def histogram(self, bins: int = 100) -> PixelHistogram:
        """Return counts on ``bins`` intervals of one width over the observed scores.

        Where all scores are equal the intervals cover one unit around them.

        Raises:
            InputError: like ``compute``, and if there is less than one interval.
        """
        if bins < 1:
            raise InputError(f"expected at least 1 interval, got {bins}")
        ranked = self._store.ranked()
        scores = ranked.thresholds()
        edges = np.histogram_bin_edges(scores[[-1, 0]], bins)
        inside = np.clip(np.searchsorted(edges, scores, "right") - 1, 0, bins - 1)
        kinds = (ranked.counts.inliers, ranked.counts.anomalies)
        return PixelHistogram(edges, *(_summed(inside, counts, bins) for counts in kinds))

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``, compact."""
        return self.settings.state(type(self).__name__) | self._store.state()

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator, or another version of the keys, wrote the state.
        """
        settings = PixelSettings.from_state(state, cls.__name__)
        metrics = cls(settings.exact, settings.tpr, settings.fpr_rule)
        metrics._store.restore(state)
        return metrics


def _summed(inside: NDArray[np.int64], counts: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    total = np.zeros(bins, np.int64)
    np.add.at(total, inside, counts)
    return total
