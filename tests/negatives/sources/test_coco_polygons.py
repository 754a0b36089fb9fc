"""Text files of polygons, made by the test and as coco128-seg has them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from strays.errors import InputError
from strays.negatives.sources import open_instances
from strays.negatives.sources.class_names import COCO

Array = NDArray[np.uint8]
Save = Callable[..., Path]
Write = Callable[[str, str], Path]

SQUARE = "0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6"


def test_polygons_in_fractions_of_the_image(tmp_path: Path, save: Save, write: Write, photo: Array) -> None:
    for number in (10, 2, 3):
        save(f"images/train2017/{number}.jpg", photo)
    save("images/val2017/1.jpg", photo)
    points = np.array([[0.05, 0.2], [0.93, 0.11], [0.48, 0.97]])
    triangle = " ".join(str(value) for value in points.ravel())
    write("labels/train2017/2.txt", f"16 {SQUARE}\n\n0 {triangle}\n79 0.5 0.5 0.501 0.5 0.5 0.501\n")
    write("labels/train2017/10.txt", "")
    write("labels/train2017/99.txt", f"0 {SQUARE}")
    write("labels/val2017/1.txt", f"0 {SQUARE}")
    source = open_instances(tmp_path)
    assert (type(source).__name__, len(source)) == ("CocoPolygons", 2)  # 3 has no text, 99 no image, 1 is of val
    assert source.classes(0) == {"dog", "person", "toothbrush"}
    assert (source.classes(1), source.read(1).instances) == (frozenset(), ())
    assert source.names == set(COCO)
    assert source.size(0) == (9, 14)

    dog, person = source.read(0).instances  # the toothbrush holds the centre of no pixel
    expected = np.zeros((9, 14), bool)
    expected[1:5, 1:7] = True
    assert (dog.name, person.name) == ("dog", "person")
    assert np.array_equal(dog.mask, expected)
    rows, columns = np.mgrid[:9, :14]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    inside = Outline(points * (14, 9)).contains_points(centres).reshape(9, 14)
    assert np.array_equal(person.mask, inside)


def test_classes_of_ones_own(tmp_path: Path, save: Save, write: Write, photo: Array) -> None:
    save("images/a.png", photo)
    write("labels/a.txt", f"1 {SQUARE}")
    write("classes.txt", "pallet\nlost cargo\n\n")
    source = open_instances(tmp_path)
    assert source.classes(0) == {"lost cargo"}
    assert source.names == {"pallet", "lost cargo"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("80 " + SQUARE, "class 80, but there are 80 classes; name your own in classes.txt"),
        ("-1 " + SQUARE, "class -1"),
        ("3 0.5 0.5 0.2 0.2", "a box instead of a polygon"),
        ("3 0.1 0.1 0.2 0.2 0.3", "three or more pairs x y, got 5 numbers"),
        ("3", "three or more pairs x y, got 0 numbers"),
        ("3 10 10 20 10 20 20", "expected fractions of width and height, got 10 to 20"),
        ("3 nan 0.1 0.2 0.1 0.2 0.3", "expected fractions"),
        ("dog 0.1 0.1 0.2 0.2 0.3 0.3", "expected a class and numbers"),
        ("3 0.1 x 0.2 0.2 0.3 0.3", "expected a class and numbers"),
    ],
)
def test_lines_that_make_no_sense_are_named(
    tmp_path: Path, save: Save, write: Write, photo: Array, line: str, message: str
) -> None:
    save("images/a.jpg", photo)
    write("labels/a.txt", f"0 {SQUARE}\n{line}\n")
    source = open_instances(tmp_path)
    for look in (source.read, source.classes):
        with pytest.raises(InputError, match=rf"a.txt, line 2: .*{message}"):
            look(0)


def test_other_files_are_refused(tmp_path: Path, save: Save, write: Write, photo: Array) -> None:
    save("images/a.jpg", photo)
    text = write("labels/b.txt", "")
    with pytest.raises(InputError, match="1 images and 1 files that describe images, but no two share a name"):
        open_instances(tmp_path)
    text.rename(text.with_name("a.txt"))
    source = open_instances(tmp_path)
    text.with_name("a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a.txt: expected a text file"):
        source.read(0)


def test_coco128(shared: Path) -> None:
    folder = shared / "data" / "coco128_seg"
    source = open_instances(folder)
    photos = {path.stem for path in (folder / "images").rglob("*.jpg")}
    texts = sorted(
        (path for path in (folder / "labels").rglob("*.txt") if path.stem in photos), key=lambda path: path.stem
    )
    counts = [len(path.read_text().splitlines()) for path in texts]
    assert (len(source), len(source.names), sum(counts)) == (126, 80, 929)
    assert len(frozenset[str]().union(*(source.classes(index) for index in range(126)))) == 71
    assert [len(source.read(index).instances) for index in range(4)] == counts[:4]
    assert [one.name for one in source.read(0).instances] == [*["bowl"] * 2, "broccoli", "bowl", *["orange"] * 4]
