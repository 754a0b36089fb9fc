"""Miniatures of what benchmarks hand out."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave waiting for the disk out: nothing here pulls the plug."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def anomaly_track(tmp_path: Path) -> Callable[..., Path]:
    """Write ``dataset_AnomalyTrack``: frames of 8 x 12 pixels, the ten with public masks among them."""

    def write(names: Sequence[str] = (), folder: str = "dataset_AnomalyTrack") -> Path:
        rng = np.random.default_rng(3)
        for kind in ("images", "labels_masks"):
            (tmp_path / folder / kind).mkdir(parents=True)
        public = [f"validation{number:04}" for number in range(10)]
        for name in (*public, *names):
            picture = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / folder / "images" / f"{name}.jpg")
        for name in public:
            mask = tmp_path / folder / "labels_masks" / f"{name}_labels_semantic.png"
            Image.fromarray(np.tile(np.arange(12, dtype=np.uint8) % 2, (8, 1))).save(mask)
        return tmp_path / folder

    return write


@pytest.fixture
def obstacle_track(tmp_path: Path) -> Callable[..., Path]:
    """Write ``dataset_ObstacleTrack`` without masks, all frames alike."""

    def write(names: Sequence[str]) -> Path:
        stream = io.BytesIO()
        Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(stream, "WEBP")
        folder = tmp_path / "dataset_ObstacleTrack"
        (folder / "images").mkdir(parents=True)
        for name in names:
            (folder / "images" / f"{name}.webp").write_bytes(stream.getvalue())
        return folder

    return write


@pytest.fixture
def container_input(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder as Fishyscapes mounts it at ``/input``: frames of 16 x 24 pixels."""

    def write(*names: str, folder: str = "input", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in names:
            Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(tmp_path / folder / name)
        return tmp_path / folder

    return write
