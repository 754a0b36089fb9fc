"""EAM against loops over pixels and queries."""

import math

import pytest
import torch

from strays.detectors.ensemble_anomaly import EnsembleAnomaly, ensemble_anomaly
from strays.errors import InputError
from strays.prediction import MaskPrediction, Prediction

IMAGES, QUERIES, CLASSES, HEIGHT, WIDTH = 2, 5, 3, 4, 6


@pytest.fixture
def outputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    classes = 3 * torch.randn(IMAGES, QUERIES, CLASSES + 1, generator=generator, dtype=torch.float64)
    return classes, 4 * torch.randn(IMAGES, QUERIES, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)


def brute_force(classes: torch.Tensor, logits: torch.Tensor, n: int, y: int, x: int) -> float:
    total = 0.0
    for query in range(QUERIES):
        exponentials = [math.exp(one) for one in classes[n, query].tolist()]
        surest = max(exponentials[:-1]) / sum(exponentials)
        total += surest / (1 + math.exp(-float(logits[n, query, y, x])))
    return -total


def test_equals_the_loops(outputs) -> None:
    scores = ensemble_anomaly(*outputs)
    assert scores.dtype == torch.float64
    assert scores.shape == (IMAGES, HEIGHT, WIDTH)
    for n in range(IMAGES):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                assert scores[n, y, x] == pytest.approx(brute_force(*outputs, n, y, x), abs=1e-12)


def test_float32_is_close_and_half_is_widened(outputs) -> None:
    single = ensemble_anomaly(*(one.float() for one in outputs))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, ensemble_anomaly(*outputs).float(), rtol=1e-5, atol=1e-6)
    assert ensemble_anomaly(*(one.half() for one in outputs)).dtype == torch.float32


def test_takes_pixels_in_any_shape(outputs) -> None:
    classes, logits = outputs
    torch.testing.assert_close(ensemble_anomaly(classes, logits.flatten(2)), ensemble_anomaly(*outputs).flatten(1))


def test_detector_scores_the_resized_mask_logits(outputs) -> None:
    classes, logits = outputs
    detector = EnsembleAnomaly()
    assert detector.settings() == {}
    masks = MaskPrediction(classes.float(), logits.float())
    scores = detector(Prediction(logits[:, :CLASSES], (9, 16), masks=masks))
    full = torch.nn.functional.interpolate(logits, size=(9, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(scores, ensemble_anomaly(classes, full).float(), rtol=1e-5, atol=1e-6)


def test_no_object_is_no_class_and_does_not_claim() -> None:
    classes = torch.tensor([[[0.0, 0.0, 20.0], [math.log(3.0), 0.0, 0.0]]])
    logits = torch.full((1, 2, 1), 20.0)
    assert float(ensemble_anomaly(classes, logits)) == pytest.approx(-3 / 5, abs=1e-6)


def test_wrong_shapes() -> None:
    with pytest.raises(InputError, match="same N images and Q queries"):
        ensemble_anomaly(torch.zeros(1, 3, 4), torch.zeros(1, 5, 6, 6))
