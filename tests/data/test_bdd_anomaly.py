"""BDD-Anomaly: which frames are tests, and what raw values mean, is told by the label maps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.bdd_anomaly import BDD_ANOMALY, BDD_ANOMALY_2
from strays.data.opening import open_scenes, recognise
from strays.doctor import examine
from strays.errors import InputError
from strays.taxonomy import CITYSCAPES

Save = Callable[..., Path]
Array = NDArray[np.uint8]
VOID, TRAIN, MOTORCYCLE, BICYCLE = 255, 16, 17, 18

# Train ids in each frame, in vertical stripes.
FRAMES = {
    "train/a": (0, 13, VOID),
    "train/b": (0, TRAIN, VOID),
    "train/c": (0, BICYCLE, VOID),
    "val/d": (0, 15, VOID),
    "val/e": (0, MOTORCYCLE, VOID),
}
LAYOUTS = {
    "the authors": ("seg/images/{}.jpg", "seg/train_labels/{}_train_id.png"),
    "both": ("images/10k/{}.jpg", "seg/train_labels/{}_train_id.png"),
    "BDD100K": ("images/10k/{}.jpg", "labels/sem_seg/masks/{}.png"),
}


def plain(ids: Array) -> Array:
    return ids


def shifted(ids: Array) -> Array:
    """As create_bdd_dataset.py of the authors rewrites labels: 255 becomes -1, and all move up by 2."""
    return (np.where(ids == 255, -1, ids.astype(int)) + 2).astype(np.uint8)


def reordered(ids: Array) -> Array:
    """As create_dataset.py of the authors does: 16, 17, 18 in the order bicycle, motorcycle, train, then up by 1."""
    swapped = np.select([ids == 255, ids == TRAIN, ids == BICYCLE], [-1, 18, 16], ids.astype(int))
    return (swapped + 1).astype(np.uint8)


Encoding = Callable[[Array], Array]
ENCODINGS = pytest.mark.parametrize("encoding", [plain, shifted, reordered])


@pytest.fixture
def write(tmp_path: Path, save: Save, stripes: Callable[..., Array], photo: Array) -> Callable[..., Path]:
    def wrote(layout: str = "the authors", encoding: Encoding = plain) -> Path:
        image, labels = LAYOUTS[layout]
        for key, ids in FRAMES.items():
            save(image.format(key), photo)
            save(labels.format(key), encoding(stripes(*ids)))
        save(image.format("test/z"), photo)
        return tmp_path

    return wrote


@ENCODINGS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_three_classes(write: Callable[..., Path], layout: str, encoding: Encoding) -> None:
    folder = write(layout, encoding)
    assert [claim.dataset for claim in recognise(folder)] == ["bdd-anomaly"]
    splits = {split: open_scenes(folder, split) for split in ("train", "val", "test")}
    assert {split: scenes.names for split, scenes in splits.items()} == {
        "train": ["a"],
        "val": ["d"],
        "test": ["b", "c", "e"],
    }
    assert open_scenes(folder).split == "test"
    assert [scenes.has_masks for scenes in splits.values()] == [False, False, True]
    assert splits["test"].taxonomy == BDD_ANOMALY
    for scene in splits["test"]:
        assert scene.labels is not None
        assert scene.mask is not None
        assert scene.labels[0, :3].tolist() == [0, 255, 255]
        assert scene.mask[0, :3].tolist() == [0, 1, 0]
    train = splits["train"][0].labels
    assert train is not None
    assert train[0, :3].tolist() == [0, 13, 255]


@ENCODINGS
def test_two_classes(write: Callable[..., Path], encoding: Encoding) -> None:
    folder = write("the authors", encoding)
    spec = f"bdd-anomaly-2={folder}"
    assert {split: open_scenes(spec, split).names for split in ("train", "val", "test")} == {
        "train": ["a", "c"],
        "val": ["d"],
        "test": ["b", "e"],
    }
    bicycle = open_scenes(spec, "train")[1].labels
    assert bicycle is not None
    assert bicycle[0, :3].tolist() == [0, 16, 255]
    assert BDD_ANOMALY_2.names[16] == "bicycle"


def test_class_names() -> None:
    assert BDD_ANOMALY.names == CITYSCAPES.names[:16]
    assert BDD_ANOMALY_2.names == (*CITYSCAPES.names[:16], "bicycle")


def test_a_changed_label_map_is_read_again(
    write: Callable[..., Path], save: Save, stripes: Callable[..., Array]
) -> None:
    folder = write()
    assert open_scenes(folder).names == ["b", "c", "e"]
    save("seg/train_labels/train/a_train_id.png", stripes(0, TRAIN, VOID))
    assert open_scenes(folder).names == ["a", "b", "c", "e"]


def test_the_doctor(write: Callable[..., Path], save: Save, photo: Array, stripes: Callable[..., Array]) -> None:
    folder = write()
    diagnosis = examine(folder)
    assert [(one.split, one.frames) for one in diagnosis.splits] == [("train", 1), ("val", 1), ("test", 3)]
    assert [one.expected for one in examine(f"bdd-anomaly-2={folder}").splits] == [6688, 951, 361]
    assert not any("without label map" in one.found for one in diagnosis.problems)  # of BDD100K's own test images
    save("seg/images/val/y.jpg", photo)
    path = save("seg/train_labels/val/d_train_id.png", stripes(0, 40, 255))
    problems = examine(f"bdd-anomaly={folder}").problems
    assert [one.file for one in problems if "without label map" in one.found] == [str(folder / "seg/images/val/y.jpg")]
    assert [one.found for one in problems if one.file == str(path)] == [
        "undeclared value 40 (32 pixels) in the label map"
    ]


def test_no_labels(tmp_path: Path, save: Save, photo: Array) -> None:
    save("seg/images/train/a.jpg", photo)
    with pytest.raises(InputError, match=r"no bdd-anomaly data in .*: expected seg/images/SPLIT/ID\.jpg with"):
        open_scenes(f"bdd-anomaly={tmp_path}")
