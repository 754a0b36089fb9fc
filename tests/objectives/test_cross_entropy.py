"""Cross-entropy against a reference in NumPy: ignored pixels, class weights, gradients."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.cross_entropy import cross_entropy_loss, inverse_log_weights
from strays.taxonomy import IGNORE

CLASSES = 4


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(2, CLASSES, 6, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    found = torch.randint(0, CLASSES, (2, 6, 8), generator=generator)
    return torch.where(torch.rand(2, 6, 8, generator=generator) < 0.3, IGNORE, found).to(torch.uint8)


def reference(logits: Tensor, labels: Tensor, weights: np.ndarray | None = None) -> float:
    """The weighted mean over labelled pixels, one by one in float64."""
    surprise = -log_softmax(logits.double().numpy(), axis=1)
    weights = np.ones(CLASSES) if weights is None else weights
    pixels = [(n, int(k), y, x) for (n, y, x), k in np.ndenumerate(labels.numpy()) if k != IGNORE]
    return sum(weights[k] * surprise[n, k, y, x] for n, k, y, x in pixels) / sum(weights[k] for _, k, _, _ in pixels)


def test_it_is_the_mean_over_labelled_pixels(logits: Tensor, labels: Tensor) -> None:
    terms = cross_entropy_loss(logits, labels)
    assert set(terms) == {"cross_entropy", "total"}
    assert float(terms["total"]) == pytest.approx(reference(logits, labels), rel=1e-5)
    assert terms["total"] is terms["cross_entropy"]


def test_class_weights_weight_the_mean(logits: Tensor, labels: Tensor) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    total = float(cross_entropy_loss(logits, labels, weights)["total"])
    assert total == pytest.approx(reference(logits, labels, weights.double().numpy()), rel=1e-5)


def test_logits_are_brought_to_the_size_of_the_labels(logits: Tensor) -> None:
    labels = torch.randint(0, CLASSES, (2, 24, 32), generator=torch.Generator().manual_seed(2))
    enlarged = functional.interpolate(logits, (24, 32), mode="bilinear", align_corners=False)
    assert float(cross_entropy_loss(logits, labels)["total"]) == pytest.approx(reference(enlarged, labels), rel=1e-5)


def test_ignored_pixels_give_no_gradient(logits: Tensor, labels: Tensor) -> None:
    logits.requires_grad_()
    cross_entropy_loss(logits, labels)["total"].backward()
    given = logits.grad.abs().sum(1) > 0
    assert torch.equal(given, labels != IGNORE)


def test_what_is_ignored_may_hold_any_logits(logits: Tensor, labels: Tensor) -> None:
    expected = cross_entropy_loss(logits, labels)["total"]
    changed = torch.where((labels == IGNORE)[:, None], torch.full_like(logits, 1e4), logits)
    assert torch.equal(cross_entropy_loss(changed, labels)["total"], expected)


@pytest.mark.parametrize("weights", [None, torch.ones(CLASSES)])
def test_without_any_label_the_loss_and_its_gradient_are_zero(logits: Tensor, weights: Tensor | None) -> None:
    logits.requires_grad_()
    total = cross_entropy_loss(logits, torch.full((2, 6, 8), IGNORE), weights)["total"]
    total.backward()
    assert float(total.detach()) == 0
    assert not logits.grad.any()


def test_half_precision_is_computed_in_float32(logits: Tensor, labels: Tensor) -> None:
    total = cross_entropy_loss(logits.bfloat16(), labels)["total"]
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(reference(logits, labels), rel=0.02)


@pytest.mark.parametrize("offset", [1.02, 1.1, 2.0])
def test_inverse_log_weights_are_as_published(offset: float) -> None:
    counts = np.array([9_000_000_000, 1_000_000, 1, 0])
    expected = 1 / np.log(offset + counts / counts.sum())
    found = inverse_log_weights(torch.from_numpy(counts), offset)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected / expected.mean(), rtol=1e-6)
    assert found.mean().item() == pytest.approx(1)
    assert found.argsort().tolist()[0] == 0


def test_weights_without_any_label_are_refused() -> None:
    with pytest.raises(InputError, match="class weights need labelled pixels, and there are none"):
        inverse_log_weights(torch.zeros(3, dtype=torch.long))
