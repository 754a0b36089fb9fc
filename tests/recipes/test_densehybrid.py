"""The recipe: its settings, what it gives to the loss, and a network that learns from it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from strays.cards import Card
from strays.detectors import build_detector
from strays.errors import InputError
from strays.metrics import auroc
from strays.networks.base import SegmentationNetwork
from strays.networks.extended import extend
from strays.objectives.densehybrid import densehybrid_loss
from strays.recipes import build_recipe
from strays.taxonomy import IGNORE

CLASSES = 3


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, outlier_logits = (torch.randn(2, channels, 4, 5, generator=generator) for channels in (CLASSES + 1, 2))
    mask = torch.randint(0, 2, (2, 8, 10), generator=generator)
    labels = torch.randint(0, CLASSES, mask.shape, generator=generator).masked_fill(mask == 1, IGNORE)
    return logits, outlier_logits, labels, mask


def test_its_settings_are_those_of_the_loss() -> None:
    assert build_recipe("densehybrid").settings() == {
        "beta": 0.03,
        "posterior_weight": None,
        "negative_posterior_weight": None,
        "posterior_void": "inlier",
        "margin": None,
    }
    text = "beta=0.1,posterior_weight=1,negative_posterior_weight=none,posterior_void=ignore,margin=-7"
    assert list(build_recipe(f"densehybrid:{text}").settings().values()) == [0.1, 1.0, None, "ignore", -7.0]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("posterior_void=outlier", "'inlier' or 'ignore'"),
        ("beta=-1", "beta is -1.0, expected a finite number, 0 or more"),
        ("posterior_weight=inf", "posterior_weight is inf"),
    ],
)
def test_wrong_settings_are_refused_at_once(setting: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        build_recipe(f"densehybrid:{setting}")


def test_it_hands_everything_on_and_leaves_a_void_channel_out(batch: tuple[Tensor, ...]) -> None:
    logits, outlier_logits, labels, mask = batch
    weights = torch.tensor([0.5, 1.0, 2.0])
    text = "beta=0.1,posterior_weight=1,negative_posterior_weight=0.4,posterior_void=ignore,margin=2"
    recipe = build_recipe(f"densehybrid:{text}", weights, void=CLASSES)
    found = recipe.losses({"logits": logits, "outlier_logits": outlier_logits}, labels, mask)
    known = logits[:, :CLASSES]
    expected = densehybrid_loss(known, outlier_logits, labels, mask, 0.1, 1.0, 0.4, "ignore", 2.0, weights)
    assert found == expected


def test_a_network_without_the_head_is_refused(batch: tuple[Tensor, ...]) -> None:
    logits, _, labels, mask = batch
    with pytest.raises(InputError, match="the network gives no outlier logits"):
        build_recipe("densehybrid", void=CLASSES).losses({"logits": logits}, labels, mask)


class Small(SegmentationNetwork):
    """Two convolutions."""

    card = Card(title="Small", summary="For tests.")

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.configuration = {"classes": classes}
        self.tap_modules = {"encoder": "features", "decoder": "features"}
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.classifier = nn.Conv2d(8, classes, 1)

    def logits(self, normalized: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.features(normalized))
        return found


def scenes(negative: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of three vertical stripes, red, green and blue, with a block of one of two colours in each."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(24) // 8).expand(4, 16, 24).clone()
    images = 0.8 * nn.functional.one_hot(labels, 3).movedim(-1, 1)
    mask = torch.zeros_like(labels)
    for one, (top, left) in enumerate(torch.randint(0, 10, (4, 2), generator=generator).tolist()):
        mask[one, top : top + 6, left : left + 6] = 1
    strange = torch.tensor([[0.9, 0.9, 0.1], [0.9, 0.8, 0.9]])[negative].view(1, 3, 1, 1)
    images = torch.where(mask[:, None] == 1, strange, images)
    return images + 0.05 * torch.randn(images.shape, generator=generator), labels.masked_fill(mask == 1, IGNORE), mask


def test_a_network_learns_to_tell_anomalies_unlike_its_negatives() -> None:
    torch.manual_seed(0)
    recipe = build_recipe("densehybrid")
    network = extend(Small(), "small", recipe.extension)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    losses = []
    for step in range(40):
        images, labels, mask = scenes(0, step)
        terms = recipe.losses(network.train().outputs(images), labels, mask)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        losses.append(terms["total"].item())
    assert losses[-1] < losses[0] - 1
    images, labels, mask = scenes(1, 1000)
    prediction = network.eval().predict(images)
    score = build_detector(recipe.detector)(prediction)
    assert auroc(score.numpy(), mask.numpy().astype(np.uint8)) > 0.9
    classes = nn.functional.interpolate(prediction.logits, labels.shape[1:], mode="bilinear").argmax(dim=1)
    assert (classes == labels)[mask == 0].float().mean() > 0.9
