"""A folder that appears whole: built beside its place, continued where it was killed, moved there at the end."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strays import __version__
from strays.errors import InputError
from strays.files import make_folder, whole_file, write_json
from strays.journal import Journal, Record

__all__ = ["MANIFEST", "Build", "file_sha256"]

MANIFEST = "manifest.json"
"""What is in the folder and how it was made; where this file is, the folder is complete."""

_SETTINGS = ".settings.json"
_JOURNAL = ".journal.jsonl"


class Build:
    """The work on a folder.

    Args:
        out: where the folder shall be.
        kind: what it holds, such as ``pasted``.
        settings: what it is made with; work that was begun with the same is continued.

    Attributes:
        part: where the files are written until the folder is complete.
        done: the records of what is there, by name.
        complete: whether the folder was there already, made with the same settings.

    Raises:
        InputError: if the folder holds something else, was made or begun with other settings, or cannot be written to.
    """

    def __init__(self, out: Path, kind: str, settings: Mapping[str, object]) -> None:
        self.out = Path(os.path.abspath(out.expanduser()))  # noqa: PTH100 - links stay what they are
        self.kind = kind
        self.settings: Record = {"kind": kind, "strays": __version__, **settings}
        self.part = self.out.with_name(f".{self.out.name}.part")
        self.complete = self._is_complete()
        if self.complete:
            return
        make_folder(self.out.parent)
        self._begin()
        self.journal = Journal(self.part / _JOURNAL)
        self.done = {str(one["name"]): one for one in self.journal.records if self._is_there(one)}

    def place(self, name: str) -> Path:
        """Return the path of a file with a relative name, whose folder is created where it is missing."""
        path = self.part / name
        if not path.parent.is_dir():
            make_folder(path.parent)
        return path

    def write_picture(self, name: str, values: NDArray[np.uint8]) -> Record:
        """Write an image or map as PNG under a relative name and return that name and its SHA-256."""
        stream = BytesIO()
        path = self.place(name)
        Image.fromarray(values).save(stream, "PNG")
        with whole_file(path) as file:
            file.write(stream.getvalue())
        return {name: hashlib.sha256(stream.getvalue()).hexdigest()}

    def keep(self, record: Record) -> None:
        """Note that what a record tells is on disk: its ``name``, and its ``files`` with their hashes."""
        self.journal.append(record)
        self.done[str(record["name"])] = record

    def finish(self, manifest: Mapping[str, object]) -> Record:
        """Write the manifest, put the folder in its place, and return the whole manifest."""
        whole = {**self.settings, **manifest}
        write_json(self.part / MANIFEST, whole)
        self._move()
        return whole

    def refuse(self, reason: str) -> NoReturn:
        """Remove what was begun, as it comes to nothing, so that other settings can be tried in its place.

        Raises:
            InputError: with the reason.
        """
        shutil.rmtree(self.part)
        raise InputError(reason)

    def manifest(self) -> Record:
        """Return the manifest of a complete folder."""
        return _stored(self.out / MANIFEST)

    def _is_complete(self) -> bool:
        if (self.part / MANIFEST).is_file():  # killed just before it was moved
            self._check(self.part, MANIFEST)
            self._move()
        if (self.out / MANIFEST).is_file():
            self._check(self.out, MANIFEST)
            return True
        if self.out.exists() and not (self.out.is_dir() and not any(self.out.iterdir())):
            raise InputError(f"{self.out} is there already and is not ours: choose another folder with --out")
        return False

    def _begin(self) -> None:
        begun = (self.part / _SETTINGS).is_file()
        make_folder(self.part)
        if begun:
            self._check(self.part, _SETTINGS)
        write_json(self.part / _SETTINGS, self.settings)

    def _check(self, folder: Path, file: str) -> None:
        from strays.scoring.continuing import changes

        if told := changes(_stored(folder / file), self.settings):
            raise InputError(f"{folder} was made with other settings ({told}): choose another --out, or remove it")

    def _is_there(self, record: Record) -> bool:
        files = record.get("files")
        return isinstance(files, dict) and bool(files) and all((self.part / name).is_file() for name in files)

    def _move(self) -> None:
        for name in (_SETTINGS, _JOURNAL):
            (self.part / name).unlink(missing_ok=True)
        if self.out.is_dir():
            self.out.rmdir()  # empty, as was checked
        self.part.replace(self.out)


def _stored(path: Path) -> Record:
    from strays.scoring.continuing import stored_json  # imports PyTorch, which nothing else here needs

    return stored_json(path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
