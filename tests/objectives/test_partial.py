"""Cross-entropy of groups of classes against a loop in NumPy."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.partial import partial_cross_entropy
from strays.taxonomy import IGNORE

CLASSES, SIZE = 5, (6, 8)
GROUPS = [(0, 3), (1,), (2, 3, 4)]


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(2, CLASSES, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def labels() -> Tensor:
    drawn = torch.randint(len(GROUPS) + 1, (2, *SIZE), generator=torch.Generator().manual_seed(1))
    return torch.where(drawn == len(GROUPS), IGNORE, drawn)


def test_it_is_the_surprise_at_the_sum_of_the_probabilities(logits: Tensor, labels: Tensor) -> None:
    p = softmax(logits.numpy(), axis=1)
    each = [
        -np.log(sum(p[n, k, y, x] for k in GROUPS[label]))
        for (n, y, x), label in np.ndenumerate(labels.numpy())
        if label != IGNORE
    ]
    found = partial_cross_entropy(logits, labels, GROUPS)
    assert found.ndim == 0
    assert found.item() == pytest.approx(np.mean(each), rel=1e-12)


def test_groups_of_one_class_give_the_usual_cross_entropy(logits: Tensor, labels: Tensor) -> None:
    order = torch.tensor([4, 0, 2])
    expected = functional.cross_entropy(
        logits, torch.where(labels == IGNORE, IGNORE, order[labels % 3]), ignore_index=IGNORE
    )
    found = partial_cross_entropy(logits, labels, [(4,), (0,), (2,)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_a_group_of_all_classes_teaches_nothing(logits: Tensor, labels: Tensor) -> None:
    logits.requires_grad_()
    loss = partial_cross_entropy(logits, torch.zeros_like(labels), [range(CLASSES)])
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-12


def test_gradients(logits: Tensor, labels: Tensor) -> None:
    small = logits[:1, :, :3, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: partial_cross_entropy(one, labels[:1], GROUPS), (small,))


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_logits_stay_finite(labels: Tensor, size: float) -> None:
    logits = (torch.randn(2, CLASSES, *SIZE, generator=torch.Generator().manual_seed(3)).sign() * size).requires_grad_()
    partial_cross_entropy(logits, labels, GROUPS).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_without_any_labelled_pixel_it_is_0(logits: Tensor) -> None:
    logits.requires_grad_()
    loss = partial_cross_entropy(logits, torch.full((2, *SIZE), IGNORE), GROUPS)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [(0, 5)]}, r"groups of classes in \[0, 5\), got \(0, 5\)"),
        ({"groups": [()]}, r"got \(\)"),
        ({"groups": [(0, 1)]}, "expected labels below 1, .* or 255, got"),
        ({"labels": torch.zeros(3, 6, 8, dtype=torch.long)}, r"expected logits \(N, K, h, w\) and labels \(N, H, W\)"),
    ],
)
def test_bad_input(logits: Tensor, labels: Tensor, changes: dict[str, object], message: str) -> None:
    given = {"logits": logits, "labels": labels, "groups": GROUPS, **changes}
    with pytest.raises(InputError, match=message):
        partial_cross_entropy(**given)
