"""Masks against matplotlib's test of points in polygons, and against hand-made and slow run lengths."""

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from strays.data.shapes import decoded_counts, polygon_mask, run_length_mask
from strays.errors import InputError

SIZE = (37, 53)


def by_matplotlib(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: size[0], : size[1]]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    return Outline(np.vstack([points, points[:1]]), closed=True).contains_points(centres).reshape(size)


@pytest.mark.parametrize("seed", range(8))
def test_a_polygon_holds_the_pixels_whose_centres_are_inside(seed: int) -> None:
    # Random points make polygons that cross themselves; they reach beyond the image on all sides.
    random = np.random.default_rng(seed)
    points = random.uniform((-9, -9), (SIZE[1] + 9, SIZE[0] + 9), (random.integers(3, 15), 2))
    expected = by_matplotlib(points, SIZE)
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(polygon_mask(points, SIZE), expected)
    assert np.array_equal(polygon_mask(points[::-1], SIZE), expected)


def test_polygons_that_share_edges_share_no_pixel_and_leave_none_out() -> None:
    corner = np.array([[0, 0], [6, 0], [6, 6], [0, 6]])
    whole, middle = np.ones((6, 6), int), np.array([2.5, 3.5])  # the centre of a pixel, through which all edges pass
    parts = [np.array([middle, corner[i], corner[(i + 1) % 4]]) for i in range(4)]
    assert np.array_equal(sum(polygon_mask(part, (6, 6)).astype(int) for part in parts), whole)
    left, upper = (
        polygon_mask(np.array(points), (2, 2))
        for points in (
            [[0.5, 0], [1.5, 0], [1.5, 2], [0.5, 2]],
            [[0, 0.5], [2, 0.5], [2, 1.5], [0, 1.5]],
        )
    )
    assert left.tolist() == [[True, False], [True, False]]
    assert upper.tolist() == [[True, True], [False, False]]


def test_a_line_walked_there_and_back_adds_nothing() -> None:
    # The text files join the parts of an object by such lines.
    first, second = np.array([[2, 2], [9.3, 2], [9.3, 8]]), np.array([[20.1, 20.2], [31, 20], [31, 30], [20, 30.7]])
    joined = np.vstack([first, first[:1], second, second[:1]])
    apart = polygon_mask(first, SIZE) | polygon_mask(second, SIZE)
    assert apart.sum() > 100
    assert np.array_equal(polygon_mask(joined, SIZE), apart)


def test_a_polygon_without_any_centre_or_outside_is_empty() -> None:
    for points in ([[3.1, 3.1], [3.4, 3.1], [3.4, 3.4]], [[60, 3], [70, 3], [70, 9]], [[1, 1], [9, 9]], [[4, 4]]):
        assert not polygon_mask(np.array(points, np.float64), SIZE).any()
    assert polygon_mask(np.array([[-1, -1], [99, -1], [99, 99], [-1, 99]]), SIZE).all()


def encoded(counts: list[int]) -> str:
    """Pack run lengths as the COCO API does, written from the description of its format."""
    text = ""
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        while True:
            digit, number = number & 31, number >> 5
            done = (number == 0 and not digit & 16) or (number == -1 and digit & 16)
            text += chr(48 + digit + (0 if done else 32))
            if done:
                break
    return text


def runs(mask: NDArray[np.bool_]) -> list[int]:
    """The lengths of runs down the columns, the first of zeros."""
    counts, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts, value = [*counts, 0], pixel
        counts[-1] += 1
    return counts


@pytest.mark.parametrize("first", [False, True])
def test_run_lengths_give_the_mask_back_plain_and_packed(first: bool) -> None:
    mask = np.random.default_rng(3).random((31, 23)) < 0.03
    mask[5:20, 4:17] = True  # long runs too
    mask[0, 0] = first
    counts = runs(mask)
    assert (counts[0] == 0) is first
    assert np.array_equal(run_length_mask(counts, mask.shape), mask)
    assert decoded_counts(encoded(counts)) == counts
    assert np.array_equal(run_length_mask(encoded(counts), mask.shape), mask)


def test_packed_numbers_of_every_length() -> None:
    counts = [0, 15, 16, 31, 32, 511, 512, 300_000, 1, 0, 1_000_000]
    assert decoded_counts(encoded(counts)) == counts


@pytest.mark.parametrize("counts", [[3, 2], [-1, 7], [4, 3], "5"])
def test_run_lengths_that_do_not_fill_the_mask_are_refused(counts: list[int] | str) -> None:
    with pytest.raises(InputError, match=r"runs that add up to 2 x 3 = 6 pixels"):
        run_length_mask(counts, (2, 3))


@pytest.mark.parametrize("text", ["!", "1P", "ß", "p"])
def test_texts_that_are_no_run_lengths_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="run lengths as the COCO API packs them"):
        decoded_counts(text)
