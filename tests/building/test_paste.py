"""Pasting one thing into one frame: what changes, what stays, and by what chance."""

import numpy as np
import pytest

from strays.building.ground import Placement
from strays.building.paste import Blending, blended, frame_generator, shadowed, trimmed
from strays.negatives import Negative

AS_IT_IS = Blending(light=0, edge=0, shadow=0, sharpness=False)


def disc(side: int = 24, value: tuple[int, int, int] = (200, 40, 90)) -> Negative:
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    mask = (rows**2 + columns**2 <= (side / 2 - 1) ** 2).astype(np.uint8)
    return Negative(np.full((side, side, 3), value, np.uint8), mask)


def frame(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 120, (70, 90, 3), np.uint8)


def test_chance_depends_on_seed_and_name_alone() -> None:
    drawn = [frame_generator(*one).integers(0, 2**32, 4).tolist() for one in [(1, "a"), (1, "a"), (2, "a"), (1, "b")]]
    assert drawn[0] == drawn[1]
    assert len({tuple(one) for one in drawn}) == 3


def test_without_any_adaptation_it_is_a_copy() -> None:
    image, cut = frame(), disc()
    before = image.copy()
    pasted = blended(image, cut, Placement(20, 30, 1.0), AS_IT_IS)
    np.testing.assert_array_equal(image, before)
    expected, where = image.copy(), np.zeros(image.shape[:2], bool)
    where[20:44, 30:54] = cut.mask == 1
    expected[where] = (200, 40, 90)
    np.testing.assert_array_equal(pasted.image, expected)
    np.testing.assert_array_equal(pasted.where, where)


@pytest.mark.parametrize("blending", [Blending(shadow=0), Blending(shadow=0, edge=1.5), Blending(shadow=0, light=1)])
def test_nothing_changes_beyond_the_mask(blending: Blending) -> None:
    image = frame()
    pasted = blended(image, disc(), Placement(20, 30, 1.3), blending)
    changed = (pasted.image != image).any(-1)
    assert not (changed & ~pasted.where).any()
    assert changed[pasted.where].mean() > 0.95
    rows, columns = np.nonzero(pasted.where)
    assert abs(rows.min() - 21) <= 2
    assert abs(rows.max() - rows.min() + 1 - 1.3 * 22) <= 3
    assert abs(columns.mean() - (30 + 1.3 * 12)) < 1


def test_the_edge_is_between_the_thing_and_the_frame() -> None:
    image = np.full((60, 60, 3), 50, np.uint8)
    pasted = blended(image, disc(30, (250, 250, 250)), Placement(10, 10, 1.0), Blending(0, 1.0, 0, False))
    values = pasted.image[..., 0][pasted.where]
    assert ((values > 100) & (values < 200)).sum() > 20
    assert (pasted.image[20:30, 20:30] == 250).all()
    assert values.min() >= 50 + 200 / 3 - 1  # what it covers less than a third of is left out


def test_no_colour_from_around_the_thing_comes_with_it() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[..., 2] = 255  # blue where it was cut out
    mask = np.zeros((40, 40), np.uint8)
    mask[8:32, 8:32] = 1
    image[mask == 1] = (255, 255, 0)
    scene = np.full((60, 60, 3), (255, 255, 0), np.uint8)
    pasted = blended(scene, Negative(image, mask), Placement(5, 5, 0.6), Blending(0, 0.8, 0, True))
    assert (pasted.image == (255, 255, 0)).all()


def test_a_shadow_darkens_the_ground_under_the_thing_alone() -> None:
    scene = np.full((80, 80, 3), 100, np.float32)
    where = np.zeros((80, 80), bool)
    where[20:60, 30:50] = True
    dark = shadowed(scene, where, 0.6)
    assert (dark <= scene).all()
    assert dark[60, 40, 0] < 65
    assert (dark[:50] == 100).all()
    assert (dark[:, :15] == 100).all()
    assert (dark[70:] == 100).all()
    np.testing.assert_array_equal(shadowed(scene, where, 0), scene)


def test_trimming_cuts_a_rim_off_and_leaves_thin_things() -> None:
    large = Negative(np.zeros((200, 300, 3), np.uint8), np.ones((200, 300), np.uint8))
    assert trimmed(large).size == (200 - 4, 300 - 4)  # 0.8 % of 300 pixels on every side
    line = Negative(np.zeros((2, 50, 3), np.uint8), np.ones((2, 50), np.uint8))
    assert trimmed(line) is line
    bells = np.zeros((20, 60), np.uint8)
    bells[:, :20], bells[:, 40:], bells[9:11] = 1, 1, 1
    assert trimmed(Negative(np.zeros((20, 60, 3), np.uint8), bells)).size == (20, 60), "it would fall apart"
