"""Scores as float16."""

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.deploy.rounding import Tie, as_float16, largest_tie
from strays.errors import InputError


def scores(*values: float) -> NDArray[np.float32]:
    return np.array([values], np.float32)


def test_rounding_is_to_the_nearest() -> None:
    found = as_float16(scores(0.1, -2.5, 65504, -65504, 1e-9))
    assert found.dtype == np.float16
    assert found.tolist() == [[0.0999755859375, -2.5, 65504.0, -65504.0, 0.0]]


@pytest.mark.parametrize("worst", [65505.0, -70000.0, 1e30])
def test_what_is_too_large_is_refused_and_never_clipped(worst: float) -> None:
    with pytest.raises(InputError, match=r"scores from .* do not fit float16, which ends at 65504"):
        as_float16(scores(0, worst))


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(worst: float) -> None:
    with pytest.raises(InputError, match="1 of 2 scores are NaN or infinite"):
        as_float16(scores(0, worst))


def test_ties_by_hand() -> None:
    assert largest_tie(scores(1, 2, 3, 4)) == Tie(score=1.0, share=0.0)
    assert largest_tie(scores(5, 5, 5, 4)) == Tie(score=5.0, share=0.0), "equal before: nothing is lost"
    assert largest_tie(scores(0, 1000.1, 1000.2, 1000.2)) == Tie(score=1000.0, share=0.25)


def test_ties_against_a_slow_count() -> None:
    score = np.random.default_rng(0).normal(3000, 5, (30, 40)).astype(np.float32)
    groups: dict[float, list[float]] = {}
    for value in score.ravel():
        groups.setdefault(float(np.float16(value)), []).append(float(value))
    value, group = max(groups.items(), key=lambda one: len(one[1]))
    alike = max(group.count(one) for one in group)
    assert largest_tie(score) == Tie(score=value, share=(len(group) - alike) / score.size)


def test_a_saturated_score_stands_out_and_a_spread_one_does_not() -> None:
    rng = np.random.default_rng(1)
    spread = rng.normal(-12, 3, (200, 200)).astype(np.float32)
    saturated = (1 / (1 + np.exp(-rng.normal(12, 1, (200, 200))))).astype(np.float32)
    assert largest_tie(spread).share < 0.01
    assert largest_tie(saturated).share > 0.5
    assert largest_tie(saturated).score == 1.0
