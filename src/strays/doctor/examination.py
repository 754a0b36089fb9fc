"""Examining a folder: every file is read once, counted, and compared with what is known."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from strays.data.base import DATASETS, DatasetReader, FrameSet, SceneSet
from strays.data.opening import contents, labelled_claims, lookalikes, nearby, parse_spec, recognise
from strays.data.paired import PairedReader
from strays.data.sources import missing_path, summarize_files, walk_files
from strays.doctor.alignment import MOST_FRAMES
from strays.doctor.checkup import Tally, check_frame, problem_of
from strays.doctor.comparison import compared_with_facts, compared_with_images
from strays.doctor.diagnosis import Diagnosis, Problem, SplitReport
from strays.errors import InputError

__all__ = ["examine"]

Progress = Callable[[int, int], None]

_LISTED = 20
_MAP_MODES = ("1", "L", "P")
_THREADS = 4


def examine(path: str | Path, progress: Progress | None = None) -> Diagnosis:
    """Return what a folder holds and what is wrong with it, after reading every file of it once.

    Args:
        path: a folder, an image, or ``NAME=PATH`` to examine a folder as that data set.
        progress: called with the number of frames done and of all frames, after each.

    Raises:
        InputError: if the path does not exist, or the name is that of a data set without files.
    """
    name, folder = parse_spec(path)
    if name in DATASETS and not DATASETS[name].needs_folder:
        raise InputError(f"{name} scenes are rendered and have no files to examine; name a folder")
    if not folder.exists():
        raise missing_path(folder)
    if name in DATASETS:
        return _examine_as(name, folder, "", (), progress)
    if folder.is_file() and folder.suffix != ".json":
        return _examine_as("frames", folder, "one file", (), progress)
    return _examine_unnamed(folder, progress)


def _examine_unnamed(folder: Path, progress: Progress | None) -> Diagnosis:
    try:
        claims = recognise(folder)
    except InputError as error:
        return Diagnosis(str(folder), None, problems=(problem_of(folder, error, "a declaration that can be read"),))
    if claims:
        names = [claim.dataset for claim in claims]
        fix = f"say which: {' or '.join(f'{name}={folder}' for name in names)}"
        doubt = Problem(str(folder), f"files that fit {' and '.join(names)}", "one data set", fix)
        return _examine_as(names[0], folder, claims[0].evidence, (doubt,) if len(claims) > 1 else (), progress)
    elsewhere = tuple(_elsewhere(folder))
    alike = lookalikes(folder)
    if elsewhere or not alike:
        return Diagnosis(str(folder), None, evidence=contents(folder), problems=elsewhere or (_unknown(folder),))
    chosen = "folder" if "folder" in alike else alike[0]
    return _examine_as(chosen, folder, f"the layout of {', '.join(alike)}, the content only in part", (), progress)


def _elsewhere(folder: Path) -> Iterator[Problem]:
    for other, claim in nearby(folder):
        found = f"no known layout here, but {claim.dataset} in {other}"
        yield Problem(str(folder), found, "the folder of one data set itself", f"point at {other}")


def _unknown(folder: Path) -> Problem:
    expected = "images, or the layout of a data set that `strays datasets` lists"
    return Problem(str(folder), contents(folder), expected, "name what it is as NAME=PATH, or choose another folder")


def _examine_as(
    name: str, folder: Path, evidence: str, problems: Sequence[Problem], progress: Progress | None
) -> Diagnosis:
    reader = DATASETS[name]
    sets, found = _open_all(reader, folder)
    everything = [*problems, *found]
    notes: list[str] = []
    reports: list[SplitReport] = []
    count = _Count(sum(len(frames) for frames in sets), progress)
    for frames in sets:
        tally, broken = _check_all(frames, count)
        everything += [*_of_set(frames), *broken, *compared_with_facts(reader, folder, frames, tally)]
        everything += compared_with_images(frames, tally)
        notes += _notes(frames, tally)
        names = frames.taxonomy.names if frames.taxonomy else ()
        reports.append(tally.report(frames.split, reader.facts.frames.get(frames.split), names))
    notes += [*_unread(folder, sets), *(_inside(folder) if reader.generic else ())]
    title, shown = reader.card.title, evidence or f"named as {name}"
    return Diagnosis(str(folder), name, title, shown, tuple(reports), tuple(everything), tuple(notes))


class _Count:
    """Counts frames over all splits and tells the caller."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.done, self.progress = total, 0, progress

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _open_all(reader: type[DatasetReader], folder: Path) -> tuple[list[FrameSet], list[Problem]]:
    """Return the splits that can be examined; a split whose frames are all in another one is left out."""
    sets: list[FrameSet] = []
    problems: list[Problem] = []
    for split in reader.splits(folder) or (reader.default_split,):
        opened: SceneSet | None
        try:
            opened = reader.open(folder, split)
        except InputError as error:
            problems.append(problem_of(folder, error, f"the layout of {reader.name}"))
            opened = _anyway(reader, folder, split)
        if isinstance(opened, FrameSet) and not any(set(opened.frames) <= set(other.frames) for other in sets):
            sets.append(opened)
    return sets, problems


