"""``strays doctor``: what a folder is and what is wrong with it."""

import json

import numpy as np
import pytest
from PIL import Image


def test_a_good_folder(strays, street) -> None:
    folder = street()
    answer = strays("doctor", folder)
    assert answer.code == 0
    assert "(folder)" in answer.out
    assert "3 frames" in answer.out
    assert "60x40" in answer.out
    assert "nothing is wrong" in answer.out
    assert "Traceback" not in answer.err


def test_a_broken_folder(strays, street) -> None:
    folder = street()
    mask = np.array(Image.open(folder / "masks/01.png"))
    Image.fromarray(np.where(mask == 1, 7, mask)).save(folder / "masks/01.png")
    (folder / "images/02.png").write_bytes(b"")
    answer = strays("doctor", folder, "--quiet")
    assert answer.code == 2
    assert answer.err == ""
    assert "01.png: undeclared value 7" in answer.out
    assert "02.png" in answer.out
    assert "2 problem(s)" in answer.out


@pytest.mark.parametrize("healthy", [True, False])
def test_json(strays, street, healthy) -> None:
    folder = street()
    if not healthy:
        (folder / "images/02.png").write_bytes(b"")
    answer = strays("doctor", folder, "--json")
    assert (answer.code, answer.err) == (0 if healthy else 2, "")
    found = json.loads(answer.out)
    assert found["healthy"] == healthy
    assert found["dataset"] == "folder"
    assert found["splits"][0]["frames"] == 3
    assert [problem["file"] for problem in found["problems"]] == ([] if healthy else [str(folder / "images/02.png")])


def test_a_folder_may_be_examined_as_what_it_should_be(strays, street) -> None:
    folder = street()
    assert "named as folder" in strays("doctor", f"folder={folder}").out
    assert strays("doctor", f"camvid={folder}").code == 2


def test_no_folder(strays, street, tmp_path) -> None:
    street()
    assert f"did you mean {tmp_path / 'street'}?" in strays("doctor", tmp_path / "stret").error


def test_an_empty_folder(strays, tmp_path) -> None:
    answer = strays("doctor", tmp_path)
    assert answer.code == 2
    assert "no known data set" in answer.out
