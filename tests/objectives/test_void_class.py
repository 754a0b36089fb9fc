"""Cross-entropy with a void channel against a loop in NumPy: what counts, each term alone, weights, gradients."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import log_loss
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.void_class import void_class_loss
from strays.taxonomy import IGNORE

CLASSES = 4
SIZE = (6, 8)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(2, CLASSES + 1, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def reference(logits: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None = None) -> dict[str, float]:
    """One mean over what counts, pixel by pixel in float64."""
    log_p = log_softmax(logits.double().numpy(), axis=1)
    each = np.append(np.ones(CLASSES) if weights is None else weights.double().numpy(), 1.0)
    sums, mass = {"cross_entropy": 0.0, "void": 0.0}, 0.0
    for (n, y, x), label in np.ndenumerate(labels.numpy()):
        if mask[n, y, x] == 1:
            term, target = "void", CLASSES
        elif mask[n, y, x] == 0 and label != IGNORE:
            term, target = "cross_entropy", int(label)
        else:
            continue
        sums[term] -= each[target] * log_p[n, target, y, x]
        mass += each[target]
    terms = {name: value / mass for name, value in sums.items()}
    return {**terms, "total": sum(terms.values())}


def assert_terms(found: dict[str, Tensor], expected: dict[str, float], rel: float = 1e-9) -> None:
    assert list(found) == ["cross_entropy", "void", "total"]
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=rel)
    assert all(value.ndim == 0 for value in found.values())


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_it_is_one_mean_over_all_that_counts(
    logits: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None
) -> None:
    found = void_class_loss(logits, labels, mask, weights)
    assert found["total"].dtype == torch.float64
    assert_terms(found, reference(logits, labels, mask, weights))


def test_the_total_is_the_log_loss_of_scikit_learn(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    targets = np.where(mask == 1, CLASSES, np.where(mask == 0, labels, IGNORE)).ravel()
    p = torch.softmax(logits, dim=1).movedim(1, -1).flatten(0, -2).numpy()
    counted = targets != IGNORE
    expected = log_loss(targets[counted], p[counted], labels=range(CLASSES + 1))
    assert void_class_loss(logits, labels, mask)["total"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_logits_are_brought_to_the_size_of_the_labels_in_float32(
    logits: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None
) -> None:
    coarse = logits[:, :, :3, :4].float()
    enlarged = functional.interpolate(coarse, SIZE, mode="bilinear", align_corners=False)
    found = void_class_loss(coarse, labels, mask, weights)
    assert found["total"].dtype == torch.float32
    assert_terms(found, reference(enlarged, labels, mask, weights), rel=1e-5)
    rounded = coarse.bfloat16()
    assert torch.equal(
        void_class_loss(rounded, labels, mask, weights)["total"],
        void_class_loss(rounded.float(), labels, mask, weights)["total"],
    )


def test_pixels_that_count_nowhere_may_hold_anything(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    nowhere = (mask == IGNORE) | ((mask == 0) & (labels == IGNORE))
    assert 0 < nowhere.sum() < nowhere.numel()
    changed = torch.where(nowhere[:, None], torch.full_like(logits, 1e4), logits).requires_grad_()
    total = void_class_loss(changed, labels, mask)["total"]
    total.backward()
    assert total.item() == pytest.approx(void_class_loss(logits, labels, mask)["total"].item(), rel=1e-12)
    assert torch.equal(changed.grad.abs().sum(dim=1) > 0, ~nowhere)


def test_only_the_classes_act_without_negatives(logits: Tensor, labels: Tensor) -> None:
    logits.requires_grad_()
    terms = void_class_loss(logits, labels, torch.zeros_like(labels))
    terms["void"].backward(retain_graph=True)
    assert terms["void"].item() == 0
    assert not logits.grad.any()
    expected = functional.cross_entropy(logits, labels.long(), ignore_index=IGNORE)
    assert terms["total"].item() == terms["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-12)


def test_only_void_acts_where_there_are_negatives_alone(logits: Tensor, labels: Tensor) -> None:
    logits.requires_grad_()
    terms = void_class_loss(logits, torch.full_like(labels, IGNORE), torch.ones_like(labels))
    terms["cross_entropy"].backward(retain_graph=True)
    assert terms["cross_entropy"].item() == 0
    assert not logits.grad.any()
    assert terms["total"].item() == pytest.approx(-torch.log_softmax(logits, 1)[:, -1].mean().item(), rel=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_without_any_pixel_loss_and_gradient_are_zero(logits: Tensor, labels: Tensor, weights: Tensor | None) -> None:
    logits.requires_grad_()
    terms = void_class_loss(logits, torch.full_like(labels, IGNORE), torch.zeros_like(labels), weights)
    terms["total"].backward()
    assert [value.item() for value in terms.values()] == [0, 0, 0]
    assert logits.grad is not None
    assert not logits.grad.any()


def test_gradients_are_right(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    part = (slice(0, 1), slice(0, 3), slice(0, 4))
    logits = logits[:1, :, :2, :2].clone().requires_grad_()
    for weights in (None, WEIGHTS):
        for term in ("cross_entropy", "void", "total"):
            assert torch.autograd.gradcheck(
                lambda z, term=term, weights=weights: void_class_loss(z, labels[part], mask[part], weights)[term],
                (logits,),
            )


def test_large_logits_stay_finite(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    logits = (logits.sign() * 1e4).float().requires_grad_()
    total = void_class_loss(logits, labels, mask)["total"]
    total.backward()
    assert total.isfinite()
    assert total.item() > 1e3
    assert logits.grad.isfinite().all()


def test_inputs_are_left_as_they_are(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    given = (logits, labels, mask, WEIGHTS.clone())
    before = [one.clone() for one in given]
    void_class_loss(*given)
    assert all(torch.equal(old, new) for old, new in zip(before, given, strict=True))


def test_a_certain_network_has_no_loss() -> None:
    labels, mask = torch.tensor([[[1, IGNORE]]]), torch.tensor([[[0, 1]]])
    logits = torch.full((1, 3, 1, 2), -50.0)
    logits[0, 1, 0, 0] = logits[0, 2, 0, 1] = 50.0
    assert void_class_loss(logits, labels, mask)["total"].item() == pytest.approx(0, abs=1e-6)
    assert void_class_loss(torch.zeros(1, 3, 1, 2), labels, mask)["total"].item() == pytest.approx(math.log(3))


def test_bad_input_is_told(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, h, w\) and labels \(N, H, W\)"):
        void_class_loss(logits[0], labels, mask)
    with pytest.raises(InputError, match="expected a mask like the labels"):
        void_class_loss(logits, labels, mask[:, :3])
    with pytest.raises(InputError, match=r"expected labels below 4, .* got 4"):
        void_class_loss(logits, labels.clamp(max=CLASSES), mask)
    with pytest.raises(InputError, match=r"one weight for each of 4 classes, got \(5,\)"):
        void_class_loss(logits, labels, mask, torch.ones(5))
