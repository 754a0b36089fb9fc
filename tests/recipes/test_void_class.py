"""The recipe with a void class: a channel more on a real network, a loss of its own, and the detector that reads it."""

import pytest
import torch
from torch import Tensor

from strays.detectors import build_detector
from strays.errors import InputError
from strays.networks.erfnet import ERFNet
from strays.networks.extended import Extension, extend
from strays.objectives.void_class import void_class_loss
from strays.recipes.base import RECIPES, Recipe, build_recipe
from strays.recipes.void_class import VoidClass
from strays.taxonomy import IGNORE
from strays.training.settings import TrainingSettings

CLASSES = 4
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Labels and mask: classes on the left, negatives on the right, void and no scene below."""
    labels = torch.randint(0, CLASSES, (2, 8, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mask = torch.zeros_like(labels)
    mask[:, :6, 8:] = 1
    mask[:, 7:] = IGNORE
    labels[:, 6:] = IGNORE
    return labels.masked_fill(mask == 1, IGNORE), mask


def test_it_is_registered_with_an_extra_channel_and_its_detector() -> None:
    assert RECIPES["void-class"] is VoidClass
    assert VoidClass.extension == Extension(extra_channel=True)
    assert VoidClass.detector == "void"
    assert build_detector(VoidClass.detector).card.needs.void_class
    assert VoidClass.card.needs.negatives
    assert build_recipe("void-class").settings() == {}


def test_published_numbers_are_those_of_the_specification() -> None:
    found = {(one.dataset, one.metric): one.value for one in VoidClass.card.published}
    assert found["Fishyscapes Lost & Found test", "AP"] == 0.1029
    assert found["Fishyscapes Lost & Found test", "FPR95"] == 0.2211
    assert found["Fishyscapes Static test", "AP"] == 0.45
    assert found["Cityscapes", "mIoU"] == 0.704
    assert all(one.protocol for one in VoidClass.card.published)


def test_its_loss_is_that_of_the_objective(batch: tuple[Tensor, Tensor]) -> None:
    logits = torch.randn(2, CLASSES + 1, 4, 6, generator=torch.Generator().manual_seed(1))
    found = VoidClass(WEIGHTS, CLASSES).losses({"logits": logits}, *batch)
    expected = void_class_loss(logits, *batch, WEIGHTS)
    assert found.keys() == expected.keys() == {"cross_entropy", "void", "total"}
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_it_has_no_settings() -> None:
    with pytest.raises(InputError, match="void-class has no setting 'weight'"):
        build_recipe("void-class:weight=2")


def test_training_settings_take_its_defaults() -> None:
    settings = TrainingSettings(recipe="void-class", data=("synthetic",))
    assert {key: getattr(settings, key) for key in VoidClass.defaults} == VoidClass.defaults


def test_a_network_learns_void_from_it(batch: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    network = extend(ERFNet(classes=CLASSES), "erfnet", VoidClass.extension).train()
    recipe: Recipe = VoidClass(None, CLASSES)
    labels, mask = batch
    images = torch.rand(2, 3, 32, 48) * 0.2
    images += 0.8 * torch.nn.functional.interpolate((mask == 1).float()[:, None], (32, 48))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(10):
        optimizer.zero_grad()
        recipe.losses(network.outputs(images), labels, mask)["total"].backward()
        optimizer.step()
    prediction = network.predict(images, size=(8, 12), void=CLASSES)
    score = build_detector(recipe.detector)(prediction)
    assert score[mask == 1].mean() > 2 * score[mask == 0].mean()
