"""The score of PEBAL against NumPy and SciPy."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import logsumexp
from torch import Tensor
from torch.nn import functional

from strays.detectors import build_detector
from strays.detectors.pebal import Pebal, blurred_energy
from strays.errors import InputError
from strays.prediction import Prediction

CLASSES = 5


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return 6 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(logits: Tensor, temperature: float = 1.0, sigma: float = 1.0, kernel: int = 7) -> np.ndarray:
    energies = -temperature * logsumexp(logits.double().numpy() / temperature, axis=1)
    return np.stack([gaussian_filter(one, sigma, mode="mirror", radius=kernel // 2) for one in energies])


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.5}, {"sigma": 0.5}, {"sigma": 2.0, "kernel": 9}])
def test_it_is_the_blurred_energy(settings: dict[str, Any]) -> None:
    logits = random_logits(2, CLASSES, 10, 12)
    np.testing.assert_allclose(blurred_energy(logits, **settings), reference(logits, **settings), rtol=1e-12)
    assert blurred_energy(logits.float(), **settings).dtype == torch.float32


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.5, "sigma": 0.5, "kernel": 3}])
def test_the_detector_upsamples_scores_and_blurs_in_this_order(settings: dict[str, Any]) -> None:
    logits = random_logits(2, CLASSES, 6, 8).float()
    large = functional.interpolate(logits, (24, 30), mode="bilinear", align_corners=False)
    found = Pebal(**settings)(Prediction(logits=logits, size=(24, 30)))
    np.testing.assert_allclose(found, reference(large, **settings), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("void", [0, 2, CLASSES])
def test_the_channel_of_abstention_is_not_read(void: int) -> None:
    classes, channel = random_logits(1, CLASSES, 8, 8).float(), 100 * random_logits(1, 1, 8, 8, seed=1).float()
    logits = torch.cat([classes[:, :void], channel, classes[:, void:]], dim=1)
    found = Pebal()(Prediction(logits=logits, size=(16, 16), void=void))
    assert torch.equal(found, Pebal()(Prediction(logits=classes, size=(16, 16))))


def test_a_kernel_of_one_leaves_the_energy() -> None:
    prediction = Prediction(logits=random_logits(1, CLASSES, 6, 8), size=(12, 16))
    assert torch.equal(build_detector("pebal:kernel=1")(prediction), build_detector("energy")(prediction))


def test_the_defaults_are_those_of_the_released_code() -> None:
    assert build_detector("pebal").settings() == {"temperature": 1.0, "sigma": 1.0, "kernel": 7}


def test_other_networks_need_no_channel_of_abstention() -> None:
    assert not any(Pebal.card.needs.model_dump().values())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pebal:kernel=4", "odd kernel of at least 1, got 4: try 5"),
        ("pebal:kernel=-1", "odd kernel of at least 1"),
        ("pebal:sigma=0", "a sigma above 0"),
        ("pebal:temperature=0", "a temperature above 0"),
        ("pebal:width=3", "no setting 'width'"),
    ],
)
def test_settings_out_of_range_are_refused(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_detector(spec)


def test_an_image_smaller_than_the_kernel_is_refused() -> None:
    with pytest.raises(InputError, match="more than 3 rows and columns"):
        Pebal()(Prediction(logits=random_logits(1, CLASSES, 2, 2), size=(3, 8)))
