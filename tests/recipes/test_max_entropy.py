"""The recipe of maximal entropy: its loss, its settings in words, and what a network learns from it."""

import pytest
import torch
from torch import Tensor, nn

from strays.detectors import build_detector
from strays.errors import InputError
from strays.networks.extended import Extension
from strays.objectives.max_entropy import max_entropy_loss
from strays.prediction import Prediction
from strays.recipes.base import RECIPES, build_recipe
from strays.recipes.max_entropy import MaxEntropy
from strays.taxonomy import IGNORE
from strays.training.settings import TrainingSettings

CLASSES = 3
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


def test_it_is_registered_with_its_detector_and_changes_no_network() -> None:
    assert RECIPES["max-entropy"] is MaxEntropy
    assert MaxEntropy.extension == Extension()
    assert MaxEntropy.detector == "entropy"
    assert MaxEntropy.card.needs.negatives
    assert MaxEntropy.card.published == ()  # the specification has none


def test_settings_in_words_build_it() -> None:
    assert build_recipe("max-entropy").settings() == {"weight": 1.0, "direction": "reverse"}
    recipe = build_recipe("max-entropy:weight=0.5,direction=forward", WEIGHTS)
    assert recipe.settings() == {"weight": 0.5, "direction": "forward"}
    assert torch.equal(recipe.class_weights, WEIGHTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("direction=sideways", "max-entropy: direction is 'sideways'"),
        ("weight=-1", "weight is -1.0, expected a finite number, 0 or more"),
        ("weight=much", "max-entropy: weight is 'much'"),
    ],
)
def test_bad_settings_are_told_before_training(settings: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_recipe(f"max-entropy:{settings}")


def test_its_loss_is_that_of_the_objective_without_the_void_channel(batch: tuple[Tensor, Tensor]) -> None:
    logits = torch.randn(2, CLASSES + 1, 4, 6, generator=torch.Generator().manual_seed(1))
    found = MaxEntropy(WEIGHTS, CLASSES, 0.5, "forward").losses({"logits": logits}, *batch)
    expected = max_entropy_loss(logits[:, :CLASSES], *batch, 0.5, "forward", WEIGHTS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    plain = MaxEntropy().losses({"logits": logits[:, :CLASSES]}, *batch)
    assert torch.equal(plain["total"], max_entropy_loss(logits[:, :CLASSES], *batch)["total"])


def test_training_settings_take_its_defaults() -> None:
    settings = TrainingSettings(recipe="max-entropy:weight=2", data=("synthetic",))
    assert {key: getattr(settings, key) for key in MaxEntropy.defaults} == MaxEntropy.defaults


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_negatives_get_the_larger_scores(batch: tuple[Tensor, Tensor], direction: str) -> None:
    torch.manual_seed(0)
    labels, mask = batch
    images = torch.cat([torch.eye(CLASSES + 1)[labels.clamp(max=CLASSES).long()], (mask == 1)[..., None]], dim=-1)
    images = images.movedim(-1, 1).float()
    network = nn.Conv2d(CLASSES + 2, CLASSES, 1)
    nn.init.normal_(network.weight, std=3)
    recipe = build_recipe(f"max-entropy:direction={direction}")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        recipe.losses({"logits": network(images)}, labels, mask)["total"].backward()
        optimizer.step()
    score = build_detector(recipe.detector)(Prediction(logits=network(images), size=(8, 12)))
    assert score[mask == 1].min() > 0.95
    assert score[labels != IGNORE].max() < 0.5
