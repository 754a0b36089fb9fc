"""Which images remain."""

from pathlib import Path

import numpy as np
import pytest

from strays.errors import InputError
from strays.negatives.sources import InstanceImage, InstanceSource, open_instances
from strays.negatives.sources.class_names import COCO
from strays.negatives.sources.exclusion import EXCLUSIONS, parse_exclusion, remaining


class Listed(InstanceSource):
    """Images of given classes and sizes; ``None`` is one that cannot be read."""

    layout = "listed"

    def __init__(
        self, *images: tuple[set[str], tuple[int, int]] | None, names: frozenset[str] = frozenset(COCO)
    ) -> None:
        self.images = images
        self._names = names
        self.asked = 0

    @classmethod
    def open(cls, folder: Path) -> "Listed | None":
        return None

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> InstanceImage:
        raise AssertionError("images must not be decoded")

    def classes(self, index: int) -> frozenset[str]:
        self.asked += 1
        return frozenset(self._known(index)[0])

    @property
    def names(self) -> frozenset[str]:
        return self._names

    def size(self, index: int) -> tuple[int, int]:
        return self._known(index)[1]

    def _known(self, index: int) -> tuple[set[str], tuple[int, int]]:
        found = self.images[index]
        if found is None:
            raise InputError(f"image {index} cannot be read")
        return found


LARGE = (480, 640)
SOURCE = Listed(
    ({"dog"}, LARGE),
    ({"dog", "person"}, LARGE),
    ({"train"}, LARGE),
    (set(), (480, 480)),
    ({"dog"}, (479, 640)),
    ({"dog"}, (640, 479)),
    ({"traffic light", "cat"}, LARGE),
)


@pytest.mark.parametrize(
    ("exclude", "min_size", "expected"),
    [
        ("none", None, [0, 1, 2, 3, 4, 5, 6]),
        ("meta-ood", None, [0, 2, 3]),
        ("meta-ood", 0, [0, 2, 3, 4, 5]),
        ("meta-ood", 481, []),
        ("meta-ood + train", None, [0, 3]),
        ("dog", None, [2, 3, 6]),
        ("dog+traffic light", None, [2, 3]),
        ("none", 480, [0, 1, 2, 3, 6]),
        ("none+dog", 480, [2, 3, 6]),
    ],
)
def test_what_remains(exclude: str, min_size: int | None, expected: list[int]) -> None:
    assert remaining(SOURCE, exclude, min_size) == expected


@pytest.mark.parametrize("name", sorted(parse_exclusion("meta-ood").classes))
def test_every_class_of_meta_ood(name: str) -> None:
    assert remaining(Listed(({name}, LARGE), ({"dog"}, LARGE)), "meta-ood") == [1]


def test_the_list_of_meta_ood() -> None:
    assert len(EXCLUSIONS["meta-ood"].classes) == 8
    assert EXCLUSIONS["meta-ood"].classes <= set(COCO)


def test_classes_are_not_read_where_nothing_is_excluded() -> None:
    source = Listed(({"dog"}, LARGE))
    assert remaining(source) == [0]
    assert source.asked == 0


def test_names_that_a_source_does_not_have() -> None:
    source = Listed(({"motorbike"}, LARGE), names=frozenset({"person", "motorbike", "dog"}))
    with pytest.raises(InputError, match=r"no class motorcycle to exclude; .*: dog, motorbike, person$"):
        remaining(source, "person+motorcycle")
    with pytest.raises(InputError, match="no class bicycle, bus, car, motorcycle, stop sign, traffic light, truck to"):
        remaining(source, "meta-ood")


def test_a_source_without_names_stays_as_it_is() -> None:
    source = Listed((set(), (100, 100)), (set(), LARGE), names=frozenset())
    assert remaining(source, "meta-ood") == [0, 1]
    assert remaining(source, "dog") == [0, 1]
    assert remaining(source, "meta-ood", 480) == [1]


def test_images_that_cannot_be_judged_are_left_out_with_a_warning() -> None:
    source = Listed(({"dog"}, LARGE), None, ({"cat"}, LARGE), None)
    with pytest.warns(UserWarning, match="2 of 4 images are left out, the first: image 1 cannot be read"):
        assert remaining(source, "dog") == [2]


@pytest.mark.parametrize("exclude", ["", " + "])
def test_no_name_at_all(exclude: str) -> None:
    with pytest.raises(InputError, match="expected none or meta-ood or classes joined by"):
        remaining(SOURCE, exclude)


def test_sizes_below_zero() -> None:
    with pytest.raises(InputError, match="a smallest size of 0 or more pixels, got -1"):
        remaining(SOURCE, min_size=-1)


def test_coco128(shared: Path) -> None:
    folder = shared / "data" / "coco128_seg"
    source = open_instances(folder)
    unwanted = {COCO.index(name) for name in EXCLUSIONS["meta-ood"].classes}
    free = {
        path.stem
        for path in (folder / "labels").rglob("*.txt")
        if not unwanted & {int(line.split()[0]) for line in path.read_text().splitlines()}
    }
    free &= {path.stem for path in (folder / "images").rglob("*.jpg")}
    kept = remaining(source, "meta-ood", 0)
    assert len(kept) == len(free) == 55
    assert all(np.greater_equal(source.size(index), 480).all() for index in remaining(source, "meta-ood"))
    assert len(remaining(source, "meta-ood")) == 30
