"""Whatever a person may hand to the commands by mistake: one line with reason and fix, and nothing else is lost."""

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from strays.networks.enet import ENet
from strays.networks.erfnet import ERFNet

SIZE = (40, 60)


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(9).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def huge_png() -> bytes:
    """A PNG that says 30,000 x 30,000 pixels in its header and holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def red_corner() -> bytes:
    """A picture for which the tiny network gives NaN."""
    image = picture()
    image.putpixel((0, 0), (255, 0, 0))
    return encoded(image, "PNG")


def green_corner() -> bytes:
    """A picture at which the tiny network fails."""
    image = picture()
    image.putpixel((0, 0), (0, 255, 0))
    return encoded(image, "PNG")


BAD = {
    "truncated.jpg": (lambda: encoded(picture(), "JPEG")[:700], "is a damaged JPEG image"),
    "text.png": (lambda: b"these are notes\n", "is text"),
    "empty.jpg": (lambda: b"", "is an empty file"),
    "huge.png": (huge_png, "has 30000 x 30000 pixels, 900,000,000 against a limit of 178,000,000"),
    "nan.png": (red_corner, "scores are NaN or infinite"),
    "fails.png": (green_corner, "failed on an image of 40x60"),
}
GOOD = {
    "grey16.png": lambda: encoded(Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(SIZE) * 27), "PNG"),
    "palette.png": lambda: encoded(picture().quantize(16), "PNG"),
    "alpha.png": lambda: encoded(picture().convert("RGBA"), "PNG"),
    "grey.jpg": lambda: encoded(picture().convert("L"), "JPEG"),
}


def index(out: Path) -> dict[str, dict]:
    return {one["name"]: one for one in json.loads((out / "index.json").read_text())["images"]}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with every bad image and every good but odd one."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content())
    for name, content in GOOD.items():
        (folder / name).write_bytes(content())
    return folder


def test_bad_images_are_listed_and_the_others_scored(strays, tiny, mixed, tmp_path) -> None:
    answer = strays("score", mixed, "--model", tiny.spec, "--quiet", "--out", tmp_path / "out")
    assert answer.code == 0
    found = index(tmp_path / "out")
    assert set(found) == {Path(name).stem for name in (*BAD, *GOOD)}
    for name, (_, reason) in BAD.items():
        stem = Path(name).stem
        assert reason in found[stem]["error"]
        assert name in found[stem]["error"], "the file is named"
        assert f"{stem}: {found[stem]['error']}\n" in answer.err, "it is said on the console, in one line"
        assert not (tmp_path / f"out/scores/{stem}.npy").exists()
    for name in GOOD:
        scores = np.load(tmp_path / f"out/scores/{Path(name).stem}.npy")
        assert scores.shape == SIZE
        assert np.isfinite(scores).all()
    assert len(answer.err.splitlines()) == len(BAD)
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("name", BAD)
def test_strict_stops_at_a_bad_image(strays, tiny, mixed, tmp_path, name) -> None:
    words = ["--model", tiny.spec, "--quiet", "--strict", "--out", tmp_path / "out"]
    error = strays("score", mixed / name, *words).error
    assert name in error
    assert BAD[name][1] in error


def test_a_huge_image_is_never_decoded(strays, tiny, mixed, tmp_path, monkeypatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("an image beyond the limit was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    answer = strays("score", mixed / "huge.png", "--model", tiny.spec, "--quiet", "--out", tmp_path / "out")
    assert "against a limit of 178,000,000" in answer.error
    assert "STRAYS_MAX_PIXELS=900000000" in answer.error


def test_what_odd_images_hold(strays, tiny, mixed, tmp_path) -> None:
    """16 bits are scaled to 8, a palette is looked up, an opaque alpha channel is dropped."""
    same = {
        "grey16.png": Image.fromarray((np.arange(2400).reshape(SIZE) * 27 / 257).round().astype(np.uint8)),
        "palette.png": picture().quantize(16),
        "alpha.png": picture(),
    }
    plain = tmp_path / "plain"
    plain.mkdir()
    for name, image in same.items():
        image.convert("RGB").save(plain / name)
    for folder, out in ((mixed, "odd"), (plain, "rgb")):
        strays("score", *[folder / name for name in same], "--model", tiny.spec, "--quiet", "--out", tmp_path / out)
    for name in same:
        odd, rgb = (np.load(tmp_path / f"{out}/scores/{Path(name).stem}.npy") for out in ("odd", "rgb"))
        assert np.array_equal(odd, rgb)


def wrong_size(folder: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / "masks/01.png")


def value_seven(folder: Path) -> None:
    mask = np.array(Image.open(folder / "masks/01.png"))
    Image.fromarray(np.where(mask == 1, 7, mask).astype(np.uint8)).save(folder / "masks/01.png")


MASKS = {
    "size": (wrong_size, "masks/01.png: anomaly mask of 30x20 for an image of 60x40"),
    "value": (value_seven, "masks/01.png: undeclared value 7 (168 pixels)"),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_wrong_mask_costs_only_its_frame(strays, tiny, street, tmp_path, kind) -> None:
    spoil, reason = MASKS[kind]
    folder = street()
    spoil(folder)
    bench = ["bench", "--model", tiny.spec, "--data", f"folder={folder}", "--quiet"]
    answer = strays(*bench, "--out", tmp_path / "out")
    assert answer.code == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    (lost,) = found["unreadable"]
    assert lost["name"] == "01"
    assert reason in lost["reason"]
    assert f"not counted: folder/01: {lost['reason']}\n" in answer.err
    assert found["rows"][0]["protocol"]["images"] == 2
    assert reason in strays(*bench, "--strict", "--out", tmp_path / "strict").error
    doctor = strays("doctor", f"folder={folder}", "--quiet")
    assert doctor.code == 2
    assert reason.partition(": ")[2].partition(" for ")[0].partition(" (")[0] in doctor.out


def test_an_empty_folder(strays, tiny, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    score = strays("score", tmp_path / "empty", "--model", tiny.spec, "--out", tmp_path / "out")
    assert f"no images in {tmp_path / 'empty'}: looked for files ending in .bmp" in score.error
    bench = strays("bench", "--data", f"folder={tmp_path / 'empty'}", "--model", tiny.spec, "--out", tmp_path / "out")
    assert "found an empty folder" in bench.error
    assert not (tmp_path / "out").exists()


def test_a_path_that_is_not_there(strays, tiny, drive, tmp_path) -> None:
    drive()
    answer = strays("score", tmp_path / "drvie", "--model", tiny.spec, "--out", tmp_path / "out")
    assert f"no file or folder {tmp_path / 'drvie'}; did you mean {tmp_path / 'drive'}?" in answer.error


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def weights(tmp_path: Path, kind: str) -> Path:
    """A file that is not the weights of an ENet."""
    path = tmp_path / f"{kind}.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Bomb(tmp_path / "exploded")}))
    elif kind == "torch":
        torch.save({"state_dict": Bomb(tmp_path / "exploded")}, path)
    elif kind == "other":
        torch.save(ERFNet(classes=20).state_dict(), path)
    elif kind == "torn":
        torch.save(ENet(classes=20).state_dict(), path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "list":
        torch.save([1, 2, 3], path)
    elif kind == "text":
        path.write_text("no weights")
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no weights file at {path}: check the path"),
        ("pickle", "{path} is not a plain weights file and was refused, nothing in it was run"),
        ("torch", "{path} is not a plain weights file and was refused, nothing in it was run"),
        ("torn", "{path} cannot be read as weights ("),
        ("text", "{path} is not a plain weights file and was refused, nothing in it was run"),
        ("list", "{path} holds list, expected tensors by name"),
    ],
)
def test_files_that_are_no_weights(strays, drive, tmp_path, kind, reason) -> None:
    path = weights(tmp_path, kind)
    answer = strays("score", drive(count=1), "--model", f"enet@{path}", "--out", tmp_path / "out")
    assert reason.format(path=path) in answer.error
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_say_which_keys_differ(strays, drive, tmp_path) -> None:
    path = weights(tmp_path, "other")
    words = ["--model", f"enet@{path}", "--out", tmp_path / "out"]
    error = strays("score", drive(count=1), *words).error
    assert "of another network than ENet: " in error
    theirs = set(ERFNet(classes=20).state_dict())
    ours = set(ENet(classes=20).state_dict())
    assert any(key in error for key in theirs - ours)
    assert any(key in error for key in ours - theirs)


def test_the_bomb_of_these_tests_works(tmp_path) -> None:
    pickle.loads((weights(tmp_path, "pickle")).read_bytes())
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("below", ["/proc", "a file"])
@pytest.mark.parametrize("command", ["score", "bench", "demo"])
def test_a_folder_that_cannot_be_written(strays, tiny, street, tmp_path, command, below) -> None:
    (tmp_path / "note.txt").write_text("hello")
    out = (Path("/proc") if below == "/proc" else tmp_path / "note.txt") / "out"
    folder = street(count=1)
    words = {
        "score": ["score", folder / "images", "--model", tiny.spec],
        "bench": ["bench", "--data", f"near={folder}", "--model", tiny.spec],
        "demo": ["demo"],
    }[command]
    answer = strays(*words, "--out", out)
    assert f"error: cannot write to folder {out}" in answer.error
    assert "--out" in answer.error
    assert (tmp_path / "note.txt").read_text() == "hello"


def test_nan_scores_name_the_frame_in_a_benchmark(strays, tiny, street, tmp_path) -> None:
    folder = street()
    image = Image.open(folder / "images/02.png")
    image.putpixel((0, 0), (255, 0, 0))
    image.save(folder / "images/02.png")
    words = ["--data", f"near={folder}", "--model", tiny.spec, "--detectors", "energy", "--quiet"]
    answer = strays("bench", *words, "--out", tmp_path / "out")
    assert answer.code == 0
    assert "not counted: near/02: energy: " in answer.err
    assert "NaN" in answer.err
    assert "02: energy: " in strays("bench", *words, "--strict", "--out", tmp_path / "strict").error