def _anyway(reader: type[DatasetReader], folder: Path, split: str | None) -> FrameSet | None:
    """Return the pairs of a split that its reader refuses to open."""
    pairs = reader.pairs(folder, split) if issubclass(reader, PairedReader) else None
    if pairs is None or not pairs.matched or not issubclass(reader, PairedReader):
        return None
    return reader.frame_set(pairs, split)


def _check_all(frames: FrameSet, count: _Count) -> tuple[Tally, list[Problem]]:
    tally = Tally()
    problems: list[Problem] = []
    compare = frames.has_masks and len(frames) <= MOST_FRAMES
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))  # decoders release the interpreter's lock
    try:
        for report in pool.map(lambda frame: check_frame(frames, frame, compare), frames.frames):
            tally.add(report)
            problems += report.problems
            count.step()
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted examination ends at once
    if swapped := _swapped(frames, tally):
        return tally, [swapped]
    return tally, problems


def _swapped(frames: FrameSet, tally: Tally) -> Problem | None:
    """Return the problem that images lie where maps should be and maps where images should be."""
    grey = sum(count for (_, mode), count in tally.headers.items() if mode in _MAP_MODES)
    if not tally.frames or tally.coloured <= tally.frames / 2 or grey <= tally.frames / 2:
        return None
    first = frames.frames[0]
    map_folder = (first.mask or first.labels or first.image).parent
    found = f"pictures, and numbers in {first.image.parent}"
    return Problem(str(map_folder), found, "masks or labels", "images and maps are swapped: exchange the two folders")


def _of_set(frames: FrameSet) -> Iterator[Problem]:
    kind = "label map" if frames.label_map else "anomaly mask"
    fix = f"add its {kind} under the same name; until then the image is left out"
    yield from _listed(frames.unlabelled, f"an image without {kind}", "one for each image", fix)
    fix = "add the image under the same name, or remove the map"
    yield from _listed(frames.orphans, f"{kind} without an image", "one image for each", fix)


def _listed(paths: Sequence[Path], found: str, expected: str, fix: str) -> Iterator[Problem]:
    yield from (Problem(str(path), found, expected, fix) for path in paths[:_LISTED])
    if len(paths) > _LISTED:
        rest = f"{len(paths) - _LISTED} more of the same: {found}"
        yield Problem(str(paths[_LISTED].parent), rest, expected, fix)


def _notes(frames: FrameSet, tally: Tally) -> Iterator[str]:
    part = f"{frames.split}: " if frames.split else ""
    for kind, count in tally.misnamed.items():
        if count:
            yield f"{part}{count} images hold {kind} under another suffix; they are read by content"
    shares = tally.mask_shares()
    if shares and not shares["anomaly"]:
        yield f"{part}no mask holds an anomaly; average precision is undefined without any"
    names = frames.taxonomy.names if frames.taxonomy else ()
    absent = [name for name, share in tally.label_shares(names).items() if not share and name != "ignore"]
    if absent:
        yield f"{part}no pixel of {', '.join(absent)}"


def _inside(folder: Path) -> Iterator[str]:
    """Yield the data set that a folder of anybody's images is a part of."""
    for above in folder.resolve().parents[:2]:
        claims = labelled_claims(above)
        if len(claims) == 1:
            what = "masks" if DATASETS[claims[0].dataset].generic else "labels and splits"
            yield f"this is a part of {claims[0].dataset}: point at {above} for its {what}"


def _unread(folder: Path, sets: Sequence[FrameSet]) -> Iterator[str]:
    frames = [frame for one in sets for frame in one.frames]
    read = {str(path) for frame in frames for path in (frame.image, frame.labels, frame.mask)}
    read |= {str(path) for one in sets for path in (*one.unlabelled, *one.orphans)}
    left = [name for name in (walk_files(folder) if folder.is_dir() else ()) if str(folder / name) not in read]
    if left:
        yield f"files that are not read: {summarize_files(Path(name) for name in left)}"
