"""Files that are written whole or not at all."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from strays.errors import InputError

__all__ = ["make_folder", "whole_file", "write_json", "write_text"]

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary stream whose content appears under ``path`` only once it is complete.

    The bytes go to a temporary neighbour, are synchronised to disk, and are then renamed over ``path``.
    A process that is killed in between leaves the old file, or none.

    Raises:
        InputError: if the disk is full; the old file is still there then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(f"no space left for {path}: free some, then start the same again") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with whole_file(path) as stream:
        stream.write(text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def make_folder(path: Path) -> Path:
    """Create a folder for results and return it.

    Raises:
        InputError: if it cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".strays-probe-{os.getpid()}"  # several processes may ask at once
        with whole_file(probe):
            pass
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write to folder {path}: {reason}; choose another folder with --out") from error
    return path
