"""The contact sheet: what a mask looks like, and where everything stands."""

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.drawing import draw_mask
from strays.negatives import Patch
from strays.negatives.preview import contact_sheet, draw_patch


def quarters(size: int = 60, grey: int = 100) -> Patch:
    """Scene, negative, not shown, and scene without a class, each a quarter."""
    labels, mask = np.full((size, size), 2, np.uint8), np.zeros((size, size), np.uint8)
    half = size // 2
    mask[:half, half:], mask[half:, :half], labels[half:, half:] = 1, 255, 255
    labels[mask != 0] = 255
    return Patch(np.full((size, size, 3), grey, np.uint8), labels, mask)


def colours(pixels: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return set(map(tuple, pixels.reshape(-1, 3).tolist()))


def test_each_kind_of_pixel_looks_different() -> None:
    patch = quarters()
    drawn = np.asarray(draw_patch(patch))
    # Well inside, away from the outline around the negative.
    scene, negative = colours(drawn[5:20, 5:20]), colours(drawn[5:20, 40:55])
    hidden, void = colours(drawn[40:55, 5:20]), colours(drawn[40:55, 40:55])
    assert scene == {(100, 100, 100)}
    assert [len(one) for one in (negative, hidden, void)] == [1, 2, 1]
    assert len(scene | negative | hidden | void) == 5
    red, green, blue = next(iter(negative))
    assert blue > green > red
    red, green, blue = next(iter(void))
    assert red > green > blue
    assert min(sum(one) for one in hidden) < 150
    assert colours(patch.image) == {(100, 100, 100)}


def test_negatives_are_drawn_like_anomalies_elsewhere() -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 15:30] = 1
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    patch = Patch(image, np.zeros((40, 50), np.uint8), mask)
    np.testing.assert_array_equal(np.asarray(draw_patch(patch)), np.asarray(draw_mask(image, mask)))


def test_pairs_stand_in_rows_above_the_legend() -> None:
    patches = [quarters(grey=grey) for grey in (60, 120, 180)]
    sheet = np.asarray(contact_sheet(patches))
    found = []
    for patch in patches:
        drawn, grey = np.asarray(draw_patch(patch)), patch.image[0, 0]
        rows, columns = np.nonzero((sheet == grey).all(-1))
        top, left = int(rows.min()), int(columns[rows == rows.min()].min())
        np.testing.assert_array_equal(sheet[top : top + 60, left : left + 60], patch.image)
        np.testing.assert_array_equal(sheet[top : top + 60, left + 62 : left + 122], drawn)
        found.append((top, left))
    assert found == sorted(found)
    below = sheet[max(top for top, _ in found) + 68 :]
    assert colours(np.asarray(draw_patch(quarters(grey=128)))[40:55, 40:55]) <= colours(below)


@pytest.mark.parametrize(("count", "size"), [(1, 60), (7, 40), (16, 60), (5, 1)])
def test_any_number_and_size(count: int, size: int) -> None:
    sheet = contact_sheet([quarters(size)] * count)
    assert sheet.width * sheet.height >= count * 2 * size * size


def test_sixteen_leave_no_empty_place() -> None:
    sheet = contact_sheet([quarters()] * 16)
    places = [(top, left) for top in range(4) for left in range(4)]
    pixels = np.asarray(sheet)
    assert all(pixels[8 + 68 * row + 5, 8 + 138 * column + 5].tolist() == [100] * 3 for row, column in places)


def test_large_patches_are_shown_smaller() -> None:
    large = contact_sheet([quarters(900)])
    assert large.size == contact_sheet([quarters(320)]).size
