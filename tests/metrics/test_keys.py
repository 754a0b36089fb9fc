"""The key keeps the order of scores, and what is promised about its resolution."""

import numpy as np
import pytest

from strays.metrics.keys import EXACT_BELOW, KEYS, TOP_KEY, float_key, key_floor, single_valued


@pytest.fixture(scope="module")
def floats():
    rng = np.random.default_rng(0)
    any_bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    tiny = rng.integers(0, 2**12, 1000, dtype=np.int32).view(np.float32)
    edges = np.float32([0.5, 1, 2**-15, 256, np.finfo(np.float32).max])
    around = np.concatenate([np.nextafter(edges[:-1], np.float32(x)) for x in (-9e9, 9e9)])
    near_one = 1 - rng.random(100_000, np.float32) ** 8
    values = np.concatenate([any_bits, tiny, edges, around, near_one, rng.normal(size=100_000).astype(np.float32)])
    values = values[np.isfinite(values)]
    return np.sort(np.concatenate([values, -values]))


def test_keys_keep_the_order_and_fill_their_range(floats):
    keys = float_key(floats)
    assert (np.diff(keys) >= 0).all()
    assert keys[0] == -TOP_KEY
    assert keys[-1] == TOP_KEY
    assert KEYS == 1_200_129
    np.testing.assert_array_equal(float_key(-floats), -keys)


def test_negative_and_positive_zero_are_one_score():
    assert float_key(np.float32([-0.0, 0.0])).tolist() == [0, 0]


def test_scores_that_share_a_key_agree_to_five_digits(floats):
    fine = floats[(np.abs(floats) > 2**-15) & (np.abs(floats) < 256)]
    keys = float_key(fine)
    low, high = fine[:-1], fine[1:]
    shared = keys[1:] == keys[:-1]
    assert shared.sum() > 100
    assert ((high - low)[shared] <= 2**-14 * np.abs(low)[shared]).all()


@pytest.mark.parametrize("low_bits", [13, 16], ids=["float16", "bfloat16"])
def test_every_half_precision_score_has_its_own_key(low_bits):
    halves = np.arange(2**16, dtype=np.uint16)
    scores = (
        halves.view(np.float16).astype(np.float32) if low_bits == 13 else (halves.astype(np.uint32) << 16).view("f4")
    )
    scores = np.unique(scores[np.isfinite(scores) & (np.abs(scores) < EXACT_BELOW)])
    assert np.unique(float_key(scores)).size == scores.size > 30_000


def test_single_valued_keys_hold_one_float():
    low, high = (int(np.float32(x).view(np.int32)) for x in (0.996, 1.001))
    every = np.arange(low, high, dtype=np.int32).view(np.float32)
    for scores in (every, -every):
        keys, floats = np.unique(float_key(scores), return_counts=True)
        alone = single_valued(keys)
        assert alone.sum() > 10_000
        assert floats[alone].max() == 1
    assert single_valued(float_key(np.float32([0, 1, -1, 0.25, 3, 1e-40]))).tolist() == [True] * 3 + [False] * 3
    assert float_key(np.nextafter(np.float32([0, 0, 1, 1]), np.float32([-1, 1, 0, 2]))).tolist().count(0) == 0


def test_key_floor_is_the_smallest_score_of_a_key(floats):
    keys = np.unique(float_key(floats[::37]))
    floor = key_floor(keys)
    np.testing.assert_array_equal(float_key(floor), keys)
    below = np.nextafter(floor[1:], np.float32(-np.inf))
    assert (float_key(below) < keys[1:]).all()
    assert floor[0] == -np.finfo(np.float32).max
