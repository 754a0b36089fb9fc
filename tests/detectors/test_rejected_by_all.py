"""RbA against loops over pixels, queries and classes."""

import math

import pytest
import torch

from strays.detectors.rejected_by_all import RejectedByAll, rejected_by_all
from strays.errors import InputError
from strays.prediction import MaskPrediction, Prediction

IMAGES, QUERIES, CLASSES, HEIGHT, WIDTH = 2, 5, 3, 4, 6


@pytest.fixture
def outputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    classes = 3 * torch.randn(IMAGES, QUERIES, CLASSES + 1, generator=generator, dtype=torch.float64)
    return classes, 4 * torch.randn(IMAGES, QUERIES, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)


def brute_force(classes: torch.Tensor, logits: torch.Tensor, n: int, y: int, x: int) -> float:
    votes = [0.0] * CLASSES
    for query in range(QUERIES):
        exponentials = [math.exp(one) for one in classes[n, query].tolist()]
        mask = 1 / (1 + math.exp(-float(logits[n, query, y, x])))
        for k in range(CLASSES):
            votes[k] += exponentials[k] / sum(exponentials) * mask
    return -sum(math.tanh(vote) for vote in votes)


def test_equals_the_loops(outputs) -> None:
    scores = rejected_by_all(*outputs)
    assert scores.dtype == torch.float64
    assert scores.shape == (IMAGES, HEIGHT, WIDTH)
    for n in range(IMAGES):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                assert scores[n, y, x] == pytest.approx(brute_force(*outputs, n, y, x), abs=1e-12)


def test_float32_is_close_and_half_is_widened(outputs) -> None:
    exact = rejected_by_all(*outputs)
    single = rejected_by_all(*(one.float() for one in outputs))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, exact.float(), rtol=1e-5, atol=1e-6)
    assert rejected_by_all(*(one.half() for one in outputs)).dtype == torch.float32


def test_takes_pixels_in_any_shape(outputs) -> None:
    classes, logits = outputs
    torch.testing.assert_close(rejected_by_all(classes, logits.flatten(2)), rejected_by_all(*outputs).flatten(1))


def test_detector_scores_the_resized_mask_logits(outputs) -> None:
    classes, logits = outputs
    detector = RejectedByAll()
    assert detector.settings() == {}
    masks = MaskPrediction(classes.float(), logits.float())
    scores = detector(Prediction(logits[:, :CLASSES], (9, 16), masks=masks))
    full = torch.nn.functional.interpolate(logits, size=(9, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(scores, rejected_by_all(classes, full).float(), rtol=1e-5, atol=1e-6)


def test_what_nothing_claims_is_the_most_anomalous() -> None:
    classes = torch.tensor([[[20.0, 0.0, 0.0], [0.0, 0.0, 20.0]]])  # a car, and a query without an object
    logits = torch.tensor([[[20.0, -20.0, -20.0], [-20.0, 20.0, -20.0]]])
    scores = rejected_by_all(classes, logits)[0]
    assert scores[0] == pytest.approx(-math.tanh(1), abs=1e-5)
    assert scores[1:].abs().max() < 1e-5


def test_wrong_shapes() -> None:
    with pytest.raises(InputError, match="same N images and Q queries"):
        rejected_by_all(torch.zeros(1, 3, 4), torch.zeros(1, 5, 6, 6))
