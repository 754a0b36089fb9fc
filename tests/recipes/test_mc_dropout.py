"""The recipe for Bayesian networks: dropout where it belongs, plain cross-entropy, passes that disagree."""

import pytest
import torch
from torch import Tensor, nn

from strays.detectors import build_detector
from strays.networks.base import NETWORKS, SegmentationNetwork
from strays.networks.extended import ExtendedNetwork, extend
from strays.objectives.cross_entropy import cross_entropy_loss
from strays.recipes import RECIPES, build_recipe

CLASSES = 5


def made(name: str) -> ExtendedNetwork:
    torch.manual_seed(0)
    network = extend(NETWORKS[name](classes=CLASSES).train(), name, RECIPES["mc-dropout"].extension)
    assert isinstance(network, ExtendedNetwork)
    return network


def image(count: int = 1) -> Tensor:
    return torch.rand(count, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def dropped(network: SegmentationNetwork, module: nn.Module) -> float:
    """The share of zeros among what a module is given, beyond those that it is given without dropout."""
    shares = []
    handle = module.register_forward_pre_hook(lambda _, given: shares.append((given[0] == 0).float().mean().item()))
    with torch.no_grad():
        network(image())
    handle.remove()
    return shares[0]


def test_the_loss_is_cross_entropy_without_the_void_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES + 1, 6, 8, generator=generator)
    labels = torch.randint(0, CLASSES, (2, 12, 16), generator=generator)
    labels[:, :3] = 255
    mask = (labels == 255).long()
    weights = torch.linspace(0.5, 1.5, CLASSES)
    found = build_recipe("mc-dropout", weights, CLASSES).losses({"logits": logits}, labels, mask)
    assert found == cross_entropy_loss(logits[:, :CLASSES], labels, weights)


@pytest.mark.parametrize("name", ["swiftnet-mnv2", "swiftnet-rn18"])
def test_swiftnet_drops_behind_pooling_and_behind_the_decoder(name: str) -> None:
    network = made(name)
    base = network.base
    assert len(network.dropouts) == 2
    assert dropped(network, base.classifier) == pytest.approx(0.5, abs=0.05)
    assert dropped(network, base.upsamplings[0]) == pytest.approx(0.5, abs=0.05)
    assert dropped(network, base.upsamplings[1]) < 0.01
    network.eval()
    assert dropped(network, base.classifier) < 0.01
    assert dropped(network, base.upsamplings[0]) < 0.01


@pytest.mark.parametrize("name", ["enet", "erfnet", "swiftnet-rn18-pyramid"])
def test_other_networks_drop_behind_the_decoder(name: str) -> None:
    assert [one.p for one in made(name).dropouts] == [0.5]


def test_its_detector_finds_passes_that_disagree() -> None:
    network = made("swiftnet-mnv2").eval()
    detector = build_detector(f"{RECIPES['mc-dropout'].detector}:samples=3")
    score = detector(network.predict(image()))
    assert score.shape == (1, 32, 64)
    assert (score > 0).float().mean() > 0.99


@pytest.mark.parametrize("name", ["enet", "erfnet"])
def test_networks_with_dropout_of_their_own_need_no_other(name: str) -> None:
    """What the notes of the card say: closed-set training gives a network that the detector can read."""
    torch.manual_seed(0)
    network = NETWORKS[name](classes=CLASSES).eval()
    score = build_detector("mutual-information:samples=3")(network.predict(image()))
    assert (score > 0).float().mean() > 0.99
    assert name in RECIPES["mc-dropout"].card.notes.lower()
