"""The recipe: its setting, what it gives to the loss, and how flat negatives become."""

import pytest
import torch
from torch import Tensor

from strays.detectors import build_detector
from strays.errors import InputError
from strays.objectives.jsd import jsd_to_uniform_loss
from strays.prediction import Prediction
from strays.recipes import build_recipe
from strays.taxonomy import IGNORE

CLASSES = 3


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, CLASSES + 1, 8, 10, generator=generator)
    mask = torch.randint(0, 2, (2, 8, 10), generator=generator)
    labels = torch.randint(0, CLASSES, mask.shape, generator=generator).masked_fill(mask == 1, IGNORE)
    return logits, labels, mask


def test_its_setting_is_the_weight() -> None:
    assert build_recipe("jsd").settings() == {"weight": 0.03}
    assert build_recipe("jsd:weight=2").settings() == {"weight": 2.0}
    with pytest.raises(InputError, match=r"weight is -2.0, expected a finite number, 0 or more"):
        build_recipe("jsd:weight=-2")


def test_its_detector_has_the_temperature_of_the_paper() -> None:
    assert build_detector(build_recipe("jsd").detector).settings() == {"temperature": 2.0}


def test_it_hands_everything_on_and_leaves_a_void_channel_out(batch: tuple[Tensor, ...]) -> None:
    logits, labels, mask = batch
    weights = torch.tensor([0.5, 1.0, 2.0])
    found = build_recipe("jsd:weight=0.5", weights, void=CLASSES).losses({"logits": logits}, labels, mask)
    assert found == jsd_to_uniform_loss(logits[:, :CLASSES], labels, mask, 0.5, weights)


def test_what_it_minimises_is_what_its_detector_reads(batch: tuple[Tensor, ...]) -> None:
    logits, labels, mask = batch
    recipe = build_recipe("jsd:weight=1", void=CLASSES)
    detector = build_detector("jsd:temperature=1")
    score = detector(Prediction(logits, (8, 10), void=CLASSES))
    divergence = recipe.losses({"logits": logits}, labels, mask)["divergence"]
    torch.testing.assert_close(divergence, -score[mask == 1].mean())


def test_negatives_become_flat_and_classes_sure(batch: tuple[Tensor, ...]) -> None:
    logits, labels, mask = batch
    learnt = logits[:, :CLASSES].clone().requires_grad_()
    recipe = build_recipe("jsd:weight=1")
    optimizer = torch.optim.Adam([learnt], lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        recipe.losses({"logits": learnt}, labels, mask)["total"].backward()
        optimizer.step()
    probabilities = torch.softmax(learnt.detach(), dim=1).amax(dim=1)
    assert probabilities[mask == 1].max() < 0.5
    assert probabilities[mask == 0].min() > 0.9
