"""Files that are written whole or not at all."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from strays.errors import InputError
from strays.files import make_folder, whole_file, write_json, write_text


def test_the_file_appears_only_once_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "result.bin"
    with whole_file(path) as stream:
        stream.write(b"first ")
        stream.flush()
        assert not path.exists()
        stream.write(b"second")
    assert path.read_bytes() == b"first second"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_content_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "result.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), whole_file(path) as stream:
        stream.writelines([b"half", "a text is no bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "result.bin"
    path.write_bytes(b"old")
    script = (
        "import os, signal, sys; from pathlib import Path; from strays.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'new'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    with whole_file(path) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new"


def test_an_existing_file_is_replaced_for_new_readers_only(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Šegvić, 15 °C\n")
    assert (tmp_path / "a.txt").read_bytes() == "Šegvić, 15 °C\n".encode()


def test_json_is_readable_and_keeps_full_precision(tmp_path: Path) -> None:
    value = {"AP": 0.1 + 0.2, "name": "Straße", "none": None, "size": [512, 1024]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "Straße" in text
    assert text.endswith("}\n")
    assert text.count("\n") > 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1.0, {"deep": math.nan}]])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, value)
    assert json.loads(path.read_text()) == {"old": 1}


def test_make_folder_makes_parents_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b")
    assert folder == tmp_path / "a" / "b"
    assert list(folder.iterdir()) == []
    (folder / "kept").touch()
    assert make_folder(folder) == folder
    assert [one.name for one in folder.iterdir()] == ["kept"]


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"cannot write to folder .*file.*: .*choose another folder with --out"):
            make_folder(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        for path in (tmp_path, tmp_path / "below"):
            with pytest.raises(InputError, match="Permission denied"):
                make_folder(path)
    finally:
        tmp_path.chmod(0o700)
