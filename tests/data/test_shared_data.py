"""The real folders beside the repository: recognised without a name, with the numbers that their README states."""

from pathlib import Path

import numpy as np
import pytest

from strays.data.opening import open_scenes
from strays.doctor import examine
from strays.doctor.alignment import evidence, misplaced

# folder, data set, split -> frames, (H, W)
FOLDERS = [
    ("anomaly_validation/RoadAnomaly21", "smiyc-anomaly", {None: 10}, (720, 1280)),
    ("anomaly_validation/RoadObsticle21", "smiyc-obstacle", {"val": 30}, (1080, 1920)),
    ("anomaly_validation/RoadAnomaly", "road-anomaly", {None: 60}, (720, 1280)),
    ("anomaly_validation/fs_static", "fishyscapes-static", {None: 30}, (1024, 2048)),
    ("camvid", "camvid", {"train": 367, "val": 101, "test": 233}, (360, 480)),
    ("cityscapes", "cityscapes", {"train": 3, "val": 10}, (1024, 2048)),
    ("idd20k_lite", "idd-lite", {"train": 1053, "val": 204}, (227, 320)),
    ("drive_sequence", "frames", {None: 27}, (540, 960)),
]


@pytest.mark.parametrize(("folder", "name", "splits", "size"), FOLDERS, ids=[one[0] for one in FOLDERS])
def test_recognised_counted_and_read(
    shared: Path, folder: str, name: str, splits: dict[str | None, int], size: tuple[int, int]
) -> None:
    path = shared / "data" / folder
    first = open_scenes(path)
    assert first.name == name
    for split, frames in splits.items():
        scenes = open_scenes(f"{name}={path}", split)
        assert len(scenes) == len(set(scenes.names)) == frames
        scene = scenes[frames // 2]
        assert scene.size == size
        assert (scene.mask is not None) == scenes.has_masks
        if scene.labels is not None:
            assert scenes.taxonomy is not None
            assert set(np.unique(scene.labels)) <= {*range(len(scenes.taxonomy)), 255}
            assert (scene.labels != 255).mean() > 0.5


def test_cityscapes_frames_with_label_ids_tell_the_own_vehicle(shared: Path) -> None:
    train, val = (open_scenes(shared / "data/cityscapes", split) for split in ("train", "val"))
    for scene in train:
        assert scene.outside is not None
        assert scene.labels is not None
        assert 0.02 < scene.outside.mean() < 0.15
        assert scene.outside[-20:, 500:1500].all()
        assert (scene.labels[scene.outside] == 255).all()
    assert val[0].outside is None


def test_road_anomaly_21_has_the_stated_shares(shared: Path) -> None:
    diagnosis = examine(shared / "data/anomaly_validation/RoadAnomaly21")
    assert diagnosis.healthy
    assert {kind: round(share, 3) for kind, share in diagnosis.splits[0].mask.items()} == {
        "inlier": 0.822,
        "anomaly": 0.143,
        "ignore": 0.035,
    }
    assert diagnosis.notes == ("val: 10 images hold JPEG under another suffix; they are read by content",)


@pytest.mark.parametrize("name", ["RoadAnomaly", "fs_static"])
def test_real_masks_are_not_thought_to_lie_on_other_images(shared: Path, name: str) -> None:
    diagnosis = examine(shared / "data/anomaly_validation" / name)
    assert diagnosis.healthy, diagnosis.text()


def test_real_masks_that_are_exchanged_are_found(shared: Path) -> None:
    scenes = open_scenes(shared / "data/anomaly_validation/RoadAnomaly21")
    images, masks = [scene.image for scene in scenes], [scene.mask for scene in scenes]
    kept = [evidence(image, mask) for image, mask in zip(images, masks, strict=True) if mask is not None]
    assert misplaced([one for one in kept if one is not None]) == []
    masks[2], masks[6] = masks[6], masks[2]
    kept = [evidence(image, mask) for image, mask in zip(images, masks, strict=True) if mask is not None]
    assert sorted(misplaced([one for one in kept if one is not None])) == [(2, 6), (6, 2)]


def test_the_doctor_on_animals_with_undeclared_masks(shared: Path) -> None:
    diagnosis = examine(shared / "data/held_out_objects")
    assert diagnosis.dataset == "folder"
    assert diagnosis.frames == 76
    assert "nobody declared what 255 means" in str(diagnosis.problems[0])


def test_folders_of_several_sets_say_where_to_point(shared: Path) -> None:
    fixes = [problem.fix for problem in examine(shared / "data").problems]
    for folder in ("camvid", "cityscapes", "idd20k_lite", "anomaly_validation/RoadAnomaly", "held_out_objects"):
        assert f"point at {shared / 'data' / folder}" in fixes
