"""What the doctor found: plain values that print and turn into JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

__all__ = ["Diagnosis", "Problem", "SplitReport"]

_SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file or folder.

    Args:
        file: its path.
        found: what is there.
        expected: what should be there.
        fix: how to mend it.
    """

    file: str
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}: {self.found}; expected {self.expected}; {self.fix}"


@dataclass(frozen=True)
class SplitReport:
    """What one split of a data set holds.

    Args:
        split: its name, or None where the data set has no parts.
        frames: how many frames were checked.
        expected: how many the data set has, or None where that is not known.
        readable: how many of them could be read without a problem.
        sizes: width x height of the images -> how many, such as ``{"1280x720": 10}``.
        formats: what the images are stored as -> how many.
        labels: class name, or ``"ignore"`` -> share of all labelled pixels, in [0, 1]; empty without labels.
        mask: ``"inlier"``, ``"anomaly"``, ``"ignore"`` -> share of all masked pixels; empty without masks.
        without_anomaly: frames whose mask holds no anomaly.
    """

    split: str | None
    frames: int
    expected: int | None
    readable: int
    sizes: Mapping[str, int] = field(default_factory=dict)
    formats: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, float] = field(default_factory=dict)
    mask: Mapping[str, float] = field(default_factory=dict)
    without_anomaly: int = 0

    def lines(self) -> list[str]:
        """Return the report for people."""
        of = f" of {self.expected}" if self.expected is not None and self.expected != self.frames else ""
        parts = [f"{self.split or 'frames'}: {self.frames}{of} frames", _counted(self.sizes), _counted(self.formats)]
        lines = [", ".join(part for part in parts if part)]
        if self.readable < self.frames:
            lines.append(f"  {self.frames - self.readable} of them have a problem")
        lines += [
            f"  {kind}: {_shared(shares)}" for kind, shares in (("mask", self.mask), ("labels", self.labels)) if shares
        ]
        if self.without_anomaly:
            lines.append(f"  {self.without_anomaly} frames hold no anomaly")
        return lines


@dataclass(frozen=True)
class Diagnosis:
    """What a folder is, what it holds, and what is wrong with it.

    Args:
        path: what was examined.
        dataset: the name of the reader that fits, or None.
        title: the data set in words, or ``""``.
        evidence: what it was recognised by.
        splits: what each of its splits holds.
        problems: what is wrong and how to mend it; empty when all is well.
        notes: what is worth knowing and needs no mending.
    """

    path: str
    dataset: str | None
    title: str = ""
    evidence: str = ""
    splits: tuple[SplitReport, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether a data set was found and nothing is wrong with it."""
        return self.dataset is not None and not self.problems

    @property
    def frames(self) -> int:
        """How many frames were checked in all splits."""
        return sum(split.frames for split in self.splits)

    def as_dict(self) -> dict[str, object]:
        """Return everything as plain values for JSON; shares are fractions in [0, 1]."""
        return {**asdict(self), "healthy": self.healthy}

    def text(self) -> str:
        """Return the diagnosis for people; of many problems the first twenty."""
        name = f"{self.title} ({self.dataset})" if self.dataset else "no known data set"
        lines = [f"{self.path}: {name}"]
        if self.evidence:
            lines.append(f"seen: {self.evidence}")
        lines += [line for split in self.splits for line in split.lines()]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"problem: {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"... and {len(self.problems) - _SHOWN} more problems")
        return "\n".join([*lines, "nothing is wrong" if self.healthy else f"{len(self.problems)} problem(s)"])


def _counted(counts: Mapping[str, int]) -> str:
    """Return the most frequent kind and how many others there are: ``640x480 (12), 2 other sizes``."""
    ranked = sorted(counts.items(), key=lambda one: -one[1])
    shown = ", ".join(kind if len(ranked) == 1 else f"{count} {kind}" for kind, count in ranked[:4])
    return shown + (f" and {len(ranked) - 4} other kinds" if len(ranked) > 4 else "")


def _shared(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {100 * share:.2f} %" for kind, share in shares.items())
