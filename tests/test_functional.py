"""The standard names of the pure functions."""

import inspect

import pytest
import torch

from strays import functional

SCORES = (
    "energy",
    "entropy",
    "jsd_to_uniform",
    "max_logit",
    "msp",
    "softmax_distance",
    "void_probability",
)


def test_all_lists_what_is_there() -> None:
    public = {name for name, value in vars(functional).items() if inspect.isfunction(value)}
    assert public == set(functional.__all__)
    assert functional.__all__ == sorted(functional.__all__)


@pytest.mark.parametrize("name", functional.__all__)
def test_every_function_is_the_one_of_its_own_module_and_documented(name: str) -> None:
    function = getattr(functional, name)
    assert function.__name__ == name
    assert function.__module__ != functional.__name__
    assert function.__doc__


@pytest.mark.parametrize("name", SCORES)
def test_scores_share_one_signature(name: str) -> None:
    parameters = list(inspect.signature(getattr(functional, name)).parameters.values())
    assert [one.name for one in parameters[:2]] == ["logits", "temperature"]
    assert parameters[1].default == 1.0
    assert all(one.default is not inspect.Parameter.empty for one in parameters[1:])


@pytest.mark.parametrize("name", SCORES)
def test_scores_map_logits_to_one_value_per_pixel(name: str) -> None:
    logits = torch.zeros(2, 5, 3, 4)
    logits[0, 0] = 8.0
    score = getattr(functional, name)(logits)
    assert score.shape == (2, 3, 4)
    assert (score[1] > score[0]).all()
