"""What tells whether a run in a folder can be continued: same settings, same files."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from strays.errors import InputError
from strays.journal import Record

__all__ = ["Pace", "changes", "file_stamp", "same_file", "stored_json"]


_SAVING = 0.1
"""The share of the time that saving may take at most."""


class Pace:
    """Decides when to save, so that saving takes at most a tenth of the time."""

    def __init__(self) -> None:
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._due

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Take the time that saving takes while the context lasts."""
        started = time.monotonic()
        yield
        finished = time.monotonic()
        self._due = finished + (finished - started) * (1 / _SAVING - 1)


def changes(stored: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Return in words which settings differ from those that were stored, ``""`` where none does.

    Example:
        >>> changes({"size": None, "exact": True}, {"size": [2, 3], "exact": True})
        'size was None, is [2, 3]'
    """
    differing = (key for key in now if stored.get(key) != now[key])
    return "; ".join(f"{key.replace('_', ' ')} was {stored.get(key)}, is {now[key]}" for key in differing)


def file_stamp(path: Path) -> list[int]:
    """Return size in bytes and time of the last change in nanoseconds, by which a changed file is noticed."""
    try:
        facts = path.stat()
    except OSError:  # whoever reads the file says so
        return []
    return [facts.st_size, facts.st_mtime_ns]


def same_file(recorded: object, path: Path) -> bool:
    """Return whether a path in a record is this one, however it was written; links count as what they are called."""
    return recorded is not None and os.path.abspath(str(recorded)) == os.path.abspath(path)  # noqa: PTH100


def stored_json(path: Path) -> Record:
    """Return the JSON object in a file that an earlier run has left.

    Raises:
        InputError: if it holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not what an earlier run has left: choose another --out, or remove that file")
    return content
