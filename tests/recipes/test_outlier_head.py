"""Recipes with an outlier head: what they add to a network, and what they hand to the loss."""

import pytest
import torch
from torch import Tensor, nn

from strays.detectors import DETECTORS
from strays.errors import InputError
from strays.networks.base import TrainingOutputs
from strays.networks.enet import ENet
from strays.networks.extended import ExtendedNetwork, Extension, extend
from strays.objectives.outlier_head import outlier_head_loss
from strays.recipes import RECIPES, Recipe, build_recipe
from strays.recipes.noisy_negatives import NoisyNegatives
from strays.recipes.outlier_head import OutlierHead
from strays.taxonomy import IGNORE

CLASSES = 5
NAMES = ["outlier-head", "noisy-negatives"]


@pytest.fixture
def outputs() -> TrainingOutputs:
    generator = torch.Generator().manual_seed(0)

    def random(channels: int, *size: int) -> Tensor:
        return torch.randn(2, channels, *size, generator=generator)

    return {
        "logits": random(CLASSES, 8, 8),
        "outlier_logits": random(2, 4, 4),
        "auxiliary_logits": (random(CLASSES, 2, 2), random(CLASSES, 4, 4)),
        "auxiliary_outlier_logits": (random(2, 2, 2), random(2, 4, 4)),
    }


@pytest.fixture
def labels() -> Tensor:
    found = torch.randint(0, CLASSES, (2, 16, 16), generator=torch.Generator().manual_seed(1))
    found[:, 4:10, 4:10] = IGNORE
    return found


@pytest.fixture
def mask() -> Tensor:
    found = torch.zeros(2, 16, 16, dtype=torch.long)
    found[:, 4:10, 4:8] = 1
    return found


def loss_of(outputs: TrainingOutputs, labels: Tensor, mask: Tensor, **settings: object) -> dict[str, Tensor]:
    maps = outputs["auxiliary_logits"], outputs["auxiliary_outlier_logits"]
    return dict(outlier_head_loss(outputs["logits"], outputs["outlier_logits"], labels, mask, *maps, **settings))


