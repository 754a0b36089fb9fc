"""``strays data``: inlier data in, a benchmark out."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from strays.cli.data import app
from strays.data import open_scenes

KILLED = """
import os, signal
from strays.building import pasted
from strays.cli import main

keep = pasted.Build.keep

def dies(self, record):
    keep(self, record)
    if len(self.done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

pasted.Build.keep = dies
main()
"""


@pytest.fixture
def inliers(tmp_path: Path) -> str:
    """Four frames as CamVid has them: sky, a road, and in one of them a cyclist."""
    for kind in ("images", "labels"):
        (tmp_path / "drive/test" / kind).mkdir(parents=True)
    for number in range(4):
        labels = np.full((60, 80), 3, np.uint8)
        labels[:25] = 0
        if number == 2:
            labels[40:50, 30:36] = 10
        picture = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / f"drive/test/images/{number}.png")
        Image.fromarray(labels).save(tmp_path / f"drive/test/labels/{number}.png")
    return f"camvid={tmp_path / 'drive'}"


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """One cut-out without a class."""
    layers = np.random.default_rng(0).integers(0, 256, (60, 60, 4), np.uint8)
    layers[..., 3] = 0
    layers[5:55, 10:50, 3] = 255
    (tmp_path / "cut outs").mkdir()
    Image.fromarray(layers).save(tmp_path / "cut outs/a.png")
    return tmp_path / "cut outs"


def test_paste(strays: Callable, inliers: str, objects: Path, tmp_path: Path) -> None:
    out = tmp_path / "my set"
    words = ["data", "paste", "--data", inliers, "--objects", objects, "--count", 3, "--seed", 5, "--out", out]
    words += ["--control", "none"]
    answer = strays(*words)
    assert answer.code == 0, answer.err
    assert answer.out == ""
    told = [line for line in answer.err.splitlines() if not line.startswith("pasting")]
    assert told == [
        f"3 frames: 3 hold an anomaly; open {out / 'contact-sheet.png'}",
        f"next: strays bench --data 'pasted={out}' --detectors max-logit,energy",
    ]
    assert len(open_scenes(f"pasted={out}")) == 3
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 5
    assert manifest["command"].startswith("strays data paste --data camvid=")
    assert strays(*words, "--quiet") == (0, "", "")


def test_a_killed_run_ends_with_the_same_bytes(inliers: str, objects: Path, tmp_path: Path, strays: Callable) -> None:
    def contents() -> dict[str, bytes]:
        return {str(one.relative_to(out)): one.read_bytes() for one in out.rglob("*") if one.is_file()}

    out = tmp_path / "out"
    words = [str(one) for one in ("data", "paste", "--data", inliers, "--objects", objects, "--quiet", "--out", out)]
    assert strays(*words).code == 0
    whole = contents()
    out.rename(tmp_path / "elsewhere")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", KILLED, *words], env=environment, capture_output=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not out.exists()
    assert len(list((tmp_path / ".out.part/images").iterdir())) == 2
    assert strays(*words).code == 0
    assert contents() == whole


def test_hold_out(strays: Callable, inliers: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = strays("data", "hold-out", "--data", inliers, "--classes", "bicyclist", "--out", out)
    assert answer.code == 0, answer.err
    told = [line for line in answer.err.splitlines() if not line.startswith("sorting")]
    assert told == [
        f"1 frames to test, 3 inliers; open {out / 'contact-sheet.png'}",
        f"next: strays train RECIPE --data camvid={out / 'inliers'} --out RUN, then strays bench --model RUN "
        f"--data held-out={out / 'test'}",
    ]
    (scene,) = open_scenes(f"held-out={out / 'test'}")
    assert scene.has_anomaly
    assert open_scenes(f"camvid={out / 'inliers'}").names == ["0", "1", "3"]


def test_frames_that_cannot_be_used_are_named(strays: Callable, inliers: str, objects: Path, tmp_path: Path) -> None:
    (tmp_path / "drive/test/images/1.png").write_bytes(b"nonsense")
    words = ["data", "paste", "--data", inliers, "--objects", objects]
    answer = strays(*words, "--out", tmp_path / "out")
    assert answer.code == 0
    assert "not used: 1: " in answer.err
    assert "3 frames: " in answer.err
    assert "1.png" in strays(*words, "--strict", "--out", tmp_path / "strict").error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["paste", "--objects", "x"], "Missing option '--data'. See strays data paste --help"),
        (["paste", "--data", "synthetic=2"], "Missing option '--objects'"),
        (["paste", "--data", "synthetic=2", "--objects", "no/where"], "no folder no/where with objects"),
        (["paste", "--data", "no/where", "--objects", "x"], "no file or folder no/where"),
        (["paste", "--data", "synthetic=2", "--objects", "x", "--style", "collage"], "--style: Input should be"),
        (["paste", "--data", "synthetic=2", "--objects", "x", "--classes", "person"], "no anomalies"),
        (["hold-out", "--data", "synthetic=2", "--classes", "car"], "classes are held out of files"),
        (["hold-out", "--data", "no/where", "--classes", "car"], "no file or folder no/where"),
        ([], "Missing command. See strays data --help"),
        (["past"], "No such command 'past'"),
    ],
)
def test_wrong_words(
    strays: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in strays("data", *words).error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["paste", "hold-out"])
def test_every_option_is_explained(name: str) -> None:
    parameters = get_command(app).commands[name].params
    assert len(parameters) > 5
    assert [one.name for one in parameters if not one.help] == []
