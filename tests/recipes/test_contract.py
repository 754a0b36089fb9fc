"""What every registered recipe promises; a new one is covered as soon as its file is there."""

import pytest
import torch
from torch import Tensor

from strays.detectors import DETECTORS
from strays.objectives.cross_entropy import cross_entropy_loss
from strays.recipes import RECIPES, Recipe
from strays.recipes.closed_set import ClosedSet
from strays.taxonomy import IGNORE

CLASSES = 5
NAMES = list(RECIPES)


@pytest.fixture(params=NAMES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param](torch.linspace(0.5, 1.5, CLASSES))


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, CLASSES, 6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, CLASSES, (2, 12, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_the_card_is_complete(recipe: Recipe) -> None:
    assert recipe.card.title
    assert recipe.card.summary.endswith(".")
    assert bool(recipe.card.paper) == bool(recipe.card.year)


def test_its_detector_is_there(recipe: Recipe) -> None:
    assert recipe.detector in DETECTORS


def test_the_loss_is_a_named_sum_that_teaches(recipe: Recipe, logits: Tensor, labels: Tensor) -> None:
    terms = recipe.losses({"logits": logits}, labels)
    assert "total" in terms
    assert len(terms) > 1
    assert all(one.ndim == 0 and one.isfinite() for one in terms.values())
    terms["total"].backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


def test_ignored_labels_teach_nothing(recipe: Recipe, logits: Tensor, labels: Tensor) -> None:
    terms = recipe.losses({"logits": logits}, torch.full_like(labels, IGNORE))
    assert terms["total"].isfinite()


def test_class_weights_move_with_the_recipe_and_may_be_missing(recipe: Recipe) -> None:
    assert recipe.to(torch.float64).class_weights.dtype == torch.float64
    assert list(recipe.state_dict()) == ["class_weights"]
    assert type(recipe)().class_weights is None


def test_closed_set_is_cross_entropy(logits: Tensor, labels: Tensor) -> None:
    weights = torch.linspace(0.5, 1.5, CLASSES)
    found = ClosedSet(weights).losses({"logits": logits}, labels)
    assert torch.equal(found["total"], cross_entropy_loss(logits, labels, weights)["total"])
    assert RECIPES["closed-set"] is ClosedSet
