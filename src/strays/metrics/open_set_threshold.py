"""The threshold of open-set metrics: the score at which a share of the anomalies is found, from other images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, Pixels, State, as_array, check_metric, read_pixels
from strays.metrics.curves import Ranking
from strays.metrics.keys import key_floor
from strays.metrics.pixel import PixelMetrics
from strays.metrics.stores import AllScores, KeyHistogram, Ranked, ScoreStore
from strays.prediction import resize_maps
from strays.scene import ANOMALY, INLIER

__all__ = ["OpenSetThreshold", "crossed_thresholds", "open_set_threshold"]


class OpenSetThreshold:
    """The score at which a share of the anomalies is found: the first ROC threshold with a TPR above that share.

    DenseHybrid (Grcić et al., ECCV 2022) takes it at 95 % from images other than those that it is applied to: the other
    half of the test set, or a validation set. All pixels count together. With ``exact=True`` it is the score that
    scikit-learn's ``roc_curve`` gives. By default pixels are counted per ``float_key``, in 19 MB however many come, and
    it is the lowest float32 of a key, less than 0.01 % of the score wide where anomaly scores live; float16 and
    bfloat16 scores below 256 in magnitude give the score itself.

    Args:
        tpr: the share of the anomalies, in (0, 1).
        exact: keep every score instead of counts per key.
        drop_intermediate: pass over points between two equal steps of the curve, as ``roc_curve`` does by default and
            so the authors: where anomalies alone follow each other, the last of them counts. False takes every score,
            and so do float32 scores per key, whose steps inside a key are not known: a detector that sets most
            anomalies apart then gets a slightly higher threshold than with ``exact=True``.
        downsampling: read maps at 1 / this of their size, scores bilinearly and masks by nearest neighbour, before
            ignored pixels are left out; 2 in the authors' evaluation on StreetHazards.

    Raises:
        InputError: if the share or the factor is not as stated.

    Example:
        >>> scores, mask = np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), np.uint8([0, 1, 0, 1, 0, 1])
        >>> OpenSetThreshold(tpr=0.5).update(np.float16(scores), mask).compute() == float(np.float16(0.4))
        True
    """

    def __init__(
        self, tpr: float = 0.95, exact: bool = False, drop_intermediate: bool = True, downsampling: int = 1
    ) -> None:
        self.settings = _ThresholdSettings(float(tpr), exact, drop_intermediate, downsampling)
        self._store: ScoreStore = AllScores() if exact else KeyHistogram()

    @classmethod
    def from_pixels(cls, metrics: PixelMetrics, tpr: float = 0.95, drop_intermediate: bool = True) -> Self:
        """Return the accumulator of the pixels that ``metrics`` has gathered, which stays as it is."""
        threshold = cls(tpr, metrics.settings.exact, drop_intermediate)
        threshold._store.restore(metrics.state())
        return threshold

    def update(self, scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> Self:
        """Take in scores and mask of any number of pixels; a refused update changes nothing.

        Args:
            scores: float of any shape, (..., H, W) where it is down-sampled, larger = more anomalous.
            mask: uint8 of the same shape, 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            InputError: if an argument is not as stated, a score is not finite, or a map is smaller than the factor.
        """
        pixels = read_pixels(scores, mask)
        if (factor := self.settings.downsampling) > 1:
            pixels = _downsampled(pixels, as_array(scores).shape, factor)
        self._store.add(pixels)
        return self

    def merge(self, other: Self) -> Self:
        """Take in what another accumulator has gathered, which stays as it is.

        Raises:
            InputError: if its settings differ.
        """
        if self.settings != other.settings:
            raise InputError(f"cannot merge thresholds of different settings: {self.settings} and {other.settings}")
        self._store.merge(other._store)
        return self

    def compute(self) -> float:
        """Return the threshold; pixels with ``score > threshold`` are anomalies.

        Raises:
            InputError: if there is no anomaly or no inlier pixel.
        """
        pixels = self._store.pixels()
        if not pixels[ANOMALY] or not pixels[INLIER]:
            raise InputError(
                f"a threshold at {100 * self.settings.tpr:g} % TPR needs anomaly and inlier pixels, got "
                f"{pixels[ANOMALY]} anomaly and {pixels[INLIER]} inlier pixels: estimate it on images that have both"
            )
        ranked = self._store.ranked()
        drops = self.settings.drop_intermediate and bool(ranked.tied.all())
        kept = _corners(ranked.counts) if drops else np.arange(ranked.counts.tps.size)
        return _score_at(ranked, int(kept[np.searchsorted(ranked.counts.tpr[kept], self.settings.tpr, "right")]))

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``, compact."""
        named = {"metric": type(self).__name__} | asdict(self.settings)
        return {name: np.array(value) for name, value in named.items()} | self._store.state()

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator, or another version of the keys, wrote the state.
        """
        check_metric(state, cls.__name__)
        flags = bool(state["exact"]), bool(state["drop_intermediate"])
        threshold = cls(float(state["tpr"]), *flags, int(state["downsampling"]))
        threshold._store.restore(state)
        return threshold


def open_set_threshold(
    scores: Tensor | Floats,
    mask: Tensor | NDArray[np.uint8],
    tpr: float = 0.95,
    drop_intermediate: bool = True,
    downsampling: int = 1,
) -> float:
    """Return the first ROC threshold whose true-positive rate is above ``tpr``, exact; refuse ``score > threshold``.

    It is the threshold of DenseHybrid (Grcić et al., ECCV 2022); ``OpenSetThreshold`` states the arguments.

    Raises:
        InputError: if an argument is not as stated, a score is not finite, or a kind of pixel is missing.

    Example:
        >>> scores, mask = np.float32([1, 2, 3, 4, 5, 6]), np.uint8([0, 1, 0, 1, 0, 1])
        >>> open_set_threshold(scores, mask), open_set_threshold(scores, mask, tpr=0.5)
        (2.0, 4.0)
    """
    return OpenSetThreshold(tpr, True, drop_intermediate, downsampling).update(scores, mask).compute()


def crossed_thresholds(halves: Mapping[str, OpenSetThreshold]) -> dict[str, float]:
    """Return for each half the threshold of the other; of more than two parts, that of all others together.

    Raises:
        InputError: if there are fewer than two, their settings differ, or the others lack a kind of pixel.

    Example:
        >>> mask = np.uint8([0, 1])
        >>> first = {town: OpenSetThreshold(exact=True) for town in ("t5", "t6")}
        >>> _ = first["t5"].update(np.float32([1, 2]), mask), first["t6"].update(np.float32([3, 4]), mask)
        >>> crossed_thresholds(first)
        {'t5': 4.0, 't6': 2.0}
    """
    if len(halves) < 2:
        raise InputError(f"expected at least 2 halves, got {len(halves)}: a threshold comes from the other half")
    return {name: _estimated_without(name, halves) for name in halves}


@dataclass(frozen=True)
class _ThresholdSettings:
    tpr: float
    exact: bool
    drop_intermediate: bool
    downsampling: int

    def __post_init__(self) -> None:
        if not 0 < self.tpr < 1:
            raise InputError(f"expected a true-positive rate in (0, 1), got {self.tpr}: write 95 % as 0.95")
        if not isinstance(self.downsampling, int) or self.downsampling < 1:
            raise InputError(f"expected a whole factor of down-sampling from 1 up, got {self.downsampling}")


def _estimated_without(name: str, halves: Mapping[str, OpenSetThreshold]) -> float:
    whole = OpenSetThreshold(**asdict(halves[name].settings))
    others = [other for other in halves if other != name]
    for other in others:
        whole.merge(halves[other])
    try:
        return whole.compute()
    except InputError as error:
        raise InputError(f"threshold for {name}, estimated on {', '.join(others)}: {error}") from error


def _corners(counts: Ranking) -> NDArray[np.int64]:
    """Return the points of the ROC curve without those whose next step is the same as the one that led there."""
    turns = (np.diff(counts.anomalies) != 0) | (np.diff(counts.inliers) != 0)
    # The step to the first point starts from nothing, and scikit-learn does not compare it with the next.
    turns[:1] = True
    return np.flatnonzero(np.r_[turns, True])


def _score_at(ranked: Ranked, at: int) -> float:
    """Return the score of an entry: the only one that it holds, or the lowest float32 of its key."""
    level = ranked.levels[at]
    if ranked.levels.dtype == np.int32 and ranked.tied[at]:
        # A key ends at its larger magnitude, and that is the score where it holds one alone.
        return float(np.copysign(key_floor(-np.abs(np.array([level], np.int32)))[0], level))
    return float(ranked.thresholds(slice(at, at + 1))[0])


def _downsampled(pixels: Pixels, shape: tuple[int, ...], factor: int) -> Pixels:
    """Return the pixels at 1 / ``factor`` of the size, whole blocks only: what PyTorch's ``interpolate`` returns."""
    if len(shape) < 2 or min(shape[-2:]) < factor:
        raise InputError(f"expected maps (..., H, W) of at least {factor} x {factor} to down-sample, got {shape}")
    height, width = (side // factor for side in shape[-2:])
    inside = (..., slice(height * factor), slice(width * factor))
    seen = np.ascontiguousarray(pixels.scores.reshape(shape)[inside])  # PyTorch takes no negative strides
    scores = torch.tensor(seen).reshape(1, -1, height * factor, width * factor)
    small = resize_maps(scores if scores.dtype == torch.float64 else scores.float(), (height, width)).numpy()
    mask = pixels.mask.reshape(shape)[inside][..., ::factor, ::factor]
    return Pixels(small.reshape(-1), mask.reshape(-1), half=False)
