"""Boundary suppression and dilated smoothing against loops over pixels in float64."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.detectors.boundary_suppression import (
    class_boundaries,
    dilated_smoothing,
    expanded_mask,
    suppressed_boundaries,
    suppression_radii,
)
from strays.errors import InputError

SHAPES = [(1, 1), (1, 9), (11, 1), (2, 2), (3, 7), (10, 12), (17, 14)]
CROSS = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
SQUARE = list(product((-1, 0, 1), repeat=2))

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]


def boundary_by_loop(labels: Labels) -> Mask:
    height, width = labels.shape

    def inside(y: int, x: int, steps: list[tuple[int, int]]) -> list[int]:
        near = [(y + dy, x + dx) for dy, dx in steps]
        return [int(labels[i, j]) for i, j in near if 0 <= i < height and 0 <= j < width]

    result = np.zeros((height, width), bool)
    for y, x in product(range(height), range(width)):
        result[y, x] = max(inside(y, x, CROSS)) != min(inside(y, x, SQUARE))
    return result


def expanded_by_loop(mask: Mask, radius: int) -> Mask:
    result = np.zeros_like(mask)
    marked = np.argwhere(mask).tolist()
    for y, x in product(*map(range, mask.shape)):
        result[y, x] = any(abs(y - i) + abs(x - j) <= radius for i, j in marked)
    return result


def suppressed_by_loop(values: Floats, labels: Labels, iterations: int, width: int) -> Floats:
    height, columns = values.shape
    boundary = boundary_by_loop(labels)
    for i in range(iterations):
        radius = 0 if i == iterations - 1 else width - (width // iterations) * i - 1
        mask = expanded_by_loop(boundary, radius)
        new = values.copy()
        for y, x in np.argwhere(mask):
            window = [(min(max(y + dy, 0), height - 1), min(max(x + dx, 0), columns - 1)) for dy, dx in SQUARE]
            outside = [values[one] for one in window if not mask[one]]
            if outside:
                new[y, x] = sum(outside) / len(outside)
        values = new
    return values


def smoothed_by_loop(values: Floats, sigma: float, kernel: int, dilation: int) -> Floats:
    height, width = values.shape
    steps = range(-(kernel // 2), kernel // 2 + 1)
    weights = {(v, u): math.exp(-(v * v + u * u) / (2 * sigma * sigma)) for v in steps for u in steps}
    total = sum(weights.values())
    result = np.zeros_like(values)
    for y, x in product(range(height), range(width)):
        for (v, u), weight in weights.items():
            i = min(max(y + v * dilation, 0), height - 1)
            j = min(max(x + u * dilation, 0), width - 1)
            result[y, x] += weight / total * values[i, j]
    return result


def random_labels(shape: tuple[int, int], seed: int, patch: int = 4) -> Labels:
    """Class indices in patches with ragged edges, so that there are pixels away from every boundary."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 5, [size // patch + 2 for size in shape])
    labels = np.kron(coarse, np.ones((patch, patch), np.int64))[1 : shape[0] + 1, 2 : shape[1] + 2]
    return np.where(generator.random(shape) < 0.03, generator.integers(0, 5, shape), labels)


def random_values(shape: tuple[int, int], seed: int) -> Floats:
    return np.random.default_rng(seed + 100).normal(size=shape) * 3


def batch(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
def test_boundary_equals_loop(shape: tuple[int, int], seed: int) -> None:
    labels = random_labels(shape, seed, patch=seed + 1)
    expected = boundary_by_loop(labels)
    for dtype in (torch.int64, torch.uint8):
        assert np.array_equal(class_boundaries(batch(labels).to(dtype))[0].numpy(), expected)


def test_boundary_looks_at_corners_for_smaller_indices_only() -> None:
    labels = torch.ones(3, 3, dtype=torch.long)
    smaller, larger = labels.clone(), labels.clone()
    smaller[2, 2], larger[2, 2] = 0, 2
    assert class_boundaries(smaller)[1, 1]
    assert not class_boundaries(larger)[1, 1]


def test_boundary_of_one_class_is_empty() -> None:
    assert not class_boundaries(torch.full((2, 6, 5), 7)).any()


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_expansion_equals_loop(shape: tuple[int, int], radius: int) -> None:
    mask = np.random.default_rng(radius).random(shape) < 0.04
    assert np.array_equal(expanded_mask(batch(mask), radius)[0].numpy(), expanded_by_loop(mask, radius))


def test_expansion_of_one_pixel_is_a_diamond() -> None:
    mask = torch.zeros(7, 7, dtype=torch.bool)
    mask[3, 3] = True
    rows = expanded_mask(mask, 2).int().sum(dim=1)
    assert rows.tolist() == [0, 1, 3, 5, 3, 1, 0]
    assert mask.sum() == 1


def test_radii_of_the_paper() -> None:
    assert suppression_radii() == (3, 2, 1, 0)
    assert suppression_radii(iterations=1, width=5) == (0,)
    assert suppression_radii(iterations=4, width=8) == (7, 5, 3, 0)


@pytest.mark.parametrize(("iterations", "width"), [(4, 4), (1, 1), (1, 3), (2, 6), (3, 3)])
@pytest.mark.parametrize("shape", SHAPES)
def test_suppression_equals_loop(shape: tuple[int, int], iterations: int, width: int) -> None:
    labels = random_labels(shape, seed=iterations, patch=6)
    values = random_values(shape, seed=width)
    got = suppressed_boundaries(batch(values), batch(labels), iterations, width)
    expected = suppressed_by_loop(values, labels, iterations, width)
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=1e-12, atol=1e-12)


