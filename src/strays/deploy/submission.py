"""A submission to a benchmark: the score files it asks for, all of them, read back, and how they were made."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from strays.data import Frame, read_image
from strays.data.reading import read_ahead
from strays.deploy.formats import Arrays, SubmissionFormat
from strays.deploy.frame_list import in_words
from strays.deploy.rounding import largest_tie
from strays.deploy.tracks import Batch
from strays.errors import InputError
from strays.files import make_folder, whole_file, write_json
from strays.journal import Journal, Record
from strays.networks.digest import state_sha256
from strays.scoring import Scorer
from strays.scoring.continuing import changes, file_stamp, stored_json

__all__ = ["MANIFEST", "Submission", "data_of", "frames_of"]

MANIFEST = "submission.json"
"""How the files of a submission were made, and what they are."""

_JOURNAL = ".journal.jsonl"
_METHOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class _Job:
    """A frame, and where its files go."""

    batch: Batch
    frame: Frame
    folder: PurePosixPath

    @property
    def key(self) -> str:
        return self.batch.format.key(self.frame.name)

    @property
    def place(self) -> str:
        """What tells it from all other frames of a submission."""
        return str(self.folder / self.key)


class Submission:
    """The score files of one model and detector for the data sets of one benchmark, started or continued in a folder.

    It writes the files of each frame whole or not at all, at the end ``submission.json``, and reads everything back. A
    later run with other data sets or splits of the benchmark in the same folder adds to them.

    Args:
        scorer: a model with one detector.
        batches: the frames, of one benchmark, as ``open_batches`` returns them.
        out: folder for the submission.
        method: what the submission is called; by default model and detector.
        versions: the libraries that the scores depend on.
        partial: leave frames out that cannot be scored instead of stopping at the first.

    Raises:
        InputError: if the folder cannot be written to, or holds a submission with other settings, scores of other
            frames under the same names, or score files that are none of it; or if the model does not suit the
            benchmark.
    """

    def __init__(
        self,
        scorer: Scorer,
        batches: Sequence[Batch],
        out: Path,
        method: str | None = None,
        versions: Mapping[str, str] | None = None,
        partial: bool = False,
    ) -> None:
        self.scorer = scorer
        self.batches = list(batches)
        self.format: SubmissionFormat = self.batches[0].format
        (self.detector,) = scorer.detectors
        self.method = _checked_method(method) if method else _slug(f"{scorer.model.name}-{self.detector}")
        self.partial = partial
        self.settings: Record = {**self._settings(), **(versions or {})}
        self._classes = self.format.classes(scorer.model)
        self.out = make_folder(out)
        self._earlier = self._begun()
        self.journal = Journal(out / _JOURNAL)
        self._records = {str(one.get("place")): one for one in [*frames_of(self._earlier), *self.journal.records]}
        self._jobs = [_Job(one, frame, self.folder(one)) for one in self.batches for frame in one.frames]
        self._check_places()
        self._check_foreign()

    def folder(self, batch: Batch) -> PurePosixPath:
        """Return where the files of a data set lie, relative to the submission."""
        return self.format.folder(self.method, batch.track)

    @property
    def total(self) -> int:
        """How many frames the data sets have."""
        return len(self._jobs)

    @property
    def pending(self) -> list[Frame]:
        """The frames that have no files yet."""
        return [job.frame for job in self._pending()]

    def run(self, advance: Callable[[], None] | None = None) -> Record:
        """Score the frames that are left, read everything back and return the manifest.

        Args:
            advance: is called once for each frame when its files are written.

        Raises:
            InputError: if a frame cannot be scored, unless ``partial``; if none could be; or if a file that was written
                cannot be read back.
        """
        for job, image in read_ahead(self._pending(), _image):
            record = self._record(job, image)
            self._records[job.place] = record
            self.journal.append(record)
            if advance is not None:
                advance()
        return self._finish()

    def _pending(self) -> list[_Job]:
        return [job for job in self._jobs if not self._done(job)]

    def _done(self, job: _Job) -> bool:
        """Whether a frame has its files, made of the image as it is now."""
        record = self._records.get(job.place, {})
        files = record.get("files")
        if not isinstance(files, dict) or record.get("stamp") != file_stamp(job.frame.image):
            return False
        return all((self.out / name).is_file() for name in files)

    def _record(self, job: _Job, image: Image | InputError) -> Record:
        about: Record = {
            "place": job.place,
            "data": job.batch.track.dataset,
            "frame": job.frame.name,
            "image": str(job.frame.image),
        }
        try:
            arrays, tie = self._scored(job, image)
        except InputError as error:
            told = str(error) if str(job.frame.image) in str(error) else f"{job.frame.image}: {error}"
            if self.partial:
                self._withdraw(job)
                return about | {"error": told}
            raise InputError(f"{told}; --partial leaves the frame out") from error
        size = next(iter(arrays.values())).shape
        stamp = file_stamp(job.frame.image)
        return about | {"stamp": stamp, "size": list(size), "files": self._written(job, arrays), **tie}

    def _scored(self, job: _Job, image: Image | InputError) -> tuple[Arrays, Record]:
        """Return what the files of a frame hold, and where numbers were rounded what that did to them."""
        if isinstance(image, InputError):
            raise image
        scored = self.scorer(image)
        arrays = self.format.arrays(job.key, scored, self._classes)
        rounded = any(values.dtype == np.float16 for values in arrays.values())
        return arrays, {"tie": largest_tie(scored.scores[self.detector]).model_dump()} if rounded else {}

    def _written(self, job: _Job, arrays: Arrays) -> dict[str, str]:
        """Write the files of a frame and return the SHA-256 of each."""
        folder, digests = self.out / job.folder, {}
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in arrays.items():
            content = self.format.encode(values)
            with whole_file(folder / name) as stream:
                stream.write(content)
            digests[str(job.folder / name)] = _sha256(content)
        return digests

    def _withdraw(self, job: _Job) -> None:
        """Remove what was made of an image before it changed into one that cannot be scored."""
        files = self._records.get(job.place, {}).get("files")
        for name in files if isinstance(files, dict) else ():
            (self.out / name).unlink(missing_ok=True)

    def _finish(self) -> Record:
        self._remove_leftovers()
        broken = {place: fault for place, one in self._records.items() if (fault := self._fault(one))}
        self._records |= {place: _lost(self._records[place], fault) for place, fault in broken.items()}
        manifest = self._manifest()
        write_json(self.out / MANIFEST, manifest)
        self.journal.remove()
        if broken:
            fault = next(iter(broken.values()))
            raise InputError(f"{fault}; the same command writes what is broken ({len(broken)} frames) anew")
        failed = [one for job in self._jobs if "error" in (one := self._records[job.place])]
        if len(failed) == len(self._jobs):
            raise InputError(f"none of the {len(failed)} frames could be scored; the first: {failed[0]['error']}")
        return manifest

    def _fault(self, record: Record) -> str:
        """Return what is wrong with the files of a record when they are read back, ``""`` if nothing is."""
        files = record.get("files")
        for name, digest in files.items() if isinstance(files, dict) else ():
            try:
                content = (self.out / name).read_bytes()
                values = self.format.decode(content)
            except (OSError, InputError) as error:
                return f"{self.out / name} cannot be read back: {error}"
            if _sha256(content) != digest or list(values.shape) != record.get("size") or not np.isfinite(values).all():
                return f"{self.out / name} is not as it was written"
        return ""

    def _manifest(self) -> Record:
        now = [self._records[job.place] for job in self._jobs]
        places = {job.place for job in self._jobs}
        frames = [*now, *(one for place, one in self._records.items() if place not in places)]
        data = data_of(self._earlier) | {f"{one.track.dataset}:{one.split}": _facts(one) for one in self.batches}
        whole = all(one["complete"] for one in data.values()) and all("files" in one for one in frames)
        return {"schema": 1, "complete": whole, "settings": self.settings, "data": data, "frames": frames}

    def _settings(self) -> Record:
        """Return everything that decides the files apart from the images."""
        model, detector = self.scorer.model, self.scorer.detectors[self.detector]
        state, size = detector.state_dict(), self.scorer.network_size
        return {
            "format": self.format.name,
            "method": self.method,
            "model": model.name,
            "weights_sha256": model.sha256(),
            "taxonomy": model.taxonomy.name,
            "void": model.taxonomy.void,
            "detector": self.detector,
            "detector_settings": detector.settings(),
            "fit_sha256": state_sha256(state) if state else None,
            "network_size": None if size is None else list(size),
            "device": str(model.device),
        }

    def _begun(self) -> Record:
        """Return what an earlier run has left, after a check that it had the same settings."""
        path = self.out / MANIFEST
        if not path.is_file():
            begun: Record = {"schema": 1, "complete": False, "settings": self.settings, "data": {}, "frames": []}
            write_json(path, begun)
            return begun
        begun = stored_json(path)
        settings = begun.get("settings")
        if changed := changes(settings if isinstance(settings, dict) else {}, self.settings):
            raise InputError(f"{self.out} holds a submission with other settings ({changed}): choose another --out")
        return begun

    def _check_places(self) -> None:
        """Refuse to write over the scores of other frames that are called the same."""
        for job in self._jobs:
            other = self._records.get(job.place, {}).get("frame", job.frame.name)
            if other != job.frame.name:
                taken = f"{self.out} holds the scores of {other} as {job.place}, which {job.frame.name} would take"
                raise InputError(f"{taken}: choose another --out")

    def _check_foreign(self) -> None:
        """Refuse score files that nobody knows where they are from: they would be handed in as well."""
        known = {PurePosixPath(place) for place in (*self._records, *(job.place for job in self._jobs))}
        for folder in dict.fromkeys(self.folder(one) for one in self.batches):
            found = sorted((self.out / folder).glob(f"*{self.format.suffix}"))
            foreign = [one.name for one in found if folder / self.format.key(one.stem) not in known]
            if foreign:
                raise InputError(f"{self.out / folder} holds files of something else: {in_words(foreign)}; remove them")

    def _remove_leftovers(self) -> None:
        """Remove the beginnings of files that a killed run has left: all of a folder is handed in."""
        for folder in dict.fromkeys(self.folder(one) for one in self.batches):
            for path in (self.out / folder).glob(f".*{self.format.suffix}.*.part"):
                path.unlink()


def frames_of(manifest: Record) -> list[Record]:
    """Return the records of all frames of a submission, one with ``error`` for each that was left out."""
    found = manifest.get("frames")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def data_of(manifest: Record) -> dict[str, Record]:
    """Return by data set and split, ``"NAME:SPLIT"``, which frames there are and which are missing."""
    found = manifest.get("data")
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def _lost(record: Record, fault: str) -> Record:
    """Return the record of a frame whose files are of no use."""
    return {key: value for key, value in record.items() if key in ("place", "data", "frame", "image")} | {
        "error": fault
    }


def _facts(batch: Batch) -> Record:
    found = batch.deviation
    return {
        "split": batch.split,
        "frames": len(batch.frames),
        "expected": found.expected,
        "complete": found.complete,
        "missing": list(found.missing),
        "left_out": list(found.unexpected),
    }


def _image(job: _Job) -> Image | InputError:
    try:
        return read_image(job.frame.image)
    except InputError as error:
        return error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _slug(name: str) -> str:
    """Return a name that can be a folder.

    Example:
        >>> _slug("swiftnet-energy:temperature=2")
        'swiftnet-energy-temperature-2'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "method"


def _checked_method(method: str) -> str:
    if not _METHOD.fullmatch(method):
        raise InputError(f"expected --method of letters, digits, '.', '_' and '-', got {method!r}: it names a folder")
    return method
