"""COCO in its official layout: polygons, crowds, missing images, and files that are no COCO."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from strays.errors import InputError
from strays.negatives.sources import InstanceSource, open_instances

Array = NDArray[np.uint8]
Save = Callable[..., Path]
Write = Callable[[str, str], Path]

CATEGORIES = [
    {"supercategory": "animal", "id": 18, "name": "dog"},
    {"supercategory": "person", "id": 1, "name": "person"},
]
SQUARE, TRIANGLE = [2, 1, 6, 1, 6, 4, 2, 4], [8.13, 2.27, 12.9, 3.33, 9.41, 7.77]


def picture(number: int, size: tuple[int, int] = (9, 14)) -> dict[str, object]:
    return {"id": number, "file_name": f"{number:012}.jpg", "height": size[0], "width": size[1], "license": 1}


def annotation(image: int, segmentation: object, category: int = 18, crowd: int = 0) -> dict[str, object]:
    keys = {"id": image * 7, "image_id": image, "category_id": category, "iscrowd": crowd, "area": 3.5}
    return {**keys, "segmentation": segmentation, "bbox": [1.0, 2.0, 3.0, 4.0]}


@pytest.fixture
def coco(tmp_path: Path, save: Save, write: Write, photo: Array) -> Callable[..., Path]:
    """Write a split of COCO."""

    def make(
        annotations: list[dict[str, object]],
        split: str = "train2017",
        images: str = "train2017",
        numbers: tuple[int, ...] = (2, 10, 1),
    ) -> Path:
        for number in numbers:
            save(f"{images}/{number:012}.jpg", photo)
        listed = [picture(number) for number in (*numbers, 77)]  # the last has no file
        content = {"info": {"year": 2017}, "images": listed, "annotations": annotations, "categories": CATEGORIES}
        write(f"annotations/instances_{split}.json", json.dumps(content))
        write(f"annotations/captions_{split}.json", "{}")
        return tmp_path

    return make


def names_and_masks(source: InstanceSource, index: int) -> list[tuple[str, NDArray[np.bool_]]]:
    return [(one.name, one.mask) for one in source.read(index).instances]


@pytest.mark.parametrize("images", ["train2017", "images/train2017", "images"])
def test_instances_of_every_kind(coco: Callable[..., Path], images: str) -> None:
    crowd = {"counts": [9 * 12 + 3, 4, 5, 6], "size": [9, 14]}
    packed = {"counts": "n3", "size": [9, 14]}  # 126 in five bits at a time: 30 with more to come, then 3
    annotations = [
        annotation(1, [SQUARE, TRIANGLE]),
        annotation(1, crowd, category=1, crowd=1),
        annotation(1, [[3.1, 3.1, 3.4, 3.1, 3.4, 3.4]], category=1),  # holds no centre
        annotation(10, [SQUARE], category=1),
        annotation(10, packed),
        annotation(77, [SQUARE]),
    ]
    source = open_instances(coco(annotations, images=images))
    assert (type(source).__name__, len(source)) == ("CocoJson", 3)
    assert [source.size(index) for index in range(3)] == [(9, 14)] * 3
    assert [source.classes(index) for index in range(3)] == [{"dog", "person"}, frozenset(), {"dog", "person"}]
    assert source.names == {"dog", "person"}

    (first, united), (second, runs) = names_and_masks(source, 0)
    rows, columns = np.mgrid[:9, :14]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    expected = Outline(np.reshape(TRIANGLE, (3, 2))).contains_points(centres).reshape(9, 14)
    expected[1:4, 2:6] = True
    assert (first, second) == ("dog", "person")
    assert np.array_equal(united, expected)
    column = np.zeros((9, 14), bool)
    column[3:7, 12] = column[3:9, 13] = True
    assert np.array_equal(runs, column)
    assert source.read(1).instances == ()
    assert [name for name, _ in names_and_masks(source, 2)] == ["person"]  # a run of zeros alone covers nothing
    assert source.read(1).image.shape == (9, 14, 3)


def test_the_training_split_comes_first_and_others_only_alone(coco: Callable[..., Path]) -> None:
    folder = coco([annotation(4, [SQUARE], category=1)], "val2017", "val2017", (4,))
    assert len(open_instances(folder)) == 1
    assert len(open_instances(coco([]))) == 3


def test_images_follow_each_other_naturally(coco: Callable[..., Path], write: Write, save: Save, photo: Array) -> None:
    folder = coco([], numbers=())
    listed = [{**picture(number), "file_name": f"{number}.jpg"} for number in (10, 9, 1)]
    for number in (10, 9, 1):
        save(f"train2017/{number}.jpg", photo[: number % 9 + 1])
    content = {"images": listed, "annotations": [annotation(9, [SQUARE])], "categories": CATEGORIES}
    write("annotations/instances_train2017.json", json.dumps(content))
    source = open_instances(folder)
    assert [source.classes(index) for index in range(3)] == [frozenset(), {"dog"}, frozenset()]


def test_sizes_that_differ_name_the_image(coco: Callable[..., Path], save: Save, photo: Array) -> None:
    folder = coco([])
    save("train2017/000000000001.jpg", photo[:, :7])
    with pytest.raises(InputError, match=r"000000000001.jpg has 7x9 pixels, its annotations are for 14x9"):
        open_instances(folder).read(0)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([annotation(1, [[1, 2, 3]])], "annotation 7: a polygon needs pairs x y"),
        ([annotation(1, [1, 2, 3])], "expected a list of numbers, got 1"),
        ([annotation(1, [["a", 2]])], "expected a list of numbers"),
        ([annotation(1, [[1e60, 2]])], "not finite"),
        ([annotation(1, "x")], "annotation 7: expected polygons or run lengths"),
        ([annotation(1, {"counts": [9]})], "run lengths without size"),
        ([annotation(1, [SQUARE], category=5)], "category 5, which is not listed"),
        ([{"image_id": "one", "category_id": 1}], "expected a whole number, got 'one'"),
        ([{"caption": "a dog", "image_id": 1}], "expected COCO's annotations"),
    ],
)
def test_annotations_that_make_no_sense_name_the_file(
    coco: Callable[..., Path], annotations: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(InputError, match=rf"instances_train2017.json: .*{message}"):
        open_instances(coco(annotations))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": [9], "size": [9, 14]}, "runs that add up to 9 x 14"),
        ({"counts": [126], "size": [14, 9]}, r"run lengths for \(H, W\) = \(9, 14\), got \(14, 9\)"),
        ({"counts": "!", "size": [9, 14]}, "as the COCO API packs them"),
    ],
)
def test_run_lengths_that_make_no_sense_name_the_image(
    coco: Callable[..., Path], segmentation: object, message: str
) -> None:
    source = open_instances(coco([annotation(1, segmentation)]))
    with pytest.raises(InputError, match=rf"annotations of .*000000000001.jpg, dog: .*{message}"):
        source.read(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "expected JSON"), ("[]", "expected images, annotations and categories"), ("{}", "expected COCO's images")],
)
def test_other_json_is_refused(tmp_path: Path, write: Write, text: str, message: str) -> None:
    write("annotations/instances_train2017.json", text)
    with pytest.raises(InputError, match=message):
        open_instances(tmp_path)


def test_missing_images_are_an_error_that_says_where_they_belong(coco: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"names 1 images, none is in .*train2017; unpack train2017.zip there"):
        open_instances(coco([], numbers=()))
