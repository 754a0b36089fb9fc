"""StreetHazards in both readings, on a miniature of its two archives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from strays.data.base import DATASETS, Facts
from strays.data.opening import open_scenes, recognise
from strays.data.street_hazards import STREETHAZARDS_12, StreetHazards, StreetHazards12
from strays.doctor import examine
from strays.errors import InputError
from strays.taxonomy import STREETHAZARDS

Save = Callable[..., Path]
Array = NDArray[np.uint8]
RAW = np.tile(np.arange(1, 15, dtype=np.uint8), (6, 2))
FRAMES = (
    ("train", "training", "t1"),
    ("train", "training", "t2"),
    ("train", "validation", "t3"),
    ("test", "test", "t5"),
    ("test", "test", "t6"),
)


@pytest.fixture
def streets(tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One frame per town, whose images have a fourth channel of nonsense."""
    known = Facts({"train": 2, "val": 1, "test": 2}, frozenset({RAW.shape}))
    for name in ("street-hazards", "street-hazards-12"):
        monkeypatch.setattr(DATASETS[name], "facts", known)
    for archive, split, town in FRAMES:
        picture = np.random.default_rng(len(town)).integers(0, 256, (*RAW.shape, 4), dtype=np.uint8)
        save(f"{archive}/images/{split}/{town}/200.png", picture)
        raw = RAW if archive == "test" else np.where(RAW == 14, 1, RAW).astype(np.uint8)
        save(f"{archive}/annotations/{split}/{town}/200.png", raw)
    for archive in ("train", "test"):
        (tmp_path / archive / f"{archive}.odgt").write_text("[]")
    return tmp_path


def test_labels_and_mask_come_from_one_file(streets: Path) -> None:
    assert [claim.dataset for claim in recognise(streets)] == ["street-hazards"]
    scenes = open_scenes(streets)
    assert (scenes.split, scenes.names, scenes.taxonomy) == ("test", ["t5_200", "t6_200"], STREETHAZARDS)
    assert scenes.has_labels
    assert scenes.has_masks
    scene = scenes[0]
    assert scene.labels is not None
    assert scene.mask is not None
    assert scene.labels[0, :14].tolist() == [*range(13), 255]
    assert scene.mask[0, :14].tolist() == [0] * 13 + [1]


def test_twelve_classes_ignore_other(streets: Path) -> None:
    scene = open_scenes(f"street-hazards-12={streets}")[0]
    assert scene.labels is not None
    assert scene.mask is not None
    assert scene.labels[0, :14].tolist() == [0, 1, 2, 255, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255]
    assert scene.mask[0, :14].tolist() == [0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_the_twelve_classes_lack_other_alone() -> None:
    assert STREETHAZARDS.names[3] == "other"
    assert STREETHAZARDS_12.names == STREETHAZARDS.names[:3] + STREETHAZARDS.names[4:]
    # raw 5, 8 and 13 of the specification
    assert [STREETHAZARDS_12.names[index] for index in (3, 6, 11)] == ["pedestrian", "road", "traffic sign"]


def test_the_training_towns_have_no_masks(streets: Path) -> None:
    for split, names in (("train", ["t1_200", "t2_200"]), ("val", ["t3_200"])):
        scenes = open_scenes(streets, split)
        assert scenes.names == names
        assert scenes.has_labels
        assert not scenes.has_masks
        assert scenes[0].mask is None


def test_one_town_of_the_test(streets: Path) -> None:
    for town in ("t5", "t6"):
        assert open_scenes(streets, f"test-{town}").names == [f"{town}_200"]
        assert open_scenes(streets, f"test-{town}").has_masks
    with pytest.raises(InputError, match="no split 'test-t7'; splits there are: train, val, test, test-t5, test-t6"):
        open_scenes(f"street-hazards={streets}", "test-t7")


def test_the_fourth_channel_is_dropped(streets: Path) -> None:
    stored = np.asarray(Image.open(streets / "test/images/test/t5/200.png"))
    assert stored.shape[2] == 4
    assert (open_scenes(streets)[0].image == stored[..., :3]).all()


def test_one_archive_alone(streets: Path) -> None:
    (streets / "test").rename(streets.parent / f"{streets.name}-away")
    scenes = open_scenes(f"street-hazards={streets}", "train")
    assert len(scenes) == 2
    with pytest.raises(InputError, match=r"no test frames of street-hazards in .*; splits there are: train, val"):
        open_scenes(f"street-hazards={streets}", "test")


def test_the_doctor_tells_splits_and_shifted_labels(streets: Path, save: Save) -> None:
    diagnosis = examine(streets)
    assert diagnosis.healthy, diagnosis.text()
    assert [(one.split, one.frames) for one in diagnosis.splits] == [("train", 2), ("val", 1), ("test", 2)]
    assert diagnosis.splits[2].mask["anomaly"] == pytest.approx(1 / 14)
    path = save("test/annotations/test/t6/200.png", RAW - 1)
    (problem,) = examine(f"street-hazards={streets}").problems
    assert (problem.file, problem.found) == (str(path), "undeclared value 0 (12 pixels) in the label map")
    assert problem.fix.startswith("StreetHazards numbers its classes from 1")


def test_one_archive_too_deep(streets: Path) -> None:
    diagnosis = examine(streets / "test")
    assert [problem.fix for problem in diagnosis.problems] == [f"point at {streets}"]


def test_the_published_numbers_of_frames() -> None:
    for reader in (StreetHazards, StreetHazards12):
        assert reader.facts.frames == {"train": 5125, "val": 1031, "test": 1500}
