"""``strays score`` on files, folders and globs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def score(strays, tiny):
    return lambda *words: strays("score", "--model", tiny.spec, *words)


def index(out: Path) -> dict:
    return json.loads((out / "index.json").read_text())


def names(out: Path) -> list[str]:
    return [one["name"] for one in index(out)["images"]]


def test_a_folder(score, drive, tiny, tmp_path) -> None:
    answer = score(drive(count=3), "--detector", "energy", "--out", tmp_path / "out")
    assert answer.code == 0
    assert answer.out == "", "standard output is kept for what programs read"
    assert f"3 images scored: open {tmp_path / 'out/overlays'}\n" in answer.err
    assert "next: " in answer.err
    assert names(tmp_path / "out") == ["00", "01", "02"]
    assert index(tmp_path / "out")["run"]["detector"] == "energy"
    found = np.load(tmp_path / "out/scores/01.npy")
    assert (found.dtype, found.shape) == (np.float32, (40, 60))


def test_files_globs_and_every_format(score, drive, tmp_path) -> None:
    picture = Image.open(drive(count=1) / "00.png")
    for suffix in ("jpg", "png", "webp", "bmp", "tiff"):
        picture.save(tmp_path / "drive" / f"as-{suffix}.{suffix}")
    answer = score(tmp_path / "drive/00.png", f"{tmp_path}/drive/as-*", "--out", tmp_path / "out", "--quiet")
    assert answer == (0, "", "")
    assert names(tmp_path / "out") == ["00", "as-bmp", "as-jpg", "as-png", "as-tiff", "as-webp"]
    exact = [np.load(tmp_path / f"out/scores/{name}.npy") for name in ("00", "as-bmp", "as-png", "as-tiff")]
    assert all(np.array_equal(one, exact[0]) for one in exact)


def test_by_default_results_go_to_a_folder_here(score, drive, tmp_path) -> None:
    score(drive(count=1))
    assert (tmp_path / "scored/index.json").is_file()


def test_verbose_says_a_line_per_image(score, drive, tmp_path) -> None:
    answer = score(drive(count=2), "--verbose", "--out", tmp_path / "out")
    peak = np.load(tmp_path / "out/scores/01.npy").max()
    assert re.search(rf"^01: 40x60, [\d.]+ ms, peak {re.escape(f'{peak:.4g}')}$", answer.err, re.MULTILINE)


def test_options_reach_the_run(score, drive, tiny, tmp_path) -> None:
    words = ["--network-size", "16x24", "--threshold", "0.5", "--scale", "-3,4.5", "--detector", "energy:temperature=2"]
    assert score(drive(count=1), *words, "--out", tmp_path / "out", "--quiet").code == 0
    run = index(tmp_path / "out")["run"]
    assert (run["network_size"], run["threshold"], run["scale"]) == ([16, 24], 0.5, [-3.0, 4.5])
    assert run["detector"] == "energy:temperature=2"
    assert tiny.seen == [(16, 24)]
    assert np.load(tmp_path / "out/scores/00.npy").shape == (40, 60)


def test_the_classes_can_be_named(score, strays, drive, tiny, tmp_path) -> None:
    classes = [{"name": f"c{index}", "colour": [index, 0, 0]} for index in range(11)]
    (tmp_path / "mine.json").write_text(json.dumps({"name": "mine", "classes": classes, "void": 3}))
    words = ["--taxonomy", tmp_path / "mine.json", "--detector", "void", "--quiet"]
    assert score(drive(count=1), *words, "--out", tmp_path / "out").code == 0
    assert index(tmp_path / "out")["run"]["void"] == 3
    answer = score(drive(count=1), "--detector", "void", "--out", tmp_path / "other")
    assert "reads a void class" in answer.error
    assert not (tmp_path / "other").exists()


def test_the_same_command_continues(score, drive, tiny, tmp_path) -> None:
    folder = drive(count=2)
    score(folder, "--out", tmp_path / "out")
    before = index(tmp_path / "out")
    tiny.forget()
    answer = score(folder, "--out", tmp_path / "out")
    assert answer.code == 0
    assert tiny.seen == []
    assert index(tmp_path / "out") == before


def test_other_options_in_the_same_folder_are_refused(score, drive, tmp_path) -> None:
    score(drive(count=1), "--out", tmp_path / "out")
    answer = score(drive(count=1), "--out", tmp_path / "out", "--detector", "jsd")
    assert "detector was" in answer.error
    assert "choose another --out" in answer.error


def test_its_own_overlays_are_no_images(score, drive, tmp_path) -> None:
    folder = drive(count=2)
    for _ in range(2):
        assert score(folder, "--out", folder / "out").code == 0
        assert names(folder / "out") == ["00", "01"]


def test_results_may_lie_beside_the_images(score, drive, tmp_path) -> None:
    folder = drive("here/images", count=2)
    for _ in range(2):
        assert score(folder, "--out", tmp_path / "here").code == 0
    assert names(tmp_path / "here") == ["00", "01"]


def test_what_cannot_be_scored_is_said_and_costs_nothing_else(score, drive, tmp_path) -> None:
    folder = drive(count=3)
    (folder / "01.png").write_text("hello")
    for quiet in ([], ["--quiet"]):
        answer = score(folder, "--out", tmp_path / f"out{len(quiet)}", *quiet)
        assert answer.code == 0
        (line,) = [line for line in answer.err.splitlines() if line.startswith("01: ")]
        assert "01.png is text" in line, "one whole line, however long"
        assert ("1 could not be scored" in answer.err) == (not quiet)
    images = index(tmp_path / "out0")["images"]
    assert [sorted(one) for one in images if "error" in one] == [["error", "name", "path"]]
    assert (tmp_path / "out0/scores/02.npy").is_file()


def test_strict_stops(score, drive, tmp_path) -> None:
    folder = drive(count=3)
    (folder / "01.png").write_text("hello")
    answer = score(folder, "--strict", "--quiet", "--out", tmp_path / "out")
    assert "01.png" in answer.error
    assert not (tmp_path / "out/scores/02.npy").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network-size", "512"], "HEIGHTxWIDTH, such as 512x1024, got '512'"),
        (["--scale", "3"], "--scale LOW,HIGH with two numbers, got '3'"),
        (["--scale", "3,2"], "low < high"),
        (["--threshold", "nan"], "threshold"),
        (["--detector", "enrgy"], "did you mean 'energy'?"),
        (["--detector", "energy:temp=2"], "did you mean 'temperature'?"),
        (["--device", "cuda:77"], "--device cpu"),
        (["--taxonomy", "nothing"], "built in: cityscapes"),
    ],
)
def test_wrong_options_are_answered_in_one_line(score, drive, tmp_path, words, message) -> None:
    answer = score(drive(count=1), "--out", tmp_path / "out", *words)
    assert message in answer.error
    assert not (tmp_path / "out/index.json").exists()
