"""Predictions: what they refuse and what they hold by default."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from strays.detectors.base import class_logits, upsampled
from strays.errors import InputError
from strays.prediction import Prediction


def test_only_logits_and_size_are_needed() -> None:
    prediction = Prediction(torch.zeros(1, 3, 4, 5), (8, 10))
    assert (prediction.void, prediction.image, prediction.samples, prediction.outlier_logits) == (None,) * 4
    assert prediction.masks is None
    assert dict(prediction.features) == {}


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5), (5,), (1, 1, 3, 4, 5)])
def test_logits_have_four_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, h, w\), got") as caught:
        Prediction(torch.zeros(shape), (8, 10))
    assert str(tuple(shape)) in str(caught.value)
    assert ("logits[None]" in str(caught.value)) == (len(shape) == 3)


@pytest.mark.parametrize("void", [-1, 3, 20])
def test_void_is_one_of_the_channels(void: int) -> None:
    with pytest.raises(InputError, match=f"void channel {void} is not one of the 3 channels"):
        Prediction(torch.zeros(1, 3, 4, 5), (8, 10), void=void)


def test_predictions_are_frozen() -> None:
    prediction = Prediction(torch.zeros(1, 3, 4, 5), (8, 10))
    with pytest.raises(FrozenInstanceError):
        prediction.size = (1, 1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        prediction.features["tap"] = torch.zeros(1)  # type: ignore[index]


@pytest.mark.parametrize("void", [0, 1, 2])
def test_class_logits_are_all_but_void_in_order(void: int) -> None:
    logits = torch.arange(3.0).view(1, 3, 1, 1).expand(2, 3, 2, 2)
    kept = class_logits(Prediction(logits, (2, 2), void=void))
    assert kept[0, :, 0, 0].tolist() == [channel for channel in (0, 1, 2) if channel != void]


def test_class_logits_without_void_are_the_very_tensor() -> None:
    prediction = Prediction(torch.zeros(1, 3, 4, 5), (8, 10))
    assert class_logits(prediction) is prediction.logits


def test_upsampled_is_bilinear_between_pixel_centres() -> None:
    row = torch.tensor([[[[0.0, 4.0]]]])
    assert upsampled(row, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
    assert upsampled(row.half(), (1, 4)).dtype == torch.float32
    assert upsampled(row, (1, 2)) is row
