"""SIGKILL in the middle of ``score`` and ``bench``: the continued run ends like one that was never interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from strays.cli import main; main()"


@pytest.fixture
def die(tiny, tmp_path):
    """Run a command in a process of its own until the network kills it as it sees its image number ``at``."""

    def run(at: int, *words: object) -> None:
        environment = os.environ | {"TINY_DIES_AT": str(at), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", MAIN, *map(str, words)]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert ended.returncode == -signal.SIGKILL, ended.stderr

    return run


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for one in patterns for path in folder.glob(one)}


def untimed(value: object) -> object:
    """JSON without the only thing that may differ."""
    if isinstance(value, dict):
        return {key: untimed(one) for key, one in value.items() if not key.endswith("milliseconds")}
    return [untimed(one) for one in value] if isinstance(value, list) else value


def test_score(strays, die, tiny, drive, tmp_path) -> None:
    folder = drive(count=12)
    words = ["score", folder, "--model", tiny.spec, "--detector", "energy", "--quiet"]
    # The first image is the one the model is tried with; eight decide the colours before any is written.
    die(1 + 11, *words, "--out", tmp_path / "killed")
    done = len(list((tmp_path / "killed/scores").glob("*.npy")))
    assert 8 <= done < 12
    assert not (tmp_path / "killed/index.json").exists()
    assert strays(*words, "--out", tmp_path / "whole").code == 0
    tiny.forget()
    assert strays(*words, "--out", tmp_path / "killed").code == 0
    assert len(tiny.seen) == 12 - done, "what was done is not done again"
    patterns = ("scores/*.npy", "overlays/*.jpg", "run.json")
    whole, killed = (contents(tmp_path / name, *patterns) for name in ("whole", "killed"))
    assert len(whole) == 25
    assert killed == whole
    left, right = (json.loads((tmp_path / name / "index.json").read_text()) for name in ("whole", "killed"))
    assert untimed(left) == untimed(right)
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"scores", "overlays", "run.json", "index.json"}


def test_bench(strays, die, tiny, street, tmp_path) -> None:
    near, far = street("near", count=4), street("far", count=5, size=(40, 66), seed=3)
    words = ["bench", "--data", f"near={near}", "--data", f"far={far}", "--model", tiny.spec, "--quiet"]
    words += ["--detectors", "energy,msp"]
    assert strays(*words, "--out", tmp_path / "whole").code == 0
    seen = tiny.seen
    # The first image is the one the model is tried with; then comes all of the first set, and one of the second.
    die(1 + seen.index((40, 66)) + 2, *words, "--out", tmp_path / "killed")
    assert not (tmp_path / "killed/results.json").exists()
    tiny.forget()
    assert strays(*words, "--out", tmp_path / "killed").code == 0
    assert len(tiny.seen) == len(seen) - 4 - 1, "what was counted is not counted again"
    whole, killed = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "killed"))
    assert untimed(killed) == untimed(whole)
    assert contents(tmp_path / "killed", "results.md") == contents(tmp_path / "whole", "results.md")
