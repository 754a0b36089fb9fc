"""Every reader on a miniature copy of each layout that it knows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.base import DATASETS, Facts
from strays.data.cityscapes import LABEL_IDS
from strays.data.opening import open_scenes, recognise
from strays.errors import InputError
from strays.scene import Scene

Save = Callable[..., Path]
Array = NDArray[np.uint8]
Stripes = Callable[..., Array]


def values(array: Array | None) -> set[int]:
    assert array is not None
    return set(np.unique(array).tolist())


def masked(scene: Scene) -> tuple[set[int], object]:
    return values(scene.mask), scene.labels


@pytest.mark.parametrize(
    ("images", "labels"), [("{split}/images", "{split}/labels"), ("{split}", "{split}annot")], ids=["folders", "segnet"]
)
def test_camvid(tmp_path: Path, save: Save, photo: Array, stripes: Stripes, images: str, labels: str) -> None:
    for split, count in (("train", 2), ("val", 1), ("test", 3)):
        for index in range(count):
            save(f"{images.format(split=split)}/0001TP_{index}.png", photo)
            save(f"{labels.format(split=split)}/0001TP_{index}.png", stripes(0, 10, 11))
    assert [claim.dataset for claim in recognise(tmp_path)] == ["camvid"]
    scenes = open_scenes(f"camvid={tmp_path}")
    assert (scenes.split, len(scenes), scenes.names[0]) == ("test", 3, "0001TP_0")
    assert scenes.taxonomy is not None
    assert scenes.taxonomy.name == "camvid"
    assert values(scenes[0].labels) == {0, 10, 255}
    assert scenes[0].mask is None
    assert len(open_scenes(f"camvid={tmp_path}", "train")) == 2
    with pytest.raises(InputError, match="camvid has no split 'all'; splits there are: train, val, test"):
        open_scenes(f"camvid={tmp_path}", "all")


def test_a_split_that_is_missing_names_those_there(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save("train/images/1.png", photo)
    save("train/labels/1.png", stripes(0))
    with pytest.raises(InputError, match=r"no val frames of camvid in .*; splits there are: train"):
        open_scenes(f"camvid={tmp_path}", "val")
    assert open_scenes(f"camvid={tmp_path}").split == "train"


def test_cityscapes_prefers_train_ids_and_reads_label_ids(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes
) -> None:
    for split, ending, raw in (("train", "labelIds", (0, 7, 33)), ("val", "labelTrainIds", (0, 18, 255))):
        save(f"leftImg8bit/{split}/ulm/ulm_000000_000019_leftImg8bit.png", photo)
        save(f"gtFine/{split}/ulm/ulm_000000_000019_gtFine_{ending}.png", stripes(*raw))
        save(f"gtFine/{split}/ulm/ulm_000000_000019_gtFine_instanceIds.png", np.full((8, 12), 26001, np.uint16))
        save(f"gtFine/{split}/ulm/ulm_000000_000019_gtFine_color.png", photo)
    save("gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", stripes(7))
    assert [claim.dataset for claim in recognise(tmp_path)] == ["cityscapes"]
    train, val = (open_scenes(tmp_path, split) for split in ("train", "val"))
    assert values(train[0].labels) == {255, 0, 18}
    assert values(val[0].labels) == {0, 18, 255}
    assert val.names == ["ulm_000000_000019"]
    assert open_scenes(tmp_path).split == "val"


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes_tells_the_own_vehicle_from_the_scene(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes, kind: str
) -> None:
    frame = "gtFine/val/ulm/ulm_000000_000019_gtFine"
    save("leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png", photo)
    if kind == "labelTrainIds":
        save(f"{frame}_labelTrainIds.png", stripes(255, 255, 255, 255, 0))
        assert open_scenes(tmp_path, "val")[0].outside is None
    save(f"{frame}_labelIds.png", stripes(0, 1, 2, 3, 4))
    scene = open_scenes(tmp_path, "val")[0]
    assert scene.outside is not None
    assert scene.outside.dtype == np.bool_
    assert scene.outside[0, :6].tolist() == [False, True, True, True, False, False]
    assert scene.labels is not None
    assert (scene.labels[scene.outside] == 255).all()
    path = save(f"{frame}_labelIds.png", np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError, match=r"label map of 6x4 for an image of 12x8") as caught:
        open_scenes(tmp_path, "val")[0]
    assert str(path) in str(caught.value)


def test_label_ids_are_those_of_the_specification() -> None:
    ids = "7→0 8→1 11→2 12→3 13→4 17→5 19→6 20→7 21→8 22→9 23→10 24→11 25→12 26→13 27→14 28→15 31→16 32→17 33→18"
    expected = dict.fromkeys(range(34), 255)
    expected |= {int(raw): int(index) for raw, index in (pair.split("→") for pair in ids.split())}
    assert expected == LABEL_IDS.values


def test_idd_lite_names_frames_by_drive(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    for drive in ("10", "2"):
        save(f"leftImg8bit/val/{drive}/0001_image.jpg", photo)
        save(f"gtFine/val/{drive}/0001_label.png", stripes(0, 6, 255))
        save(f"gtFine/val/{drive}/0001_inst_label.png", stripes(0, 77))
    assert [claim.dataset for claim in recognise(tmp_path)] == ["idd-lite"]
    scenes = open_scenes(tmp_path)
    assert scenes.names == ["2_0001", "10_0001"]
    assert values(scenes[0].labels) == {0, 6, 255}
    assert scenes.taxonomy is not None
    assert len(scenes.taxonomy) == 7
    assert scenes.orphans == ()  # type: ignore[attr-defined]


REPACKED = ("smiyc-anomaly", "smiyc-obstacle", "fishyscapes-static", "fishyscapes-lost-and-found", "lost-and-found")


@pytest.mark.parametrize("name", [*REPACKED, "road-anomaly"])
def test_repacked_masks(tmp_path: Path, save: Save, photo: Array, stripes: Stripes, name: str) -> None:
    raw = (0, 2) if name == "road-anomaly" else (0, 1, 255)
    for number in (10, 9, 0):
        save(f"images/{number}.webp", photo)
        save(f"labels_masks/{number}.png", stripes(*raw))
    scenes = open_scenes(f"{name}={tmp_path}")
    assert scenes.names == ["0", "9", "10"]
    assert masked(scenes[0]) == ({0, 1} if name == "road-anomaly" else {0, 1, 255}, None)
    assert scenes.name == name
    assert scenes.has_masks
    with pytest.raises(InputError, match=r"splits? 'zzz'; "):
        open_scenes(f"{name}={tmp_path}", "zzz")


def test_values_of_another_set_are_explained(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save("images/0.jpg", photo)
    save("labels_masks/0.png", stripes(0, 2))
    with pytest.raises(InputError, match=r"undeclared value 2 .*; RoadAnomaly of 2019 .* open it as road-anomaly=PATH"):
        open_scenes(f"smiyc-anomaly={tmp_path}")[0]
    save("labels_masks/0.png", stripes(0, 1))
    with pytest.raises(InputError, match=r"undeclared value 1 .*; RoadAnomaly has 2 .* read copies .* as folder=PATH"):
        open_scenes(f"road-anomaly={tmp_path}")[0]


def test_road_anomaly_as_released(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    for name in ("animals01_x", "rocks02"):
        save(f"frames/{name}.jpg", photo)
        save(f"frames/{name}.labels/labels_semantic.png", stripes(0, 2))
        save(f"frames/{name}.labels/labels_semantic_color.png", photo)
    (tmp_path / "frame_list.json").write_text("[]")
    scenes = open_scenes(tmp_path)
    assert (scenes.name, scenes.names) == ("road-anomaly", ["animals01_x", "rocks02"])
    assert masked(scenes[1]) == ({0, 1}, None)


@pytest.mark.parametrize(("name", "suffix"), [("smiyc-anomaly", "jpg"), ("smiyc-obstacle", "webp")])
def test_smiyc_as_released(tmp_path: Path, save: Save, photo: Array, stripes: Stripes, name: str, suffix: str) -> None:
    for frame in ("validation_1", "validation_20", "validation_19", "validation_21b", "validation_29"):
        save(f"images/{frame}.{suffix}", photo)
        save(f"labels_masks/{frame}_labels_semantic.png", stripes(0, 1, 255))
        save(f"labels_masks/{frame}_labels_semantic_color.png", photo)
    save(f"images/gravel_boot_1.{suffix}", photo)
    save(f"images/validation_2.{suffix}", photo)
    assert [claim.dataset for claim in recognise(tmp_path)] == [name]
    scenes = open_scenes(tmp_path)
    named = ["validation_1", "validation_20"]
    others = ["validation_19", "validation_21b", "validation_29"]
    assert sorted(scenes.names) == sorted(named if name == "smiyc-obstacle" else named + others)
    assert masked(scenes[0]) == ({0, 1, 255}, None)
    unlabelled = [path.stem for path in scenes.unlabelled]  # type: ignore[attr-defined]
    assert unlabelled == ["validation_2"]  # the hidden test frames are no complaint


def lost_and_found(save: Save, photo: Array, stripes: Stripes) -> None:
    for split, scene in (
        ("train", "01_Hanns_Klemm_Str_45"),
        ("test", "02_Hanns"),
        ("test", "15_Rechbergstr_Deckenpfronn"),
    ):
        frame = f"{split}/{scene}/{scene}_000000_000080"
        save(f"leftImg8bit/{frame}_leftImg8bit.png", photo)
        save(f"gtCoarse/{frame}_gtCoarse_labelIds.png", stripes(0, 1, 2, 43))
        save(f"gtCoarse/{frame}_gtCoarse_labelTrainIds.png", stripes(255, 1, 2, 0))


def test_lost_and_found_as_released(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    lost_and_found(save, photo, stripes)
    assert [claim.dataset for claim in recognise(tmp_path)] == ["lost-and-found"]
    scenes = open_scenes(tmp_path)
    assert scenes.split == "test"
    assert scenes.names == ["02_Hanns_000000_000080", "15_Rechbergstr_Deckenpfronn_000000_000080"]
    assert scenes[0].mask is not None
    assert scenes[0].mask[0, :4].tolist() == [255, 0, 1, 1]
    assert open_scenes(tmp_path, "test-no-known").names == ["02_Hanns_000000_000080"]
    assert open_scenes(tmp_path, "train").names == ["01_Hanns_Klemm_Str_45_000000_000080"]
    hazards = open_scenes(f"lost-and-found-train-ids={tmp_path}")[0].mask
    assert hazards is not None
    assert hazards[0, :4].tolist() == [255, 0, 1, 255]


def test_lost_and_found_leaves_out_the_frames_that_nobody_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    from strays.data.layout import Pairs
    from strays.data.lost_and_found import _labelled

    for part, complete, remaining, blank in (("train", 1036, 1030, 44), ("test", 1203, 1186, 793)):
        pairs = Pairs({f"02_x/02_x_{number:06d}": (Path(), Path()) for number in range(complete)})
        kept = _labelled(pairs, part).matched
        assert len(kept) == remaining
        assert f"02_x/02_x_{blank:06d}" not in kept
        assert f"02_x/02_x_{blank + 2:06d}" in kept
    assert len(_labelled(Pairs({"02_x/1": (Path(), Path())}), "test").matched) == 1


@pytest.mark.parametrize("where", ["beside", "declared", "given"])
def test_fishyscapes_lost_and_found_as_released(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes, where: str
) -> None:
    images = "laf" if where == "beside" else "far/away/laf"
    for split, scene in (("train", "01_Hanns_Klemm_Str_45"), ("test", "04_Maurener_Weg_8")):
        save(f"{images}/leftImg8bit/{split}/{scene}/{scene}_000000_000030_leftImg8bit.png", photo)
    save("fs/0000_04_Maurener_Weg_8_000000_000030_labels.png", stripes(0, 1, 255))
    save("fs/0001_01_Hanns_Klemm_Str_45_000000_000030_labels.png", stripes(0, 255))
    folder, keywords = tmp_path / "fs", {}
    assert [claim.dataset for claim in recognise(folder)] == ["fishyscapes-lost-and-found"]
    if where == "declared":
        (folder / "strays.json").write_text('{"images": "../far/away/laf"}')
    if where == "given":
        keywords = {"images": tmp_path / images}
    scenes = DATASETS["fishyscapes-lost-and-found"].open(folder, "val", **keywords)
    assert scenes.names == ["0000_04_Maurener_Weg_8_000000_000030", "0001_01_Hanns_Klemm_Str_45_000000_000030"]
    assert masked(scenes[0]) == ({0, 1, 255}, None)
    assert (scenes[1].image == photo).all()


def test_fishyscapes_masks_without_images_say_whose_are_missing(tmp_path: Path, save: Save, stripes: Stripes) -> None:
    save("fs/0000_04_Maurener_Weg_8_000000_000030_labels.png", stripes(0, 1))
    with pytest.raises(
        InputError, match=r"without the images, which are those of Lost and Found; .*images.*strays\.json"
    ):
        open_scenes(tmp_path / "fs")


def test_fishyscapes_labels_as_other_tools_keep_them(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes
) -> None:
    save("labels/val/13_Elly_000000_000050_fishy-labels.png", stripes(0, 1))
    save("images/13_Elly_000000_000050_leftImg8bit.webp", photo)
    scenes = open_scenes(tmp_path)
    assert (scenes.name, scenes.names) == ("fishyscapes-lost-and-found", ["13_Elly_000000_000050"])
    save("pack/original/1.png", photo)
    save("pack/labels/1.png", stripes(0, 1, 255))
    assert masked(open_scenes(f"fishyscapes-lost-and-found={tmp_path}/pack")[0]) == ({0, 1, 255}, None)


def test_fishyscapes_static_as_released(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    image = save("cityscapes/leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png", photo)
    difference = np.random.default_rng(0).integers(-255, 256, photo.shape).astype(np.int16)
    mask = save("fs_val_v3/0000_ulm_000000_000019_labels.png", stripes(0, 1, 255))
    np.savez(mask.with_name("0000_ulm_000000_000019_rgb.npz"), rgb=difference)
    scenes = open_scenes(mask.parent)
    assert (scenes.name, scenes.split, len(scenes)) == ("fishyscapes-static", "val", 1)
    expected = np.clip(photo.astype(float) + difference, 0, 255)
    assert (scenes[0].image == expected).all()
    mask.with_name("0000_ulm_000000_000019_rgb.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match=r"_rgb\.npz holds no difference image .*; unpack the release again"):
        scenes[0]
    image.unlink()
    with pytest.raises(InputError, match="which are those of Cityscapes"):
        open_scenes(mask.parent)


def blocks(height: int, width: int, shares: tuple[float, float]) -> Array:
    """A mask with the given shares of anomaly and ignore, to the pixel."""
    flat = np.zeros(height * width, np.uint8)
    anomaly, ignore = (round(share * flat.size) for share in shares)
    flat[:anomaly], flat[anomaly : anomaly + ignore] = 1, 255
    return flat.reshape(height, width)


@pytest.mark.parametrize(("anomaly", "dataset"), [(0.1429, "smiyc-anomaly"), (0.16, "folder")])
def test_repacked_copies_are_recognised_by_content_alone(
    tmp_path: Path, save: Save, anomaly: float, dataset: str
) -> None:
    flat = np.zeros((720, 1280, 3), np.uint8)
    for number in range(10):
        save(f"fs_static/images/{number}.png", flat, kind="JPEG")  # the folder's own name must not matter
        save(f"fs_static/labels_masks/{number}.png", blocks(720, 1280, (anomaly, 0.0348)))
    assert open_scenes(tmp_path / "fs_static").name == dataset


def test_a_set_whose_content_nobody_published_is_only_possible(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Facts(frames={"val": 2}, sizes=frozenset({(8, 12)}))
    monkeypatch.setattr(DATASETS["fishyscapes-lost-and-found"], "facts", small)
    for number in range(2):
        save(f"images/{number}.jpg", photo)
        save(f"labels_masks/{number}.png", stripes(0, 1, 255))
    with pytest.raises(InputError, match=r"may be more than one data set .* say which: ") as caught:
        open_scenes(tmp_path)
    assert f"fishyscapes-lost-and-found={tmp_path} or folder={tmp_path}" in str(caught.value)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_contract(tmp_path: Path, name: str) -> None:
    reader = DATASETS[name]
    assert reader.name == name
    assert reader.card.title
    assert reader.card.summary.endswith(".")
    assert reader.recognise(tmp_path) is None
    assert reader.fit(tmp_path) == 0
    assert reader.default_split is None or not reader.facts.frames or reader.default_split in reader.facts.frames
    if reader.needs_folder:
        with pytest.raises(InputError) as caught:
            reader.open(tmp_path)
        assert str(tmp_path) in str(caught.value)
