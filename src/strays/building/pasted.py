"""A benchmark of pasted anomalies: frames of inlier data, with things of other classes pasted into them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strays.building.classes import ANIMALS, METRES, ON_ROADS, ROAD_USERS, class_indices, is_known
from strays.building.folder import Build, file_sha256
from strays.building.ground import EYE
from strays.building.labelled import LabelledThings
from strays.building.paste import Blending
from strays.building.sheet import frames_sheet, spread
from strays.building.styles import Composite, Paster, Style
from strays.building.things import ObjectThings, Things
from strays.data import FrameSet, SceneSet
from strays.data.declaration import DECLARATION
from strays.errors import InputError
from strays.files import whole_file, write_json
from strays.journal import Record
from strays.negatives.cutting import parse_span
from strays.taxonomy import Taxonomy

__all__ = ["CONTROLS", "PasteRun", "PasteSettings", "make_paster", "pasted_kinds", "read_settings"]

CONTROLS = "control_masks"
"""The folder of the maps that say where things of the inlier classes were pasted: 1 there, 0 elsewhere."""

_FOLDERS = ("images", "labels_masks", CONTROLS)
_SHEET = "contact-sheet.png"


class PasteSettings(BaseModel):
    """What a benchmark of pasted anomalies is made with.

    Args:
        style: ``fishyscapes``, ``cut-and-paste`` or ``wd-pascal``.
        objects: where anomalies are cut from: a folder, or ``objects=DIR``.
        classes: the classes of the anomalies; by default those of the style that the inlier data do not know.
        control: where things of the inlier classes come from: ``labels`` cuts them out of the inlier data, a folder or
            ``objects=DIR`` has them, ``none`` pastes none; ``auto`` is ``labels`` for ``fishyscapes``, else ``none``.
        control_classes: which of them; by default all road users that the inlier data know.
        count: how many frames, spread evenly over the data; None for all.
        per_frame: how many anomalies are pasted into a frame, a number or LOW+HIGH, and as many controls.
        seed: decides all chance.
        shadow: how dark the ground under a thing becomes in ``fishyscapes``, from 0 to 1.
        horizon: as a share of the height from the top; by default estimated from the labels.
        camera_height: in metres above the road.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Style = "fishyscapes"
    objects: str
    classes: tuple[str, ...] = ()
    control: str = "auto"
    control_classes: tuple[str, ...] = ()
    count: int | None = Field(None, ge=1)
    per_frame: str = "1"
    seed: int = Field(0, ge=0)
    shadow: float = Field(0.6, ge=0, le=1)
    horizon: float | None = Field(None, gt=0, lt=1)
    camera_height: float = Field(EYE, gt=0)


def read_settings(**values: object) -> PasteSettings:
    """Return settings, checked.

    Raises:
        InputError: if one of them is wrong; says which and what was expected.
    """
    try:
        return PasteSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        raise InputError(f"--{name}: {first['msg']}, got {first['input']!r}") from error


