"""Anybody's images, with masks or without."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.folder import FolderReader, FramesReader
from strays.data.opening import open_scenes
from strays.errors import InputError

Save = Callable[..., Path]
Array = NDArray[np.uint8]
Stripes = Callable[..., Array]


@pytest.mark.parametrize("masks", ["masks", "labels_masks", "gt"])
def test_usual_folders_and_values(tmp_path: Path, save: Save, photo: Array, stripes: Stripes, masks: str) -> None:
    save("images/drive/2.jpg", photo)
    save("images/drive/10.jpg", photo)
    save(f"{masks}/drive/2.png", stripes(0, 1, 255))
    scenes = open_scenes(f"mine={tmp_path}")
    assert (scenes.name, scenes.names) == ("mine", ["drive_2"])
    assert scenes.unlabelled == (tmp_path / "images/drive/10.jpg",)  # type: ignore[attr-defined]
    assert scenes[0].mask is not None
    assert scenes[0].mask[0, :3].tolist() == [0, 1, 255]


def test_a_declaration_in_the_folder(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save("rgb/1_left.png", photo)
    save("truth/1_mask.png", stripes(0, 100, 200))
    save("truth/1_colour.png", photo)
    declared = {
        "images": "rgb",
        "masks": "truth",
        "image_ending": "_left",
        "mask_ending": "_mask",
        "values": {"inlier": [0], "anomaly": [100], "ignore": [200]},
    }
    (tmp_path / "strays.json").write_text(json.dumps(declared))
    for spec in (tmp_path, f"folder={tmp_path}", tmp_path / "strays.json"):
        scenes = open_scenes(spec)
        assert scenes.names == ["1"]
        assert scenes[0].mask is not None
        assert scenes[0].mask[0, :3].tolist() == [0, 1, 255]


def test_a_declaration_elsewhere(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save("readonly/images/1.png", photo)
    save("readonly/masks/1.png", stripes(0, 255))
    (tmp_path / "home").mkdir()
    declared = {
        "images": "../readonly/images",
        "masks": str(tmp_path / "readonly/masks"),
        "values": {"anomaly": [255], "ignore": []},
    }
    (tmp_path / "home" / "animals.json").write_text(json.dumps(declared))
    scenes = open_scenes(f"animals={tmp_path}/home/animals.json")
    assert scenes.name == "animals"
    assert scenes[0].has_anomaly


def test_a_declaration_that_is_wrong_names_the_entry(tmp_path: Path) -> None:
    path = tmp_path / "strays.json"
    path.write_text('{"values": {"anomaly": ["red"]}}')
    with pytest.raises(InputError, match=rf"{path}: values\.anomaly\.0: .*integer.*; expected for example"):
        open_scenes(tmp_path)
    path.write_text('{"image": "rgb"}')
    with pytest.raises(InputError, match=r"strays.json: image: .*not permitted"):
        open_scenes(tmp_path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"strays.json: the file: Invalid JSON"):
        open_scenes(tmp_path)


def test_keywords(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save("a/1.png", photo)
    save("b/1.png", stripes(0, 3, 4, 9))
    scenes = FolderReader.open(tmp_path, images="a", masks=tmp_path / "b", inlier=0, anomaly=(3, 4), ignore=9)
    assert scenes[0].mask is not None
    assert scenes[0].mask[0, :4].tolist() == [0, 1, 1, 255]


def test_masks_of_0_and_255_must_be_declared(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    for name in ("1", "2"):
        save(f"images/{name}.png", photo)
        save(f"masks/{name}.png", stripes(0, 255))
    with pytest.raises(InputError, match=r"hold 255 and not a single 1, and nobody declared what 255 means; write "):
        open_scenes(tmp_path)
    assert FolderReader.open(tmp_path, anomaly=255, ignore=())[0].has_anomaly
    assert not FolderReader.open(tmp_path, ignore=255)[0].has_anomaly
    save("masks/2.png", stripes(0, 1, 255))
    assert [scene.has_anomaly for scene in open_scenes(tmp_path)] == [False, True]


def test_undeclared_values_say_how_to_declare_them(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save("images/1.png", photo)
    path = save("masks/1.png", stripes(0, 1, 7))
    with pytest.raises(
        InputError, match=rf"{path}: undeclared value 7 .*; declare it in strays\.json in the data set's"
    ):
        open_scenes(f"folder={tmp_path}")[0]


def test_a_folder_without_pairs(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    with pytest.raises(InputError, match=r"no folder data in .*: expected images/NAME.* found an empty folder"):
        open_scenes(f"folder={tmp_path}")
    save("images/1.png", photo)
    save("masks/2.png", stripes(0, 1))
    with pytest.raises(InputError, match="1 images and 1 maps, but no image shares its name with a map"):
        open_scenes(f"folder={tmp_path}")
    save("images/1.jpg", photo)
    with pytest.raises(InputError, match=r"two files for one frame: .*1\.jpg and .*1\.png; keep one"):
        open_scenes(f"folder={tmp_path}")
    with pytest.raises(InputError, match="a folder has no splits, got 'val'"):
        open_scenes(f"folder={tmp_path}", "val")


def test_frames(tmp_path: Path, save: Save, photo: Array) -> None:
    for name in ("day/10.jpg", "day/9.jpg", "night/9.jpg"):
        save(name, photo)
    scenes = open_scenes(tmp_path)
    assert (scenes.name, scenes.names) == ("frames", ["day_9", "10", "night_9"])
    assert (scenes[0].labels, scenes[0].mask, scenes.has_masks) == (None, None, False)
    with pytest.raises(InputError, match="frames have no splits"):
        open_scenes(tmp_path, "val")


def test_folders_with_label_maps_are_not_taken_for_frames(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes
) -> None:
    save("a_img/1.png", photo)
    save("b_label/1.png", stripes(0, 5))
    assert FramesReader.recognise(tmp_path) is None
    assert FramesReader.recognise(tmp_path / "a_img") is not None
    assert len(open_scenes(f"frames={tmp_path}")) == 2
