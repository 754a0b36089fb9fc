"""The forms in which Fishyscapes is passed around, and its on-road variant."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.base import DATASETS, Facts
from strays.data.opening import open_scenes, recognise
from strays.doctor import examine
from strays.errors import InputError
from strays.scene import Scene

Save = Callable[..., Path]
Array = NDArray[np.uint8]
Stripes = Callable[..., Array]
IDS = ("04_Maurener_Weg_8_000000_000030", "01_Hanns_Klemm_Str_45_000000_000050")


def mask_of(scene: Scene) -> list[int]:
    assert scene.mask is not None
    return scene.mask[0, :4].tolist()


@pytest.fixture
def released(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> Path:
    """Lost and Found with two frames, and the masks of Fishyscapes for them."""
    for number, (one, part) in enumerate(zip(IDS, ("test", "train"), strict=True)):
        scene = one[:-14]
        save(f"laf/leftImg8bit/{part}/{scene}/{one}_leftImg8bit.png", photo)
        save(f"laf/gtCoarse/{part}/{scene}/{one}_gtCoarse_labelIds.png", stripes(0, 1, 2, 43))
        save(f"fs/{number:04}_{one}_labels.png", stripes(0, 1, 255))
    return tmp_path


def test_the_on_road_variant_has_the_labels_of_lost_and_found(released: Path) -> None:
    assert [claim.dataset for claim in recognise(released / "fs")] == ["fishyscapes-lost-and-found"]
    scenes = open_scenes(f"fishyscapes-on-road={released / 'fs'}")
    assert scenes.names == [f"{number:04}_{one}" for number, one in enumerate(IDS)]
    assert [mask_of(scene) for scene in scenes] == [[255, 0, 1, 1]] * 2
    plain = open_scenes(released / "fs")
    assert [mask_of(scene) for scene in plain] == [[0, 1, 255, 0]] * 2


def test_the_on_road_variant_without_labels(released: Path) -> None:
    (released / "laf/gtCoarse").rename(released / "away")
    with pytest.raises(InputError, match=r"no labels of Lost and Found .*gtCoarse/test/04_Maurener_Weg_8/.*; unpack"):
        open_scenes(f"fishyscapes-on-road={released / 'fs'}")
    (released / "laf/leftImg8bit").rename(released / "away/leftImg8bit_unpacked")
    with pytest.raises(InputError, match="without the images, which are those of Lost and Found"):
        open_scenes(f"fishyscapes-on-road={released / 'fs'}")


def test_images_beside_official_masks(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save(f"0000_{IDS[0]}_labels.png", stripes(0, 1))
    save(f"0000_{IDS[0]}.png", photo)
    scenes = open_scenes(tmp_path)
    assert (scenes.name, scenes.names) == ("fishyscapes-lost-and-found", [f"0000_{IDS[0]}"])
    assert (scenes[0].image == photo).all()


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("fishyscapes-lost-and-found", IDS),
        ("fishyscapes-static", ("frankfurt_000000_000294", "munster_000005_000019_leftImg8bit")),
    ],
)
def test_the_pack_of_synboost_is_told_by_its_names(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes, name: str, ids: tuple[str, ...]
) -> None:
    for number, one in enumerate(ids):
        save(f"original/{number:04}_{one}.png", photo)
        save(f"labels/{number:04}_{one}.png", stripes(0, 1, 255))
        save(f"labels_with_ROI/{number:04}_{one}.png", stripes(255, 1, 255))
    assert [(claim.dataset, claim.certain) for claim in recognise(tmp_path)] == [(name, True)]
    assert mask_of(open_scenes(tmp_path)[0]) == [0, 1, 255, 0]
    within = open_scenes(tmp_path, "val-roi")
    assert (within.split, mask_of(within[0])) == ("val-roi", [255, 1, 255, 255])
    assert [one.split for one in examine(tmp_path).splits] == ["val", "val-roi"]
    with pytest.raises(InputError, match="splits there are: val, val-roi"):
        open_scenes(tmp_path, "roi")


def test_frames_of_another_set_in_the_same_folders_are_not_claimed(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes
) -> None:
    for one in (IDS[0], "02_Hanns_Klemm_Str_44_000000_000030"):
        save(f"original/{one}.png", photo)
        save(f"labels/{one}.png", stripes(0, 1, 255))
    assert [claim.dataset for claim in recognise(tmp_path)] == ["folder"]


@pytest.mark.parametrize("parted", [False, True])
def test_a_set_in_the_form_of_web(tmp_path: Path, save: Save, photo: Array, stripes: Stripes, parted: bool) -> None:
    images, masks = ("images/", "labels/") if parted else ("", "")
    for number in range(2):
        save(f"{images}{number:04}_dragon.png", photo)
        save(f"{masks}{number:04}_dragon_labels.png", stripes(0, 1, 255))
    assert [claim.dataset for claim in recognise(tmp_path)] == ["fishyscapes-web"]
    scenes = open_scenes(tmp_path)
    assert scenes.names == ["0000_dragon", "0001_dragon"]
    assert mask_of(scenes[1]) == [0, 1, 255, 0]
    diagnosis = examine(tmp_path)
    assert diagnosis.healthy, diagnosis.text()


def test_masks_alone_are_not_web(tmp_path: Path, save: Save, stripes: Stripes) -> None:
    save("0000_dragon_labels.png", stripes(0, 1))
    assert "fishyscapes-web" not in [claim.dataset for claim in recognise(tmp_path)]
    with pytest.raises(InputError, match="0 images and 1 maps, but no image shares its name with a map"):
        open_scenes(f"fishyscapes-web={tmp_path}")


def test_the_facts_of_static_are_those_of_version_3() -> None:
    facts: Facts = DATASETS["fishyscapes-static"].facts
    assert (facts.frames["val"], facts.without_anomaly["val"]) == (30, 10)
    assert "fs_val_v3.zip" in facts.version
