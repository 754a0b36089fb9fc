"""Held-out classes: what goes where, and that nothing else is touched."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strays.building import HoldOutRun, HoldOutSettings
from strays.data import open_scenes, read_map
from strays.errors import InputError
from strays.taxonomy import CAMVID

BICYCLIST = CAMVID.names.index("bicyclist")


@pytest.fixture
def data(streets: Callable[..., str], tmp_path: Path) -> str:
    """Two splits of four frames; one frame of ``train`` and two of ``val`` show a cyclist, one of them in one pixel."""
    spec = streets("set", split="train")
    streets("set", split="val")
    for name, size in (("train/labels/01", 6), ("val/labels/00", 1), ("val/labels/03", 9)):
        path = tmp_path / "set" / f"{name}.png"
        labels = read_map(path)
        labels[60 : 60 + size, 60 : 60 + size] = BICYCLIST
        Image.fromarray(labels).save(path)
    return spec


@pytest.fixture
def hold_out(data: str, tmp_path: Path) -> Callable[..., Path]:
    def run(name: str, advance: Callable[[], None] | None = None, **settings: object) -> Path:
        given = {"data": data, "classes": ("bicyclist",), **settings}
        HoldOutRun(HoldOutSettings.model_validate(given), tmp_path / name).run(advance)
        return tmp_path / name

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_frames_that_show_the_class_are_the_test_set(hold_out, data: str, tmp_path: Path) -> None:
    out = hold_out("out")
    test = open_scenes(f"x={out / 'test'}")
    assert test.names == ["train_01", "val_00", "val_03"]
    for scene in test:
        split, name = scene.name.split("_")
        raw = read_map(tmp_path / "set" / split / "labels" / f"{name}.png")
        np.testing.assert_array_equal(scene.mask == 1, raw == BICYCLIST)
        np.testing.assert_array_equal(scene.mask == 255, raw == 11)
        labels = read_map(out / "test/labels" / f"{scene.name}.png")
        np.testing.assert_array_equal(labels == 255, (raw == BICYCLIST) | (raw == 11))
        np.testing.assert_array_equal(labels[labels != 255], raw[labels != 255])


def test_all_others_are_not_changed(hold_out, tmp_path: Path) -> None:
    out, before = hold_out("out"), files(tmp_path / "set")
    assert files(tmp_path / "set") == before
    kept = files(out / "inliers")
    assert {name: before[name] for name in kept} == kept
    names = {"train": ["00", "02", "03"], "val": ["01", "02"]}
    for split, expected in names.items():
        scenes = open_scenes(f"camvid={out / 'inliers'}", split)
        assert scenes.names == expected
        assert not any((scene.labels == BICYCLIST).any() for scene in scenes)
    assert len(kept) == 2 * 5


def test_the_manifest_and_the_sheet(hold_out) -> None:
    out = hold_out("out", classes=("bicyclist", "pole"))
    manifest = json.loads((out / "manifest.json").read_text())
    frames = {frame["name"]: frame for frame in manifest["frames"]}
    assert len(frames) == 8
    assert frames["val_03"]["pixels"] == {"bicyclist": 81, "pole": 0}
    assert [frame["part"] for frame in frames.values()].count("test") == 3
    assert (out / "contact-sheet.png").is_file()


def test_links_share_their_bytes_and_copies_do_not(hold_out, tmp_path: Path) -> None:
    original = tmp_path / "set/val/images/01.png"
    linked, copied = hold_out("linked", link=True), hold_out("copied")
    assert original.samefile(linked / "inliers/val/images/01.png")
    assert not original.samefile(copied / "inliers/val/images/01.png")
    assert {name: one for name, one in files(linked).items() if "manifest" not in name} == {
        name: one for name, one in files(copied).items() if "manifest" not in name
    }


def test_a_killed_run_continues(hold_out, tmp_path: Path) -> None:
    whole, steps = files(hold_out("whole")), []

    def dies() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hold_out("killed", dies)
    assert not (tmp_path / "killed").exists()
    assert files(hold_out("killed", lambda: steps.append(1))) == whole
    assert len(steps) == 8


def test_one_split_alone(hold_out) -> None:
    out = hold_out("out", splits=("val",))
    assert open_scenes(f"x={out / 'test'}").names == ["val_00", "val_03"]
    assert not (out / "inliers/train").exists()


def test_what_lies_beside_the_labels_goes_with_them(tmp_path: Path) -> None:
    """Cityscapes tells by ``labelIds`` where there is no scene, whichever encoding is read."""
    for number, raw in enumerate((7, 33)):  # road and bicycle
        name = f"town_00000{number}_000019"
        for folder in ("leftImg8bit/val/town", "gtFine/val/town"):
            (tmp_path / "city" / folder).mkdir(parents=True, exist_ok=True)
        image = np.full((8, 12, 3), 90, np.uint8)
        Image.fromarray(image).save(tmp_path / f"city/leftImg8bit/val/town/{name}_leftImg8bit.png")
        ids = np.full((8, 12), raw, np.uint8)
        ids[-2:] = 1  # the own vehicle
        trained = np.where(ids == 7, 0, np.where(ids == 33, 18, 255)).astype(np.uint8)
        for kind, values in (("labelIds", ids), ("labelTrainIds", trained)):
            Image.fromarray(values).save(tmp_path / f"city/gtFine/val/town/{name}_gtFine_{kind}.png")
    settings = HoldOutSettings(data=f"cityscapes={tmp_path / 'city'}", classes=("bicycle",))
    HoldOutRun(settings, tmp_path / "out").run()
    (kept,) = open_scenes(f"cityscapes={tmp_path / 'out/inliers'}", "val")
    assert kept.outside is not None
    assert kept.outside.sum() == 2 * 12
    (tested,) = open_scenes(f"x={tmp_path / 'out/test'}")
    assert set(tested.mask[:-2].ravel()) == {1}
    assert set(tested.mask[-2:].ravel()) == {255}


def test_a_damaged_label_map_is_reported(hold_out, data: str, tmp_path: Path) -> None:
    (tmp_path / "set/val/labels/02.png").write_bytes(b"nonsense")
    out = hold_out("out")
    (error,) = [one for one in json.loads((out / "manifest.json").read_text())["frames"] if "error" in one]
    assert error["name"] == "val_02"
    assert "02.png" in error["error"]
    settings = HoldOutSettings(data=data, classes=("bicyclist",))
    with pytest.raises(InputError, match=r"02\.png"):
        HoldOutRun(settings, tmp_path / "strict", strict=True).run()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("unicorn",)}, "no class unicorn in camvid; join by . what you mean of: sky, building"),
        ({"classes": ()}, "no class to hold out in camvid"),
        ({"classes": ("fence",)}, "none of 8 frames shows fence: hold out another class"),
        ({"classes": ("road",)}, "every frame shows road: hold out fewer classes"),
        ({"splits": ("mars",)}, "camvid has no split 'mars'"),
        ({"data": "synthetic=4"}, "synthetic scenes are rendered, and classes are held out of files"),
        ({"data": "camvid=no/where"}, "no file or folder no/where"),
    ],
)
def test_wrong_settings(hold_out, tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hold_out("out", **settings)
    assert not list(tmp_path.glob("*out*")), "other settings can be tried at once"


def test_data_without_labels(street: Callable[..., Path], tmp_path: Path) -> None:
    settings = HoldOutSettings(data=f"x={street()}", classes=("dog",))
    with pytest.raises(InputError, match="has no class labels to hold classes out of"):
        HoldOutRun(settings, tmp_path / "out")
