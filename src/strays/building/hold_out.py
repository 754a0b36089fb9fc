"""A benchmark of held-out classes: frames that show them become the test set, the others stay as they are."""

import glob
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from strays.building.folder import Build, file_sha256
from strays.building.sheet import frames_sheet
from strays.data import DATASETS, Frame, FrameSet, LabelMap, open_scenes, read_map
from strays.data.declaration import DECLARATION
from strays.data.opening import parse_spec, recognise, sole_claim
from strays.data.sources import missing_path
from strays.errors import InputError
from strays.files import whole_file, write_json
from strays.journal import Record
from strays.scene import ANOMALY, Scene
from strays.taxonomy import IGNORE, Taxonomy

__all__ = ["HoldOutRun", "HoldOutSettings"]

_INLIERS, _TEST = "inliers", "test"
_SHEET = "contact-sheet.png"


class HoldOutSettings(BaseModel):
    """What is held out of which data.

    Args:
        data: the data set, ``NAME=PATH`` or a path.
        classes: the classes that become anomalies, by their names in its taxonomy.
        splits: the parts of the data set that are taken; by default all there are.
        link: whether images and labels are hard links to the originals where the file system allows that; else copies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    classes: tuple[str, ...]
    splits: tuple[str, ...] = ()
    link: bool = False


class HoldOutRun:
    """The work on one benchmark, begun or continued.

    Every frame with at least one pixel of a held-out class goes to ``test``: ``images``, ``labels_masks`` (1 on these
    pixels, 255 on those without a class, 0 elsewhere) and ``labels`` (class indices, 255 on both), with a
    ``strays.json`` by which it is read as a data set. All others go to ``inliers`` with their labels, under the same
    relative paths as in the data set, in the split that they were in: nothing about them is changed, and the same
    reader reads them. A contact sheet and ``manifest.json`` tell what went where.

    Reference:
        Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022, whose BDD-Anomaly
        holds out motorcycles, trains and, in a second version, bicycles.

    Args:
        settings: what is held out of which data.
        out: the folder, which appears when all is done.
        command: the command line, for the manifest.
        strict: stop at the first label map that cannot be read instead of reporting it and going on.

    Raises:
        InputError: if the data are no files with class labels, have no such class or split, or the folder is another's.
    """

    def __init__(self, settings: HoldOutSettings, out: Path, command: str = "", strict: bool = False) -> None:
        self.settings = settings
        self.command = command
        self.strict = strict
        self.root, self.sets = _opened(settings)
        self.taxonomy = _taxonomy(self.sets, settings.data)
        self.held_out = _indices(self.taxonomy, settings.classes)
        self.frames = {_key(one, frame): (one, index) for one in self.sets for index, frame in enumerate(one.frames)}
        self.build = Build(out, "held-out", settings.model_dump(mode="json"))
        done = {} if self.build.complete else self.build.done
        self.pending = [] if self.build.complete else [key for key in self.frames if key not in done]

    @property
    def total(self) -> int:
        """How many frames there are."""
        return len(self.frames)

    def run(self, advance: Callable[[], None] | None = None) -> Record:
        """Sort the frames that are left, finish the folder, and return its manifest.

        Args:
            advance: is called once for each frame that is done.

        Raises:
            InputError: if no frame shows a held-out class, or all do.
        """
        if self.build.complete:
            return self.build.manifest()
        for key in self.pending:
            self.build.keep(self._record(key))
            if advance is not None:
                advance()
        return self._finished([self.build.done[key] for key in self.frames])

    def _record(self, key: str) -> Record:
        scenes, index = self.frames[key]
        facts: Record = {"name": key, "source": str(scenes.frames[index].image), "split": scenes.split}
        try:
            labels = _labels(scenes, index)
            counts = {one: int((labels == self.taxonomy.names.index(one)).sum()) for one in self.settings.classes}
            if any(counts.values()):
                return {**facts, "part": _TEST, "pixels": counts, "files": self._tested(key, scenes.read(index))}
            return {**facts, "part": _INLIERS, "files": self._kept(scenes.frames[index])}
        except InputError as error:
            if self.strict:
                raise
            return {**facts, "error": str(error), "files": {}}

    def _kept(self, frame: Frame) -> Record:
        """Take over an inlier frame under its own paths."""
        files: Record = {}
        for path in (frame.image, *_labels_of(frame)):
            try:
                name = f"{_INLIERS}/{path.relative_to(self.root)}"
            except ValueError as error:
                raise InputError(f"{path} lies outside {self.root}: copy it there") from error
            files |= self._taken(path, name)
        return files

    def _tested(self, key: str, scene: Scene) -> Record:
        """Write a frame of the test set."""
        scenes, index = self.frames[key]
        image = scenes.frames[index].image
        files = self._taken(image, f"{_TEST}/images/{key}{image.suffix}")
        mask, labels = self._maps(scene)
        for kind, values in (("labels_masks", mask), ("labels", labels)):
            files |= self.build.write_picture(f"{_TEST}/{kind}/{key}.png", values)
        return files

    def _maps(self, scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the anomaly mask and the class labels of a scene with held-out classes."""
        labels = np.full(scene.size, IGNORE, np.uint8) if scene.labels is None else scene.labels
        anomalous = np.isin(labels, self.held_out)
        ignored = labels == IGNORE
        for other in (scene.outside, None if scene.mask is None else scene.mask != 0):
            ignored = ignored if other is None else ignored | other
        mask = np.where(anomalous, ANOMALY, np.where(ignored, IGNORE, 0))
        return mask.astype(np.uint8), np.where(anomalous, np.uint8(IGNORE), labels)

    def _taken(self, source: Path, name: str) -> Record:
        target = self.build.place(name)
        _copied(source, target, self.settings.link)
        return {name: file_sha256(target)}

    def _finished(self, records: Sequence[Record]) -> Record:
        parts = {part: [one for one in records if one.get("part") == part] for part in (_TEST, _INLIERS)}
        classes = ", ".join(self.settings.classes)
        if not parts[_TEST]:
            self.build.refuse(f"none of {len(records)} frames shows {classes}: hold out another class")
        if not parts[_INLIERS]:
            self.build.refuse(f"every frame shows {classes}: hold out fewer classes, or rarer ones")
        folder = self.build.part / _TEST
        values = {"inlier": [0], "anomaly": [ANOMALY], "ignore": [IGNORE]}
        write_json(folder / DECLARATION, {"images": "images", "masks": "labels_masks", "values": values})
        images, masks = (self._paths(parts[_TEST], number) for number in (0, 1))
        with whole_file(self.build.part / _SHEET) as stream:
            frames_sheet(images, masks).save(stream, "PNG")
        return self.build.finish({"command": self.command, "frames": list(records)})

    def _paths(self, records: Sequence[Record], number: int) -> list[Path]:
        """Return one of the files of each record."""
        files = (one["files"] for one in records)
        return [self.build.part / list(names)[number] for names in files if isinstance(names, dict)]


