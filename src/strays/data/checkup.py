"""Checking one frame, and adding up what a split of frames holds."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strays.data.base import Frame, FrameSet, size_complaint
from strays.data.diagnosis import Problem, SplitReport
from strays.data.images import ImageHeader, probe_image, read_map
from strays.data.values import ValueMap, histogram
from strays.errors import InputError
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = ["FrameReport", "Tally", "check_frame", "problem_of"]

_KINDS = {"inlier": INLIER, "anomaly": ANOMALY, "ignore": IGNORE}
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}


@dataclass(frozen=True)
class FrameReport:
    """What was found in the files of one frame.

    Args:
        header: of the image file, or None if it is unreadable.
        size: (H, W) of the image as read, or None.
        labels: pixels (256,) of each class index, or None.
        mask: pixels (256,) of each mask value, or None.
        coloured: whether its map is a picture instead of numbers.
        misnamed: whether the image's name ends like another format than it has.
        problems: what is wrong.
    """

    header: ImageHeader | None
    size: tuple[int, int] | None
    labels: NDArray[np.int64] | None
    mask: NDArray[np.int64] | None
    coloured: bool
    misnamed: bool
    problems: tuple[Problem, ...]


def check_frame(frames: FrameSet, frame: Frame) -> FrameReport:
    """Return what the files of a frame hold; whatever is wrong becomes a problem and stops nothing."""
    problems: list[Problem] = []
    header, size = _check_image(frames, frame, problems)
    labels = _check_map(frame, frame.labels, frames.label_map, size, problems)
    mask = _check_map(frame, frame.mask, frames.mask_map, size, problems)
    misnamed = header is not None and frame.image.suffix.lower() not in _SUFFIXES[header.format]
    coloured = any(path is not None and _is_coloured(path) for path in (frame.labels, frame.mask))
    return FrameReport(header, size, labels, mask, coloured, misnamed, tuple(problems))


def problem_of(path: Path, error: InputError, expected: str) -> Problem:
    """Return the problem that an error tells, whose message is ``FILE what; fix``."""
    what, _, fix = str(error).rpartition("; ")
    found = (what or fix).removeprefix(str(path)).lstrip(": ")
    return Problem(str(path), found, expected, fix if what else "see above")


@dataclass
class Tally:
    """The sums over the frames of a split."""

    frames: int = 0
    readable: int = 0
    without_anomaly: int = 0
    coloured: int = 0
    misnamed: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    headers: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    mask: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))

    def add(self, report: FrameReport) -> None:
        """Count one frame."""
        self.frames += 1
        self.readable += not report.problems
        self.coloured += report.coloured
        if report.size is not None:
            self.sizes[report.size] += 1
        if report.header is not None:
            self.headers[report.header.format, report.header.mode] += 1
            self.misnamed[report.header.format] += report.misnamed
        if report.labels is not None:
            self.labels += report.labels
        if report.mask is not None:
            self.mask += report.mask
            self.without_anomaly += not report.mask[ANOMALY]

    def mask_shares(self) -> dict[str, float]:
        """Return the share of each kind among all masked pixels, in [0, 1]; empty without masks."""
        total = int(self.mask.sum())
        return {kind: float(self.mask[value]) / total for kind, value in _KINDS.items()} if total else {}

    def label_shares(self, names: tuple[str, ...]) -> dict[str, float]:
        """Return the share of each class and of ignored pixels, in [0, 1]; empty without labels."""
        total = int(self.labels.sum())
        counted = {**{name: self.labels[index] for index, name in enumerate(names)}, "ignore": self.labels[IGNORE]}
        return {name: float(count) / total for name, count in counted.items()} if total else {}

    def report(self, split: str | None, expected: int | None, names: tuple[str, ...]) -> SplitReport:
        """Return the sums as plain values."""
        formats: Counter[str] = Counter()
        for (format_, _), count in self.headers.items():
            formats[format_] += count
        return SplitReport(
            split,
            self.frames,
            expected,
            self.readable,
            {f"{width}x{height}": count for (height, width), count in self.sizes.most_common()},
            dict(formats),
            self.label_shares(names),
            self.mask_shares(),
            self.without_anomaly,
        )


def _check_image(
    frames: FrameSet, frame: Frame, problems: list[Problem]
) -> tuple[ImageHeader | None, tuple[int, int] | None]:
    try:
        header = probe_image(frame.image)
        height, width = frames.read_image(frame).shape[:2]
    except InputError as error:
        problems.append(problem_of(frame.image, error, "a readable image"))
        return None, None
    return header, (height, width)


def _is_coloured(path: Path) -> bool:
    try:
        return probe_image(path).mode in ("RGB", "CMYK")
    except InputError:
        return False


def _check_map(
    frame: Frame,
    path: Path | None,
    declared: ValueMap | None,
    size: tuple[int, int] | None,
    problems: list[Problem],
) -> NDArray[np.int64] | None:
    if path is None or declared is None:
        return None
    try:
        raw = read_map(path)
    except InputError as error:
        problems.append(problem_of(path, error, f"a {declared.kind}: {declared.expected()}"))
        return None
    counts = histogram(raw)
    if size is not None and raw.shape != size:
        wrong = InputError(size_complaint(declared.kind, raw.shape, frame.image, size))
        problems.append(problem_of(path, wrong, f"{size[1]}x{size[0]} like the image"))
    if unknown := declared.unknown(counts):
        found = declared.complaint(unknown, counts).partition(", expected")[0]
        problems.append(Problem(str(path), found, declared.expected(), declared.fix(unknown)))
    return declared.converted(counts)
