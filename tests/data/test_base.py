"""Sets of scenes: lazy, sliced, checked."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.cards import Card
from strays.data.base import DATASETS, DatasetReader, Frame, FrameSet, Recognition, register_dataset
from strays.data.values import LabelMap, MaskMap
from strays.errors import InputError, UnreadableImageError
from strays.taxonomy import CAMVID

CARD = Card(title="Test", summary="A test.")
Save = Callable[..., Path]
Stripes = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def three(save: Save, photo: NDArray[np.uint8], stripes: Stripes) -> FrameSet:
    frames = [
        Frame(
            name,
            save(f"{name}.png", photo),
            save(f"{name}_l.png", stripes(0, 10, 11)),
            save(f"{name}_m.png", stripes(0, 1, 255)),
        )
        for name in ("a", "b", "c")
    ]
    return FrameSet(
        "test",
        CARD,
        frames,
        split="val",
        taxonomy=CAMVID,
        label_map=LabelMap.indices(11, (11,)),
        mask_map=MaskMap(),
    )


def test_scenes_are_read_and_converted(three: FrameSet, photo: NDArray[np.uint8]) -> None:
    scene = three[1]
    assert scene.name == "b"
    assert (scene.image == photo).all()
    assert scene.labels is not None
    assert scene.mask is not None
    assert scene.labels[0, :3].tolist() == [0, 10, 255]
    assert scene.mask[0, :3].tolist() == [0, 1, 255]
    assert three.has_labels
    assert three.has_masks


def test_a_set_is_a_sequence(three: FrameSet) -> None:
    assert len(three) == 3
    assert three.names == ["a", "b", "c"]
    assert three[-1].name == "c"
    assert [scene.name for scene in three] == ["a", "b", "c"]
    assert three[::2].names == ["a", "c"]
    assert three[1:][0].name == "b"
    assert three.subset([2, 0]).names == ["c", "a"]
    assert three[:2].split == "val"
    assert repr(three[:2]) == "FrameSet('test', split='val', 2 scenes)"
    with pytest.raises(IndexError):
        three[3]


def test_a_set_takes_another_name_and_travels_to_other_processes(three: FrameSet) -> None:
    other = three.renamed("mine")
    assert (other.name, three.name) == ("mine", "test")
    assert pickle.loads(pickle.dumps(other))[0].name == "a"


def test_a_broken_frame_does_not_cost_the_others(three: FrameSet) -> None:
    three.frames[1].image.write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"b\.png is an empty file"):
        three[1]
    assert three[2].name == "c"


def test_a_mask_of_another_size_names_both_sizes(three: FrameSet, save: Save) -> None:
    path = save("b_m.png", np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError, match=r"anomaly mask of 6x4 for an image of 12x8 \(.*b\.png\); use the") as caught:
        three[1]
    assert str(caught.value).startswith(f"{path}: ")


def test_a_mask_with_value_seven(three: FrameSet, save: Save, stripes: Stripes) -> None:
    path = save("b_m.png", stripes(0, 7))
    with pytest.raises(
        InputError, match=r"undeclared value 7 \(48 pixels\) in the anomaly mask, expected 0 inlier"
    ) as caught:
        three[1]
    assert str(caught.value).startswith(f"{path}: ")


def test_an_image_that_exif_turned_says_so(three: FrameSet, photo: NDArray[np.uint8]) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(three.frames[0].image, exif=exif)
    with pytest.raises(
        InputError, match=r"for an image of 8x12 .*turned by its EXIF orientation and the label map is not"
    ):
        three[0]


def test_frames_without_labels_or_masks(save: Save, photo: NDArray[np.uint8]) -> None:
    plain = FrameSet("plain", CARD, [Frame("a", save("a.png", photo))])
    assert (plain[0].labels, plain[0].mask) == (None, None)
    assert not plain.has_labels
    assert not plain.has_masks


def test_a_new_data_set_is_one_class() -> None:
    @register_dataset("test-of-registration")
    class Mine(DatasetReader):
        card = CARD

        @classmethod
        def recognise(cls, folder: Path) -> Recognition | None:
            return None

        @classmethod
        def open(cls, folder: Path, split: str | None = None) -> FrameSet:
            return FrameSet(cls.name, cls.card, [])

    try:
        assert DATASETS["test-of-registration"] is Mine
        assert Mine.name == "test-of-registration"
        assert len(Mine.open(Path())) == 0
    finally:
        del DATASETS._found["test-of-registration"]
