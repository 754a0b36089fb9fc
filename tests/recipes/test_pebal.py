"""The recipe of PEBAL: what it hands to the loss, and energies calibrated to the network."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor, nn

from strays.detectors.pebal import Pebal as PebalDetector
from strays.errors import InputError
from strays.networks.base import TrainingOutputs
from strays.objectives.pebal import pebal_loss
from strays.prediction import Prediction
from strays.recipes import build_recipe
from strays.recipes.pebal import Pebal

CLASSES = 5


def outputs_of(seed: int, size: tuple[int, int] = (6, 8), images: int = 2) -> TrainingOutputs:
    generator = torch.Generator().manual_seed(seed)
    return {"logits": 3 * torch.randn(images, CLASSES + 1, *size, generator=generator)}


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, CLASSES, (2, 12, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.fixture
def mask(labels: Tensor) -> Tensor:
    found = torch.zeros_like(labels)
    found[0, 3:8, 2:9] = 1
    labels[found == 1] = 255
    return found


def values_of(terms: Any) -> dict[str, float]:
    return {name: float(value) for name, value in terms.items()}


def crops_of(outputs: TrainingOutputs) -> tuple[TrainingOutputs, Tensor, Tensor]:
    """Crops without negatives, some of whose pixels are void and some beyond the scene."""
    images, _, *size = outputs["logits"].shape
    labels = torch.randint(0, CLASSES, (images, *size), generator=torch.Generator().manual_seed(7)).to(torch.uint8)
    labels[:, 0], labels[:, -1] = 255, 255
    mask = torch.zeros_like(labels)
    mask[:, -1] = 255
    return outputs, labels, mask


def mean_energy(*outputs: TrainingOutputs) -> float:
    """The mean over all labelled pixels of all batches, without the channel of abstention."""
    energies = [-logsumexp(one["logits"][:, :CLASSES, 1:-1].double().numpy(), axis=1).ravel() for one in outputs]
    return float(np.concatenate(energies).mean())


def test_fixed_margins_give_the_published_loss(labels: Tensor, mask: Tensor) -> None:
    recipe = Pebal(void=CLASSES, margins="fixed")
    recipe.calibrate([crops_of(outputs_of(5))])
    outputs = outputs_of(0)
    assert values_of(recipe.losses(outputs, labels, mask)) == values_of(pebal_loss(outputs["logits"], labels, mask))


def test_before_it_is_calibrated_energies_are_taken_as_they_are(labels: Tensor, mask: Tensor) -> None:
    found = Pebal(void=CLASSES).losses(outputs_of(0), labels, mask)
    assert values_of(found) == values_of(pebal_loss(outputs_of(0)["logits"], labels, mask))


def test_the_mean_energy_of_labelled_pixels_is_measured() -> None:
    recipe = Pebal(void=CLASSES)
    outputs = [outputs_of(2), outputs_of(3, (4, 5)), outputs_of(4, images=1)]
    recipe.calibrate(map(crops_of, outputs))
    assert recipe.inlier_energy.shape == ()
    assert float(recipe.inlier_energy) == pytest.approx(mean_energy(*outputs), rel=1e-6)


def test_calibrated_margins_move_with_the_network(labels: Tensor, mask: Tensor) -> None:
    """The hinges stand at the mean energy and 6 above; the penalty is that of a network with a mean of -12."""
    recipe, outputs = Pebal(void=CLASSES), outputs_of(0)
    recipe.calibrate([crops_of(outputs_of(2))])
    mean = mean_energy(outputs_of(2))
    found = values_of(recipe.losses(outputs, labels, mask))
    hinges = values_of(pebal_loss(outputs["logits"], labels, mask, mean, mean + 6))
    whole = values_of(pebal_loss(outputs["logits"].double() + (mean + 12), labels, mask))
    assert found["energy_inlier"] == pytest.approx(hinges["energy_inlier"], rel=1e-4)
    assert found["energy_outlier"] == pytest.approx(hinges["energy_outlier"], rel=1e-4)
    assert found == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("offset", [-40.0, 7.0])
def test_a_network_with_other_energies_is_trained_alike(labels: Tensor, mask: Tensor, offset: float) -> None:
    found = []
    for constant in (0.0, offset):
        recipe = Pebal(void=CLASSES)
        recipe.calibrate([crops_of({"logits": outputs_of(2)["logits"] + constant})])
        found.append(values_of(recipe.losses({"logits": outputs_of(0)["logits"] + constant}, labels, mask)))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_what_was_measured_survives_a_restart(labels: Tensor, mask: Tensor) -> None:
    recipe, other = Pebal(void=CLASSES), Pebal(void=CLASSES)
    recipe.calibrate([crops_of(outputs_of(2))])
    other.load_state_dict(recipe.state_dict())
    outputs = outputs_of(0)
    assert values_of(other.losses(outputs, labels, mask)) == values_of(recipe.losses(outputs, labels, mask))


@pytest.mark.parametrize("outputs", [[], [{"logits": torch.full((1, CLASSES + 1, 4, 4), torch.nan)}]])
def test_nothing_to_calibrate_on_is_an_error(outputs: list[TrainingOutputs]) -> None:
    with pytest.raises(InputError, match="needs labelled pixels with finite energies"):
        Pebal(void=CLASSES).calibrate(map(crops_of, outputs))


def test_class_weights_and_options_reach_the_loss(labels: Tensor, mask: Tensor) -> None:
    weights = torch.linspace(0.5, 1.5, CLASSES)
    spec = (
        "pebal:margins=fixed,m_in=-7,m_out=-3,detach_penalty=yes,blur_penalty=no,outlier_abstention=channel,"
        "smoothness=absolute,sparsity=mean,outlier_weight=0.5,energy_weight=0.2,sparsity_weight=0.01,"
        "smoothness_weight=0.001"
    )
    recipe = build_recipe(spec, weights, CLASSES)
    expected = pebal_loss(
        outputs_of(0)["logits"],
        labels,
        mask,
        -7.0,
        -3.0,
        weights,
        detach_penalty=True,
        blur_penalty=False,
        outlier_abstention="channel",
        smoothness="absolute",
        sparsity="mean",
        outlier_weight=0.5,
        energy_weight=0.2,
        sparsity_weight=0.01,
        smoothness_weight=0.001,
    )
    assert values_of(recipe.losses(outputs_of(0), labels, mask)) == values_of(expected)
    again = Pebal(weights, CLASSES, **recipe.settings())  # type: ignore[arg-type]
    assert again.settings() == recipe.settings()
    assert len(recipe.settings()) == len(spec.split(","))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margins": "loose"}, "margins is 'loose', expected calibrated or fixed"),
        ({"m_in": -6.0}, "expected m_in below m_out, got -6.0 and -6.0"),
        ({"m_out": float("inf")}, "expected m_in below m_out"),
        ({"smoothness": "none"}, "smoothness is 'none', expected one of"),
        ({"energy_weight": -1.0}, "energy_weight is -1.0, expected a finite number"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pebal(**settings)


def test_a_network_learns_to_tell_negatives_by_their_energy() -> None:
    """Red squares on a dark and a bright class: a few steps, and the detector ranks them above everything else."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))
    images, labels = 0.2 * torch.rand(3, 3, 16, 16), torch.zeros(3, 16, 16, dtype=torch.long)
    images[:, :, 8:] += 0.4
    labels[:, 8:] = 1
    mask = torch.zeros_like(labels)
    mask[:2, 4:12, 4:12] = 1
    images[:2, 0, 4:12, 4:12] = 1
    labels[mask == 1] = 255
    recipe = Pebal(void=2)
    recipe.calibrate([({"logits": network(images[2:])}, labels[2:], mask[2:])])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        recipe.losses({"logits": network(images)}, labels, mask)["total"].backward()
        optimizer.step()
    logits = network(images)
    score = PebalDetector()(Prediction(logits=logits, size=(16, 16), void=2))
    assert score[mask == 1].mean() > score[mask == 0].mean() + 3
    assert (logits[:, :2].argmax(1) == labels)[labels != 255].float().mean() > 0.95