@pytest.mark.parametrize("name", NAMES)
def test_the_terms_are_those_of_the_loss(name: str, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> None:
    weights = torch.linspace(0.5, 2, CLASSES)
    found = RECIPES[name](weights).losses(outputs, labels, mask)
    assert found == loss_of(outputs, labels, mask, class_weights=weights)
    assert set(found) == {"cross_entropy", "outlier", "auxiliary", "outlier_auxiliary", "total"}


def test_settings_reach_the_loss(outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> None:
    recipe = build_recipe("outlier-head:outlier_weight=1,auxiliary_weight=0.1,outlier_auxiliary=no")
    assert recipe.settings() == {"outlier_weight": 1.0, "auxiliary_weight": 0.1, "outlier_auxiliary": False}
    expected = loss_of(outputs, labels, mask, outlier_weight=1, auxiliary_weight=0.1)
    found = recipe.losses(outputs, labels, mask)
    assert set(found) == set(expected) - {"outlier_auxiliary"}
    assert all(torch.equal(found[one], expected[one]) for one in ("cross_entropy", "outlier", "auxiliary"))


def test_the_void_channel_is_no_class(outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> None:
    expected = OutlierHead().losses(outputs, labels, mask)
    widened: TrainingOutputs = {**outputs, "logits": torch.cat([outputs["logits"], torch.ones(2, 1, 8, 8)], dim=1)}
    widened["auxiliary_logits"] = tuple(torch.cat([one, one[:, :1]], dim=1) for one in outputs["auxiliary_logits"])
    assert OutlierHead(void=CLASSES).losses(widened, labels, mask) == expected


def test_a_network_without_the_head_is_refused(outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match="trains an outlier head, and the network gives no outlier logits"):
        OutlierHead().losses({"logits": outputs["logits"]}, labels, mask)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_recipes_are(name: str) -> None:
    kind = RECIPES[name]
    assert kind in (OutlierHead, NoisyNegatives)
    assert kind.extension == Extension(outlier_head=True, auxiliary=True)
    assert kind.card.needs.negatives
    assert DETECTORS[kind.detector].card.needs.outlier_head
    assert kind.defaults["negative_share"] == 1


def extended() -> ExtendedNetwork:
    torch.manual_seed(0)
    network = extend(ENet(classes=CLASSES), "enet", OutlierHead.extension)
    assert isinstance(network, ExtendedNetwork)
    return network


def test_auxiliary_heads_give_classes_and_outliers_in_training_only() -> None:
    network, image = extended(), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trained, used = network.train().outputs(image), network.eval().outputs(image)
    maps = trained["auxiliary_logits"]
    assert len(maps) == len(ENet.auxiliary_taps)
    assert {one.shape[1] for one in maps} == {CLASSES}
    assert [(2, 2, *one.shape[-2:]) for one in maps] == [one.shape for one in trained["auxiliary_outlier_logits"]]
    assert set(used) == {"logits", "outlier_logits"}
    assert used["outlier_logits"].shape[:2] == (2, 2)


def test_auxiliary_heads_give_classes_alone_without_an_outlier_head() -> None:
    network = extend(ENet(classes=CLASSES), "enet", Extension(auxiliary=True))
    with torch.no_grad():
        outputs = network.train().outputs(torch.zeros(2, 3, 64, 64))
    assert {one.shape[1] for one in outputs["auxiliary_logits"]} == {CLASSES}
    assert not {"auxiliary_outlier_logits", "outlier_logits"} & set(outputs)


def test_only_networks_with_an_outlier_head_say_so() -> None:
    plain = ENet(classes=CLASSES)
    assert not plain.has_outlier_head
    assert not ExtendedNetwork(CLASSES, "enet", auxiliary=True).has_outlier_head
    assert extended().has_outlier_head


def test_every_layer_of_every_head_is_trained(labels: Tensor, mask: Tensor) -> None:
    """In the authors' code the last layers of these heads stay as they were initialised."""
    network, recipe = extended().train(), OutlierHead()
    big_labels, big_mask = (one.repeat_interleave(4, 1).repeat_interleave(4, 2) for one in (labels, mask))
    before = {name: one.clone() for name, one in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    recipe.losses(network.outputs(image), big_labels, big_mask)["total"].backward()
    optimizer.step()
    heads = [name for name in before if name.startswith(("outlier_head.", "auxiliary_heads."))]
    assert len(heads) == 4 * (1 + len(ENet.auxiliary_taps))
    moved = dict(network.named_parameters())
    assert all(not torch.equal(moved[name], before[name]) for name in heads)


class _Toy(nn.Module):
    """Eight pixels with a colour each; two linear heads."""

    def __init__(self) -> None:
        super().__init__()
        self.classes, self.outlier = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> TrainingOutputs:
        return {"logits": self.classes(image), "outlier_logits": self.outlier(image)}


@pytest.mark.parametrize("recipe", [OutlierHead(), NoisyNegatives()])
def test_a_few_steps_separate_negatives_without_losing_classes(recipe: Recipe) -> None:
    torch.manual_seed(0)
    toy = _Toy()
    colours = torch.eye(3)[:, [0, 1, 2, 0, 1, 2, 0, 1]].view(1, 3, 2, 4)
    labels = torch.tensor([[[0, 1, 255, 0], [1, 255, 0, 1]]])
    mask = (labels == IGNORE).long()
    optimizer = torch.optim.Adam(toy.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        recipe.losses(toy(colours), labels, mask)["total"].backward()
        optimizer.step()
    outputs = toy(colours)
    assert torch.equal(outputs["outlier_logits"].argmax(1), mask)
    assert torch.equal(outputs["logits"].argmax(1)[mask == 0], labels[mask == 0])
