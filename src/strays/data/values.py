"""What the raw values of a label map or mask mean: declared by a reader, converted once, and checked."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strays.errors import InputError
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = ["LabelMap", "MaskMap", "ValueMap", "histogram"]

_ADVICE = "name the data set that the file belongs to, or map these values to declared ones and save it again"


class ValueMap:
    """A declaration of raw values (0 to 255) and what each of them becomes.

    Args:
        values: raw value -> value in the result.
        hints: undeclared raw value -> what it probably is and how to mend it, for messages.
        advice: how to mend any other undeclared value.
    """

    kind = "map"
    most_unknown = 5
    """More undeclared values than these are no classes: the map was smoothed."""

    def __init__(
        self, values: Mapping[int, int], hints: Mapping[int, str] | None = None, advice: str = _ADVICE
    ) -> None:
        wrong = [raw for raw in values if not 0 <= raw <= 255]
        if wrong:
            raise InputError(f"expected raw values of a {self.kind} from 0 to 255, got {wrong}")
        self.values = dict(values)
        self.hints = dict(hints or {})
        self.advice = advice
        self._table = np.full(256, IGNORE, np.uint8)
        self._table[list(values)] = list(values.values())
        self._declared = np.zeros(256, bool)
        self._declared[list(values)] = True

    def convert(self, raw: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
        """Return ``raw`` (H, W) in the library's own values.

        Raises:
            InputError: for a value that was not declared; names the file, the value, its pixels and the fix.
        """
        self.check(histogram(raw), path)
        return self.apply(raw)

    def apply(self, raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return ``raw`` (H, W) in the library's own values without a check: undeclared values are ignored."""
        return np.take(self._table, raw)

    def check(self, counts: NDArray[np.int64], path: Path) -> None:
        """Raise the error of ``convert`` for a file of which only the pixels (256,) of each raw value are known."""
        if unknown := self.unknown(counts):
            raise InputError(f"{path}: {self.complaint(unknown, counts)}; {self.fix(unknown)}")

    def converted(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the pixels (256,) of each converted value from those of each raw value, undeclared ones left out."""
        after = np.zeros(256, np.int64)
        np.add.at(after, self._table[self._declared], counts[self._declared])
        return after

    def unknown(self, counts: NDArray[np.int64]) -> list[int]:
        """Return the undeclared values that occur, from the number of pixels (256,) of each value."""
        return [int(one) for one in np.flatnonzero((counts > 0) & ~self._declared)]

    def complaint(self, unknown: list[int], counts: NDArray[np.int64]) -> str:
        """Return what is wrong: the undeclared values, how many pixels hold them, and what was expected."""
        found = ", ".join(f"{one} ({counts[one]:,} pixels)" for one in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        plural = "s" if len(unknown) > 1 else ""
        return f"undeclared value{plural} {found}{more} in the {self.kind}, expected {self.expected()}"

    def expected(self) -> str:
        """Return the declared values in words."""
        return ", ".join(f"{raw}" for raw in sorted(self.values))

    def fix(self, unknown: list[int]) -> str:
        """Return how to mend a file that holds undeclared values."""
        if unknown and all(one in self.hints for one in unknown):
            return self.hints[unknown[0]]
        if len(unknown) > self.most_unknown:
            return "this is no map of class numbers, or it was resized smoothly or saved as JPEG: use the original file"
        return self.advice


class LabelMap(ValueMap):
    """Raw label value -> class index of a taxonomy, or ``IGNORE``.

    Example:
        >>> LabelMap.indices(11, ignore=(11,)).convert(np.uint8([[0, 10, 11]]), Path("x.png")).tolist()
        [[0, 10, 255]]
    """

    kind = "label map"

    @classmethod
    def indices(
        cls, classes: int, ignore: Iterable[int] = (IGNORE,), hints: Mapping[int, str] | None = None
    ) -> "LabelMap":
        """Return the declaration where 0 to ``classes`` - 1 mean themselves and ``ignore`` are ignored."""
        return cls({**{index: index for index in range(classes)}, **dict.fromkeys(ignore, IGNORE)}, hints)

    def expected(self) -> str:
        """Return the declared values in words."""
        known = sorted(raw for raw, index in self.values.items() if index != IGNORE)
        ignored = sorted(raw for raw, index in self.values.items() if index == IGNORE)
        return f"classes {_ranges(known)}" + (f", ignore {_ranges(ignored)}" if ignored else "")


class MaskMap(ValueMap):
    """The raw mask values that mean inlier, anomaly and ignore.

    Example:
        >>> MaskMap(anomaly=(2,), ignore=()).convert(np.uint8([[0, 2]]), Path("x.png")).tolist()
        [[0, 1]]
    """

    kind = "anomaly mask"
    most_unknown = 2

    def __init__(
        self,
        inlier: Iterable[int] = (0,),
        anomaly: Iterable[int] = (1,),
        ignore: Iterable[int] = (IGNORE,),
        hints: Mapping[int, str] | None = None,
        advice: str = _ADVICE,
    ) -> None:
        self.inlier, self.anomaly, self.ignore = frozenset(inlier), frozenset(anomaly), frozenset(ignore)
        twice = (self.inlier & self.anomaly) | (self.inlier & self.ignore) | (self.anomaly & self.ignore)
        if twice:
            raise InputError(f"mask values {sorted(twice)} are declared with two meanings; give each value one")
        meanings = ((self.inlier, INLIER), (self.anomaly, ANOMALY), (self.ignore, IGNORE))
        super().__init__({raw: meaning for raws, meaning in meanings for raw in raws}, hints, advice)

    def expected(self) -> str:
        """Return the declared values in words."""
        named = (("inlier", self.inlier), ("anomaly", self.anomaly), ("ignore", self.ignore))
        return ", ".join(f"{_ranges(sorted(raws))} {word}" for word, raws in named if raws)


def histogram(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the number of pixels (256,) of each value of a map (H, W)."""
    return np.array(Image.fromarray(values).histogram(), np.int64)  # a quarter of the time of np.bincount, and no copy


def _ranges(values: list[int]) -> str:
    """Return sorted numbers in short: ``0-10, 255``."""
    starts = [one for one in values if one - 1 not in values]
    ends = [one for one in values if one + 1 not in values]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
