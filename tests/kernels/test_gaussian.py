"""The Gaussian blur against SciPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from strays.errors import InputError
from strays.kernels.gaussian import gaussian_blurred, gaussian_window


@pytest.fixture
def maps() -> Tensor:
    return 5 * torch.randn(2, 9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2


@pytest.mark.parametrize(("sigma", "kernel"), [(1.0, 7), (0.6, 3), (2.5, 15), (1.0, 1)])
def test_it_is_the_mirroring_filter_of_scipy(maps: Tensor, sigma: float, kernel: int) -> None:
    expected = [gaussian_filter(one, sigma, mode="mirror", radius=kernel // 2) for one in maps.numpy()]
    np.testing.assert_allclose(gaussian_blurred(maps, sigma, kernel).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_the_window_is_a_gaussian_with_the_sum_one() -> None:
    weights = np.array(gaussian_window(1.5, 5))
    np.testing.assert_allclose(np.log(weights / weights[2]), [-2 / 2.25, -0.5 / 2.25, 0, -0.5 / 2.25, -2 / 2.25])
    assert weights.sum() == pytest.approx(1, rel=1e-15)


def test_a_constant_stays_one_and_the_input_as_it_is(maps: Tensor) -> None:
    before = maps.clone()
    gaussian_blurred(maps)
    assert torch.equal(maps, before)
    torch.testing.assert_close(gaussian_blurred(torch.full((1, 4, 4), -6.5)), torch.full((1, 4, 4), -6.5))


def test_images_of_a_batch_do_not_mix(maps: Tensor) -> None:
    assert torch.equal(gaussian_blurred(maps)[1:], gaussian_blurred(maps[1:]))


def test_gradients_pass_through(maps: Tensor) -> None:
    assert torch.autograd.gradcheck(lambda x: gaussian_blurred(x, 1.0, 5), maps[:1, :4, :5].requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_does_not_round(maps: Tensor, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gaussian_blurred(maps.to(dtype))
    assert torch.equal(found, gaussian_blurred(maps.to(dtype)))


@pytest.mark.parametrize(
    ("shape", "sigma", "kernel", "message"),
    [
        ((2, 3, 9), 1.0, 7, "more than 3 rows and columns, got \\(2, 3, 9\\)"),
        ((9, 9), 1.0, 7, "add a batch dimension with maps\\[None\\]"),
        ((1, 9, 9), 0.0, 7, "a sigma above 0, got 0.0"),
        ((1, 9, 9), float("inf"), 7, "a sigma above 0"),
        ((1, 9, 9), 1.0, 6, "an odd kernel of at least 1, got 6: try 7"),
        ((1, 9, 9), 1.0, -3, "an odd kernel of at least 1, got -3: try 1"),
    ],
)
def test_what_does_not_fit_is_refused(shape: tuple[int, ...], sigma: float, kernel: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gaussian_blurred(torch.zeros(shape), sigma, kernel)


@pytest.mark.parametrize("sigma", [1e-200, 1e-3, 1e200])
def test_weights_of_extreme_gaussians_add_up(sigma: float) -> None:
    weights = gaussian_window(sigma, kernel=5)
    assert sum(weights) == pytest.approx(1)
    assert weights[2] == max(weights)
