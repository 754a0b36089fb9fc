"""Scores of an outlier head against NumPy and SciPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import Tensor
from torch.nn import functional

from strays.detectors import build_detector
from strays.detectors.inputs import outlier_logits_of
from strays.detectors.outlier_probability import outlier_probability
from strays.detectors.outlier_probability_msp import outlier_probability_msp
from strays.errors import InputError
from strays.prediction import Prediction

CLASSES, SIZE = 5, (24, 32)
NAMES = ["outlier-probability", "outlier-probability-msp"]


@pytest.fixture
def prediction() -> Prediction:
    """Class and outlier logits at different strides, as networks give them."""
    generator = torch.Generator().manual_seed(0)
    return Prediction(
        logits=4 * torch.randn(2, CLASSES, 6, 8, generator=generator),
        size=SIZE,
        outlier_logits=4 * torch.randn(2, 2, 12, 16, generator=generator),
    )


def enlarged(logits: Tensor) -> np.ndarray:
    return functional.interpolate(logits.double(), SIZE, mode="bilinear", align_corners=False).numpy()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_outlier_probability_is_a_softmax_of_upsampled_logits(prediction: Prediction, temperature: float) -> None:
    score = build_detector(f"outlier-probability:temperature={temperature}")(prediction)
    z = enlarged(prediction.outlier_logits)
    assert score.dtype == torch.float32
    np.testing.assert_allclose(score, expit((z[:, 1] - z[:, 0]) / temperature), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_product_has_one_temperature_for_both(prediction: Prediction, temperature: float) -> None:
    score = build_detector(f"outlier-probability-msp:temperature={temperature}")(prediction)
    outlier = softmax(enlarged(prediction.outlier_logits) / temperature, axis=1)[:, 1]
    known = softmax(enlarged(prediction.logits) / temperature, axis=1).max(1)
    np.testing.assert_allclose(score, outlier * (1 - known), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_temperature_is_two_unless_stated(prediction: Prediction, name: str) -> None:
    assert build_detector(name).settings() == {"temperature": 2.0}
    assert torch.equal(build_detector(name)(prediction), build_detector(f"{name}:temperature=2")(prediction))


def test_the_void_channel_is_no_class(prediction: Prediction) -> None:
    detector = build_detector("outlier-probability-msp")
    void = torch.full_like(prediction.logits[:, :1], 50)
    widened = torch.cat([prediction.logits[:, :3], void, prediction.logits[:, 3:]], dim=1)
    assert torch.equal(detector(replace(prediction, logits=widened, void=3)), detector(prediction))


def test_the_pure_functions_take_any_shape_and_float64() -> None:
    generator = torch.Generator().manual_seed(1)
    z, d = (torch.randn(7, channels, generator=generator, dtype=torch.float64) for channels in (CLASSES, 2))
    outlier = softmax(d.numpy() / 2, axis=1)[:, 1]
    np.testing.assert_allclose(outlier_probability(d), outlier, rtol=1e-12)
    np.testing.assert_allclose(
        outlier_probability_msp(z, d), outlier * (1 - softmax(z.numpy() / 2, axis=1).max(1)), rtol=1e-12
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_large_logits_stay_finite_and_known_pixels_apart(temperature: float) -> None:
    d = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]])
    assert outlier_probability(d, temperature).tolist() == [0, 1, 0.5]
    sure = torch.tensor([[80.0, 0.0], [60.0, 0.0], [1e4, -1e4]])
    scores = outlier_probability_msp(sure, torch.zeros(3, 2), temperature)
    assert 0 < scores[0] < scores[1]
    assert scores.isfinite().all()


def test_inputs_are_not_modified(prediction: Prediction) -> None:
    logits, outlier_logits = prediction.logits.clone(), prediction.outlier_logits.clone()
    outlier_probability_msp(logits, outlier_logits[:, :, :6, :8], 0.5)
    outlier_probability(outlier_logits, 0.5)
    assert torch.equal(logits, prediction.logits)
    assert torch.equal(outlier_logits, prediction.outlier_logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_an_outlier_head_is_refused(prediction: Prediction, name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' reads an outlier head, and this network has none: .*outlier-head"):
        build_detector(name)(replace(prediction, outlier_logits=None))


@pytest.mark.parametrize("shape", [(2, 3, 12, 16), (1, 2, 12, 16), (2, 2, 12)])
def test_outlier_logits_of_another_shape_are_refused(prediction: Prediction, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected outlier logits \(2, 2, h, w\), got"):
        outlier_logits_of(replace(prediction, outlier_logits=torch.zeros(shape)), "any")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_function_takes_two_channels(channels: int) -> None:
    with pytest.raises(InputError, match=r"expected .*logits \(N, "):
        outlier_probability(torch.zeros(1, channels))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", ["0", "-1", "inf", "nan"])
def test_the_temperature_is_above_zero(name: str, temperature: str) -> None:
    with pytest.raises(InputError, match="expected a temperature above 0"):
        build_detector(f"{name}:temperature={temperature}")


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((2, 5, 4, 4), (2, 2, 1, 1)),
        ((1, 5, 4, 4), (3, 2, 4, 4)),
        ((2, 5, 4, 4), (2, 2, 8, 8)),
        ((2, 5, 4, 4), (2, 2, 4)),
    ],
)
def test_logits_of_two_sizes_are_refused(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"beside the class logits, got .*: bring both to one size"):
        outlier_probability_msp(torch.zeros(shape), torch.zeros(other))
