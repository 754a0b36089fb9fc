"""Anybody's folders: images with masks, cut-outs, images alone; and which of them a folder is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from strays.errors import InputError, UnreadableImageError
from strays.negatives.sources import Instance, InstanceImage, InstanceSource, open_instances
from strays.negatives.sources.base import SOURCES

Array = NDArray[np.uint8]
Save = Callable[..., Path]
Blocks = Callable[..., Array]


@pytest.fixture
def cutout(photo: Array, blocks: Blocks) -> Array:
    """An image with an object of 3 x 4 pixels at full and 1 x 4 at half opacity."""
    alpha = blocks(0, (255, 2, 5, 3, 7), (128, 5, 6, 3, 7), (127, 6, 7, 3, 7))
    return np.dstack([photo, alpha])


def test_images_with_masks(tmp_path: Path, save: Save, photo: Array, blocks: Blocks) -> None:
    for name in ("0010", "0009", "0011"):
        save(f"images/{name}.jpg", photo)
    save("masks/0009.png", blocks(0, (255, 2, 5, 3, 7), (1, 5, 6, 3, 7)))
    save("masks/0010.png", blocks(0))
    source = open_instances(tmp_path)
    assert (type(source).__name__, len(source), source.size(0)) == ("MaskedImages", 2, (9, 14))
    (instance,) = source.read(0).instances
    assert instance.name == ""
    assert np.array_equal(instance.mask, blocks(0, (1, 2, 6, 3, 7)).astype(bool))
    assert source.read(1).instances == ()
    assert (source.classes(0), source.names) == (frozenset(), frozenset())
    save("masks/0010.png", blocks(0)[:4])
    with pytest.raises(InputError, match=r"masks/0010.png has 14x4 pixels and .*images/0010.jpg 14x9"):
        source.read(1)


def test_images_with_masks_of_other_names(tmp_path: Path, save: Save, photo: Array, blocks: Blocks) -> None:
    save("images/a.jpg", photo)
    save("masks/a_mask.png", blocks(1))
    with pytest.raises(InputError, match=r"1 images and 1 files that describe images, but no two share a name .*a.jpg"):
        open_instances(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_cutouts(tmp_path: Path, save: Save, photo: Array, cutout: Array, blocks: Blocks, suffix: str) -> None:
    path = save(f"dogs/10.{suffix}", cutout)
    if suffix == "webp":
        Image.fromarray(cutout).save(path, lossless=True, exact=True)
    save(f"dogs/9.{suffix}", np.dstack([photo, blocks(255, (0, 0, 1, 0, 1))]))
    save(f"cats/1.{suffix}", np.dstack([photo, blocks(100)]))
    source = open_instances(tmp_path)
    assert (type(source).__name__, len(source)) == ("Cutouts", 3)
    assert [len(source.read(index).instances) for index in range(3)] == [0, 1, 1]
    assert source.read(1).instances[0].mask.sum() == 9 * 14 - 1
    found = source.read(2)
    assert np.array_equal(found.image, photo)  # half-transparent pixels keep their colour
    assert np.array_equal(found.instances[0].mask, blocks(0, (1, 2, 6, 3, 7)).astype(bool))
    assert (found.instances[0].name, source.classes(2), source.names) == ("", frozenset(), frozenset())
    assert source.size(2) == (9, 14)


def test_cutouts_that_cannot_be_read_are_named(tmp_path: Path, save: Save, photo: Array, cutout: Array) -> None:
    save("1.png", cutout)
    whole = save("2.png", cutout)
    save("3.png", photo)
    source = open_instances(tmp_path)
    whole.write_bytes(whole.read_bytes()[:120])
    with pytest.raises(UnreadableImageError, match=r"2.png is damaged"):
        source.read(1)
    with pytest.raises(InputError, match=r"3.png has no transparency among cut-outs; save it with alpha"):
        source.read(2)
    whole.write_text("hello")
    with pytest.raises(UnreadableImageError, match=r"2.png is text"):
        source.read(1)


def test_images_alone(tmp_path: Path, save: Save, photo: Array) -> None:
    for name in ("n2/b10.jpg", "n2/b9.png", "n10/a.jpg"):
        save(name, photo)
    source = open_instances(tmp_path)
    assert (type(source).__name__, len(source), source.size(0)) == ("PlainImages", 3, (9, 14))
    assert np.array_equal(source.read(0).image, photo)
    assert source.read(0).instances == ()
    assert (source.classes(0), source.names) == (frozenset(), frozenset())


@pytest.mark.parametrize("kind", ["opaque", "with photographs"])
def test_transparency_alone_makes_no_cutouts(
    tmp_path: Path, save: Save, photo: Array, cutout: Array, blocks: Blocks, kind: str
) -> None:
    save("1.png", np.dstack([photo, blocks(255)]) if kind == "opaque" else cutout)
    save("2.png" if kind == "opaque" else "2.jpg", photo)
    assert type(open_instances(tmp_path)).__name__ == "PlainImages"


def test_label_maps_are_no_images(tmp_path: Path, save: Save, photo: Array, blocks: Blocks) -> None:
    save("images/1.jpg", photo)
    save("gt/1.png", blocks(3))
    with pytest.raises(InputError, match="none of the layouts of negatives"):
        open_instances(tmp_path)


def test_the_most_specific_layout_wins(tmp_path: Path, save: Save, photo: Array, blocks: Blocks) -> None:
    save("images/training/1.jpg", photo)
    assert type(open_instances(tmp_path)).__name__ == "PlainImages"
    save("masks/training/1.png", blocks(1))
    assert type(open_instances(tmp_path)).__name__ == "MaskedImages"
    save("annotations/training/1.png", blocks(1))
    assert type(open_instances(tmp_path)).__name__ == "Ade20k"


def test_folders_that_are_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*nowhere: check the path behind the = of --negatives"):
        open_instances(tmp_path / "nowhere")
    with pytest.raises(InputError, match="none of the layouts of negatives") as caught:
        open_instances(tmp_path)
    assert all(f"{name}: {kind.layout}" in str(caught.value) for name, kind in SOURCES.items())


def test_what_a_source_of_others_need_not_define() -> None:
    class Two(InstanceSource):
        layout = "two images"

        @classmethod
        def open(cls, folder: Path) -> "Two | None":
            return None

        def __len__(self) -> int:
            return 2

        def read(self, index: int) -> InstanceImage:
            return InstanceImage(np.zeros((3 + index, 5, 3), np.uint8), (Instance("dog", np.ones((3, 5), bool)),))

        def classes(self, index: int) -> frozenset[str]:
            return frozenset({("cat", "dog")[index]})

    assert (Two().names, Two().size(1), Two.order) == ({"cat", "dog"}, (4, 5), 0)


def test_shared_cutouts(shared: Path) -> None:
    source = open_instances(shared / "data" / "object_cutouts")
    assert (type(source).__name__, len(source)) == ("MaskedImages", 546)
    assert len(source.read(0).instances) == 1