class PasteRun:
    """The work on one benchmark, begun or continued.

    Writes ``images``, ``labels_masks`` (0 inlier, 1 anomaly, 255 counts nowhere) and, where things of the inlier
    classes are pasted, ``control_masks``, all PNG; a contact sheet; ``manifest.json``, which says for every frame what
    was pasted where; and ``strays.json``, by which the folder is read as a data set.

    Args:
        scenes: the inlier data.
        settings: what is pasted and how.
        out: the folder, which appears when all is done.
        command: the command line, for the manifest.
        strict: stop at the first frame that cannot be read instead of reporting it and going on.

    Attributes:
        paste: what makes a composite of a scene.
        pending: the indices of the scenes that are left to do.

    Raises:
        InputError: if settings, data and objects do not go together, or the folder is another's.
    """

    def __init__(
        self, scenes: SceneSet, settings: PasteSettings, out: Path, command: str = "", strict: bool = False
    ) -> None:
        self.scenes = scenes
        self.settings = settings
        self.command = command
        self.strict = strict
        self.indices = _chosen(scenes, settings.count)
        self.paste = make_paster(scenes, settings)
        data = {"name": scenes.name, "split": scenes.split, "frames": len(scenes)}
        self.build = Build(out, "pasted", {**settings.model_dump(mode="json"), "data": data})
        done = {} if self.build.complete else self.build.done
        self.pending = [] if self.build.complete else [i for i in self.indices if scenes.names[i] not in done]

    @property
    def total(self) -> int:
        """How many frames there are to be."""
        return len(self.indices)

    def run(self, advance: Callable[[], None] | None = None) -> Record:
        """Paste into the frames that are left, finish the folder, and return its manifest.

        Args:
            advance: is called once for each frame that is done.

        Raises:
            InputError: if no frame got an anomaly; with ``strict``, for the first frame that cannot be read.
        """
        if self.build.complete:
            return self.build.manifest()
        for index in self.pending:
            self.build.keep(self._record(index))
            if advance is not None:
                advance()
        return self._finished([self.build.done[self.scenes.names[index]] for index in self.indices])

    def _record(self, index: int) -> Record:
        """Write a frame and return what the manifest says of it."""
        name = self.scenes.names[index]
        try:
            made = self.paste(self.scenes.read(index))
        except InputError as error:
            if self.strict:
                raise
            return {"name": name, "error": str(error), "files": {}}
        facts: Record = {"name": name, **_source(self.scenes, index)}
        files = self._written(name, made)
        return {**facts, "size": list(made.mask.shape), "objects": list(made.objects), "files": files}

    def _written(self, name: str, made: Composite) -> Record:
        maps = {"images": made.image, "labels_masks": made.mask, CONTROLS: made.controls.astype("uint8")}
        files: Record = {}
        for kind in self._folders:
            files |= self.build.write_picture(f"{kind}/{name}.png", maps[kind])
        return files

    @property
    def _folders(self) -> Sequence[str]:
        return _FOLDERS if self.paste.controls is not None else _FOLDERS[:2]

    def _finished(self, records: Sequence[Record]) -> Record:
        good = [one for one in records if "error" not in one]
        if not good:
            self.build.refuse(f"none of {len(records)} frames could be used, the first: {records[0]['error']}")
        if not any(pasted_kinds(one, "anomaly") for one in good):
            self.build.refuse(f"nothing could be pasted into any of {len(good)} frames: {_advice(self.settings.style)}")
        _declare(self.build.part)
        paths = ([self.build.part / kind / f"{one['name']}.png" for one in good] for kind in self._folders)
        with whole_file(self.build.part / _SHEET) as stream:
            frames_sheet(*paths).save(stream, "PNG")
        return self.build.finish({"command": self.command, "frames": list(records)})


def make_paster(scenes: SceneSet, settings: PasteSettings) -> Paster:
    """Return what makes a composite of a scene of some data.

    Raises:
        InputError: if the data have no labels and need them, there are no objects, or a class is unknown or known to
            the inlier data.
    """
    style, taxonomy = settings.style, scenes.taxonomy
    if style == "fishyscapes" and not scenes.has_labels:
        raise InputError(
            f"{scenes.name} has no class labels, and fishyscapes stands things on the road: name labelled data, or "
            "take --style wd-pascal or cut-and-paste"
        )
    least, most = parse_span("--per-frame", settings.per_frame, 1, whole=True)
    if style != "fishyscapes" and most > 1:
        raise InputError(f"{style} pastes one anomaly into a frame, got --per-frame {settings.per_frame}: leave it out")
    return Paster(
        style,
        _anomalies(settings, taxonomy),
        _controls(settings, scenes),
        taxonomy,
        settings.seed,
        (int(least), int(most)),
        Blending(shadow=settings.shadow),
        settings.horizon,
        settings.camera_height,
    )