def _opened(settings: HoldOutSettings) -> tuple[Path, list[FrameSet]]:
    """Return the folder of a data set, and its splits."""
    name, path = parse_spec(settings.data)
    if name in DATASETS and not DATASETS[name].needs_folder:
        raise InputError(f"{name} scenes are rendered, and classes are held out of files: name a data set on disk")
    if not path.exists():
        raise missing_path(path)
    reader = DATASETS[name if name in DATASETS else sole_claim(path, recognise(path)).dataset]
    splits = settings.splits or reader.splits(path) or (None,)
    opened = [open_scenes(settings.data, split) for split in splits]
    return path, [_checked(one, settings.data) for one in opened]


def _checked(scenes: object, data: str) -> FrameSet:
    if not (isinstance(scenes, FrameSet) and scenes.has_labels and scenes.taxonomy and scenes.label_map):
        raise InputError(f"{data} has no class labels to hold classes out of: name a data set that has them")
    return scenes


def _taxonomy(sets: Sequence[FrameSet], data: str) -> Taxonomy:
    taxonomy = sets[0].taxonomy
    if taxonomy is None:
        raise InputError(f"{data} has no class labels to hold classes out of: name a data set that has them")
    return taxonomy


def _indices(taxonomy: Taxonomy, classes: Sequence[str]) -> list[int]:
    unknown = [one for one in classes if one not in taxonomy.names]
    if unknown or not classes:
        asked = f"no class {', '.join(unknown)}" if unknown else "no class to hold out"
        raise InputError(f"{asked} in {taxonomy.name}; join by + what you mean of: {', '.join(taxonomy.names)}")
    return [taxonomy.names.index(one) for one in classes]


def _key(scenes: FrameSet, frame: Frame) -> str:
    """Return what a frame is called in the test set, where frames of several splits come together."""
    return frame.name if scenes.split is None else f"{scenes.split}_{frame.name}"


def _labels(scenes: FrameSet, index: int) -> NDArray[np.uint8]:
    """Return the class indices of a frame without decoding its image."""
    path, declared = scenes.frames[index].labels, scenes.label_map
    if path is None or not isinstance(declared, LabelMap):
        raise InputError(f"{scenes.frames[index].name} has no labels")
    return declared.convert(read_map(path), path)


def _labels_of(frame: Frame) -> Iterator[Path]:
    """Yield the label map of a frame, and what else is called after the frame beside it, such as other encodings."""
    if frame.labels is None:
        return
    yield frame.labels
    beside = frame.labels.parent.glob(f"{glob.escape(frame.name)}_*")
    yield from (path for path in sorted(beside) if path != frame.labels and path != frame.image)


def _copied(source: Path, target: Path, link: bool) -> None:
    """Make a hard link or a copy, whole or not at all."""
    target.unlink(missing_ok=True)
    if link:
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    with source.open("rb") as content, whole_file(target) as stream:
        shutil.copyfileobj(content, stream)
