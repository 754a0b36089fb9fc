"""A tiny data set in CamVid's layout, in which every class has its own colour."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strays.training import TrainingSettings
from strays.training.loop import Trainer

SIZE = (40, 72)
CLASSES = 11


def write_frame(folder: Path, index: int, random: np.random.Generator) -> None:
    """An image of upright stripes in the colours of their classes, with some void in a corner."""
    palette = np.random.default_rng(7).integers(0, 256, (CLASSES + 1, 3))
    labels = np.repeat(random.integers(0, CLASSES, 6), SIZE[1] // 6)[None].repeat(SIZE[0], 0).astype(np.uint8)
    labels[:5, :9] = CLASSES
    image = palette[labels] + random.integers(-20, 21, (*SIZE, 3))
    for kind, values in (("images", image.clip(0, 255).astype(np.uint8)), ("labels", labels)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / kind / f"{index:02}.png")


@pytest.fixture(scope="session")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven frames to train on, two to validate on, 40x72 pixels."""
    folder = tmp_path_factory.mktemp("data") / "camvid"
    random = np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 2)):
        for index in range(count):
            write_frame(folder / split, index, random)
    return folder


@pytest.fixture(scope="session")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images with a mask of the one thing in each."""
    folder = tmp_path_factory.mktemp("data") / "cutouts"
    random = np.random.default_rng(1)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(4):
        mask = np.zeros((60, 64), np.uint8)
        mask[4 : 44 + index, 6:40] = 255
        Image.fromarray(random.integers(0, 256, (60, 64, 3)).astype(np.uint8)).save(folder / f"images/{index}.png")
        Image.fromarray(mask).save(folder / f"masks/{index}.png")
    return folder


@pytest.fixture(scope="session")
def settings(camvid: Path) -> Callable[..., TrainingSettings]:
    given = {"data": (f"camvid={camvid}",), "network": "swiftnet-mnv2", "epochs": 2, "batch": 2, "crop": (32, 64)}
    return lambda **changes: TrainingSettings.model_validate({**given, "precision": "float32", **changes})


@pytest.fixture
def trainer(settings: Callable[..., TrainingSettings], tmp_path: Path) -> Callable[..., Trainer]:
    return lambda **changes: Trainer(settings(**changes), tmp_path, device="cpu")
