"""Boxes, windows and cuts."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from strays.errors import InputError
from strays.negatives import Negative
from strays.negatives.cutting import (
    bounding_box,
    covering_box,
    cut_out,
    mirrored,
    parse_span,
    random_box,
    resized_cut,
    union,
    view,
    view_map,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.1+0.6", (0.1, 0.6)), ("2", (2, 2)), (1.5, (1.5, 1.5)), (3, (3, 3)), ("1e-2+1", (0.01, 1))],
)
def test_ranges_in_words(text: str | float, expected: tuple[float, float]) -> None:
    assert parse_span("side", text, 0) == expected


@pytest.mark.parametrize("text", ["", "a", "1+", "+1", "2+1", "1+2+3", "-1", "1+9", "nan", "1+nan", "inf"])
def test_no_ranges(text: str) -> None:
    with pytest.raises(InputError, match=r"side: expected LOW\+HIGH, two numbers from 0 to 5, or one of them, got"):
        parse_span("side", text, 0, 5)


def test_infinity_is_no_end() -> None:
    with pytest.raises(InputError, match="two numbers from 0, or"):
        parse_span("zoom", "1+inf", 0)


def test_whole_numbers_only() -> None:
    assert parse_span("count", "1+3", 1, whole=True) == (1, 3)
    with pytest.raises(InputError, match="two whole numbers from 1"):
        parse_span("count", "1+2.5", 1, whole=True)


def test_boxes_and_unions_by_brute_force() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        masks = random.random((3, 9, 7)) < 0.05
        masks[:, random.integers(9), random.integers(7)] = True
        both = union(masks)
        points = [(row, column) for row in range(9) for column in range(7) if masks[:, row, column].any()]
        assert sorted(zip(*np.nonzero(both), strict=True)) == points
        rows, columns = bounding_box(both)
        assert (rows.start, rows.stop - 1) == (min(p[0] for p in points), max(p[0] for p in points))
        assert (columns.start, columns.stop - 1) == (min(p[1] for p in points), max(p[1] for p in points))


def disc(size: int) -> NDArray[np.bool_]:
    rows, columns = np.indices((size, size)) + 0.5 - size / 2
    return rows**2 + columns**2 < (size / 2.5) ** 2


def test_a_cut_is_the_box_of_the_mask() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    cut = cut_out(image, disc(30))
    assert cut.size == (24, 24)
    np.testing.assert_array_equal(cut.image[cut.mask == 1], image[disc(30)])
    assert set(np.unique(cut.mask)) == {0, 1}


@pytest.mark.parametrize("size", [(10, 10), (24, 24), (17, 61), (1, 1)])
def test_no_colour_bleeds_in_from_around_an_object(size: tuple[int, int]) -> None:
    image = np.full((30, 30, 3), 255, np.uint8)
    image[disc(30)] = (200, 40, 90)
    small = resized_cut(cut_out(image, disc(30)), size)
    assert small.size == size
    assert np.abs(small.image[small.mask == 1].astype(int) - (200, 40, 90)).max() <= 2  # of 8 bits


def test_the_area_of_an_object_scales_with_it() -> None:
    cut = cut_out(np.zeros((80, 80, 3), np.uint8), disc(80))
    small = resized_cut(cut, (cut.size[0] // 4, cut.size[1] // 4))
    assert small.mask.sum() == pytest.approx(disc(80).sum() / 16, rel=0.04)


def test_what_is_thinner_than_a_pixel_does_not_vanish() -> None:
    mask = np.eye(60, dtype=bool)
    small = resized_cut(cut_out(np.zeros((60, 60, 3), np.uint8), mask), (6, 6))
    assert small.mask.any()
    assert (small.mask.astype(bool) <= (np.abs(np.subtract.outer(range(6), range(6))) <= 1)).all()


def test_mirroring_takes_all_along() -> None:
    image, mask = np.arange(18, dtype=np.uint8).reshape(2, 3, 3), np.uint8([[1, 0, 0], [1, 1, 0]])
    opacity = np.float32([[0.5, 0, 0], [1, 1, 0]])
    other = mirrored(Negative(image, mask, opacity))
    np.testing.assert_array_equal(other.image[:, ::-1], image)
    np.testing.assert_array_equal(other.mask, [[0, 0, 1], [0, 1, 1]])
    assert other.opacity is not None
    np.testing.assert_array_equal(other.opacity[:, ::-1], opacity)
    assert mirrored(Negative(image, mask)).opacity is None


def test_random_boxes_lie_anywhere_inside() -> None:
    random = np.random.default_rng(0)
    boxes = np.array([random_box((20, 50), (8.5, 10), random) for _ in range(500)])
    np.testing.assert_allclose(boxes[:, 2] - boxes[:, 0], 10)
    np.testing.assert_allclose(boxes[:, 3] - boxes[:, 1], 8.5)
    assert stats.kstest(boxes[:, 0], stats.uniform(0, 40).cdf).pvalue > 1e-3
    assert stats.kstest(boxes[:, 1], stats.uniform(0, 11.5).cdf).pvalue > 1e-3
    assert random_box((20, 50), (99, 99), random) == (0, 0, 50, 20)


@pytest.mark.parametrize(
    ("scale", "shown"), [(1, (20, 30)), (2, (10, 15)), (0.5, (40, 60)), (0.1, (100, 150)), (0, (100, 150))]
)
def test_a_window_fills_the_patch(scale: float, shown: tuple[float, float]) -> None:
    left, top, right, bottom = covering_box((100, 200), (20, 30), scale, np.random.default_rng(0))
    assert (bottom - top, right - left) == pytest.approx(shown)
    assert min(left, top) >= 0
    assert right <= 200
    assert bottom <= 100


def test_views_show_the_same_window_of_image_and_map() -> None:
    rows, columns = np.indices((40, 60))
    image = np.stack([rows, columns, rows], -1).astype(np.uint8)
    seen = view(image, (12, 4, 32, 14), (10, 20))
    np.testing.assert_array_equal(seen, image[4:14, 12:32])
    np.testing.assert_array_equal(view_map(image[..., 1], (12, 4, 32, 14), (10, 20)), image[4:14, 12:32, 1])
    assert view(image, (12.5, 4.25, 32.5, 14.25), (5, 5)).shape == (5, 5, 3)
    assert set(np.unique(view_map(image[..., 0] // 10 * 10, (0, 0, 60, 40), (7, 9)))) == {0, 10, 20, 30}
