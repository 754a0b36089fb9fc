"""Cross-entropy and entropy of negatives against SciPy, pixel by pixel: both directions, each term alone, gradients."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import entropy as scipy_entropy
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.max_entropy import max_entropy_loss
from strays.taxonomy import IGNORE

Direction = Literal["reverse", "forward"]
DIRECTIONS: tuple[Direction, Direction] = ("reverse", "forward")
CLASSES = 4
SIZE = (6, 8)
TERMS = ("cross_entropy", "divergence")
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


def reference(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    weight: float = 1.0,
    direction: str = "reverse",
    class_weights: Tensor | None = None,
) -> dict[str, float]:
    """The definitions, pixel by pixel in float64, of logits at the size of the labels."""
    log_p = log_softmax(logits.double().numpy(), axis=1)
    each = np.ones(CLASSES) if class_weights is None else class_weights.double().numpy()
    uniform = np.full(CLASSES, 1 / CLASSES)
    surprise = mass = 0.0
    divergences = []
    for (n, y, x), label in np.ndenumerate(labels.numpy()):
        p = np.exp(log_p[n, :, y, x])
        if mask[n, y, x] == 1 and direction == "reverse":
            divergences.append(math.log(CLASSES) - scipy_entropy(p))
        elif mask[n, y, x] == 1:
            divergences.append(scipy_entropy(uniform, p))
        elif mask[n, y, x] == 0 and label != IGNORE:
            surprise -= each[label] * log_p[n, label, y, x]
            mass += each[label]
    terms = {"cross_entropy": surprise / mass, "divergence": weight * float(np.mean(divergences))}
    return {**terms, "total": sum(terms.values())}


def assert_terms(found: dict[str, Tensor], expected: dict[str, float], rel: float = 1e-9) -> None:
    assert list(found) == [*TERMS, "total"]
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=rel)
    assert all(value.ndim == 0 for value in found.values())


@pytest.mark.parametrize("weight", [1.0, 0.0, 0.4])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_it_is_what_the_definition_says(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    weight: float,
    direction: Direction,
    class_weights: Tensor | None,
) -> None:
    found = max_entropy_loss(logits, labels, mask, weight, direction, class_weights)
    assert found["total"].dtype == torch.float64
    assert_terms(found, reference(logits, labels, mask, weight, direction, class_weights))


def test_the_default_is_the_entropy_at_weight_one(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    assert_terms(max_entropy_loss(logits, labels, mask), reference(logits, labels, mask))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_logits_are_brought_to_the_size_of_the_labels_in_float32(
    logits: Tensor, labels: Tensor, mask: Tensor, direction: Direction
) -> None:
    coarse = logits[:, :, :3, :4].float()
    enlarged = functional.interpolate(coarse, SIZE, mode="bilinear", align_corners=False)
    found = max_entropy_loss(coarse, labels, mask, direction=direction)
    assert found["total"].dtype == torch.float32
    assert_terms(found, reference(enlarged, labels, mask, direction=direction), rel=1e-5)
    rounded = coarse.bfloat16()
    assert torch.equal(
        max_entropy_loss(rounded, labels, mask)["total"], max_entropy_loss(rounded.float(), labels, mask)["total"]
    )


def test_each_term_acts_on_its_own_pixels(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    logits.requires_grad_()
    terms = max_entropy_loss(logits, labels, mask)
    (known,) = torch.autograd.grad(terms["cross_entropy"], logits, retain_graph=True)
    (flat,) = torch.autograd.grad(terms["divergence"], logits)
    assert torch.equal(known.abs().sum(dim=1) > 0, (labels != IGNORE) & (mask == 0))
    assert torch.equal(flat.abs().sum(dim=1) > 0, mask == 1)


def test_without_negatives_only_the_cross_entropy_acts(logits: Tensor, labels: Tensor) -> None:
    logits.requires_grad_()
    terms = max_entropy_loss(logits, labels, torch.zeros_like(labels))
    terms["divergence"].backward(retain_graph=True)
    assert terms["divergence"].item() == 0
    assert not logits.grad.any()
    expected = functional.cross_entropy(logits, labels.long(), ignore_index=IGNORE)
    assert terms["total"].item() == terms["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_with_negatives_alone_only_the_divergence_acts(logits: Tensor, labels: Tensor, direction: Direction) -> None:
    logits.requires_grad_()
    everywhere = torch.ones_like(labels)
    terms = max_entropy_loss(logits, torch.full_like(labels, IGNORE), everywhere, direction=direction)
    terms["cross_entropy"].backward(retain_graph=True)
    assert terms["cross_entropy"].item() == 0
    assert not logits.grad.any()
    log_p, uniform = torch.log_softmax(logits, 1), torch.full_like(logits, 1 / CLASSES)
    target, given = (uniform.log(), log_p) if direction == "reverse" else (log_p, uniform.log())
    expected = functional.kl_div(target, given, reduction="none", log_target=True).sum(1).mean()
    assert terms["total"].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_without_any_pixel_loss_and_gradient_are_zero(logits: Tensor, labels: Tensor, direction: Direction) -> None:
    logits.requires_grad_()
    nothing = torch.full_like(labels, IGNORE)
    terms = max_entropy_loss(logits, nothing, nothing, direction=direction)
    terms["total"].backward()
    assert [value.item() for value in terms.values()] == [0, 0, 0]
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_are_right(logits: Tensor, labels: Tensor, mask: Tensor, direction: Direction) -> None:
    part = (slice(0, 1), slice(0, 3), slice(0, 4))
    logits = logits[:1, :, :2, :2].clone().requires_grad_()
    for term in (*TERMS, "total"):
        assert torch.autograd.gradcheck(
            lambda z, term=term: max_entropy_loss(z, labels[part], mask[part], 0.7, direction, WEIGHTS)[term],
            (logits,),
        )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_large_logits_stay_finite(logits: Tensor, labels: Tensor, mask: Tensor, direction: Direction) -> None:
    logits = (logits.sign() * 1e4).float().requires_grad_()
    total = max_entropy_loss(logits, labels, mask, direction=direction)["total"]
    total.backward()
    assert total.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_extremes_of_the_divergence(direction: Direction) -> None:
    labels, mask = torch.tensor([[[IGNORE]]]), torch.tensor([[[1]]])
    flat, sure = torch.full((1, 4, 1, 1), 7.0), torch.tensor([900.0, 0, 0, 0]).view(1, 4, 1, 1)
    assert max_entropy_loss(flat, labels, mask, direction=direction)["total"].item() == pytest.approx(0, abs=1e-6)
    largest = math.log(4) if direction == "reverse" else 900 * 3 / 4 - math.log(4)
    assert max_entropy_loss(sure, labels, mask, direction=direction)["total"].item() == pytest.approx(largest)


def test_inputs_are_left_as_they_are(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    before = [one.clone() for one in (logits, labels, mask)]
    max_entropy_loss(logits, labels, mask, class_weights=WEIGHTS)
    assert all(torch.equal(old, new) for old, new in zip(before, (logits, labels, mask), strict=True))


def test_bad_input_is_told(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, h, w\) and labels \(N, H, W\)"):
        max_entropy_loss(logits, labels[0], mask)
    with pytest.raises(InputError, match="expected a mask like the labels"):
        max_entropy_loss(logits, labels, mask[:1])
    with pytest.raises(InputError, match="expected labels below 4"):
        max_entropy_loss(logits, labels.clamp(max=CLASSES), mask)
    with pytest.raises(InputError, match="one weight for each of 4 classes"):
        max_entropy_loss(logits, labels, mask, class_weights=torch.ones(3))
    with pytest.raises(InputError, match=r"direction is 'backward': expected 'reverse', .* or 'forward'"):
        max_entropy_loss(logits, labels, mask, direction="backward")  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_weights_out_of_range_are_told(logits: Tensor, labels: Tensor, mask: Tensor, weight: float) -> None:
    with pytest.raises(InputError, match=f"weight is {weight}, expected a finite number"):
        max_entropy_loss(logits, labels, mask, weight)
