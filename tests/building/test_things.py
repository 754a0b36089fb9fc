"""What is found in folders of objects and in labels, and what is told apart."""

from collections.abc import Collection
from itertools import islice

import numpy as np
import pytest

from strays.building.classes import extent_in_metres, is_known
from strays.building.labelled import LabelledThings
from strays.building.things import ObjectThings, hidden_share, is_upright, is_whole
from strays.data import open_scenes
from strays.data.idd_lite import IDD_LITE
from strays.errors import InputError
from strays.taxonomy import CAMVID, CITYSCAPES


def names(things: ObjectThings) -> list[str]:
    return sorted(thing.name for thing in things.drawn(np.random.default_rng(0)))


def among(*wanted: str) -> "Collection[str]":
    return frozenset(wanted)


def test_only_wanted_classes_are_drawn(zoo) -> None:
    assert names(ObjectThings(str(zoo), among("dog", "sheep").__contains__)) == ["dog"] * 4 + ["sheep"]
    sheep = ObjectThings(f"objects={zoo}", among("sheep").__contains__)
    assert len(sheep) == 1
    thing = next(sheep.drawn(np.random.default_rng(0)))
    assert thing.origin == {"image": str(zoo / "images/02.png"), "index": 2, "instances": [0]}
    assert thing.cut.size == (40, 50)


def test_images_are_left_out_by_what_they_show(zoo) -> None:
    everything = among("dog", "person", "sheep", "chair").__contains__
    assert len(ObjectThings(f"objects:exclude=meta-ood,min_size=0={zoo}", everything)) == 3
    assert "person" not in names(ObjectThings(f"objects:exclude=person={zoo}", everything))


def test_all_objects_of_an_image_together(zoo) -> None:
    things = ObjectThings(str(zoo), among("dog", "chair").__contains__)
    united = {tuple(one.origin["instances"]): one for one in things.united(np.random.default_rng(0))}
    assert united[(0, 1)].name == "chair+dog"
    assert united[(0, 1)].mask.sum() == 50 * 50 + 30 * 50


@pytest.mark.parametrize(
    ("spec", "named", "message"),
    [
        ("nowhere", (), "no folder nowhere with objects to paste"),
        ("objects:size=3={zoo}", (), "objects has no setting 'size'"),
        ("{zoo}", ("unicorn",), "has no class unicorn; its classes: airplane"),
    ],
)
def test_wrong_folders_and_classes(zoo, spec: str, named: Collection[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ObjectThings(spec.format(zoo=zoo), bool, named=named)


def test_a_folder_that_has_no_wanted_object(zoo) -> None:
    with pytest.raises(InputError, match="none of its 4 images has an object to paste; its classes"):
        ObjectThings(str(zoo), among("elephant").__contains__)


def block(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 50)) -> np.ndarray:
    mask = np.zeros(size, bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def test_what_is_whole_and_upright() -> None:
    assert is_whole(block((10, 10, 30, 30)))
    assert not is_whole(block((0, 10, 30, 30)))
    assert not is_whole(block((10, 10, 30, 49)))
    assert not is_whole(block((10, 10, 30, 20), (10, 30, 30, 40)))
    assert is_upright(block((5, 20, 35, 30)))
    assert is_upright(block((5, 10, 20, 40), (20, 12, 35, 15), (20, 35, 35, 38)))  # four legs
    assert not is_upright(block((5, 10, 20, 40), (20, 37, 35, 40)))  # one


def test_how_much_of_the_rim_others_have() -> None:
    mask = block((10, 10, 30, 30))
    assert hidden_share(mask, block()) == 0
    assert hidden_share(mask, ~mask) == 1
    assert hidden_share(mask, block((0, 30, 40, 50))) == pytest.approx(0.25, abs=0.05)


def test_road_users_are_cut_out_of_labels(scenes) -> None:
    things = LabelledThings(scenes, CAMVID)
    found = list(islice(things.drawn(np.random.default_rng(0), apart_from=scenes.names[0]), 10))
    assert sorted(one.origin["frame"] for one in found) == scenes.names[1:]
    for one in found:
        left = 30 + 5 * int(one.name == "car") * scenes.names.index(str(one.origin["frame"]))
        assert one.name == "car"
        assert one.origin["from"] == [left, 40, left + 20, 54]
        assert one.metres_per_pixel == pytest.approx(1.3 / (53 - (36 - 0.02 * 90)))


def test_classes_of_labels(streets, scenes) -> None:
    assert [CAMVID.names[one] for one in LabelledThings(scenes, CAMVID).indices] == ["car", "pedestrian", "bicyclist"]
    with pytest.raises(InputError, match="camvid has no class dog; its classes: sky"):
        LabelledThings(open_scenes(streets()), CAMVID, ["dog"])


def test_two_that_touch_are_not_one(labelled, streets, tmp_path) -> None:
    from PIL import Image

    spec = streets(count=1)
    labels = labelled((40, 20, 14, 80))  # five cars side by side
    Image.fromarray(labels).save(tmp_path / "streets/test/labels/00.png")
    assert list(LabelledThings(open_scenes(spec), CAMVID).drawn(np.random.default_rng(0))) == []


@pytest.mark.parametrize(
    ("name", "taxonomy", "known"),
    [
        ("person", CAMVID, True),
        ("truck", CAMVID, False),
        ("dog", CITYSCAPES, False),
        ("motorbike", CITYSCAPES, True),
        ("bicyclist", IDD_LITE, True),
    ],
)
def test_what_a_taxonomy_knows(name: str, taxonomy, known: bool) -> None:
    assert is_known(name, taxonomy) is known


def test_a_class_that_nobody_measured_has_a_size_too() -> None:
    assert extent_in_metres("gargoyle", (30, 60)) == (0.8, 60)
