"""What every registered recipe promises; a new one is covered as soon as its file is there."""

import inspect

import pytest
import torch
from torch import Tensor

from strays.detectors import DETECTORS
from strays.errors import InputError
from strays.networks.base import TrainingOutputs
from strays.objectives.cross_entropy import cross_entropy_loss
from strays.recipes import RECIPES, Recipe, build_recipe
from strays.recipes.closed_set import ClosedSet
from strays.taxonomy import IGNORE
from strays.training.settings import TrainingSettings

CLASSES = 5
NAMES = list(RECIPES)
WEIGHTS = torch.linspace(0.5, 1.5, CLASSES)


def build(name: str) -> Recipe:
    """A recipe for a network with what it adds: with an extra channel, the void class is the last one."""
    void = CLASSES if RECIPES[name].extension.extra_channel else None
    return RECIPES[name](WEIGHTS, void)


@pytest.fixture(params=NAMES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return build(request.param)


@pytest.fixture
def outputs(recipe: Recipe) -> TrainingOutputs:
    generator = torch.Generator().manual_seed(0)

    def random(channels: int, size: tuple[int, int] = (6, 8)) -> Tensor:
        return (4 * torch.randn(2, channels, *size, generator=generator)).requires_grad_()

    made: TrainingOutputs = {"logits": random(CLASSES + recipe.extension.extra_channel)}
    if recipe.extension.outlier_head:
        made["outlier_logits"] = random(2)
    if recipe.extension.auxiliary:
        made["auxiliary_logits"] = (random(CLASSES, (3, 4)),)
        made["auxiliary_outlier_logits"] = (random(2, (3, 4)),)
    return made


@pytest.fixture
def mask() -> Tensor:
    mask = torch.zeros(2, 12, 16, dtype=torch.uint8)
    mask[0, 2:7, 3:9] = 1
    mask[1, :, 14:] = IGNORE
    return mask


@pytest.fixture
def labels(mask: Tensor) -> Tensor:
    labels = torch.randint(0, CLASSES, (2, 12, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    labels[:, 10:] = IGNORE
    return labels.masked_fill(mask != 0, IGNORE)


def test_the_card_is_complete(recipe: Recipe) -> None:
    assert recipe.card.title
    assert recipe.card.summary.endswith(".")
    assert bool(recipe.card.paper) == bool(recipe.card.year)


def test_its_detector_is_there_and_reads_what_the_recipe_adds(recipe: Recipe) -> None:
    needs = DETECTORS[recipe.detector].card.needs
    assert not needs.outlier_head or recipe.extension.outlier_head
    assert not needs.void_class or recipe.extension.extra_channel
    assert not needs.fitting


def test_its_settings_build_it_again(recipe: Recipe) -> None:
    own = set(inspect.signature(type(recipe)).parameters) - {"class_weights", "void"}
    assert set(recipe.settings()) == own
    assert type(recipe)(WEIGHTS, None, **recipe.settings()).settings() == recipe.settings()


def test_its_defaults_are_training_settings(recipe: Recipe) -> None:
    given = TrainingSettings(recipe=next(name for name in NAMES if RECIPES[name] is type(recipe)), data=("x",))
    for key, value in recipe.defaults.items():
        assert getattr(given, key) == value


def test_the_loss_is_a_named_sum_that_teaches(
    recipe: Recipe, outputs: TrainingOutputs, labels: Tensor, mask: Tensor
) -> None:
    terms = recipe.losses(outputs, labels, mask)
    assert len(terms) > 1
    assert all(one.ndim == 0 and one.isfinite() for one in terms.values())
    torch.testing.assert_close(sum(one for name, one in terms.items() if name != "total"), terms["total"])
    terms["total"].backward()
    tensors = [outputs["logits"], *([outputs["outlier_logits"]] if "outlier_logits" in outputs else [])]
    for one in (*tensors, *outputs.get("auxiliary_logits", ()), *outputs.get("auxiliary_outlier_logits", ())):
        assert one.grad.isfinite().all()
        assert one.grad.any()


def test_negatives_teach_wherever_they_are_needed(
    recipe: Recipe, outputs: TrainingOutputs, labels: Tensor, mask: Tensor
) -> None:
    some, none = recipe.losses(outputs, labels, mask), recipe.losses(outputs, labels, mask.masked_fill(mask == 1, 0))
    assert (some["total"] != none["total"]) == recipe.card.needs.negatives


@pytest.mark.parametrize("share", ["nothing", "negatives", "void"])
def test_a_batch_may_hold_one_kind_of_pixels_only(
    recipe: Recipe, outputs: TrainingOutputs, labels: Tensor, mask: Tensor, share: str
) -> None:
    value = {"nothing": IGNORE, "negatives": 1, "void": 0}[share]
    terms = recipe.losses(outputs, torch.full_like(labels, IGNORE), torch.full_like(mask, value))
    assert all(one.isfinite() for one in terms.values())
    terms["total"].backward()
    assert outputs["logits"].grad is None or outputs["logits"].grad.isfinite().all()


def test_nothing_is_modified(recipe: Recipe, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> None:
    given = outputs["logits"], labels, mask
    before = [one.detach().clone() for one in given]
    recipe.losses(outputs, labels, mask)
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


def test_calibrating_leaves_all_there_is_to_know_in_the_state(
    recipe: Recipe, outputs: TrainingOutputs, labels: Tensor, mask: Tensor
) -> None:
    other = build(next(name for name in NAMES if RECIPES[name] is type(recipe)))
    recipe.calibrate(iter([(outputs, labels, mask)]))
    state = recipe.state_dict()
    assert "class_weights" in state
    other.load_state_dict(state)
    assert all(torch.equal(one, state[name]) for name, one in other.state_dict().items())


def test_class_weights_move_with_the_recipe_and_may_be_missing(recipe: Recipe) -> None:
    assert recipe.to(torch.float64).class_weights.dtype == torch.float64
    assert type(recipe)().class_weights is None


def test_closed_set_is_cross_entropy() -> None:
    logits = torch.randn(2, CLASSES, 6, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, CLASSES, (2, 12, 16), generator=torch.Generator().manual_seed(1))
    found = ClosedSet(WEIGHTS).losses({"logits": logits}, labels, torch.zeros_like(labels))
    assert torch.equal(found["total"], cross_entropy_loss(logits, labels, WEIGHTS)["total"])
    assert RECIPES["closed-set"] is ClosedSet


@pytest.mark.parametrize("key", ["void=3", "class_weights=none"])
@pytest.mark.parametrize("name", NAMES)
def test_what_the_loop_gives_is_no_setting(name: str, key: str) -> None:
    with pytest.raises(InputError, match=f"{name} has no setting '{key.partition('=')[0]}'"):
        build_recipe(f"{name}:{key}")
