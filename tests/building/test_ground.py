"""Depth by rows against a pinhole camera, and places that a thing can stand at."""

import numpy as np
import pytest

from strays.building.ground import EYE, find_place, horizon_row, pixels_per_metre, read_ground
from strays.errors import InputError
from strays.negatives import Negative
from strays.taxonomy import CAMVID, CITYSCAPES, LabelClass, Taxonomy

BOX = Negative(np.zeros((30, 20, 3), np.uint8), np.ones((30, 20), np.uint8))
NOTHING = np.zeros((90, 120), bool)


@pytest.mark.parametrize(("focal", "eye", "depth"), [(430, 1.3, 8.0), (1000, 2.0, 25.0)])
def test_a_metre_is_as_long_as_a_pinhole_camera_shows_it(focal: float, eye: float, depth: float) -> None:
    horizon = 160.0

    def row(height: float) -> float:
        return horizon + focal * (eye - height) / depth

    assert pixels_per_metre(np.array(row(0)), horizon, eye) == pytest.approx(row(0) - row(1))


def test_the_horizon_lies_just_above_the_road(labelled) -> None:
    labels = labelled()
    assert horizon_row(labels, CAMVID) == pytest.approx(36 - 0.02 * 90)
    assert horizon_row(labels, CAMVID, 0.45) == 40.5
    labels[:70] = 0  # a lorry hides the road
    assert horizon_row(labels, CAMVID) == pytest.approx(0.55 * 90)


def test_without_a_class_of_road_nothing_can_stand() -> None:
    indoors = Taxonomy(name="indoors", classes=(LabelClass(name="floor", colour=(0, 0, 0)),))
    with pytest.raises(InputError, match="indoors has no road for things to stand on, only floor"):
        read_ground(np.zeros((9, 9), np.uint8), indoors)


def test_the_lowest_row_of_what_a_pixel_belongs_to(labelled) -> None:
    labels = labelled((40, 30, 14, 20), pole=80)
    labels[:4, :4] = 255
    ground = read_ground(labels, CAMVID)
    assert set(ground.lowest[40:54, 30:50].ravel()) == {53}
    assert set(ground.lowest[36:, 80:83].ravel()) == {89}
    assert set(ground.lowest[:4, :4].ravel()) == {3}
    assert ground.lowest[70, 60] == -1


def test_things_are_as_large_as_their_depth_asks_for(labelled) -> None:
    ground, random = read_ground(labelled(), CAMVID), np.random.default_rng(0)
    metres = 0.9 / 30  # a thing of 0.9 m
    rows = []
    for _ in range(60):
        place = find_place(ground, BOX, metres, NOTHING, random)
        assert place is not None
        height, width = round(place.scale * 30), round(place.scale * 20)
        foot = place.top + height - 1
        assert place.scale * 30 == pytest.approx(0.9 * (foot - ground.horizon) / EYE)
        assert ground.road[foot, place.left : place.left + width].mean() >= 0.7
        assert place.top >= 0
        assert 0.07 * 90 <= place.scale * 30 <= 0.6 * 90
        assert place.scale <= 1.25
        rows.append(foot)
    assert min(rows) < 55
    assert max(rows) > 80


def test_nothing_covers_what_is_nearer_or_taken(labelled) -> None:
    ground, random = read_ground(labelled((60, 40, 28, 50)), CAMVID), np.random.default_rng(0)
    taken = np.zeros((90, 120), bool)
    taken[:, :50] = True
    places = [find_place(ground, BOX, 0.9 / 30, taken, random) for _ in range(40)]
    assert sum(place is not None for place in places) > 10
    for place in filter(None, places):
        height, width = (round(place.scale * side) for side in BOX.size)
        window = np.s_[place.top : place.top + height, place.left : place.left + width]
        assert not taken[window].any()
        assert place.top + height - 1 >= 88 or not (ground.lowest[window] == 87).any()


@pytest.mark.parametrize("metres", [0.001, 50.0])
def test_what_would_be_too_small_or_too_large_has_no_place(labelled, metres: float) -> None:
    ground = read_ground(labelled(), CAMVID)
    assert find_place(ground, BOX, metres / 30, NOTHING, np.random.default_rng(0)) is None


def test_without_road_in_the_frame_there_is_no_place() -> None:
    ground = read_ground(np.full((90, 120), CITYSCAPES.names.index("sky"), np.uint8), CITYSCAPES)
    assert find_place(ground, BOX, 0.03, NOTHING, np.random.default_rng(0)) is None
