"""Which frames a benchmark wants, and how what was found deviates from that."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Deviation", "FrameList", "Track", "in_words"]

_NAMED = 12
"""So many names are listed in one message."""


@dataclass(frozen=True)
class Deviation:
    """How the frames that were found deviate from those that a split has.

    Args:
        found: how many frames were found.
        expected: how many there must be, or None where nobody knows.
        missing: the names of frames that must be there and are not, as far as names are known.
        unexpected: the names of frames that the split has not.
    """

    found: int
    expected: int | None = None
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """How many frames of the split were found."""
        return self.found - len(self.unexpected)

    @property
    def complete(self) -> bool:
        """Whether every frame of the split is there."""
        return not self.missing and self.expected in (None, self.kept)

    def __str__(self) -> str:
        """Return the deviation in words, ``""`` where there is none."""
        of = "" if self.expected is None else f" of {self.expected}"
        parts = [f"missing frames ({len(self.missing)}{of}): {in_words(self.missing)}"] if self.missing else []
        if not (self.missing or self.complete):
            parts.append(f"expected {self.expected} frames, found {self.kept}")
        if self.unexpected:
            parts.append(f"frames that are not in this split ({len(self.unexpected)}): {in_words(self.unexpected)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class FrameList:
    """The frames of one split.

    Args:
        names: frames that must be there, as far as their names are known.
        others: what frames are called that may be there besides.
        count: how many there must be in all, where that is known and not all names are.
    """

    names: frozenset[str] = frozenset()
    others: re.Pattern[str] | None = None
    count: int | None = None

    def deviation(self, found: Sequence[str], lost: Sequence[str] = ()) -> Deviation:
        """Return how frames of these names deviate from the list.

        Args:
            found: the names of the frames that are there.
            lost: the names of frames that something else in the data set is evidence of.
        """
        missing = self.names.difference(found).union(one for one in lost if self._has(one))
        unexpected = [one for one in found if not self._has(one)]
        expected = self.count or (None if self.others else len(self.names))
        return Deviation(len(found), expected, tuple(sorted(missing)), tuple(unexpected))

    def _has(self, name: str) -> bool:
        return name in self.names or (self.others is not None and self.others.fullmatch(name) is not None)


@dataclass(frozen=True)
class Track:
    """A data set as a benchmark hands it out.

    Args:
        dataset: what is named with ``--data``.
        folder: what the benchmark calls it, and the folder of the score files.
        splits: name -> frames; the first is the one that is usually handed in.
    """

    dataset: str
    folder: str
    splits: Mapping[str, FrameList]

    @property
    def default_split(self) -> str:
        """The split that is usually handed in."""
        return next(iter(self.splits))


def in_words(names: Sequence[str]) -> str:
    """Return names in a row, the first dozen of many.

    Example:
        >>> in_words([str(number) for number in range(14)])
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more'
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
