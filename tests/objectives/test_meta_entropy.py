"""Entropy maximisation against the target tensor of the specification, written out in NumPy; terms and gradients."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.meta_entropy import meta_entropy_loss
from strays.taxonomy import IGNORE

CLASSES = 4
SIZE = (6, 8)
TERMS = ("cross_entropy", "uniform")
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


def targets(labels: Tensor, mask: Tensor, alpha: float) -> dict[str, np.ndarray]:
    """The two parts of the target tensor (N, K, H, W): (1 - alpha) at the class of inliers, alpha / K for negatives."""
    parts = {term: np.zeros((len(labels), CLASSES, *labels.shape[1:])) for term in TERMS}
    for (n, y, x), label in np.ndenumerate(labels.numpy()):
        if mask[n, y, x] == 1:
            parts["uniform"][n, :, y, x] = alpha / CLASSES
        elif mask[n, y, x] == 0 and label != IGNORE:
            parts["cross_entropy"][n, label, y, x] = 1 - alpha
    return parts


def reference(logits: Tensor, labels: Tensor, mask: Tensor, alpha: float = 0.9) -> dict[str, float]:
    """Minus the mean of target times ln p over all N K H W entries, in float64."""
    log_p = log_softmax(logits.double().numpy(), axis=1)
    terms = {name: float(-(part * log_p).mean()) for name, part in targets(labels, mask, alpha).items()}
    return {**terms, "total": sum(terms.values())}


def assert_terms(found: dict[str, Tensor], expected: dict[str, float], rel: float = 1e-9) -> None:
    assert list(found) == [*TERMS, "total"]
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=rel)
    assert all(value.ndim == 0 for value in found.values())


@pytest.mark.parametrize("alpha", [0.9, 0.0, 0.35, 1.0])
def test_it_is_the_mean_of_target_times_log_probability(
    logits: Tensor, labels: Tensor, mask: Tensor, alpha: float
) -> None:
    found = meta_entropy_loss(logits, labels, mask, alpha)
    assert found["total"].dtype == torch.float64
    assert_terms(found, reference(logits, labels, mask, alpha))


def test_the_published_alpha_is_the_default(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    assert_terms(meta_entropy_loss(logits, labels, mask), reference(logits, labels, mask, 0.9))


@pytest.mark.parametrize("alpha", [0.9, 0.2])
def test_populations_may_have_a_mean_each(logits: Tensor, labels: Tensor, mask: Tensor, alpha: float) -> None:
    log_p = log_softmax(logits.numpy(), axis=1)
    sums = {name: float(-(part * log_p).sum()) for name, part in targets(labels, mask, alpha).items()}
    known = ((mask == 0) & (labels != IGNORE)).sum().item()
    expected = {"cross_entropy": sums["cross_entropy"] / known, "uniform": sums["uniform"] / (mask == 1).sum().item()}
    found = meta_entropy_loss(logits, labels, mask, alpha, separate=True)
    assert_terms(found, {**expected, "total": sum(expected.values())})


@pytest.mark.parametrize("separate", [False, True])
def test_class_weights_move_nothing_between_the_terms(
    logits: Tensor, labels: Tensor, mask: Tensor, separate: bool
) -> None:
    plain = meta_entropy_loss(logits, labels, mask, separate=separate)
    found = meta_entropy_loss(logits, labels, mask, separate=separate, class_weights=WEIGHTS)
    known = (mask == 0) & (labels != IGNORE)
    each = WEIGHTS.double()[labels[known].long()].numpy()
    surprise = -log_softmax(logits.numpy(), axis=1).transpose(0, 2, 3, 1)[known.numpy(), labels[known].numpy()]
    ratio = (each * surprise).sum() / each.sum() / surprise.mean()
    assert found["uniform"].item() == plain["uniform"].item()
    assert found["cross_entropy"].item() == pytest.approx(ratio * plain["cross_entropy"].item(), rel=1e-9)
    alike = meta_entropy_loss(logits, labels, mask, separate=separate, class_weights=torch.full((CLASSES,), 3.0))
    assert alike["total"].item() == pytest.approx(plain["total"].item(), rel=1e-12)


def test_logits_are_brought_to_the_size_of_the_labels_in_float32(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    coarse = logits[:, :, :3, :4].float()
    enlarged = functional.interpolate(coarse, SIZE, mode="bilinear", align_corners=False)
    found = meta_entropy_loss(coarse, labels, mask)
    assert found["total"].dtype == torch.float32
    assert_terms(found, reference(enlarged, labels, mask), rel=1e-5)
    rounded = coarse.bfloat16()
    assert torch.equal(
        meta_entropy_loss(rounded, labels, mask)["total"], meta_entropy_loss(rounded.float(), labels, mask)["total"]
    )


def test_each_term_acts_on_its_own_pixels(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    logits.requires_grad_()
    terms = meta_entropy_loss(logits, labels, mask)
    (known,) = torch.autograd.grad(terms["cross_entropy"], logits, retain_graph=True)
    (flat,) = torch.autograd.grad(terms["uniform"], logits)
    assert torch.equal(known.abs().sum(dim=1) > 0, (labels != IGNORE) & (mask == 0))
    assert torch.equal(flat.abs().sum(dim=1) > 0, mask == 1)


def test_alpha_switches_either_term_off(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    only_known = meta_entropy_loss(logits, labels, mask, alpha=0.0)
    only_negatives = meta_entropy_loss(logits, labels, mask, alpha=1.0)
    assert only_known["uniform"].item() == only_negatives["cross_entropy"].item() == 0
    assert only_known["total"] == only_known["cross_entropy"]
    assert only_negatives["total"] == only_negatives["uniform"]


@pytest.mark.parametrize("separate", [False, True])
def test_an_absent_population_gives_zero_with_a_gradient(logits: Tensor, labels: Tensor, separate: bool) -> None:
    logits.requires_grad_()
    nothing, everywhere = torch.full_like(labels, IGNORE), torch.ones_like(labels)
    cases = [
        (labels, torch.zeros_like(labels), {"uniform"}),
        (nothing, everywhere, {"cross_entropy"}),
        (nothing, nothing, set(TERMS)),
    ]
    for known, mask, absent in cases:
        terms = meta_entropy_loss(logits, known, mask, separate=separate)
        assert {name for name in TERMS if terms[name].item() == 0} == absent
        for name in absent:
            (gradient,) = torch.autograd.grad(terms[name], logits, retain_graph=True)
            assert not gradient.any()


@pytest.mark.parametrize("separate", [False, True])
def test_gradients_are_right(logits: Tensor, labels: Tensor, mask: Tensor, separate: bool) -> None:
    part = (slice(0, 1), slice(0, 3), slice(0, 4))
    logits = logits[:1, :, :2, :2].clone().requires_grad_()
    for term in (*TERMS, "total"):
        assert torch.autograd.gradcheck(
            lambda z, term=term: meta_entropy_loss(z, labels[part], mask[part], 0.7, separate, WEIGHTS)[term],
            (logits,),
        )


def test_large_logits_stay_finite(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    logits = (logits.sign() * 1e4).float().requires_grad_()
    total = meta_entropy_loss(logits, labels, mask)["total"]
    total.backward()
    assert total.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


def test_uniform_probabilities_are_best_for_negatives(labels: Tensor) -> None:
    nothing, everywhere = torch.full_like(labels, IGNORE), torch.ones_like(labels)
    flat = torch.zeros(2, CLASSES, *SIZE, dtype=torch.float64, requires_grad=True)
    total = meta_entropy_loss(flat, nothing, everywhere, separate=True)["total"]
    total.backward()
    assert total.item() == pytest.approx(0.9 * math.log(CLASSES))
    assert flat.grad.abs().max() < 1e-15


def test_inputs_are_left_as_they_are(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    before = [one.clone() for one in (logits, labels, mask)]
    meta_entropy_loss(logits, labels, mask, class_weights=WEIGHTS)
    assert all(torch.equal(old, new) for old, new in zip(before, (logits, labels, mask), strict=True))


def test_bad_input_is_told(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, h, w\) and labels \(N, H, W\)"):
        meta_entropy_loss(logits, labels[0], mask)
    with pytest.raises(InputError, match="expected a mask like the labels"):
        meta_entropy_loss(logits, labels, mask[:1])
    with pytest.raises(InputError, match="expected labels below 4"):
        meta_entropy_loss(logits, labels.clamp(max=CLASSES), mask)
    with pytest.raises(InputError, match="one weight for each of 4 classes"):
        meta_entropy_loss(logits, labels, mask, class_weights=torch.ones(3))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_out_of_range_is_told(logits: Tensor, labels: Tensor, mask: Tensor, alpha: float) -> None:
    with pytest.raises(InputError, match=f"alpha is {alpha}, expected 0 to 1"):
        meta_entropy_loss(logits, labels, mask, alpha)
