"""The Jensen-Shannon divergence against SciPy's, at its extremes, and its gradients."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from torch import Tensor

from strays.divergences import jensen_shannon_from_uniform


def random_logits(*shape: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def reference(logits: Tensor) -> np.ndarray:
    p = softmax(logits.double().numpy(), axis=1)
    return jensenshannon(p, np.full_like(p, 1 / p.shape[1]), axis=1) ** 2


@pytest.mark.parametrize("shape", [(6, 2), (2, 5, 3), (2, 19, 4, 5), (0, 4)])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_it_is_the_square_of_the_distance_of_scipy(shape: tuple[int, ...], scale: float) -> None:
    logits = random_logits(*shape, scale=scale)
    expected = reference(logits)
    np.testing.assert_allclose(jensen_shannon_from_uniform(logits), expected, rtol=1e-9, atol=1e-15)
    found = jensen_shannon_from_uniform(logits.float())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_near_the_uniform_distribution_it_keeps_its_digits() -> None:
    """There it is sum_c (z_c - mean z)^2 / 8K up to higher orders."""
    logits = random_logits(8, 6, scale=1e-6)
    expected = logits.var(dim=1, correction=0) / 8
    torch.testing.assert_close(jensen_shannon_from_uniform(logits), expected, rtol=1e-4, atol=0)


def test_extremes() -> None:
    found = jensen_shannon_from_uniform(torch.tensor([[0.0, 0.0, 0.0], [1e4, 0.0, 0.0], [1e4, -1e4, 1e4]]))
    np.testing.assert_allclose(found, reference(torch.tensor([[0.0] * 3, [1e4, 0, 0], [1e4, -1e4, 1e4]])), rtol=1e-6)
    assert found[0] == 0
    many = torch.zeros(1, 10_000)
    many[0, 0] = 1e4
    assert 0.69 < jensen_shannon_from_uniform(many).item() < math.log(2)


def test_gradients() -> None:
    assert torch.autograd.gradcheck(jensen_shannon_from_uniform, (random_logits(3, 4, 2).requires_grad_(),))
    extreme = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 0.0]], requires_grad=True)
    jensen_shannon_from_uniform(extreme).sum().backward()
    assert extreme.grad.isfinite().all()


def test_the_logits_are_not_changed() -> None:
    logits = random_logits(2, 3, 4)
    before = logits.clone()
    jensen_shannon_from_uniform(logits)
    assert torch.equal(logits, before)
