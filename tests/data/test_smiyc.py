"""The test frames of SegmentMeIfYouCan, which have no masks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.opening import open_scenes
from strays.doctor import examine
from strays.errors import InputError

Save = Callable[..., Path]
Array = NDArray[np.uint8]

ROADS = ("curvy-street", "one-way-street", "motorway")
SURFACES = ("gravel", "greyasphalt", "paving", "darkasphalt", "darkasphalt2")
SCENES = (*ROADS, *SURFACES)
"""The scenes of ObstacleTrack-test in the benchmark's own code."""
OTHERS = ("snowstorm1", "snowstorm2", "driveway")


def test_the_eight_scenes_of_the_obstacle_track(
    tmp_path: Path, save: Save, photo: Array, stripes: Callable[..., Array]
) -> None:
    for scene in (*SCENES, *OTHERS, "validation"):
        save(f"images/{scene}_box_1.webp", photo)
    save("labels_masks/validation_box_1_labels_semantic.png", stripes(0, 1, 255))
    scenes = open_scenes(tmp_path, "test")
    assert (scenes.name, scenes.split) == ("smiyc-obstacle", "test")
    assert sorted(scenes.names) == sorted(f"{scene}_box_1" for scene in SCENES)
    assert not scenes.has_masks
    assert scenes[0].mask is None
    assert open_scenes(tmp_path).names == ["validation_box_1"]
    diagnosis = examine(tmp_path)
    assert [(one.split, one.frames, one.expected) for one in diagnosis.splits] == [("val", 1, 30), ("test", 8, 327)]
    assert diagnosis.notes == ("files that are not read: 3 .webp",)


def test_the_test_frames_of_the_anomaly_track(
    tmp_path: Path, save: Save, photo: Array, stripes: Callable[..., Array]
) -> None:
    for name in ("airplane0001", "validation0000"):
        save(f"images/{name}.jpg", photo)
    save("labels_masks/validation0000_labels_semantic.png", stripes(0, 1, 255))
    assert open_scenes(tmp_path, "test").names == ["airplane0001"]
    assert open_scenes(tmp_path).names == ["validation0000"]


def test_without_any_mask_the_test_frames_must_be_asked_for(tmp_path: Path, save: Save, photo: Array) -> None:
    save("images/airplane0001.jpg", photo)
    assert len(open_scenes(f"smiyc-anomaly={tmp_path}", "test")) == 1
    with pytest.raises(InputError, match="no smiyc-anomaly data in"):
        open_scenes(f"smiyc-anomaly={tmp_path}")


def test_a_copy_of_the_labelled_frames_has_no_test_frames(
    tmp_path: Path, save: Save, photo: Array, stripes: Callable[..., Array]
) -> None:
    for number in range(2):
        save(f"images/{number}.png", photo)
    save("labels_masks/0.png", stripes(0, 1, 255))
    with pytest.raises(InputError, match=r"no test frames of smiyc-anomaly in .*; expected images/SCENE"):
        open_scenes(f"smiyc-anomaly={tmp_path}", "test")
