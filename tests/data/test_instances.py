"""Anomalies that a COCO file tells apart."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.instances import AnomalyInstances, InstanceFrames
from strays.data.opening import open_scenes, recognise
from strays.doctor import examine
from strays.errors import InputError

Save = Callable[..., Path]
Array = NDArray[np.uint8]

SQUARE = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[0, 0, 3, 0, 3, 2, 0, 2]]}
# 8 x 12 pixels column by column: 2 of the second column, then all of the last.
RUNS = {"id": 2, "image_id": 7, "segmentation": {"counts": [10, 2, 76, 8], "size": [8, 12]}, "iscrowd": 0}
CROWD = {"id": 3, "image_id": 8, "segmentation": [[4, 0, 8, 0, 8, 8, 4, 8]], "iscrowd": 1}
IN_CROWD = {"id": 4, "image_id": 8, "segmentation": [[4, 0, 5, 0, 5, 1, 4, 1]]}


def coco(*annotations: dict[str, object], size: tuple[int, int] = (8, 12)) -> dict[str, object]:
    height, width = size
    images = [{"id": 7, "file_name": "a.jpg", "height": height, "width": width, "licence": 1}]
    images.append({"id": 8, "file_name": "deep/b.png", "height": height, "width": width})
    return {"images": images, "annotations": list(annotations), "categories": [{"id": 3, "name": "anomaly"}]}


@pytest.fixture
def folder(tmp_path: Path, save: Save, photo: Array) -> Path:
    save("images/a.png", photo)
    save("images/b.png", photo)
    (tmp_path / "instances.json").write_text(json.dumps(coco(SQUARE, RUNS, CROWD, IN_CROWD)))
    (tmp_path / "strays.json").write_text("{}")
    return tmp_path


def opened(path: Path) -> InstanceFrames:
    scenes = open_scenes(f"anomaly-instances={path}")
    assert isinstance(scenes, InstanceFrames)
    return scenes


@pytest.mark.parametrize("file", ["", "instances.json"])
def test_regions_become_numbers(folder: Path, file: str) -> None:
    scenes = opened(folder / file)
    assert scenes.names == ["a", "b"]
    expected = np.zeros((8, 12), int)
    expected[:2, :3] = 1
    expected[2:4, 1] = 2
    expected[:, 11] = 2
    found = scenes.read_instances(0)
    assert found.dtype == np.int32
    assert found.tolist() == expected.tolist()
    assert scenes[1:].read_instances(0).nonzero()[0].tolist() == [0]
    assert scenes.has_instances
    assert scenes[0].instances.tolist() == expected.tolist()


def test_masks_are_made_of_the_regions(folder: Path) -> None:
    scenes = opened(folder)
    assert scenes.has_masks
    first, second = (scene.mask for scene in scenes)
    assert first is not None
    assert second is not None
    assert ((first == 1) == (scenes.read_instances(0) > 0)).all()
    assert set(np.unique(first).tolist()) == {0, 1}
    assert second[0, 4] == 1  # a single anomaly in front of a crowd
    assert (second[1:, 4:8] == 255).all()
    assert (second[:, 8:] == 0).all()


@pytest.mark.parametrize("ending", ["", "_labels_semantic"])
def test_masks_that_are_there_are_kept(folder: Path, save: Save, stripes: Callable[..., Array], ending: str) -> None:
    for name in ("a", "b"):
        save(f"labels_masks/{name}{ending}.png", stripes(0, 1, 255))
    mask = opened(folder)[0].mask
    assert mask is not None
    assert mask[0, :3].tolist() == [0, 1, 255]
    assert len(np.unique(opened(folder).read_instances(0))) == 3


def test_it_must_be_named(folder: Path) -> None:
    assert [claim.dataset for claim in recognise(folder)] == ["frames"]
    assert examine(f"anomaly-instances={folder}").healthy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"instances\.json: expected JSON, .*; download or export it again"),
        ("[]", r"instances\.json: the file: .*; expected COCO's images and annotations"),
        (json.dumps({"images": []}), r"annotations: Field required; expected COCO's images"),
        (json.dumps(coco({**SQUARE, "image_id": 9})), "an annotation of image 9, which is not listed"),
        (
            json.dumps(coco({**SQUARE, "segmentation": [[0, 0, 1]]})),
            "annotation 1: expected a polygon of three or more",
        ),
        (
            json.dumps(coco({**RUNS, "segmentation": {"counts": [96], "size": [12, 8]}})),
            r"annotation 2: expected run lengths for \(H, W\) = \(8, 12\), got \(12, 8\)",
        ),
        (
            json.dumps(coco(size=(9, 12))),
            r"annotations of 12x9 for an image of 12x8 .*use the annotations made for this",
        ),
    ],
)
def test_files_that_are_not_as_coco_writes_them(folder: Path, content: str, message: str) -> None:
    (folder / "instances.json").write_text(content)
    with pytest.raises(InputError, match=message):
        opened(folder)[0]


def test_files_that_are_missing_or_one_too_many(folder: Path) -> None:
    (folder / "images/b.png").unlink()
    with pytest.raises(InputError, match=r"names deep/b\.png, which is not there; put it under .*images"):
        opened(folder)
    (folder / "more.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds 2 JSON files \(instances\.json, more\.json\); say which"):
        opened(folder)
    for name in ("instances.json", "more.json"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"no anomaly-instances data in .*; put the COCO file there"):
        opened(folder)
    with pytest.raises(InputError, match="anomaly-instances has no splits, got 'val'"):
        AnomalyInstances.open(folder, "val")
