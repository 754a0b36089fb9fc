"""What all losses check of a batch, and inputs at the edge of their formulas."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from strays.errors import InputError
from strays.functional import (
    cross_entropy_loss,
    densehybrid_loss,
    dirichlet_loss,
    jsd_to_uniform_loss,
    max_entropy_loss,
    meta_entropy_loss,
    outlier_head_loss,
    pebal_loss,
    void_class_loss,
)
from strays.objectives.cross_entropy import inverse_log_weights
from strays.objectives.dirichlet import dirichlet_divergence
from strays.taxonomy import IGNORE

Loss = Callable[[Tensor, Tensor, Tensor], Mapping[str, Tensor]]


def with_head(loss: Callable[..., Mapping[str, Tensor]]) -> Loss:
    return lambda logits, labels, mask: loss(logits, logits[:, :2], labels, mask)


def with_channel(loss: Callable[..., Mapping[str, Tensor]]) -> Loss:
    return lambda logits, labels, mask: loss(torch.cat([logits, logits[:, :1]], dim=1), labels, mask)


LOSSES = {
    "densehybrid": with_head(densehybrid_loss),
    "dirichlet": dirichlet_loss,
    "jsd": jsd_to_uniform_loss,
    "max-entropy": max_entropy_loss,
    "meta-entropy": meta_entropy_loss,
    "outlier-head": with_head(outlier_head_loss),
    "pebal": with_channel(pebal_loss),
    "void-class": with_channel(void_class_loss),
}


@pytest.fixture(params=LOSSES)
def loss(request: pytest.FixtureRequest) -> Loss:
    return LOSSES[request.param]


@pytest.mark.parametrize("value", [2, 254])
def test_a_mask_with_other_values_is_refused(
    loss: Loss, logits: Tensor, labels: Tensor, mask: Tensor, value: int
) -> None:
    mask[mask == 1] = value
    with pytest.raises(InputError, match=f"mask of 0, 1 = negative and 255, got {value}: .* with .mask == 254..long"):
        loss(logits, labels, mask)


def test_a_mask_of_booleans_will_do(loss: Loss, logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    mask[mask == IGNORE] = 0
    found, expected = loss(logits, labels, mask == 1), loss(logits, labels, mask)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_pixels_with_mask_255_teach_no_class(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    """All but ``outlier_head_loss`` and ``densehybrid_loss``, which say so."""
    other = labels.clone()
    other[mask == IGNORE] = IGNORE
    assert not torch.equal(other, labels)
    for name in ("dirichlet", "max-entropy", "meta-entropy", "pebal", "void-class"):
        torch.testing.assert_close(
            LOSSES[name](logits, labels, mask)["total"], LOSSES[name](logits, other, mask)["total"]
        )


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "pebal"])
def test_an_empty_batch_costs_nothing(name: str) -> None:
    nothing = torch.zeros(0, 6, 8, dtype=torch.long)
    assert LOSSES[name](torch.zeros(0, 4, 6, 8), nothing, nothing)["total"] == 0


@pytest.mark.parametrize("label", [4, 254, -1])
def test_cross_entropy_refuses_labels_of_no_class(logits: Tensor, labels: Tensor, label: int) -> None:
    labels = labels.long()
    labels[0, 0, 0] = label
    with pytest.raises(InputError, match=f"expected labels below 4, .*, got {label}: check the labels with"):
        cross_entropy_loss(logits, labels)


@pytest.mark.parametrize("offset", [1.0, 0.5, float("nan")])
def test_class_weights_need_an_offset_above_1(offset: float) -> None:
    with pytest.raises(InputError, match=f"offset is {offset}, expected more than 1"):
        inverse_log_weights(torch.tensor([3, 0, 5]), offset)


@pytest.mark.parametrize("labels", [torch.tensor([0]), torch.zeros(5, 1), torch.tensor([0, 1, 2, 3, 4])])
def test_labels_of_the_dirichlet_divergence_are_one_class_per_pixel(labels: Tensor) -> None:
    with pytest.raises(InputError, match=r"expected 5 labels in \[0, 4\), got"):
        dirichlet_divergence(torch.zeros(5, 4), labels)


def test_an_impossible_class_costs_max_entropy_only_what_it_takes() -> None:
    """A logit of minus infinity: p ln p is 0 there, and the rest as without that class."""
    logits = torch.tensor([0.3, -torch.inf, 1.0, -0.2]).view(1, 4, 1, 1).requires_grad_()
    mask = torch.ones(1, 1, 1, dtype=torch.long)
    found = max_entropy_loss(logits, torch.full_like(mask, IGNORE), mask)["divergence"]
    found.backward()
    p = torch.tensor([0.3, 1.0, -0.2]).softmax(0)
    assert found.item() == pytest.approx(float(torch.tensor(4.0).log() + (p * p.log()).sum()), rel=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("margin", [float("nan"), float("inf"), -float("inf")])
def test_margins_are_finite(logits: Tensor, labels: Tensor, mask: Tensor, margin: float) -> None:
    with pytest.raises(InputError, match=f"margin is {margin}, expected a finite number"):
        densehybrid_loss(logits, logits[:, :2], labels, mask, margin=margin)
    with pytest.raises(InputError, match=f"m_in is {margin}, expected a finite number"):
        pebal_loss(logits, torch.zeros_like(labels), mask, m_in=margin)


def test_what_surrounds_a_whole_negative_image_is_no_inlier_of_densehybrid(logits: Tensor) -> None:
    """The second image shows a negative and what is around it, the first a scene with its own vehicle."""
    labels, mask = torch.zeros(2, 6, 8, dtype=torch.long), torch.zeros(2, 6, 8, dtype=torch.long)
    labels[0, 4:], mask[0, 5] = IGNORE, IGNORE
    labels[1], mask[1] = IGNORE, IGNORE
    mask[1, 1:3, 1:3] = 1
    outlier_logits = torch.randn(2, 2, 6, 8, dtype=torch.float64).requires_grad_()
    densehybrid_loss(logits, outlier_logits, labels, mask)["posterior"].backward()
    assert outlier_logits.grad is not None
    moved = outlier_logits.grad.abs().sum(dim=1) > 0
    assert moved[0].all()
    assert torch.equal(moved[1], mask[1] == 1)
