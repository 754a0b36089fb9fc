"""Averages of trainings: the mean of every number, what is said about it, and what has none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from strays.errors import InputError
from strays.loading import load_model
from strays.model import Model
from strays.training import TrainingSettings
from strays.training.souping import average_models


def trained(seed: int, **changes: object) -> Model:
    """The built-in closed-set network, as if training with a seed had moved every number of it."""
    model = load_model("swiftnet-mnv2-camvid", device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(seed)
        else:
            value.add_(torch.rand(value.shape, generator=generator))
    settings = TrainingSettings.model_validate({"init": "default", "data": ("camvid=D",), "seed": seed, **changes})
    update = {"training": {"settings": settings.model_dump(mode="json"), "validation": {"mIoU": 0.5}}}
    return replace(model, facts=model.facts.model_copy(update=update), source=f"run-{seed}")


def test_every_number_is_the_mean() -> None:
    found = average_models([trained(1), trained(2), trained(6)]).network.state_dict()
    states = [trained(seed).network.state_dict() for seed in (1, 2, 6)]
    for name, value in found.items():
        if name.endswith("num_batches_tracked"):
            assert value == 1
        else:
            expected = sum(one[name].double() for one in states) / 3
            torch.testing.assert_close(value.double(), expected, rtol=2**-24, atol=2**-30)  # the nearest float32
            assert value.dtype == torch.float32


def test_the_facts_tell_in_what_the_trainings_differ() -> None:
    model = average_models([trained(1), trained(2, epochs=9)])
    assert model.facts.training["averaged"] == [{"seed": 1, "epochs": 70}, {"seed": 2, "epochs": 9}]
    assert model.facts.training["settings"]["seed"] == 1
    assert "validation" not in model.facts.training
    assert model.facts.card.summary.endswith(", the mean of 2 trainings.")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: trained(2, init="runs/other"),
            "trained from default and runs/other: the mean of networks is one only",
        ),
        (lambda: load_model("default", device="cpu"), "differ in network: average trainings of one kind"),
    ],
)
def test_what_has_no_mean(other: Callable[[], Model], message: str) -> None:
    with pytest.raises(InputError, match=message):
        average_models([trained(1), other()])


def test_networks_from_random_weights_have_no_mean() -> None:
    with pytest.raises(InputError, match="trained from None: the mean"):
        average_models([trained(seed, init=None) for seed in (1, 2)])
    with pytest.raises(InputError, match="needs two models or more, got 1"):
        average_models([trained(1)])


def test_the_command(strays: Callable[..., object], tmp_path: Path) -> None:
    for seed in (1, 2):
        trained(seed).save(tmp_path / str(seed))
    answer = strays("average", tmp_path / "1", tmp_path / "2", "--out", tmp_path / "mean")
    assert answer.code == 0, answer.err
    expected = average_models([trained(1), trained(2)])
    assert Model.load(tmp_path / "mean").sha256() == expected.sha256()
    assert strays("average", tmp_path / "1", "--out", tmp_path / "mean").error.endswith("two models or more, got 1")
