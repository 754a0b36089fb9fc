import json

import numpy as np
import pytest

from strays.errors import InputError
from strays.segments import Segment, find_segments


def flood(inside):
    """Regions by an explicit 8-connected flood fill, each a set of (row, column)."""
    left = set(map(tuple, np.argwhere(inside).tolist()))
    regions = []
    while left:
        stack, region = [left.pop()], set()
        while stack:
            row, column = stack.pop()
            region.add((row, column))
            near = {(row + y, column + x) for y in (-1, 0, 1) for x in (-1, 0, 1)} & left
            left -= near
            stack += near
        regions.append(region)
    return regions


def pixels(segment: Segment) -> set[tuple[int, int]]:
    left, top, _, _ = segment.box
    return {(row + top, column + left) for row, column in np.argwhere(segment.mask).tolist()}


@pytest.mark.parametrize("seed", range(6))
def test_segments_are_those_of_a_flood_fill(seed):
    score = np.random.default_rng(seed).normal(size=(23, 31)).astype(np.float32)
    threshold = (-0.5, 0.3, 0.6, 0.9, 1.2, 9.0)[seed]
    found = find_segments(score, threshold)
    expected = flood(score >= threshold)
    assert sorted(map(sorted, map(pixels, found))) == sorted(map(sorted, expected))


def test_every_fact_is_that_of_the_pixels():
    score = np.random.default_rng(7).normal(size=(40, 25)).astype(np.float32)
    for one in find_segments(score, 0.7):
        rows, columns = np.array(sorted(pixels(one))).T
        values = score[rows, columns].astype(np.float64)
        assert tuple(one.box) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert (one.area, one.peak) == (len(rows), values.max())
        assert one.mean == pytest.approx(values.mean(), abs=1e-12)
        assert one.centroid == pytest.approx((columns.mean(), rows.mean()))
        assert one.mask.shape == (one.box.bottom - one.box.top, one.box.right - one.box.left)


def test_highest_peak_comes_first_and_ties_keep_reading_order():
    score = np.zeros((5, 9), np.float32)
    score[0, 0], score[0, 4], score[4, 2], score[4, 8] = 3, 5, 3, 4
    found = find_segments(score, 1.0)
    assert [one.peak for one in found] == [5, 4, 3, 3]
    assert [one.box.top for one in found] == [0, 4, 0, 4]


def test_the_threshold_itself_belongs_to_the_segment():
    score = np.float32([[0.1, 0.25, 0.5]])
    assert find_segments(score, float(np.float32(0.25)))[0].area == 2


def test_small_segments_are_left_out():
    score = np.zeros((6, 8), np.float32)
    score[0:2, 0:2], score[5, 7] = 1, 9
    assert [one.area for one in find_segments(score, 0.5)] == [1, 4]
    assert [one.area for one in find_segments(score, 0.5, min_area=4)] == [4]
    assert find_segments(score, 0.5, min_area=5) == []


def test_diagonal_neighbours_are_one_segment():
    assert len(find_segments(np.eye(7, dtype=np.float32), 0.5)) == 1


def test_nothing_above_the_threshold_gives_no_segments():
    assert find_segments(np.zeros((3, 4), np.float32), 0.5) == []


def test_the_dictionary_is_json_without_the_mask():
    (one,) = find_segments(np.float32([[0, 2, 4]]), 1)
    assert json.loads(json.dumps(one.as_dict())) == {
        "box": {"left": 1, "top": 0, "right": 3, "bottom": 1},
        "area": 2,
        "peak": 4.0,
        "mean": 3.0,
        "centroid": [1.5, 0.0],
    }


@pytest.mark.parametrize("score", [np.zeros((2, 2, 2), np.float32), np.float32([[np.nan, 1]])])
def test_scores_that_cannot_be_segmented_are_refused(score):
    with pytest.raises(InputError, match="finite scores"):
        find_segments(score, 0.5)


def test_a_missing_threshold_is_refused():
    with pytest.raises(InputError, match="NaN"):
        find_segments(np.zeros((2, 2), np.float32), float("nan"))
