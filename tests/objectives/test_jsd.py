"""Cross-entropy and divergence against loops in NumPy, each term alone, gradients, and what is missing."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.jsd import jsd_to_uniform_loss
from strays.taxonomy import IGNORE

CLASSES = 4
SIZE = (6, 8)
TERMS = ("cross_entropy", "divergence")


@pytest.fixture
def labels(mask: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randint(0, CLASSES, mask.shape, generator=generator)
    void = (torch.rand(mask.shape, generator=generator) < 0.1) | (mask != 0)
    return torch.where(void, IGNORE, drawn).to(torch.uint8)


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def reference(
    logits: Tensor, labels: Tensor, mask: Tensor, weight: float = 0.03, class_weights: Tensor | None = None
) -> dict[str, float]:
    """The definitions, pixel by pixel in float64, of logits at the size of the labels."""
    log_p = log_softmax(logits.double().numpy(), axis=1)
    weights = np.ones(CLASSES) if class_weights is None else class_weights.double().numpy()
    surprise = mass = 0.0
    divergences = []
    for (n, y, x), label in np.ndenumerate(labels.numpy()):
        p = np.exp(log_p[n, :, y, x]).tolist()
        if mask[n, y, x] == 1:
            middle = [(one + 1 / CLASSES) / 2 for one in p]
            divergences.append((kl(p, middle) + kl([1 / CLASSES] * CLASSES, middle)) / 2)
        elif label != IGNORE:
            surprise -= weights[label] * log_p[n, label, y, x]
            mass += weights[label]
    terms = {"cross_entropy": surprise / mass, "divergence": weight * float(np.mean(divergences))}
    return {**terms, "total": sum(terms.values())}


def assert_terms(found: dict[str, Tensor], expected: dict[str, float], rel: float = 1e-9) -> None:
    assert list(found) == [*TERMS, "total"]
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=rel)
    assert all(value.ndim == 0 for value in found.values())


@pytest.mark.parametrize("weight", [0.03, 0.0, 2.5])
@pytest.mark.parametrize("class_weights", [None, torch.tensor([0.5, 1.0, 2.0, 4.0])])
def test_it_is_what_the_definition_says(
    logits: Tensor, labels: Tensor, mask: Tensor, weight: float, class_weights: Tensor | None
) -> None:
    found = jsd_to_uniform_loss(logits, labels, mask, weight, class_weights)
    assert_terms(found, reference(logits, labels, mask, weight, class_weights))


def test_the_published_weight_is_the_default(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    assert_terms(jsd_to_uniform_loss(logits, labels, mask), reference(logits, labels, mask, 0.03))


def test_logits_are_brought_to_the_size_of_the_labels(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    coarse = logits[..., :3, :4]
    enlarged = functional.interpolate(coarse, SIZE, mode="bilinear", align_corners=False)
    assert_terms(jsd_to_uniform_loss(coarse, labels, mask), reference(enlarged, labels, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_are_computed_in_float32(logits: Tensor, labels: Tensor, mask: Tensor, dtype: torch.dtype) -> None:
    found = jsd_to_uniform_loss(logits.to(dtype), labels, mask)
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert_terms(found, reference(logits.to(dtype), labels, mask), rel=1e-5)


def test_gradients(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    small = logits[:1, :, :2, :3].clone().requires_grad_()

    def total(one: Tensor) -> Tensor:
        return jsd_to_uniform_loss(one, labels[:1, :4, :5], mask[:1, :4, :5], 0.7)["total"]

    assert torch.autograd.gradcheck(total, (small,))


def test_each_term_reaches_only_its_own_pixels(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    for name, own in (("cross_entropy", labels != IGNORE), ("divergence", mask == 1)):
        given = logits.clone().requires_grad_()
        jsd_to_uniform_loss(given, labels, mask)[name].backward()
        assert torch.equal(given.grad.abs().sum(dim=1) > 0, own)


def test_without_negatives_it_is_cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    given = logits.clone().requires_grad_()
    found = jsd_to_uniform_loss(given, labels, torch.zeros_like(mask))
    assert found["divergence"].item() == 0
    assert found["total"] == found["cross_entropy"] > 0
    found["divergence"].backward()
    assert not given.grad.any()


def test_without_labels_it_is_the_divergence(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    given = logits.clone().requires_grad_()
    found = jsd_to_uniform_loss(given, torch.full_like(labels, IGNORE), mask)
    assert found["cross_entropy"].item() == 0
    assert found["total"] == found["divergence"] > 0
    found["cross_entropy"].backward()
    assert not given.grad.any()


def test_a_negative_with_a_label_is_still_none_of_the_class(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    labelled = labels.masked_fill(mask == 1, 2)
    found = jsd_to_uniform_loss(logits, labelled, mask)
    assert found["total"] == jsd_to_uniform_loss(logits, labels, mask)["total"]


@pytest.mark.parametrize("height", [1e4, -1e4])
def test_large_logits_stay_finite(labels: Tensor, mask: Tensor, height: float) -> None:
    logits = torch.zeros(2, CLASSES, *SIZE)
    logits[:, 1] = height
    logits[:, 2] = -height
    found = jsd_to_uniform_loss(logits.requires_grad_(), labels, mask)
    found["total"].backward()
    assert all(value.isfinite() for value in found.values())
    assert logits.grad.isfinite().all()
    assert_terms(found, reference(logits.detach(), labels, mask), rel=1e-5)


def test_flat_negatives_cost_nothing_and_sure_ones_the_most(labels: Tensor, mask: Tensor) -> None:
    flat = torch.zeros(2, CLASSES, *SIZE)
    sure = flat.clone()
    sure[:, 0] = 1e3
    assert jsd_to_uniform_loss(flat, labels, mask)["divergence"].item() == 0
    most = (math.log(2 * CLASSES / (CLASSES + 1)) + kl([1 / 4] * 4, [5 / 8, 1 / 8, 1 / 8, 1 / 8])) / 2
    assert jsd_to_uniform_loss(sure, labels, mask, 1.0)["divergence"].item() == pytest.approx(most, rel=1e-6)


def test_nothing_given_is_changed(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    weights = torch.linspace(0.5, 2, CLASSES)
    given = [logits, labels, mask, weights]
    before = [one.clone() for one in given]
    jsd_to_uniform_loss(logits, labels, mask, 0.1, weights)
    assert all(torch.equal(old, new) for old, new in zip(before, given, strict=True))


def test_bad_input_is_refused(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, h, w\) and labels \(N, H, W\)"):
        jsd_to_uniform_loss(logits[0], labels, mask)
    with pytest.raises(InputError, match="expected a mask like the labels"):
        jsd_to_uniform_loss(logits, labels, mask[:1])
    with pytest.raises(InputError, match="expected labels below 4"):
        jsd_to_uniform_loss(logits, labels.clamp(min=CLASSES), mask)
    with pytest.raises(InputError, match=r"weight is -1, expected a finite number, 0 or more"):
        jsd_to_uniform_loss(logits, labels, mask, -1)
    with pytest.raises(InputError, match="expected one weight for each of 4 classes"):
        jsd_to_uniform_loss(logits, labels, mask, class_weights=torch.ones(3))
