"""Checking one frame, and adding up what a split of frames holds."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strays.data.base import Frame, FrameSet, size_complaint
from strays.data.images import ImageHeader, probe_image, read_map
from strays.data.values import ValueMap, histogram
from strays.doctor.alignment import Evidence, evidence
from strays.doctor.diagnosis import Problem, SplitReport
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
        evidence: what tells whether the mask is that of this image, or None.
        problems: what is wrong.
    """

    header: ImageHeader | None
    size: tuple[int, int] | None
    labels: NDArray[np.int64] | None
    mask: NDArray[np.int64] | None
    coloured: bool
    misnamed: bool
    evidence: Evidence | None
    problems: tuple[Problem, ...]


def check_frame(frames: FrameSet, frame: Frame, compare: bool = False) -> FrameReport:
    """Return what the files of a frame hold; whatever is wrong becomes a problem and stops nothing.

    Args:
        frames: the set of the frame.
        frame: what to read.
        compare: whether to keep what tells if the mask is that of this image.
    """
    problems: list[Problem] = []
    header, image = _check_image(frames, frame, problems)
    labels = _check_map(frame, frame.labels, frames.label_map, image, problems)
    # One file that holds both is complained about once.
    heard = [] if frame.mask == frame.labels else problems
    mask = _check_map(frame, frame.mask, frames.mask_map, image, heard)
    kept = evidence(image, mask[0]) if compare and image is not None and mask is not None else None
    size = None if image is None else image.shape[:2]
    misnamed = header is not None and frame.image.suffix.lower() not in _SUFFIXES[header.format]
    coloured = any(path is not None and _is_coloured(path) for path in (frame.labels, frame.mask))
    return FrameReport(header, size, _pixels(labels), _pixels(mask), coloured, misnamed, kept, tuple(problems))


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
    masked: int = 0
    without_anomaly: int = 0
    coloured: int = 0
    misnamed: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    headers: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    mask: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    evidence: list[Evidence | None] = field(default_factory=list)

    def add(self, report: FrameReport) -> None:
        """Count one frame."""
        self.frames += 1
        self.readable += not report.problems
        self.coloured += report.coloured
        self.evidence.append(report.evidence)
        if report.size is not None:
            self.sizes[report.size] += 1
        if report.header is not None:
            self.headers[report.header.format, report.header.mode] += 1
            self.misnamed[report.header.format] += report.misnamed
        if report.labels is not None:
            self.labels += report.labels
        if report.mask is not None:
            self.mask += report.mask
            self.masked += 1
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
) -> tuple[ImageHeader, NDArray[np.uint8]] | tuple[None, None]:
    try:
        return probe_image(frame.image), frames.read_image(frame)
    except InputError as error:
        problems.append(problem_of(frame.image, error, "a readable image"))
        return None, None


def _pixels(checked: tuple[NDArray[np.uint8], NDArray[np.int64]] | None) -> NDArray[np.int64] | None:
    return None if checked is None else checked[1]


def _is_coloured(path: Path) -> bool:
    try:
        return probe_image(path).mode in ("RGB", "CMYK")
    except InputError:
        return False


def _is_jpeg(path: Path) -> bool:
    try:
        return probe_image(path).format == "JPEG"
    except InputError:
        return False


def _check_map(
    frame: Frame,
    path: Path | None,
    declared: ValueMap | None,
    image: NDArray[np.uint8] | None,
    problems: list[Problem],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Return a map in the library's own values (H, W), undeclared ones ignored, and its declared pixels (256,)."""
    if path is None or declared is None:
        return None
    try:
        raw = read_map(path)
    except InputError as error:
        problems.append(problem_of(path, error, f"a {declared.kind}: {declared.expected()}"))
        return None
    counts = histogram(raw)
    if image is not None and raw.shape != image.shape[:2]:
        height, width = image.shape[:2]
        wrong = InputError(size_complaint(declared.kind, raw.shape, frame.image, image.shape))
        problems.append(problem_of(path, wrong, f"{width}x{height} like the image"))
    if complaint := _value_complaint(path, declared, counts):
        problems.append(complaint)
    return declared.apply(raw), declared.converted(counts)


def _value_complaint(path: Path, declared: ValueMap, counts: NDArray[np.int64]) -> Problem | None:
    unknown = declared.unknown(counts)
    found = declared.complaint(unknown, counts).partition(", expected")[0] if unknown else ""
    if _is_jpeg(path):
        blurred = f"{_article(declared.kind)} stored as JPEG, which changes its values" + (
            f": {found}" if found else ""
        )
        fix = "use the original PNG file; one that is saved as PNG now keeps the damage"
        return Problem(str(path), blurred, f"a lossless file with {declared.expected()}", fix)
    return Problem(str(path), found, declared.expected(), declared.fix(unknown)) if unknown else None


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