def pasted_kinds(record: Record, kind: str) -> list[Record]:
    """Return what was pasted into a frame of a manifest as ``anomaly`` or ``control``."""
    objects = record.get("objects")
    return [one for one in objects if one["kind"] == kind] if isinstance(objects, list) else []


def _anomalies(settings: PasteSettings, taxonomy: Taxonomy | None) -> ObjectThings:
    style, classes = settings.style, frozenset(settings.classes)
    if known := sorted(name for name in classes if taxonomy is not None and is_known(name, taxonomy)):
        raise InputError(f"{', '.join(known)}: classes of the inlier data are no anomalies; paste them with --control")
    if style == "wd-pascal" and classes - ANIMALS:
        raise InputError(
            f"wd-pascal pastes {', '.join(sorted(ANIMALS))}, got {', '.join(sorted(classes - ANIMALS))}: leave "
            "--classes out, or take --style cut-and-paste"
        )
    named = classes or (ANIMALS if style == "wd-pascal" else frozenset())
    wanted, exclude = _wanted(style, classes, taxonomy), _EXCLUDED.get(style, "none")
    return ObjectThings(settings.objects, wanted, exclude, named)


_EXCLUDED = {"cut-and-paste": "meta-ood"}
"""Style -> the images that it leaves out of the objects, as published."""


def _wanted(style: Style, classes: frozenset[str], taxonomy: Taxonomy | None) -> Callable[[str], bool]:
    """Return what tells whether things of a class are anomalies."""
    if classes or style == "wd-pascal":
        return (classes or ANIMALS).__contains__

    def unknown(name: str) -> bool:
        return taxonomy is None or not is_known(name, taxonomy)

    if style == "cut-and-paste":
        return unknown
    return lambda name: name in METRES and name not in ON_ROADS and unknown(name)


def _controls(settings: PasteSettings, scenes: SceneSet) -> Things | None:
    taxonomy, source, standing = scenes.taxonomy, settings.control, settings.style == "fishyscapes"
    if source == "none" or (source == "auto" and not (standing and taxonomy and class_indices(taxonomy, ROAD_USERS))):
        return None
    if taxonomy is None or (source in ("auto", "labels") and not scenes.has_labels):
        raise InputError(f"{scenes.name} has no class labels, so nobody knows its classes: leave --control out")
    classes = settings.control_classes
    if source in ("auto", "labels"):
        return LabelledThings(scenes, taxonomy, classes, settings.camera_height, settings.horizon)
    if foreign := sorted(name for name in classes if not is_known(name, taxonomy)):
        raise InputError(f"{', '.join(foreign)}: no class of {scenes.name}; controls are of its own classes")

    def wanted(name: str) -> bool:
        return name in (classes or ROAD_USERS) and is_known(name, taxonomy)

    return ObjectThings(source, wanted, named=classes or ("car",))


def _chosen(scenes: SceneSet, count: int | None) -> list[int]:
    """Return which scenes are taken."""
    if count is not None and count > len(scenes):
        raise InputError(
            f"{scenes.name} has {len(scenes)} frames, got --count {count}: ask for fewer; another --seed makes another "
            "benchmark of the same frames"
        )
    return spread(len(scenes), len(scenes) if count is None else count)


def _source(scenes: SceneSet, index: int) -> Record:
    """Return the file of a frame and its hash, where it has one."""
    if not isinstance(scenes, FrameSet):
        return {}
    path = scenes.frames[index].image
    return {"source": str(path), "source_sha256": file_sha256(path)}


def _declare(folder: Path) -> None:
    """Say what the folder holds, so that it is read without a guess."""
    values = {"inlier": [0], "anomaly": [1], "ignore": [255]}
    write_json(folder / DECLARATION, {"images": _FOLDERS[0], "masks": _FOLDERS[1], "values": values})


def _advice(style: Style) -> str:
    if style == "fishyscapes":
        return "look whether the labels show a road, and whether the objects are whole and larger than 40 pixels"
    return "look whether any object is small enough for a frame, and for wd-pascal covers more than 0.7 % of it"
