"""What every test may ask for."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and weights that lies beside the repository; the test skips where it is missing."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with real data and weights is not here")
    return folder


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong and how to mend it; anything else fails the test."""
        assert self.code == 2, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


@pytest.fixture
def strays(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run a command line in this process."""
    from strays.cli import main

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["strays", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Answer(int(stopped.value.code or 0), *capsys.readouterr())

    return run


TINY = """
    import os, signal
    import torch
    from torch import nn

    SEEN = []  # (height, width) of every image since the module was imported


    class Tiny(nn.Module):
        def __init__(self, classes=11, seed=0):
            super().__init__()
            torch.manual_seed(seed)
            self.layer = nn.Conv2d(3, classes, 3, stride=2, padding=1)

        def forward(self, image):
            SEEN.append(tuple(image.shape[-2:]))
            if len(SEEN) == int(os.environ.get("TINY_DIES_AT", "0")):
                os.kill(os.getpid(), signal.SIGKILL)
            logits = 10 * self.layer(image)
            # A picture that starts with pure red is too much for it, and one that starts with pure green too.
            if image[0, :, 0, 0].tolist() == [1, 0, 0]:
                logits[..., 0, 0] = torch.nan
            if image[0, :, 0, 0].tolist() == [0, 1, 0]:
                raise RuntimeError("Output size is too small")
            return logits


    def build():
        return Tiny()

    def other():
        return Tiny(seed=1)

    def void():
        network = Tiny(classes=20)
        network.layer.bias.data[-1] += 0.3
        return network
"""


class TinyNetwork:
    """A network that takes no time, as a module in the current folder; it tells what it has seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spec = f"python:{name}:build"

    def factory(self, name: str) -> str:
        """The model string of another factory: ``other`` has other weights, ``void`` has a void channel."""
        return f"python:{self.name}:{name}"

    @property
    def module(self) -> ModuleType:
        return sys.modules[self.name]

    @property
    def seen(self) -> list[tuple[int, int]]:
        """(H, W) of every image, without those by which it was tried when it was loaded."""
        return [size for size in self.module.SEEN if size != (64, 64)]

    def forget(self) -> None:
        self.module.SEEN.clear()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyNetwork]:
    """Write a tiny network of 11 classes into the current folder, which is ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    network = TinyNetwork(f"tiny_{uuid4().hex}")
    (tmp_path / f"{network.name}.py").write_text(textwrap.dedent(TINY))
    yield network
    sys.modules.pop(network.name, None)


Picture = NDArray[np.uint8]


@pytest.fixture
def drive(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of images, 40 x 60 pixels unless stated."""

    def write(name: str = "drive", count: int = 3, size: tuple[int, int] = (40, 60), seed: int = 0) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        for number in range(count):
            picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"{number:02}.png")
        return folder

    return write


@pytest.fixture
def street(tmp_path: Path) -> Callable[..., Path]:
    """Write a data set of images and masks: a bright block is the anomaly, the lowest rows are ignored."""

    def write(
        name: str = "street",
        count: int = 3,
        clean: tuple[int, ...] = (),
        size: tuple[int, int] = (40, 60),
        seed: int = 0,
    ) -> Path:
        rng = np.random.default_rng(seed)
        for kind in ("images", "masks"):
            (tmp_path / name / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture, mask = _scene(rng, size, number not in clean)
            Image.fromarray(picture).save(tmp_path / name / "images" / f"{number:02}.png")
            Image.fromarray(mask).save(tmp_path / name / "masks" / f"{number:02}.png")
        return tmp_path / name

    return write


def _scene(rng: np.random.Generator, size: tuple[int, int], anomalous: bool) -> tuple[Picture, Picture]:
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[-6:] = 255
    if anomalous:
        top, left = rng.integers(0, (size[0] // 2, size[1] // 2))
        mask[top : top + 12, left : left + 14] = 1
        picture[mask == 1] |= 128
    return picture, mask


@pytest.fixture
def town(tmp_path: Path) -> Callable[..., str]:
    """Write a miniature of CamVid, train frames only, and return its data specification."""

    def write(name: str = "town", count: int = 5, classes: int = 12, seed: int = 0) -> str:
        rng = np.random.default_rng(seed)
        for kind in ("images", "labels"):
            (tmp_path / name / "train" / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            folder, file = tmp_path / name / "train", f"{number:02}.png"
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(folder / "images" / file)
            Image.fromarray(rng.integers(0, classes, (24, 32), dtype=np.uint8)).save(folder / "labels" / file)
        return f"camvid={tmp_path / name}"

    return write


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write an array under a path relative to ``tmp_path``, as what the suffix or ``kind`` says."""

    def write(name: str, values: NDArray[np.generic], kind: str | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path, format=kind)
        return path

    return write


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """A picture of 8 x 12 pixels."""
    return np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)


@pytest.fixture
def stripes() -> Callable[..., NDArray[np.uint8]]:
    """Make a map of 8 x 12 pixels that holds the given values in vertical stripes."""

    def make(*values: int) -> NDArray[np.uint8]:
        return np.tile(np.resize(np.array(values, np.uint8), 12), (8, 1))

    return make
