"""A journal: one JSON record per line, appended as work gets done, so that a killed run continues where it stopped."""

import json
import os
from pathlib import Path

from strays.errors import InputError

__all__ = ["Journal", "Record"]

Record = dict[str, object]


class Journal:
    """Records in a file, each on a line of its own, on disk as soon as ``append`` returns.

    A line that was torn by a kill is dropped when the journal is opened again.

    Args:
        path: the file; created at the first record.

    Raises:
        InputError: if a whole line of the file is not a record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = _whole_records(path)

    def append(self, record: Record) -> None:
        """Add one record."""
        line = json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self.records.append(record)

    def remove(self) -> None:
        """Delete the file: the work is done and its results are elsewhere."""
        self.path.unlink(missing_ok=True)


def _whole_records(path: Path) -> list[Record]:
    """Return the complete records of a journal and cut off what follows them."""
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [_record(line, path, number) for number, line in enumerate(whole.splitlines(), start=1)]


def _record(line: bytes, path: Path, number: int) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise InputError(f"{path}, line {number}, is damaged: delete the file to start the work anew")
    return record
