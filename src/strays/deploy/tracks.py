"""Finding the frames that a benchmark wants scores of, and checking that they are all there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from strays.data import DATASETS, Frame, FrameSet, open_scenes
from strays.data.opening import parse_spec, recognise, sole_claim
from strays.data.sources import image_files, missing_path
from strays.deploy.formats import FORMATS, SubmissionFormat
from strays.deploy.frame_list import Deviation, Track, in_words
from strays.errors import InputError

__all__ = ["Batch", "open_batches"]

_EVERYTHING = "all"
"""The split that takes every image there is, with masks or without."""


@dataclass(frozen=True)
class Batch:
    """The frames of one data set that are handed in.

    Args:
        format: how they are handed in.
        track: which data set it is.
        split: which part of it.
        frames: its frames, without those that the benchmark has not.
        deviation: how what was found deviates from what the benchmark has.
    """

    format: SubmissionFormat
    track: Track
    split: str
    frames: tuple[Frame, ...]
    deviation: Deviation


def open_batches(specs: Sequence[str], split: str | None = None, partial: bool = False) -> list[Batch]:
    """Return the frames of the data sets that go into one submission.

    Args:
        specs: ``NAME=PATH`` with names of data sets of one benchmark, such as ``smiyc-anomaly=PATH``; or a ``PATH`` in
            which one of them is recognised.
        split: which part; by default the one that is usually handed in.
        partial: take the frames that are there even if they are not all, and leave foreign ones out.

    Raises:
        InputError: if a data set belongs to no benchmark, they belong to different ones, one is named twice, a library
            that writes the files is not installed; or, unless ``partial``, if frames are missing or unexpected.
    """
    batches = [_opened(spec, split) for spec in specs]
    names = [one.track.dataset for one in batches]
    if len({one.format.name for one in batches}) > 1 or len(set(names)) < len(names):
        raise InputError(f"one submission is for one benchmark and each data set once, got {', '.join(names)}")
    for spec, batch in zip(specs, batches, strict=True):
        if str(batch.deviation) and not (partial and batch.frames):
            way = "unpack the data set again, or go on with what is there: --partial"
            raise InputError(f"{spec}, split {batch.split}: {batch.deviation}; {way}")
    return batches


def _opened(spec: str, split: str | None) -> Batch:
    name, path = _named(spec)
    kind, track = _known()[name]
    kind.check()
    wanted = track.default_split if split is None else split
    if wanted not in track.splits:
        raise InputError(f"{name} has no split {wanted!r} to hand in; it has {', '.join(track.splits)}")
    frames, lost = _found(name, path, wanted)
    deviation = track.splits[wanted].deviation([frame.name for frame in frames], lost)
    kept = tuple(frame for frame in frames if frame.name not in deviation.unexpected)
    _check_keys(kind, kept)
    return Batch(kind, track, wanted, kept, deviation)


def _known() -> dict[str, tuple[SubmissionFormat, Track]]:
    return {track.dataset: (kind, track) for kind in FORMATS.values() for track in kind.tracks}


def _named(spec: str) -> tuple[str, Path]:
    """Return which of the known data sets a specification names, or is recognised as, and where it is."""
    name, path = parse_spec(spec)
    if not path.exists():
        raise missing_path(path)
    name = name or sole_claim(path, recognise(path)).dataset
    if name not in _known():
        raise InputError(f"no benchmark known here takes scores of {name!r}: name {_ways(path)}")
    return name, path


def _ways(path: Path) -> str:
    return " or ".join(f"{name}={path}" for name in _known())


def _found(name: str, path: Path, split: str) -> tuple[list[Frame], list[str]]:
    """Return the frames of a split, and the names of those that only their label maps are there of."""
    if name not in DATASETS or split == _EVERYTHING:
        folder = path if name not in DATASETS else path / "images"
        files = list(image_files(folder, recursive=False)) if folder.is_dir() else []
        if not files:
            raise InputError(f"no images in {folder}: name the folder of the data set as {name}=PATH")
        return [Frame(file.stem, file) for file in files], []
    scenes = open_scenes(f"{name}={path}", split)
    if not isinstance(scenes, FrameSet):
        raise InputError(f"{name} has no frames on disk, so nothing can be handed in")
    return list(scenes.frames), [one.stem.rpartition("_gtCoarse")[0] for one in scenes.orphans]


def _check_keys(kind: SubmissionFormat, frames: Iterable[Frame]) -> None:
    """Refuse frames whose files would be called the same."""
    taken: dict[str, str] = {}
    for frame in frames:
        other = taken.setdefault(kind.key(frame.name), frame.name)
        if other != frame.name:
            both = in_words([other, frame.name])
            raise InputError(f"two frames for one file, {kind.key(frame.name)}: {both}; keep one of them")
