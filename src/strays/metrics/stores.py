"""What a pixel metric remembers of the pixels it has seen: counts per key, or every score."""

from dataclasses import dataclass
from typing import Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from strays.errors import InputError
from strays.metrics.arrays import Floats, Pixels, State
from strays.metrics.curves import Ranking, rank_scores
from strays.metrics.keys import EXACT_BELOW, KEYS, TOP_KEY, float_key, key_floor, single_valued
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = ["AllScores", "KeyHistogram", "Ranked", "ScoreStore"]

_CHUNK = 1 << 17
"""Pixels that are worked on at a time, few enough to stay in the processor's cache."""
_IGNORED = 2 * KEYS
_EXACT, _SINGLE, _ROUNDED = range(3)


@dataclass(frozen=True, eq=False)
class Ranked:
    """The pixels of a store in the order of their scores, descending.

    Args:
        counts: anomalies and inliers per distinct score or key, T of them.
        tied: bool (T,), which entries are known to hold one score alone.
        levels: the scores, float64 (T,), or the keys, int32 (T,).
    """

    counts: Ranking
    tied: NDArray[np.bool_]
    levels: NDArray[np.float64] | NDArray[np.int32]

    def thresholds(self, at: slice = slice(None)) -> NDArray[np.float64]:
        """Return the lowest score that belongs to each entry: with ``score >= threshold`` it counts, and all above."""
        levels = self.levels[at]
        floors = key_floor(levels.astype(np.int32)) if levels.dtype == np.int32 else levels
        return floors.astype(np.float64)


class ScoreStore(Protocol):
    """What ``PixelMetrics`` needs of its memory."""

    def add(self, pixels: Pixels) -> None:
        """Take in the pixels of one update."""

    def merge(self, other: Self) -> None:
        """Take in what another store has gathered."""

    def ranked(self) -> Ranked:
        """Return the pixels in the order of their scores."""

    def pixels(self) -> dict[int, int]:
        """Return the number of pixels by mask value."""

    def state(self) -> State:
        """Return what was gathered as arrays, compact."""

    def restore(self, state: State) -> None:
        """Take in what ``state`` has returned."""


class KeyHistogram:
    """Counts of inliers and anomalies per ``float_key``: 19 MB, however many pixels come.

    Float64 scores are rounded to float32, which preserves their order but may tie them.
    """

    def __init__(self) -> None:
        # One array, so that one pass serves both kinds: inliers by key, anomalies by key, and all ignored pixels.
        self._counts = np.zeros(2 * KEYS + 1, np.int64)
        self._resolution = _EXACT

    def add(self, pixels: Pixels) -> None:
        """Count the pixels of one update."""
        self._resolution = max(self._resolution, _resolution(pixels))
        for start in range(0, pixels.mask.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            slot = float_key(_as_float32(pixels.scores[part]))
            slot += np.int32(TOP_KEY)
            slot += np.minimum(pixels.mask[part], 2) * np.int32(KEYS)
            np.minimum(slot, np.int32(_IGNORED), out=slot)
            np.add.at(self._counts, slot, 1)

    def merge(self, other: "KeyHistogram") -> None:
        """Add the counts of another histogram."""
        self._counts += other._counts
        self._resolution = max(self._resolution, other._resolution)

    def ranked(self) -> Ranked:
        """Return the counts per key that occurs."""
        inliers, anomalies = self._by_kind()
        slots = np.flatnonzero(inliers | anomalies)[::-1]
        keys = (slots - TOP_KEY).astype(np.int32)
        tied = single_valued(keys) if self._resolution == _SINGLE else np.full(keys.shape, self._resolution == _EXACT)
        return Ranked(Ranking(anomalies[slots], inliers[slots]), tied, keys)

    def pixels(self) -> dict[int, int]:
        """Return the number of pixels by mask value."""
        inliers, anomalies = (int(kind.sum()) for kind in self._by_kind())
        return {INLIER: inliers, ANOMALY: anomalies, IGNORE: int(self._counts[_IGNORED])}

    def state(self) -> State:
        """Return the slots that are not empty and their counts."""
        slots = np.flatnonzero(self._counts)
        counts = self._counts[slots]
        small = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
        resolution = np.array(self._resolution)
        return {"slots": slots.astype(np.int32), "counts": small, "resolution": resolution, "keys": np.array(KEYS)}

    def restore(self, state: State) -> None:
        """Add the counts of a stored state."""
        if int(state["keys"]) != KEYS:
            raise InputError(f"expected a state with {KEYS} keys, got {int(state['keys'])}: delete it and run again")
        self._counts[state["slots"].astype(np.int64)] += state["counts"].astype(np.int64)
        self._resolution = max(self._resolution, int(state["resolution"]))

    def _by_kind(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._counts[:KEYS], self._counts[KEYS:_IGNORED]


class AllScores:
    """Every score of every inlier and anomaly pixel, in the type it came in."""

    def __init__(self) -> None:
        self._scores: dict[int, list[Floats]] = {INLIER: [], ANOMALY: []}
        self._ignored = 0

    def add(self, pixels: Pixels) -> None:
        """Keep a copy of the scores of one update."""
        for kind, kept in self._scores.items():
            kept.append(pixels.of(kind))
        self._ignored += int(np.count_nonzero(pixels.mask == IGNORE))

    def merge(self, other: "AllScores") -> None:
        """Keep the scores of another store too."""
        for kind, kept in self._scores.items():
            kept.extend(other._scores[kind])
        self._ignored += other._ignored

    def ranked(self) -> Ranked:
        """Return the counts per distinct score; nothing is left open."""
        scores, counts = rank_scores(self._all(INLIER), self._all(ANOMALY))
        return Ranked(counts, np.ones(scores.shape, np.bool_), scores)

    def pixels(self) -> dict[int, int]:
        """Return the number of pixels by mask value."""
        counts = {kind: sum(part.size for part in kept) for kind, kept in self._scores.items()}
        return counts | {IGNORE: self._ignored}

    def state(self) -> State:
        """Return all scores and the number of ignored pixels."""
        return {"inliers": self._all(INLIER), "anomalies": self._all(ANOMALY), "ignored": np.array(self._ignored)}

    def restore(self, state: State) -> None:
        """Keep the scores of a stored state."""
        self._scores[INLIER].append(cast(Floats, state["inliers"]))
        self._scores[ANOMALY].append(cast(Floats, state["anomalies"]))
        self._ignored += int(state["ignored"])

    def _all(self, kind: int) -> Floats:
        return np.concatenate([np.empty(0, np.float16), *self._scores[kind]])


def _as_float32(scores: Floats) -> NDArray[np.float32]:
    if scores.dtype != np.float64:
        return np.ascontiguousarray(scores, np.float32)
    largest = np.finfo(np.float32).max
    return np.clip(scores, -largest, largest).astype(np.float32)


def _resolution(pixels: Pixels) -> int:
    """Return how far a shared key means an equal score: always, for some keys, or never."""
    if pixels.scores.dtype == np.float64:
        return _ROUNDED
    if pixels.half and (pixels.scores.size == 0 or float(np.abs(pixels.scores).max()) < EXACT_BELOW):
        return _EXACT
    return _SINGLE