def test_suppression_of_a_larger_map_equals_loop_with_default_settings() -> None:
    labels, values = random_labels((24, 30), seed=9, patch=11), random_values((24, 30), seed=9)
    got = suppressed_boundaries(batch(values), batch(labels))[0].numpy()
    np.testing.assert_allclose(got, suppressed_by_loop(values, labels, 4, 4), rtol=1e-12, atol=1e-12)
    widest = expanded_by_loop(boundary_by_loop(labels), 3)
    assert widest.any()
    assert not widest.all()
    assert np.array_equal(got[~widest], values[~widest])
    assert not np.isclose(got[widest], values[widest]).all()


def test_suppression_brings_both_sides_to_the_edge() -> None:
    values = torch.tensor([[[5.0] * 6 + [-9.0] * 3 + [2.0] * 6]]).repeat(1, 4, 1)
    labels = torch.tensor([[[0] * 7 + [1] * 8]]).repeat(1, 4, 1)
    expected = torch.tensor([[[5.0] * 7 + [2.0] * 8]]).repeat(1, 4, 1)
    torch.testing.assert_close(suppressed_boundaries(values, labels), expected)


def test_suppression_without_boundary_or_without_surroundings_changes_nothing() -> None:
    values = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(suppressed_boundaries(values, torch.zeros(2, 6, 5, dtype=torch.long)), values)
    checkers = (torch.arange(6)[:, None] + torch.arange(5)) % 2
    assert torch.equal(suppressed_boundaries(values, checkers.expand(2, 6, 5)), values)


@pytest.mark.parametrize(("sigma", "kernel", "dilation"), [(1.0, 7, 6), (0.6, 3, 1), (2.5, 5, 2), (1.0, 1, 4)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (23, 1), (12, 16)])
def test_smoothing_equals_loop(shape: tuple[int, int], sigma: float, kernel: int, dilation: int) -> None:
    values = random_values(shape, seed=kernel)
    got = dilated_smoothing(batch(values), sigma, kernel, dilation)[0].numpy()
    np.testing.assert_allclose(got, smoothed_by_loop(values, sigma, kernel, dilation), rtol=1e-12, atol=1e-12)


def test_default_smoothing_reaches_18_pixels_in_steps_of_6() -> None:
    values = torch.zeros(1, 45, 41, dtype=torch.float64)
    values[0, 22, 20] = 1
    reached = dilated_smoothing(values)[0].nonzero()
    assert sorted({int(one) - 22 for one in reached[:, 0]}) == [-18, -12, -6, 0, 6, 12, 18]
    assert sorted({int(one) - 20 for one in reached[:, 1]}) == [-18, -12, -6, 0, 6, 12, 18]


def test_smoothing_keeps_what_is_constant() -> None:
    torch.testing.assert_close(dilated_smoothing(torch.full((2, 9, 30), -3.25)), torch.full((2, 9, 30), -3.25))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_is_widened_and_nothing_is_modified(dtype: torch.dtype) -> None:
    values, labels = batch(random_values((9, 8), 0)).to(dtype), batch(random_labels((9, 8), 0))
    before = values.clone(), labels.clone()
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    for got in (suppressed_boundaries(values, labels), dilated_smoothing(values)):
        assert got.dtype == wanted
        assert got.shape == values.shape
    assert torch.equal(values, before[0])
    assert torch.equal(labels, before[1])


def test_a_batch_is_its_images_one_by_one_and_the_sign_goes_through() -> None:
    values = torch.stack([torch.from_numpy(random_values((13, 9), seed)) for seed in range(3)])
    labels = torch.stack([torch.from_numpy(random_labels((13, 9), seed)) for seed in range(3)])
    together = dilated_smoothing(suppressed_boundaries(values, labels))
    for one in range(3):
        single = dilated_smoothing(suppressed_boundaries(values[one : one + 1], labels[one : one + 1]))
        assert torch.equal(together[one : one + 1], single)
    assert torch.equal(dilated_smoothing(suppressed_boundaries(-values, labels)), -together)


def test_both_steps_let_gradients_through() -> None:
    labels = batch(random_labels((5, 6), 1))
    values = batch(random_values((5, 6), 1)).requires_grad_()

    def both(one: Tensor) -> Tensor:
        return dilated_smoothing(suppressed_boundaries(one, labels), dilation=2, kernel=3)

    assert torch.autograd.gradcheck(both, (values,))


def test_both_steps_stay_on_their_device_without_looking_at_values() -> None:
    values, labels = (torch.empty(1, 6, 7, device="meta", dtype=dtype) for dtype in (torch.float32, torch.int64))
    assert dilated_smoothing(suppressed_boundaries(values, labels)).device.type == "meta"


@pytest.mark.parametrize(
    ("iterations", "width", "message"),
    [(4, 6, "multiple of iterations=4, got 6: try 8"), (0, 4, "at least 1"), (1, 0, "at least 1"), (-1, 1, "at least")],
)
def test_radii_that_do_not_work_out_are_refused(iterations: int, width: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        suppression_radii(iterations, width)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "sigma above 0"),
        ({"sigma": math.inf}, "sigma above 0"),
        ({"sigma": math.nan}, "sigma above 0"),
        ({"kernel": 6}, "odd kernel of at least 1, got 6: try 7"),
        ({"kernel": -3}, "odd kernel of at least 1, got -3: try 1"),
        ({"dilation": 0}, "dilation of at least 1"),
    ],
)
def test_wrong_smoothing_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dilated_smoothing(torch.zeros(1, 4, 4), **settings)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"add a batch dimension with confidence\[None\]"):
        dilated_smoothing(torch.zeros(4, 4))
    with pytest.raises(InputError, match="bring both to the size of the image"):
        suppressed_boundaries(torch.zeros(1, 4, 4), torch.zeros(1, 2, 2, dtype=torch.long))
