"""Schedules: the rate rises for 50 steps, then follows its curve, or falls when validation stands still."""

import numpy as np
import pytest

from strays.training.schedules import Schedule
from strays.training.settings import TrainingSettings


def schedule(name: str, steps: int = 1000, **changes: float) -> Schedule:
    given = {"data": ("x",), "schedule": name, "learning_rate": 1e-3, "final_learning_rate": 1e-5}
    return Schedule(TrainingSettings.model_validate(given | changes), steps)


@pytest.mark.parametrize("name", ["cosine", "poly", "plateau", "constant"])
def test_the_first_50_steps_are_linear(name: str) -> None:
    chosen = schedule(name, steps=10**9)
    assert [chosen.factor(step) for step in range(50)] == pytest.approx(np.arange(1, 51) / 50, rel=1e-5)


def test_cosine_ends_at_the_final_rate() -> None:
    found = [schedule("cosine").factor(step) for step in (50, 500, 1000)]
    assert found == pytest.approx([0.01 + 0.99 * (1 + np.cos(np.pi * 0.05)) / 2, 0.505, 0.01])


def test_poly_is_a_power_of_what_is_left() -> None:
    found = [schedule("poly").factor(step) for step in (50, 500, 1000)]
    assert found == pytest.approx([0.95**0.9, 0.5**0.9, 0.01])


def test_constant_stays() -> None:
    chosen = schedule("constant")
    chosen.validated(0.1)
    assert chosen.factor(50) == chosen.factor(1000) == 1


def test_plateau_halves_after_more_than_five_epochs_without_a_gain() -> None:
    chosen = schedule("plateau")
    for quality in (0.3, 0.5, 0.5, 0.4, 0.5, 0.49, 0.2):
        chosen.validated(quality)
    assert chosen.factor(100) == 1
    chosen.validated(0.5)
    assert chosen.factor(100) == 0.5
    for quality in (0.6, *[0.5] * 6):
        chosen.validated(quality)
    assert chosen.factor(100) == 0.25


def test_plateau_never_falls_below_the_final_rate() -> None:
    chosen = schedule("plateau")
    for _ in range(200):
        chosen.validated(0.1)
    assert chosen.factor(100) == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["cosine", "poly", "plateau", "constant"])
def test_a_rate_below_the_final_one_is_never_raised(name: str) -> None:
    chosen = schedule(name, learning_rate=1e-7)
    assert [chosen.factor(step) for step in (60, 500, 999)] == pytest.approx([1, 1, 1])
