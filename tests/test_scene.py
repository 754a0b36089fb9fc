"""Scenes: what they refuse, and how they are resized."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from strays.errors import InputError
from strays.scene import ANOMALY, INLIER, Scene, resize_image, resize_map
from strays.taxonomy import IGNORE


def image(height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def mask(*values: int, height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    return np.resize(np.array(values, np.uint8), (height, width))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((6, 8), np.uint8),
        np.zeros((6, 8, 4), np.uint8),
        np.zeros((3, 6, 8), np.uint8),
        np.zeros((1, 6, 8, 3), np.uint8),
        np.zeros((6, 8, 3), np.float32),
        np.zeros((6, 8, 3), np.uint16),
    ],
    ids=lambda one: f"{one.dtype}{one.shape}",
)
def test_only_uint8_rgb_images(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=r"frame 7: expected a uint8 RGB image \(H, W, 3\), got") as caught:
        Scene(wrong, name="frame 7")
    assert str(wrong.dtype) in str(caught.value)


@pytest.mark.parametrize("kind", ["labels", "mask"])
@pytest.mark.parametrize(
    "wrong",
    [np.zeros((8, 6), np.uint8), np.zeros((6, 8, 1), np.uint8), np.zeros((6, 8), np.int64), np.zeros((6, 8), bool)],
    ids=lambda one: f"{one.dtype}{one.shape}",
)
def test_maps_have_the_size_of_the_image(kind: str, wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=rf"expected {kind} uint8 \(6, 8\) like the image, got"):
        Scene(image(), **{kind: wrong})


@pytest.mark.parametrize("wrong", [np.zeros((8, 6), bool), np.zeros((6, 8), np.uint8)], ids=lambda one: str(one.dtype))
def test_what_is_outside_is_bool_and_has_the_size_of_the_image(wrong: NDArray[np.bool_]) -> None:
    with pytest.raises(InputError, match=r"frame 7: expected outside bool \(6, 8\) like the image, got"):
        Scene(image(), name="frame 7", outside=wrong)


def test_mask_with_another_value_is_refused() -> None:
    with pytest.raises(InputError, match=r"street: an anomaly mask holds 0, 1 and 255, got \[0, 1, 7\]"):
        Scene(image(), mask=mask(0, 1, 7), name="street")


@pytest.mark.parametrize(
    ("values", "expected"), [((INLIER, ANOMALY, IGNORE), True), ((INLIER, IGNORE), False), ((IGNORE,), False)]
)
def test_has_anomaly(values: tuple[int, ...], expected: bool) -> None:
    assert Scene(image(), mask=mask(*values)).has_anomaly is expected
    assert Scene(image()).has_anomaly is False


def test_labels_may_hold_any_class() -> None:
    assert Scene(image(), labels=mask(0, 18, 19, IGNORE)).labels is not None


def test_size_is_height_and_width() -> None:
    assert Scene(image(5, 9)).size == (5, 9)


def test_the_same_size_is_the_same_scene() -> None:
    scene = Scene(image())
    assert scene.resized((6, 8)) is scene


def test_resized_scene_keeps_name_and_absent_maps() -> None:
    small = Scene(image(), name="frame").resized((3, 4))
    assert (small.name, small.size, small.labels, small.mask) == ("frame", (3, 4), None, None)


def test_image_is_resized_as_pillow_does() -> None:
    small = Scene(image(12, 16)).resized((5, 7)).image
    expected = Image.fromarray(image(12, 16)).resize((7, 5), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small, np.asarray(expected))
    assert small.dtype == np.uint8


def test_halving_an_image_averages_instead_of_skipping() -> None:
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[::2] = 200
    assert np.ptp(resize_image(stripes, (4, 4))[1:-1]) == 0
    assert 80 < resize_image(stripes, (4, 4)).mean() < 120


@pytest.mark.parametrize("size", [(3, 4), (12, 16), (7, 5)])
def test_maps_are_resized_without_new_values(size: tuple[int, int]) -> None:
    scene = Scene(image(), labels=mask(0, 3, 18, 255), mask=mask(0, 1, 255)).resized(size)
    assert scene.labels is not None
    assert scene.mask is not None
    assert scene.labels.shape == scene.mask.shape == scene.image.shape[:2] == size
    assert set(np.unique(scene.labels)) <= {0, 3, 18, 255}
    assert set(np.unique(scene.mask)) <= {0, 1, 255}


def test_instances_are_resized_without_new_numbers() -> None:
    numbers = np.full((6, 8), 70_000, np.int32)
    numbers[:, :4] = 3
    small = Scene(image(), instances=numbers).resized((3, 4)).instances
    assert small.dtype == np.int32
    assert small.tolist() == [[3, 3, 70_000, 70_000]] * 3


def test_what_is_outside_is_resized_like_a_map() -> None:
    outside = np.arange(48).reshape(6, 8) % 5 == 0
    scene = Scene(image(), outside=outside).resized((12, 16))
    assert scene.outside is not None
    assert scene.outside.dtype == np.bool_
    np.testing.assert_array_equal(scene.outside, outside.repeat(2, axis=0).repeat(2, axis=1))
    assert Scene(image(), outside=np.asfortranarray(outside)).resized((3, 4)).outside is not None
    assert Scene(image()).resized((3, 4)).outside is None


def test_enlarging_a_map_repeats_its_pixels() -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(resize_map(values, (4, 6)), values.repeat(2, axis=0).repeat(2, axis=1))


def test_scenes_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Scene(image()).name = "other"  # type: ignore[misc]
