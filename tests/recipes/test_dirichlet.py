"""The recipe of prior networks: its loss, its settings in words, and what a network that knew the classes learns."""

import pytest
import torch
from torch import Tensor, nn

from strays.detectors import build_detector
from strays.errors import InputError
from strays.networks.extended import Extension
from strays.objectives.dirichlet import dirichlet_loss
from strays.prediction import Prediction
from strays.recipes.base import RECIPES, Recipe, build_recipe
from strays.recipes.dirichlet import PriorNetwork
from strays.taxonomy import IGNORE
from strays.training.settings import TrainingSettings

CLASSES = 3
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


def test_it_is_registered_with_its_detector_and_changes_no_network() -> None:
    assert RECIPES["dirichlet"] is PriorNetwork
    assert PriorNetwork.extension == Extension()
    assert PriorNetwork.detector == "dirichlet-differential-entropy"
    assert PriorNetwork.card.needs.negatives


def test_published_numbers_are_those_of_the_specification() -> None:
    found = {(one.dataset, one.metric): one.value for one in PriorNetwork.card.published}
    assert found["Fishyscapes Lost & Found test", "AP"] == 0.3428
    assert found["Fishyscapes Static test", "FPR95"] == 0.846
    assert found["Fishyscapes Web October 2020", "AP"] == 0.3002
    assert found["Cityscapes", "mIoU"] == 0.705
    assert all(one.protocol for one in PriorNetwork.card.published)


def test_settings_in_words_build_it() -> None:
    assert build_recipe("dirichlet").settings() == {"direction": "reverse", "concentration": 100.0, "gamma": 1.0}
    recipe = build_recipe("dirichlet:direction=forward,concentration=10,gamma=2", WEIGHTS)
    assert recipe.settings() == {"direction": "forward", "concentration": 10.0, "gamma": 2.0}
    assert torch.equal(recipe.class_weights, WEIGHTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("direction=backward", "dirichlet: direction is 'backward'"),
        ("concentration=0", "concentration is 0.0, expected a finite number above 0"),
        ("gamma=-1", "gamma is -1.0, expected a finite number, 0 or more"),
    ],
)
def test_bad_settings_are_told_before_training(settings: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_recipe(f"dirichlet:{settings}")


def test_its_loss_is_that_of_the_objective_without_the_void_channel(batch: tuple[Tensor, Tensor]) -> None:
    logits = torch.randn(2, CLASSES + 1, 4, 6, generator=torch.Generator().manual_seed(1))
    found = PriorNetwork(WEIGHTS, CLASSES, "forward", 10.0, 0.5).losses({"logits": logits}, *batch)
    expected = dirichlet_loss(logits[:, :CLASSES], *batch, "forward", 10.0, 0.5, WEIGHTS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_training_settings_take_its_defaults() -> None:
    settings = TrainingSettings(recipe="dirichlet:gamma=2", data=("synthetic",))
    assert {key: getattr(settings, key) for key in PriorNetwork.defaults} == PriorNetwork.defaults


def trained(network: nn.Module, recipe: Recipe, images: Tensor, batch: tuple[Tensor, Tensor], steps: int) -> None:
    """Train as the loop does, the norm of the gradient bounded."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        recipe.losses({"logits": network(images)}, *batch)["total"].backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_a_network_that_knew_the_classes_becomes_a_prior_network(batch: tuple[Tensor, Tensor], direction: str) -> None:
    torch.manual_seed(0)
    labels, mask = batch
    images = torch.cat([torch.eye(CLASSES + 1)[labels.clamp(max=CLASSES).long()], (mask == 1)[..., None]], dim=-1)
    images = images.movedim(-1, 1).float()
    network = nn.Conv2d(CLASSES + 2, CLASSES, 1)
    nn.init.normal_(network.weight, std=3)
    trained(network, build_recipe("closed-set"), images, batch, 60)
    recipe = build_recipe(f"dirichlet:direction={direction}")
    trained(network, recipe, images, batch, 120)
    logits = network(images)
    assert torch.equal(logits.argmax(dim=1)[labels != IGNORE], labels[labels != IGNORE].long())
    for name in (recipe.detector, "dirichlet-mutual-information", "dirichlet-pairwise-kl"):
        score = build_detector(name)(Prediction(logits=logits, size=(8, 12)))
        assert score[mask == 1].min() > score[labels != IGNORE].max()
