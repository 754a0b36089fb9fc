"""``strays submit`` on miniatures of what benchmarks hand out."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def frames(tmp_path) -> Path:
    """The labelled frames of the anomaly track, under their official names."""
    rng = np.random.default_rng(5)
    for kind in ("images", "labels_masks"):
        (tmp_path / "track" / kind).mkdir(parents=True)
    for number in range(10):
        picture = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"track/images/validation{number:04}.jpg")
        mask = np.tile(np.arange(24, dtype=np.uint8) % 2, (16, 1))
        Image.fromarray(mask).save(tmp_path / f"track/labels_masks/validation{number:04}_labels_semantic.png")
    return tmp_path / "track"


@pytest.fixture
def words(frames, tiny) -> list[object]:
    return ["submit", "--data", f"smiyc-anomaly={frames}", "--split", "val", "--model", tiny.spec, "--detector", "msp"]


def manifest(out: Path) -> dict:
    return json.loads((out / "submission.json").read_text())


def test_a_submission(strays, words, tmp_path) -> None:
    out = tmp_path / "out"
    answer = strays(*words, "--out", out, "--method", "mine")
    assert answer.code == 0
    assert answer.out == ""
    folder = out / "anomaly_p/mine/AnomalyTrack-all"
    assert f"smiyc-anomaly, split val: 10 frames in {folder}, all read back\n" in answer.err
    assert f"next: cd {out} && python -m zipfile -c mine.zip anomaly_p\n" in answer.err
    assert "https://segmentmeifyoucan.com/submit" in answer.err
    assert sorted(path.name for path in folder.iterdir()) == [f"validation{number:04}.hdf5" for number in range(10)]
    with h5py.File(folder / "validation0000.hdf5") as file:
        assert (file["value"].dtype, file["value"].shape) == (np.float16, (16, 24))
    settings = manifest(out)["settings"]
    assert (settings["detector"], settings["method"]) == ("msp", "mine")
    assert {"strays", "torch", "numpy"} <= set(settings)


def test_the_archive_is_as_the_benchmark_unpacks_it(strays, words, tmp_path) -> None:
    strays(*words, "--out", tmp_path / "out", "--method", "m", "--quiet")
    pack = [sys.executable, "-m", "zipfile", "-c", "m.zip", "anomaly_p"]
    subprocess.run(pack, cwd=tmp_path / "out", check=True)
    subprocess.run([sys.executable, "-m", "zipfile", "-e", "m.zip", "unpacked"], cwd=tmp_path / "out", check=True)
    unpacked = tmp_path / "out/unpacked"
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert files == {f"anomaly_p/m/AnomalyTrack-all/validation{number:04}.hdf5" for number in range(10)}


def test_by_default_it_is_the_test_split_and_every_frame_is_asked_for(strays, words, tmp_path) -> None:
    words[words.index("--split") : words.index("--model")] = []
    answer = strays(*words, "--out", tmp_path / "out")
    assert "no test frames of smiyc-anomaly in" in answer.error
    picture = Image.new("RGB", (24, 16))
    picture.save(tmp_path / "track/images/airplane0000.jpg")
    answer = strays(*words, "--out", tmp_path / "out")
    assert "split test: missing frames (99 of 100): airplane0001, bear0000, " in answer.error
    assert not (tmp_path / "out").exists()
    answer = strays(*words, "--out", tmp_path / "out", "--partial", "--quiet")
    assert answer.code == 0
    assert "missing frames (99 of 100): airplane0001, bear0000, " in answer.err
    assert not manifest(tmp_path / "out")["complete"]


def test_quiet_says_nothing_where_nothing_is_wrong(strays, words, tmp_path) -> None:
    answer = strays(*words, "--out", tmp_path / "out", "--quiet")
    assert (answer.code, answer.out) == (0, "")
    assert [line for line in answer.err.splitlines() if "float16" not in line] == []


def test_the_same_command_changes_nothing_and_others_are_refused(strays, words, tiny, tmp_path) -> None:
    strays(*words, "--out", tmp_path / "out", "--quiet")
    before = manifest(tmp_path / "out")
    tiny.forget()
    assert strays(*words, "--out", tmp_path / "out").code == 0
    assert tiny.seen == []
    assert manifest(tmp_path / "out") == before
    answer = strays(*words, "--out", tmp_path / "out", "--network-size", "8x12")
    assert "other settings (network size was None, is [8, 12]): choose another --out" in answer.error


def test_fishyscapes(strays, tiny, tmp_path) -> None:
    (tmp_path / "input").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "input/0003_somewhere_000000_000030_rgb.png")
    words = ["submit", "--data", f"fishyscapes={tmp_path / 'input'}", "--model", tiny.spec]
    answer = strays(*words, "--out", tmp_path / "output")
    assert answer.code == 0
    assert np.load(tmp_path / "output/0003_anomaly.npy").dtype == np.float32
    assert np.load(tmp_path / "output/0003_segmentation.npy").max() <= 19
    assert "let it call this command with --data fishyscapes=/input --out /output" in answer.err


def test_an_image_that_is_too_much_for_the_network(strays, words, frames, tmp_path) -> None:
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:8, :8, 0] = 255
    (frames / "images/validation0004.jpg").unlink()
    Image.fromarray(picture).save(frames / "images/validation0004.png")
    answer = strays(*words, "--out", tmp_path / "out", "--quiet")
    assert "validation0004.png: msp: " in answer.error
    assert "NaN or infinite" in answer.error
    answer = strays(*words, "--out", tmp_path / "out", "--quiet", "--partial")
    assert answer.code == 0
    assert "left out: " in answer.err
    assert len(list((tmp_path / "out").rglob("*.hdf5"))) == 9


def test_killed_and_continued(strays, words, tiny, tmp_path) -> None:
    assert strays(*words, "--out", tmp_path / "whole", "--quiet").code == 0
    # The first image is the one the model is tried with.
    environment = os.environ | {"TINY_DIES_AT": "7", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "from strays.cli import main; main()", *map(str, words), "--out", "killed"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    done = len(list((tmp_path / "killed").rglob("*.hdf5")))
    assert done == 5
    tiny.forget()
    assert strays(*words, "--out", tmp_path / "killed", "--quiet").code == 0
    assert len(tiny.seen) == 10 - done
    whole, killed = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("whole", "killed")
    )
    assert len(whole) == 11
    assert killed == whole
