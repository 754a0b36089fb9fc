"""The recipe of entropy maximisation: its loss, its settings in words, and what a network learns from it."""

import pytest
import torch
from torch import Tensor, nn

from strays.detectors import build_detector
from strays.errors import InputError
from strays.networks.extended import Extension
from strays.objectives.meta_entropy import meta_entropy_loss
from strays.prediction import Prediction
from strays.recipes.base import RECIPES, build_recipe
from strays.recipes.meta_entropy import MetaEntropy
from strays.taxonomy import IGNORE
from strays.training.settings import TrainingSettings

CLASSES = 3
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Labels and mask: a scene with void below, and a whole negative whose surroundings count nowhere."""
    labels = torch.randint(0, CLASSES, (2, 8, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mask = torch.zeros_like(labels)
    labels[0, 6:] = IGNORE
    labels[1] = mask[1] = IGNORE
    mask[1, 2:6, 3:9] = 1
    return labels, mask


def test_it_is_registered_with_its_detector_and_changes_no_network() -> None:
    assert RECIPES["meta-entropy"] is MetaEntropy
    assert MetaEntropy.extension == Extension()
    assert MetaEntropy.detector == "entropy"
    assert MetaEntropy.card.needs.negatives
    assert [(one.dataset, one.metric, one.value) for one in MetaEntropy.card.published] == [
        ("Cityscapes test", "mIoU", 0.8151)
    ]


def test_settings_in_words_build_it() -> None:
    assert build_recipe("meta-entropy").settings() == {"alpha": 0.9, "separate": False}
    recipe = build_recipe("meta-entropy:alpha=0.5,separate=yes", WEIGHTS)
    assert recipe.settings() == {"alpha": 0.5, "separate": True}
    assert torch.equal(recipe.class_weights, WEIGHTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [("alpha=1.5", "alpha is 1.5, expected 0 to 1"), ("separate=perhaps", "meta-entropy: separate is 'perhaps'")],
)
def test_bad_settings_are_told_before_training(settings: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_recipe(f"meta-entropy:{settings}")


@pytest.mark.parametrize("separate", [False, True])
def test_its_loss_is_that_of_the_objective_without_the_void_channel(
    batch: tuple[Tensor, Tensor], separate: bool
) -> None:
    logits = torch.randn(2, CLASSES + 1, 4, 6, generator=torch.Generator().manual_seed(1))
    found = MetaEntropy(WEIGHTS, CLASSES, 0.7, separate).losses({"logits": logits}, *batch)
    expected = meta_entropy_loss(logits[:, :CLASSES], *batch, 0.7, separate, WEIGHTS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_training_settings_take_its_defaults() -> None:
    settings = TrainingSettings(recipe="meta-entropy", data=("synthetic",))
    assert {key: getattr(settings, key) for key in MetaEntropy.defaults} == MetaEntropy.defaults
    assert settings.negative_share == 0.1


def test_negatives_get_the_larger_scores(batch: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    labels, mask = batch
    images = torch.cat([torch.eye(CLASSES + 1)[labels.clamp(max=CLASSES).long()], (mask == 1)[..., None]], dim=-1)
    images = images.movedim(-1, 1).float()
    network = nn.Conv2d(CLASSES + 2, CLASSES, 1)
    nn.init.normal_(network.weight, std=3)
    recipe = build_recipe("meta-entropy")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(80):
        optimizer.zero_grad()
        recipe.losses({"logits": network(images)}, labels, mask)["total"].backward()
        optimizer.step()
    score = build_detector(recipe.detector)(Prediction(logits=network(images), size=(8, 12)))
    assert score[mask == 1].min() > 0.95
    assert score[labels != IGNORE].max() < 0.5
