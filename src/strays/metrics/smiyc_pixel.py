"""Pixel metrics as the SegmentMeIfYouCan benchmark computes them: float16 scores in bins of every image's own."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, Pixels, State, as_array, check_metric, read_pixels
from strays.metrics.bounds import Bounds
from strays.metrics.curves import Ranking
from strays.metrics.pixel import PixelResult
from strays.prediction import resize_maps
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = ["SmiycPixelMetrics"]

_QUANTILES = 384
_UNIFORM = np.linspace(-0.01, 1.01, 4097)
_LARGEST = float(np.finfo(np.float16).max) / 2
"""Differences of scores are taken in float16 too, and must not become infinite."""


class SmiycPixelMetrics:
    """AP, FPR95 and best F1 with the binning of SegmentMeIfYouCan (Chan et al., NeurIPS Datasets 2021).

    For numbers that compare with its leaderboard; ``PixelMetrics`` ranks the scores as they are. Scores are rounded to
    float16, the type the benchmark stores. One update is one image, whose pixels are counted in bins that start at 384
    quantiles of its anomaly scores and 384 of its inlier scores (fewer where there are fewer pixels); the lower edge of
    a bin is the threshold that its pixels pass. The bins of all images are merged by their thresholds. That is the
    ranking of the float16 scores where these are few and frequent, and close to it elsewhere.

    ``compute`` returns ``AP`` (step sum), ``FPR95`` (at the first point with TPR >= 0.95), ``F1`` (the best over all
    thresholds), ``threshold`` (the highest that reaches it), ``images``, ``pixels_inlier``, ``pixels_anomaly`` and
    ``pixels_ignored``.

    Two oddities of the benchmark's code change nothing and are left out: each image has two more bins, below and above
    all its scores, and curves that do not end at the lowest score get an end. A third one does: where several images
    share the highest score of all, the first of them in the order that an unstable sort leaves stands on the curve as
    a point of its own. Here they are one point, so that no number depends on the order of the images, and ``bounds``
    of the result hold what the benchmark may print. Where one image has the highest score, both ends are the number.

    Fishyscapes (Blum et al., IJCV 2021), which stops its curve at the first full recall and adds the point of recall 0
    and precision 1, needs no class of its own: neither changes the sum, so its AP, AUROC and FPR95 are those of
    ``PixelMetrics`` on float32 scores.

    At most 768 thresholds with two counts are kept of an image, 18 kB, and thresholds that several images share once.

    Args:
        uniform: count all images in the same 4096 bins over [-0.01, 1.01], the benchmark's variant ``-uniThr``;
            scores have to lie in [0, 1].

    Example:
        >>> scores, mask = np.float32([[0.1, 0.4], [0.35, 0.8]]), np.uint8([[0, 0], [1, 1]])
        >>> result = SmiycPixelMetrics().update(scores, mask).compute()
        >>> round(result["AP"], 4), result["FPR95"], result["F1"], round(result["threshold"], 6)
        (0.8333, 0.5, 0.8, 0.350098)
    """

    def __init__(self, uniform: bool = False) -> None:
        self.uniform = uniform
        self.images = 0
        self.ignored = 0
        self._bins = _Bins.empty()

    def update(self, scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> Self:
        """Take in one image; a refused update changes nothing.

        Args:
            scores: float (H, W), or with leading axes of size one, larger = more anomalous, at most 32752 in magnitude.
                A map narrower and no higher than the mask is resized bilinearly after rounding, as the benchmark does.
            mask: uint8 (H, W), 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            InputError: if an argument is not as stated, or a score is NaN or infinite.
        """
        pixels = read_pixels(_stored(as_array(scores), as_array(mask).shape), mask)
        if self.uniform and pixels.scores.size and not 0 <= pixels.scores.min() <= pixels.scores.max() <= 1:
            raise InputError(
                f"uniform bins need scores in [0, 1], got {pixels.scores.min():g} to {pixels.scores.max():g}: scale "
                "them by the extremes of the whole data set, or take the bins of the images (uniform=False)"
            )
        self._bins = self._bins.merged(_Bins.of_image(pixels, self.uniform))
        self.images += 1
        self.ignored += int(np.count_nonzero(pixels.mask == IGNORE))
        return self

    def merge(self, other: Self) -> Self:
        """Take in the images of another accumulator, which stays as it is.

        Raises:
            InputError: if its bins are of the other kind.
        """
        if self.uniform != other.uniform:
            raise InputError("cannot merge metrics with uniform bins and with the bins of the images")
        self._bins = self._bins.merged(other._bins)
        self.images += other.images
        self.ignored += other.ignored
        return self

    def compute(self) -> PixelResult:
        """Return the metrics of all images so far; they do not depend on the order of the images.

        Raises:
            InputError: if there is no anomaly or no inlier pixel.
        """
        ranking = self._bins.ranking()
        values = _metrics(ranking)
        columns = zip(*(_metrics(one).values() for one in (ranking, *self._bins.other_orders())), strict=True)
        bounds = {name: Bounds(min(seen), max(seen)) for name, seen in zip(values, columns, strict=True)}
        values["threshold"] = float(self._bins.thresholds[::-1][ranking.best_f1()[1]])
        counts = {"images": self.images, "pixels_inlier": int(ranking.fps[-1])}
        counts |= {"pixels_anomaly": int(ranking.tps[-1]), "pixels_ignored": self.ignored}
        return PixelResult(values | counts, bounds)

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``."""
        named = {"metric": type(self).__name__, "uniform": self.uniform, "images": self.images, "ignored": self.ignored}
        bins = {"thresholds": self._bins.thresholds, "counts": self._bins.counts, "tops": self._bins.tops}
        return {name: np.array(value) for name, value in (named | bins).items()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator wrote the state.
        """
        check_metric(state, cls.__name__)
        metrics = cls(bool(state["uniform"]))
        counts, tops = state["counts"].astype(np.int64), state["tops"].astype(np.int64)
        metrics._bins = _Bins(state["thresholds"].astype(np.float64), counts, tops)
        metrics.images, metrics.ignored = int(state["images"]), int(state["ignored"])
        return metrics


@dataclass(frozen=True, eq=False)
class _Bins:
    """Pixels by the threshold that they pass.

    Args:
        thresholds: float64 (T,), ascending, those that are some pixel's.
        counts: int64 (T, 2), inliers and anomalies whose bin starts there.
        tops: int64 (M, 2), the distinct counts that single images have at the highest threshold of all, in their own
            bins; none for uniform ones.
    """

    thresholds: NDArray[np.float64]
    counts: NDArray[np.int64]
    tops: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Self:
        """Return the bins of no image."""
        return cls(np.empty(0), np.empty((0, 2), np.int64), np.empty((0, 2), np.int64))

    @classmethod
    def of_image(cls, pixels: Pixels, uniform: bool) -> Self:
        """Return the bins of one image, without those that are empty."""
        # Sorted as float32, for which NumPy is ten times as fast as for float16; no value changes by that.
        kinds = [np.sort(pixels.of(kind).astype(np.float32)) for kind in (INLIER, ANOMALY)]
        exact_type = pixels.scores.dtype.type
        edges = _UNIFORM if uniform else np.unique(np.concatenate([_quantiles(one, exact_type) for one in kinds]))
        # A bin holds its lower edge, and the last one all that follows.
        starts = [np.r_[np.searchsorted(one, edges, "left"), one.size] for one in kinds]
        counts = np.stack([np.diff(one) for one in starts], axis=1).astype(np.int64)
        kept = counts.any(axis=1)
        # The highest uniform bin lies above all scores, so that no image comes first there.
        return cls(edges[kept], counts[kept], counts[:0] if uniform else counts[kept][-1:])

    def merged(self, other: Self) -> Self:
        """Return the bins of both, those of one threshold as one."""
        thresholds, where = np.unique(np.r_[self.thresholds, other.thresholds], return_inverse=True)
        counts = np.zeros((thresholds.size, 2), np.int64)
        np.add.at(counts, where, np.r_[self.counts, other.counts])
        top = [one.tops for one in (self, other) if np.array_equal(one.thresholds[-1:], thresholds[-1:])]
        return type(self)(thresholds, counts, np.unique(np.concatenate(top), axis=0))

    def ranking(self) -> Ranking:
        """Return the counts from the highest threshold down."""
        inliers, anomalies = self.counts[::-1].T
        return Ranking(anomalies, inliers)

    def other_orders(self) -> list[Ranking]:
        """Return the rankings in which one image with the highest threshold comes before the others."""
        rest = [np.r_[top[None], self.counts[-1:] - top, self.counts[-2::-1]].T for top in self.tops]
        return [Ranking(anomalies, inliers) for inliers, anomalies in rest]


def _stored(scores: NDArray[np.generic], size: tuple[int, ...]) -> Floats:
    """Return an image's scores as the benchmark reads them back: in float16, or in float32 where it has to resize."""
    if any(len(one) < 2 or any(side != 1 for side in one[:-2]) for one in (scores.shape, size)):
        raise InputError(f"expected one image (H, W) per update, got {scores.shape} and {size}: update one by one")
    if scores.dtype.kind != "f":
        raise InputError(f"expected floating-point scores, got {scores.dtype}: convert them to float32")
    height, width = scores.shape[-2:]
    values = scores.reshape(height, width).astype(np.float64)
    # NaN passes here, and is refused with its count where mask and scores are read.
    if values.size and np.abs(values).max() > _LARGEST:
        raise InputError(
            f"expected scores of at most {_LARGEST:g} in magnitude, since float16 holds them, got "
            f"{np.abs(values).max():g}: scale them down"
        )
    half = values.astype(np.float16)
    if width < size[-1] and height <= size[-2]:
        maps = torch.from_numpy(half.astype(np.float32))[None, None]
        return resize_maps(maps, size[-2:]).numpy().reshape(size)
    return half.reshape(size) if (height, width) == size[-2:] else half


def _quantiles(ordered: NDArray[np.float32], exact_type: type[np.floating]) -> NDArray[np.float64]:
    """Return the quantiles of sorted scores that NumPy returns for scores of ``exact_type``.

    NumPy takes the difference of two neighbours in their own type, which for float16 is felt in the interpolation.
    """
    if not ordered.size:
        return np.empty(0)
    places = np.linspace(0, 1, min(_QUANTILES, ordered.size)) * (ordered.size - 1)
    lower = np.minimum(np.floor(places).astype(np.int64), ordered.size - 1)
    share = places - lower
    low, high = (ordered[at].astype(exact_type) for at in (lower, np.minimum(lower + 1, ordered.size - 1)))
    step = (high - low).astype(np.float64)
    # From the nearer end, so that both ends are hit.
    return np.where(share < 0.5, low + step * share, high - step * (1 - share))


def _metrics(ranking: Ranking) -> dict[str, float]:
    values = {"AP": ranking.average_precision(), "FPR95": ranking.fpr_at(0.95, "first")}
    return values | {"F1": ranking.best_f1()[0]}
