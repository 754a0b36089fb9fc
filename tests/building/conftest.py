"""What the tests of building share: a street in the classes of CamVid, and a folder of objects in COCO's words."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from strays.data import SceneSet, open_scenes
from strays.negatives.sources.class_names import COCO
from strays.scene import Scene
from strays.taxonomy import CAMVID

SIZE = 90, 120
HORIZON = 0.4
SKY, BUILDING, POLE, ROAD, CAR = (CAMVID.names.index(one) for one in ("sky", "building", "pole", "road", "car"))


def street_labels(car: tuple[int, int, int, int] | None = None, pole: int | None = None) -> NDArray[np.uint8]:
    """Sky, houses and a road up to the horizon, a car at (top, left, height, width), and a pole from a column on."""
    labels = np.full(SIZE, BUILDING, np.uint8)
    row = round(HORIZON * SIZE[0])
    labels[: row // 2] = SKY
    for below, line in enumerate(labels[row:]):
        half = min(8 + 2 * below, SIZE[1] // 2)
        line[SIZE[1] // 2 - half : SIZE[1] // 2 + half] = ROAD
    if car is not None:
        top, left, height, width = car
        labels[top : top + height, left : left + width] = CAR
    if pole is not None:
        labels[row:, pole : pole + 3] = POLE
    return labels


def painted(labels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Every class in its colour, with noise."""
    noise = np.random.default_rng(seed).integers(-20, 20, (*labels.shape, 3))
    return np.clip(CAMVID.colourize(labels).astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def labelled() -> Callable[..., NDArray[np.uint8]]:
    """Make the labels of a street, (90, 120), whose road reaches up to row 36."""
    return street_labels


@pytest.fixture
def streets(tmp_path: Path) -> Callable[..., str]:
    """Write streets as CamVid has them and return their data specification; every one with a car to cut out."""

    def write(name: str = "streets", count: int = 4, split: str = "test") -> str:
        for kind in ("images", "labels"):
            (tmp_path / name / split / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            labels = street_labels((40, 30 + 5 * number, 14, 20))
            folder, file = tmp_path / name / split, f"{number:02}.png"
            Image.fromarray(painted(labels, number)).save(folder / "images" / file)
            labels[:3, :5] = 11
            Image.fromarray(labels).save(folder / "labels" / file)
        return f"camvid={tmp_path / name}"

    return write


@pytest.fixture
def scenes(streets: Callable[..., str]) -> SceneSet:
    return open_scenes(streets())


@pytest.fixture
def scene(scenes: SceneSet) -> Scene:
    return scenes[0]


@pytest.fixture
def things(tmp_path: Path) -> Callable[..., Path]:
    """Write an image for each list of objects: class and box (left, top, right, bottom) in pixels of 100 x 140."""

    def write(*images: Sequence[tuple[str, tuple[int, int, int, int]]], name: str = "things") -> Path:
        folder = tmp_path / name
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for number, objects in enumerate(images):
            picture = np.random.default_rng(100 + number).integers(0, 256, (100, 140, 3), np.uint8)
            Image.fromarray(picture).save(folder / "images" / f"{number:02}.png")
            lines = [_line(*one) for one in objects]
            (folder / "labels" / f"{number:02}.txt").write_text("\n".join(lines))
        return folder

    return write


def _line(name: str, box: tuple[int, int, int, int]) -> str:
    left, top, right, bottom = (value / side for value, side in zip(box, (140, 100, 140, 100), strict=True))
    corners = (left, top, right, top, right, bottom, left, bottom)
    return " ".join([str(COCO.index(name)), *(f"{one:.6f}" for one in corners)])


@pytest.fixture
def zoo(things: Callable[..., Path]) -> Path:
    """Four dogs and a sheep of several sizes, a chair, and a person."""
    return things(
        [("dog", (10, 10, 60, 50))],
        [("dog", (20, 20, 65, 60)), ("person", (90, 10, 110, 60))],
        [("sheep", (30, 30, 80, 70)), ("dog", (5, 5, 25, 20))],
        [("dog", (40, 20, 90, 70)), ("chair", (100, 20, 130, 70))],
    )
