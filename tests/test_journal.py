"""The journal: what is appended is on disk, what a kill tore is dropped, what is damaged is named."""

import json
import os
from pathlib import Path

import pytest

from strays.errors import InputError
from strays.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_records_come_back_in_order(path: Path) -> None:
    journal = Journal(path)
    assert journal.records == []
    assert not path.exists()
    for index in range(3):
        journal.append({"index": index, "name": "Straße\u2028\r\n", "nested": {"values": [1.5, None, True]}})
    again = Journal(path)
    assert again.records == journal.records
    assert [one["index"] for one in again.records] == [0, 1, 2]
    assert len(path.read_bytes().splitlines()) == 3


def test_a_record_is_on_disk_when_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synchronised.append(path.read_bytes()))
    Journal(path).append({"a": 1})
    assert synchronised == [b'{"a": 1}\n']


@pytest.mark.parametrize("torn", [b'{"index": 2', b"{", b'{"index": 2}'])
def test_a_torn_last_line_is_dropped_and_the_rest_continues(path: Path, torn: bytes) -> None:
    whole = b'{"index": 0}\n{"index": 1}\n'
    path.write_bytes(whole + torn)
    journal = Journal(path)
    assert journal.records == [{"index": 0}, {"index": 1}]
    assert path.read_bytes() == whole
    journal.append({"index": 2})
    assert Journal(path).records == [{"index": 0}, {"index": 1}, {"index": 2}]


@pytest.mark.parametrize("damage", [b"\x00\x00\x00\n", b"[1, 2]\n", b"\n", b"\xff\n", b"no json\n"])
def test_a_damaged_line_is_named(path: Path, damage: bytes) -> None:
    path.write_bytes(b'{"index": 0}\n' + damage + b'{"index": 2}\n')
    with pytest.raises(InputError, match=f"{path}, line 2, is damaged: delete the file"):
        Journal(path)


def test_a_record_that_is_no_json_leaves_the_file_alone(path: Path) -> None:
    journal = Journal(path)
    journal.append({"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.append({"a": float("nan")})
    assert journal.records == [{"a": 1}]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}]


def test_remove_deletes_the_file_and_may_be_repeated(path: Path) -> None:
    journal = Journal(path)
    journal.append({"a": 1})
    journal.remove()
    journal.remove()
    assert not path.exists()
