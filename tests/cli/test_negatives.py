"""``strays negatives``: words in, a contact sheet out, showing what training would show."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from strays.data import open_scenes
from strays.loading import load_model
from strays.negatives import Mixture, build_negatives
from strays.networks.enet import ENet
from strays.taxonomy import CAMVID
from strays.training import TrainingSettings
from strays.training.crops import Crops, SceneMix

SMALL = ("--crop", "16x24", "--count", "7")


@pytest.fixture
def cutouts(tmp_path: Path) -> Path:
    """Two images, each with the mask of a disc of 40 pixels."""
    folder, random = tmp_path / "cut outs", np.random.default_rng(0)
    rows, columns = np.indices((50, 60)) - 25
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(2):
        Image.fromarray(random.integers(0, 256, (50, 60, 3), np.uint8)).save(folder / "images" / f"{number}.jpg")
        mask = (rows**2 + columns**2 < 400).astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


def pictures(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


def test_a_sheet_and_what_to_do_next(strays: Callable, town: Callable, cutouts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = strays(
        "negatives", "--kind", f"objects={cutouts}", "--kind", "void", "--data", town(), "--out", out, *SMALL
    )
    assert answer.code == 0, answer.err
    assert answer.out == ""
    told = answer.err.splitlines()
    assert told[0] == f"objects={cutouts}: 2 images"
    assert told[1] == "void: the unlabelled pixels of every crop"
    assert told[2].startswith("7 of 7 crops hold negatives, ")
    assert told[2].endswith(f"open {out / 'contact-sheet.png'}")
    assert (
        told[3]
        == f"next: strays train RECIPE --data NAME=DIR --negatives 'objects={cutouts}' --negatives void --out RUN"
    )
    assert [path.name for path in out.iterdir()] == ["contact-sheet.png"]
    sheet = Image.open(out / "contact-sheet.png")
    assert sheet.mode == "RGB"
    assert sheet.width * sheet.height > 7 * 2 * 16 * 24


def test_files_are_what_training_shows_first(strays: Callable, town: Callable, cutouts: Path, tmp_path: Path) -> None:
    data, out, spec = town(count=5), tmp_path / "out", f"objects:side=0.5={cutouts}"
    words = ("--kind", spec, "--data", data, "--seed", 3, "--scale", "0.5,2", "--share", 0.5)
    answer = strays("negatives", *words, "--files", "--quiet", "--out", out, *SMALL)
    assert answer == (0, "", "")
    settings = TrainingSettings(data=(data,), seed=3, scale=(0.5, 2), crop=(16, 24))
    crops = Crops(SceneMix([open_scenes(data, "train")]), settings, Mixture([build_negatives(spec)], 0.5))
    images, masks = pictures(out / "images"), pictures(out / "masks")
    assert len(images) == len(masks) == 7
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        epoch, position = divmod(number, 5)
        index = int(np.random.default_rng([3, epoch]).permutation(5)[position])
        expected = crops[epoch, index]
        np.testing.assert_array_equal(image, expected.images.permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(mask, expected.mask.numpy())
    assert {(mask == 1).any() for mask in masks} == {True, False}


def test_labels_that_the_model_does_not_know_are_no_negatives(strays: Callable, town: Callable, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(ENet(2).state_dict(), tmp_path / "enet.pth")
    kept = [one.model_dump() for one in CAMVID.classes if one.name in ("road", "car")]
    (tmp_path / "two.json").write_text(json.dumps({"name": "two", "classes": kept}))
    model = load_model(f"enet@{tmp_path / 'enet.pth'}", taxonomy=str(tmp_path / "two.json")).save(tmp_path / "model")
    masks = {}
    for name, words in (("data", ()), ("model", ("--init", model))):
        out = tmp_path / name / "out"
        answer = strays("negatives", "--kind", "void", "--data", town(), *words, "--files", "--out", out, *SMALL)
        assert answer.code == 0, answer.err
        masks[name] = np.stack(pictures(out / "masks"))
    assert set(np.unique(masks["data"])) == {0, 1}
    np.testing.assert_array_equal(masks["model"] == 1, masks["data"] == 1)
    assert 0 < (masks["model"] == 0).sum() < (masks["data"] == 0).sum() == ((masks["model"] != 1).sum())


def test_the_same_seed_gives_the_same_bytes(strays: Callable, town: Callable, cutouts: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ("--kind", f"patches={cutouts}", "--data", town(), "--seed", seed)
        assert strays("negatives", *words, "--quiet", "--out", tmp_path / name, *SMALL).code == 0
    one, again, other = ((tmp_path / name / "contact-sheet.png").read_bytes() for name in "abc")
    assert one == again != other


def test_it_runs_without_any_data_set(strays: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert strays("negatives", "--kind", "void", "--count", 1, "--crop", "32x32").code == 0
    assert (tmp_path / "negatives" / "contact-sheet.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "objects=no/where"], "no folder no/where"),
        (["--kind", "object=x"], "did you mean 'objects'?"),
        (["--kind", "objects"], "write objects=DIR"),
        (["--kind", "void", "--crop", "16"], "--crop: expected a size as HEIGHTxWIDTH"),
        (["--kind", "void", "--scale", "2,1"], "--scale: expected LOW,HIGH"),
        (["--kind", "void", "--scale", "1"], "--scale: expected LOW,HIGH"),
        (["--kind", "void", "--share", "2"], "share of patches with a negative in [0, 1]"),
        (["--kind", "void", "--data", "no/where"], "no/where"),
        ([], "Missing option '--kind'"),
    ],
)
def test_wrong_words(strays: Callable, tmp_path: Path, words: list[str], message: str) -> None:
    answer = strays("negatives", *words, "--out", tmp_path / "out")
    assert message in answer.error
    assert not (tmp_path / "out").exists()


def test_a_folder_without_objects(strays: Callable, town: Callable, drive: Callable, tmp_path: Path) -> None:
    folder = drive()
    words = ("--data", town(), "--out", tmp_path / "out", *SMALL)
    answer = strays("negatives", "--kind", f"objects={folder}", *words)
    assert f"{folder}: none of 3 images looked at has an object" in answer.error
    assert "patches=DIR needs none" in answer.error
    assert strays("negatives", "--kind", f"patches={folder}", *words).code == 0


def test_an_output_folder_that_cannot_be(strays: Callable, town: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = strays("negatives", "--kind", "void", "--data", town(), "--out", tmp_path / "file" / "out", *SMALL)
    assert "cannot write to folder" in answer.error
