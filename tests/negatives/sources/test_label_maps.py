"""Pascal VOC, ADE20K and COCO-Stuff in their official layouts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.errors import InputError
from strays.negatives.sources import InstanceSource, open_instances
from strays.negatives.sources.class_names import ADE20K, ADE20K_STUFF, COCO, COCO_STUFF, VOC
from strays.negatives.sources.coco_stuff import CocoStuff

Array = NDArray[np.uint8]
Save = Callable[..., Path]
Blocks = Callable[..., Array]


def found(source: InstanceSource, index: int = 0) -> dict[str, list[tuple[slice, slice, int]]]:
    """The boxes and areas of instances by their names."""
    result: dict[str, list[tuple[slice, slice, int]]] = {}
    for one in source.read(index).instances:
        rows, columns = np.nonzero(one.mask)
        box = slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)
        result.setdefault(one.name, []).append((*box, len(rows)))
    return result


def test_class_names() -> None:
    assert (len(COCO), len(COCO_STUFF), len(VOC), len(ADE20K)) == (80, 182, 20, 151)
    for names in (COCO, COCO_STUFF, VOC, ADE20K):
        assert len(set(names)) == len(names)
    # Numbers that the owners of the data sets publish.
    assert [COCO.index(name) for name in ("person", "stop sign", "dog", "chair", "toothbrush")] == [0, 11, 16, 56, 79]
    assert [COCO_STUFF.index(name) for name in ("stop sign", "hair brush", "banner", "wood")] == [12, 90, 91, 181]
    assert [VOC.index(name) + 1 for name in ("aeroplane", "dog", "tvmonitor")] == [1, 12, 20]
    assert [ADE20K.index(name) for name in ("wall", "person", "car", "animal", "flag")] == [1, 13, 21, 127, 150]


def test_what_is_stuff() -> None:
    assert len(ADE20K_STUFF & set(ADE20K)) == len(ADE20K_STUFF) == 38
    assert CocoStuff.stuff == set(COCO_STUFF[91:])
    assert {"sky-other", "road", "tree"} < CocoStuff.stuff
    assert not {"dog", "car", "animal"} & (CocoStuff.stuff | ADE20K_STUFF)


@pytest.fixture
def voc(tmp_path: Path, save: Save, photo: Array, blocks: Blocks) -> Path:
    """Two dogs and a person in one image with borders, and an image nobody outlined."""
    for name in ("2007_000010", "2007_000002"):
        save(f"VOC2012/JPEGImages/{name}.jpg", photo)
    objects = blocks(0, (255, 0, 9, 0, 9), (1, 1, 4, 1, 4), (2, 5, 8, 1, 4), (3, 1, 8, 5, 8))
    classes = blocks(0, (255, 0, 9, 0, 9), (12, 1, 4, 1, 4), (12, 5, 8, 1, 4), (15, 1, 8, 5, 8), (12, 1, 2, 5, 8))
    save("VOC2012/SegmentationObject/2007_000010.png", objects, palette=True)
    save("VOC2012/SegmentationClass/2007_000010.png", classes, palette=True)
    return tmp_path / "VOC2012"


def test_voc(voc: Path) -> None:
    source = open_instances(voc)
    assert (type(source).__name__, len(source), source.size(0)) == ("PascalVoc", 1, (9, 14))
    assert source.classes(0) == {"dog", "person"}
    assert source.names == set(VOC)
    assert found(source) == {
        "dog": [(slice(1, 4), slice(1, 4), 9), (slice(5, 8), slice(1, 4), 9)],
        "person": [(slice(1, 8), slice(5, 8), 21)],  # of which one row is called dog in the class map
    }


def test_voc_objects_without_a_class_are_nothing(voc: Path, save: Save, blocks: Blocks) -> None:
    save("VOC2012/SegmentationClass/2007_000010.png", blocks(255, (12, 1, 4, 1, 4)), palette=True)
    assert found(open_instances(voc)) == {"dog": [(slice(1, 4), slice(1, 4), 9)]}


def test_voc_maps_that_do_not_fit_are_named(voc: Path, save: Save, blocks: Blocks) -> None:
    save("VOC2012/SegmentationObject/2007_000010.png", blocks(1)[:, :5], palette=True)
    with pytest.raises(InputError, match=r"SegmentationObject/2007_000010.png has 5x9 pixels and .*.jpg 14x9"):
        open_instances(voc).read(0)
    save("VOC2012/SegmentationClass/2007_000010.png", blocks(21), palette=True)
    for look in (open_instances(voc).read, open_instances(voc).classes):
        with pytest.raises(InputError, match=r"2007_000010.png: label 21, expected 0 to 20 and 255"):
            look(0)


def test_the_folder_above_voc_is_none(voc: Path) -> None:
    with pytest.raises(InputError, match="none of the layouts of negatives; point at the folder that has one: ade20k"):
        open_instances(voc.parent)


def test_ade20k(tmp_path: Path, save: Save, photo: Array, blocks: Blocks) -> None:
    save("images/training/ADE_train_00000002.jpg", photo)
    save("annotations/training/ADE_train_00000002.png", blocks(0, (150, 1, 4, 1, 4), (13, 5, 8, 1, 4)))
    save("images/validation/ADE_val_00000001.jpg", photo)
    save("annotations/validation/ADE_val_00000001.png", blocks(1))
    source = open_instances(tmp_path)
    assert (type(source).__name__, len(source), source.names) == ("Ade20k", 1, set(ADE20K))
    assert source.classes(0) == {"other", "flag", "person"}
    assert found(source) == {
        "other": [(slice(0, 9), slice(0, 14), 9 * 14 - 18)],
        "person": [(slice(5, 8), slice(1, 4), 9)],
        "flag": [(slice(1, 4), slice(1, 4), 9)],
    }
    save("annotations/training/ADE_train_00000002.png", blocks(151))
    with pytest.raises(InputError, match=r"ADE_train_00000002.png: label 151, expected 0 to 150;"):
        source.read(0)
    (tmp_path / "annotations/training").rename(tmp_path / "gone")
    assert open_instances(tmp_path).classes(0) == {"wall"}


LAYOUTS = [
    ("train2017", "stuffthingmaps/train2017"),
    ("images/train2017", "stuffthingmaps/train2017"),
    ("images/train2017", "annotations/train2017"),
    ("images/train2017", "train2017"),
    ("train2017", "train2017"),
    ("val2017", "stuffthingmaps/val2017"),
    ("train_img", "train_label"),
]


@pytest.mark.parametrize(("images", "maps"), LAYOUTS)
def test_coco_stuff(tmp_path: Path, save: Save, photo: Array, blocks: Blocks, images: str, maps: str) -> None:
    for number in (10, 9, 8):
        save(f"{images}/{number}.jpg", photo)
    save(f"{maps}/10.png", blocks(255, (17, 1, 4, 1, 4), (181, 5, 8, 1, 4)))
    save(f"{maps}/9.png", blocks(0))
    source = open_instances(tmp_path)
    assert (type(source).__name__, len(source), source.names) == ("CocoStuff", 2, set(COCO_STUFF))
    assert [source.classes(index) for index in range(2)] == [{"person"}, {"dog", "wood"}]
    assert found(source, 1) == {"dog": [(slice(1, 4), slice(1, 4), 9)], "wood": [(slice(5, 8), slice(1, 4), 9)]}
    save(f"{maps}/9.png", blocks(182))
    with pytest.raises(InputError, match=r"9.png: label 182, expected 0 to 181 and 255"):
        source.classes(0)


def test_coco_stuff_with_instance_maps(tmp_path: Path, save: Save, photo: Array, blocks: Blocks) -> None:
    # Three dogs (17) on grass (123) beside the void; outlines lie one pixel aside, so a fringe of dog is left.
    labels = blocks(123, (255, 0, 9, 12, 14), (17, 1, 4, 1, 4), (17, 1, 4, 6, 9), (17, 5, 8, 1, 4))
    numbers = labels.copy()
    for number, (top, left) in enumerate([(0, 0), (0, 5), (4, 0)]):
        numbers[top : top + 3, left : left + 3] = number
    for split in ("train", "val"):
        save(f"{split}_img/7.jpg", photo)
        save(f"{split}_label/7.png", labels)
        save(f"{split}_inst/7.png", numbers)
    save("train_img/8.jpg", photo)
    save("train_label/8.png", labels)
    source = open_instances(tmp_path)
    assert len(source) == 1  # 8 has no instance map
    assert source.classes(0) == {"dog", "grass"}
    grass = found(source).pop("grass")
    # Each outline covers 4 of the 9 pixels of its dog and 5 of grass: the most frequent label calls it.
    assert [area for _, _, area in grass] == [9, 9, 9, int((numbers == 123).sum())]
    labels[labels == 123] = 255
    save("train_label/7.png", labels)
    numbers[numbers == 123] = 255
    save("train_inst/7.png", numbers)
    boxes = [(slice(0, 3), slice(0, 3), 9), (slice(0, 3), slice(5, 8), 9), (slice(4, 7), slice(0, 3), 9)]
    assert found(source) == {"dog": boxes}  # the fringe is none


def test_coco_stuff_keeps_things_nobody_outlined(tmp_path: Path, save: Save, photo: Array, blocks: Blocks) -> None:
    save("train_img/7.jpg", photo)
    save("train_label/7.png", blocks(0, (17, 1, 5, 1, 5), (123, 5, 9, 0, 14)))
    save("train_inst/7.png", blocks(17, (0, 0, 3, 0, 14), (123, 5, 9, 0, 14)))
    names = sorted(found(open_instances(tmp_path)))
    assert names == ["grass", "person"]  # 17 and 0 are both mostly persons, 123 is grass


def test_shared_coco_stuff(shared: Path) -> None:
    source = open_instances(shared / "data" / "coco_stuff_mini")
    assert (type(source).__name__, len(source)) == ("CocoStuff", 13)
    first = source.read(0)
    assert source.classes(0) == {"person", "cat", "bed", "laptop", "textile-other"}
    assert sorted(one.name for one in first.instances) == ["bed", "cat", "laptop", "person", "textile-other"]
