"""Taxonomies: order, colours, void, and reading one from a file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from strays.data.idd_lite import IDD_LITE
from strays.errors import InputError
from strays.taxonomy import (
    CAMVID,
    CITYSCAPES,
    CITYSCAPES_VOID,
    IGNORE,
    STREETHAZARDS,
    TAXONOMIES,
    LabelClass,
    LabelSpace,
    Taxonomy,
    load_taxonomy,
    translation,
)


@pytest.mark.parametrize(
    ("taxonomy", "classes", "void"),
    [(CITYSCAPES, 19, None), (CITYSCAPES_VOID, 20, 19), (CAMVID, 11, None), (STREETHAZARDS, 13, None)],
)
def test_built_in_taxonomies(taxonomy: Taxonomy, classes: int, void: int | None) -> None:
    assert len(taxonomy) == classes
    assert taxonomy.void == void
    assert TAXONOMIES[taxonomy.name] is taxonomy
    assert len(set(taxonomy.names)) == classes
    assert len({one.colour for one in taxonomy.classes}) == classes
    assert not any("_" in name for name in taxonomy.names)


def test_orders_that_checkpoints_depend_on() -> None:
    assert [CITYSCAPES.names[index] for index in (0, 10, 11, 13, 18)] == ["road", "sky", "person", "car", "bicycle"]
    assert CITYSCAPES_VOID.names == (*CITYSCAPES.names, "void")
    assert [CAMVID.names[index] for index in (0, 3, 4, 8, 9)] == ["sky", "road", "pavement", "car", "pedestrian"]
    assert [STREETHAZARDS.names[index] for index in (0, 3, 7, 10, 12)] == [
        "unlabeled",
        "other",
        "road",
        "car",
        "traffic sign",
    ]


def test_cityscapes_colours_are_the_official_ones(shared: Path) -> None:
    folder = shared / "data" / "cityscapes" / "gtFine" / "val"
    seen: set[int] = set()
    for colour_file in sorted(folder.rglob("*_gtFine_color.png"))[::2]:
        colours = np.asarray(Image.open(colour_file).convert("RGB"))[::8, ::8]
        labels = np.asarray(Image.open(str(colour_file).replace("_color", "_labelTrainIds")))[::8, ::8]
        known = labels != IGNORE
        np.testing.assert_array_equal(CITYSCAPES.colourize(labels)[known], colours[known])
        seen |= set(labels[known].tolist())
    assert len(seen) > 12


def test_labels_outside_are_black() -> None:
    picture = CAMVID.colourize(np.array([[0, 3], [11, IGNORE]], np.uint8))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[128, 128, 128], [128, 64, 128]], [[0, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("classes", "void", "message"),
    [(0, None, "expected 1 to 255 classes, got 0"), (256, None, "got 256"), (3, 3, "void is 3"), (3, -1, "void is -1")],
)
def test_inconsistent_taxonomies_are_refused(classes: int, void: int | None, message: str) -> None:
    entries = tuple(LabelClass(name=str(index), colour=(index % 256, 0, 0)) for index in range(classes))
    with pytest.raises(ValidationError, match=message):
        Taxonomy(name="wrong", classes=entries, void=void)


def test_built_in_by_name() -> None:
    assert load_taxonomy("cityscapes-void") is CITYSCAPES_VOID


@pytest.mark.parametrize("taxonomy", TAXONOMIES.values(), ids=lambda one: one.name)
def test_any_taxonomy_survives_a_file(taxonomy: Taxonomy, tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(taxonomy.model_dump_json())
    assert load_taxonomy(path) == taxonomy
    assert load_taxonomy(str(path)) == taxonomy


def test_unknown_name_lists_the_built_in_ones(tmp_path: Path) -> None:
    for source in ("cityscape", tmp_path, tmp_path / "missing.json"):
        with pytest.raises(InputError, match=r"no taxonomy or file is called .*cityscapes, cityscapes-void, camvid"):
            load_taxonomy(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a taxonomy: the JSON"),
        ("[1, 2", "is not a taxonomy: the JSON"),
        ('{"name": "x"}', "classes: Field required"),
        ('{"name": "x", "classes": []}', "expected 1 to 255 classes"),
        ('{"name": "x", "classes": [{"name": "road", "colour": [1, 2]}]}', r"classes\.0\.colour"),
        ('{"name": "x", "classes": [{"name": "road", "colour": [1, 2, 3]}], "void": 1}', "void is 1"),
        ('{"name": "x", "classes": [{"name": "road", "colour": [1, 2, 3]}], "ignore": 1}', "ignore: Extra inputs"),
    ],
)
def test_wrong_files_say_what_is_wrong(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_taxonomy(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("colour", [(0, 0, 256), (-1, 0, 0)])
def test_colours_out_of_range_are_refused(colour: tuple[int, int, int], tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(f'{{"name": "x", "classes": [{{"name": "road", "colour": {list(colour)}}}]}}')
    with pytest.raises(InputError, match="colour"):
        load_taxonomy(path)


def coarse(*contains: str, void: int | None = None) -> Taxonomy:
    return Taxonomy(name="coarse", classes=(LabelClass(name="thing", colour=(0, 0, 0), contains=contains),), void=void)


def test_a_coarse_class_of_one_class_is_that_class() -> None:
    assert translation(coarse("road", "lane"), CAMVID)[0] == CAMVID.names.index("road")
    assert translation(coarse("road", "sky"), CAMVID)[0] == IGNORE
    assert translation(coarse("lane"), CAMVID)[0] == IGNORE
    assert translation(coarse("void"), CITYSCAPES_VOID)[0] == IGNORE


def test_groups_are_numbered_behind_the_classes() -> None:
    space = LabelSpace(CAMVID)
    table = space.labels_of(IDD_LITE)
    assert table.dtype == np.uint8
    assert table[:7].tolist() == [3, 4, 11, 12, 13, 14, 0]
    assert (table[7:] == IGNORE).all()
    assert space.groups == [(9, 10), (8, 10), (2, 6, 7), (1, 5)]
    assert space.labels_of(IDD_LITE).tolist() == table.tolist()
    assert len(space.groups) == 4
    assert space.labels_of(coarse("tree", "building"))[0] == 14
    assert space.labels_of(CITYSCAPES)[:3].tolist() == [3, 4, 1]


def test_a_void_class_is_no_group() -> None:
    assert (LabelSpace(CAMVID).labels_of(coarse("road", "sky", void=0)) == IGNORE).all()


def test_too_many_groups_are_refused() -> None:
    names = [str(index) for index in range(254)]
    space = LabelSpace(Taxonomy(name="many", classes=tuple(LabelClass(name=one, colour=(0, 0, 0)) for one in names)))
    assert space.labels_of(coarse("0", "1"))[0] == 254
    with pytest.raises(InputError, match="at most 255 classes and groups of classes, many brings more"):
        space.labels_of(coarse("0", "2"))


def test_fine_classes_are_part_of_a_coarse_network() -> None:
    space = LabelSpace(IDD_LITE)
    names = dict(zip(CAMVID.names, space.labels_of(CAMVID).tolist(), strict=False))
    assert {key: names[key] for key in ("sky", "road", "pavement", "car")} == {
        "sky": 6,
        "road": 0,
        "pavement": 1,
        "car": 3,
    }
    assert names["bicyclist"] == 7  # a living thing or a vehicle
    assert space.groups == [(2, 3)]


def test_exact_names_come_first() -> None:
    def named(*names: str) -> Taxonomy:
        return Taxonomy(name="x", classes=tuple(LabelClass(name=name, colour=(0, 0, 0)) for name in names))

    both = named("tree", "vegetation", "pedestrian", "person")
    assert translation(both, named("tree", "vegetation", "pedestrian", "person", "void"))[:4].tolist() == [0, 1, 2, 3]
    assert translation(named("tree"), named("vegetation"))[0] == 0
    assert LabelSpace(both).labels_of(named("bicyclist", "rider"))[:2].tolist() == [IGNORE, IGNORE]
