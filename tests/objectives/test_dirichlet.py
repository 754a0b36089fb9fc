"""The loss of prior networks against PyTorch's divergence, SciPy, and many digits of mpmath; terms, gradients, room."""

import math
import weakref
from typing import Literal

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import digamma, gammaln
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence
from torch.nn import functional

from strays.detectors.dirichlet import dirichlet_differential_entropy
from strays.errors import InputError
from strays.objectives.dirichlet import dirichlet_divergence, dirichlet_loss
from strays.taxonomy import IGNORE

Direction = Literal["reverse", "forward"]
DIRECTIONS: tuple[Direction, Direction] = ("reverse", "forward")
Array = NDArray[np.float64]
CLASSES = 4
SIZE = (6, 8)
TERMS = ("inliers", "negatives")
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])
EPSILON = 1e-8
mpmath.mp.dps = 80  # the terms of the definition cancel that much


@pytest.fixture
def logits() -> Tensor:
    return random_logits(2, CLASSES, *SIZE)


def random_logits(*shape: int, scale: float = 2.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_labels(count: int, classes: int) -> Tensor:
    return torch.arange(count) % classes


def target(label: int | None, classes: int, concentration: float = 100.0) -> Array:
    return np.array([1 + concentration * (k == label) for k in range(classes)])


def definition(z: Array, label: int | None, direction: str, concentration: float = 100.0) -> float:
    """KL(a || b) of the specification with its 1e-8, in float64."""
    model, goal = np.exp(z), target(label, len(z), concentration)
    a, b = (model, goal) if direction == "reverse" else (goal, model)
    gamma = (
        gammaln(a.sum() + EPSILON) - gammaln(b.sum() + EPSILON) + (gammaln(b + EPSILON) - gammaln(a + EPSILON)).sum()
    )
    return float(gamma + ((a - b) * (digamma(a + EPSILON) - digamma(a.sum() + EPSILON))).sum())


def many_digits(z: Tensor, label: int | None, direction: str) -> float:
    """The same in 80 digits."""
    model = [mpmath.exp(mpmath.mpf(value)) for value in z.tolist()]
    goal = [mpmath.mpf(value) for value in target(label, len(model)).tolist()]
    a, b = (model, goal) if direction == "reverse" else (goal, model)
    a0, b0 = mpmath.fsum(a), mpmath.fsum(b)

    def ln_g(value: mpmath.mpf) -> mpmath.mpf:
        return mpmath.loggamma(value + EPSILON)

    gaps = (mpmath.digamma(one + EPSILON) - mpmath.digamma(a0 + EPSILON) for one in a)
    per_class = (ln_g(q) - ln_g(p) + (p - q) * gap for p, q, gap in zip(a, b, gaps, strict=True))
    return float(ln_g(a0) - ln_g(b0) + mpmath.fsum(per_class))


def reference(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    direction: str = "reverse",
    concentration: float = 100.0,
    gamma: float = 1.0,
    class_weights: Tensor | None = None,
) -> dict[str, float]:
    """The loss of the specification, pixel by pixel in float64, of logits at the size of the labels."""
    each = np.ones(CLASSES) if class_weights is None else class_weights.double().numpy()
    z, sharp, mass, flat = logits.double().numpy(), 0.0, 0.0, []
    for (n, y, x), label in np.ndenumerate(labels.numpy()):
        if mask[n, y, x] == 1:
            flat.append(definition(z[n, :, y, x], None, direction, concentration))
        elif mask[n, y, x] == 0 and label != IGNORE:
            sharp += each[label] * definition(z[n, :, y, x], int(label), direction, concentration)
            mass += each[label]
    terms = {"inliers": sharp / mass / concentration, "negatives": gamma * float(np.mean(flat)) / concentration}
    return {**terms, "total": sum(terms.values())}


def assert_terms(found: dict[str, Tensor], expected: dict[str, float], rel: float = 1e-9) -> None:
    assert list(found) == [*TERMS, "total"]
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=rel)
    assert all(value.ndim == 0 for value in found.values())


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("concentration", [100.0, 7.5])
def test_the_divergence_is_that_of_torch(
    direction: Direction, known: bool, concentration: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strays.objectives.dirichlet._EPSILON", 0.0)  # PyTorch adds nothing
    z = random_logits(30, 5)
    labels = some_labels(30, 5) if known else None
    goal = torch.ones_like(z) if labels is None else 1 + concentration * functional.one_hot(labels, 5).double()
    model, wanted = Dirichlet(z.exp()), Dirichlet(goal)
    expected = kl_divergence(model, wanted) if direction == "reverse" else kl_divergence(wanted, model)
    found = dirichlet_divergence(z, labels, direction, concentration)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("label", [None, 1])
@pytest.mark.parametrize("scale", [0.5, 3.0, 8.0, 20.0])
def test_large_and_small_concentrations_equal_many_digits(
    direction: Direction, label: int | None, scale: float
) -> None:
    z = random_logits(12, 6, scale=scale).clamp(max=29)
    expected = [many_digits(one, label, direction) for one in z]
    labels = None if label is None else torch.full((12,), label)
    np.testing.assert_allclose(dirichlet_divergence(z, labels, direction), expected, rtol=1e-10)
    single = z.float()
    expected = [many_digits(one, label, direction) for one in single]
    tolerance = 2e-5 if direction == "reverse" else 2e-4  # the terms of the forward one cancel
    np.testing.assert_allclose(dirichlet_divergence(single, labels, direction), expected, rtol=tolerance)


@pytest.mark.parametrize("a", [31.0, 31.999, 32.0, 32.001, 33.0])
def test_the_series_take_over_without_a_step(a: float) -> None:
    z = torch.tensor([[a, a / 3, 0.5, 40.0]]).double().log().requires_grad_()
    value = dirichlet_divergence(z, torch.tensor([0]))
    assert value.item() == pytest.approx(many_digits(z.detach()[0], 0, "reverse"), rel=1e-11)
    (slope,) = torch.autograd.grad(value.sum(), z)
    expected = [many_digits_slope(z.detach()[0], k) for k in range(4)]
    np.testing.assert_allclose(slope[0], expected, rtol=1e-8)


def many_digits_slope(z: Tensor, k: int) -> float:
    """The derivative by logit k of the reverse divergence for label 0, a_k [(a_k - b_k) psi'(a_k) - the same of 0]."""
    a = [mpmath.exp(mpmath.mpf(value)) for value in z.tolist()]
    b = target(0, len(a)).tolist()
    a0, b0 = mpmath.fsum(a), mpmath.mpf(sum(b))
    of_class = (a[k] - b[k]) * mpmath.polygamma(1, a[k] + EPSILON)
    return float(a[k] * (of_class - (a0 - b0) * mpmath.polygamma(1, a0 + EPSILON)))


def test_the_flat_target_asks_for_the_largest_differential_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strays.objectives.dirichlet._EPSILON", 0.0)
    z = random_logits(50, 6)
    expected = -dirichlet_differential_entropy(z) - math.lgamma(6)
    torch.testing.assert_close(dirichlet_divergence(z), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_target_itself_has_no_divergence(direction: Direction) -> None:
    labels = some_labels(5, 5)
    sharp = (1 + 100 * functional.one_hot(labels, 5)).double().log().requires_grad_()
    flat = torch.zeros(5, 5, dtype=torch.float64, requires_grad=True)
    for z, known in ((sharp, labels), (flat, None)):
        value = dirichlet_divergence(z, known, direction)
        value.sum().backward()
        assert value.detach().abs().max() < 1e-6
        assert z.grad.abs().max() < 1e-5
        assert (dirichlet_divergence(z + 0.1 * random_logits(5, 5), known, direction) > 1e-3).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_is_computed_some_pixels_at_a_time(direction: Direction, monkeypatch: pytest.MonkeyPatch) -> None:
    z, labels = random_logits(23, 5).requires_grad_(), some_labels(23, 5)
    whole = dirichlet_divergence(z, labels, direction)
    (slope,) = torch.autograd.grad(whole.square().sum(), z)
    monkeypatch.setattr("strays.objectives.dirichlet._CHUNK", 5)
    parts = dirichlet_divergence(z, labels, direction)
    (slope_of_parts,) = torch.autograd.grad(parts.square().sum(), z)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(slope_of_parts, slope)


class Kept:
    """What the autograd engine holds."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_little_is_kept_for_the_gradient(direction: Direction) -> None:
    logits = random_logits(2, 19, 16, 16).float().requires_grad_()
    labels = torch.zeros(2, 16, 16, dtype=torch.uint8)
    seen: list[weakref.ref[Kept]] = []

    def keep(one: Tensor) -> Kept:
        held = Kept(one)
        seen.append(weakref.ref(held))
        return held

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda held: held.tensor):
        terms = dirichlet_loss(logits, labels, torch.zeros_like(labels), direction)
    kept = [held.tensor.nbytes for one in seen if (held := one()) is not None]
    assert logits.nbytes <= sum(kept) < 2 * logits.nbytes
    terms["total"].backward()
    assert logits.grad.any()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("concentration", "gamma"), [(100.0, 1.0), (10.0, 0.3), (1000.0, 0.0)])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_the_loss_is_what_the_definition_says(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    direction: Direction,
    concentration: float,
    gamma: float,
    class_weights: Tensor | None,
) -> None:
    found = dirichlet_loss(logits, labels, mask, direction, concentration, gamma, class_weights)
    assert found["total"].dtype == torch.float64
    assert_terms(found, reference(logits, labels, mask, direction, concentration, gamma, class_weights))


def test_the_published_parameters_are_the_defaults(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    assert_terms(dirichlet_loss(logits, labels, mask), reference(logits, labels, mask, "reverse", 100.0, 1.0))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_logits_are_brought_to_the_size_of_the_labels_in_float32(
    logits: Tensor, labels: Tensor, mask: Tensor, direction: Direction
) -> None:
    coarse = logits[:, :, :3, :4].float()
    enlarged = functional.interpolate(coarse, SIZE, mode="bilinear", align_corners=False)
    found = dirichlet_loss(coarse, labels, mask, direction)
    assert found["total"].dtype == torch.float32
    assert_terms(found, reference(enlarged, labels, mask, direction), rel=1e-5)
    rounded = coarse.bfloat16()
    assert torch.equal(
        dirichlet_loss(rounded, labels, mask)["total"], dirichlet_loss(rounded.float(), labels, mask)["total"]
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_term_acts_on_its_own_pixels(logits: Tensor, labels: Tensor, mask: Tensor, direction: Direction) -> None:
    logits.requires_grad_()
    terms = dirichlet_loss(logits, labels, mask, direction)
    (sharp,) = torch.autograd.grad(terms["inliers"], logits, retain_graph=True)
    (flat,) = torch.autograd.grad(terms["negatives"], logits)
    assert torch.equal(sharp.abs().sum(dim=1) > 0, (labels != IGNORE) & (mask == 0))
    assert torch.equal(flat.abs().sum(dim=1) > 0, mask == 1)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_absent_population_gives_zero_with_a_gradient(logits: Tensor, labels: Tensor, direction: Direction) -> None:
    logits.requires_grad_()
    nothing, everywhere = torch.full_like(labels, IGNORE), torch.ones_like(labels)
    cases = [
        (labels, torch.zeros_like(labels), {"negatives"}, None),
        (nothing, everywhere, {"inliers"}, WEIGHTS),
        (nothing, torch.zeros_like(labels), set(TERMS), None),
    ]
    for known, mask, absent, weights in cases:
        terms = dirichlet_loss(logits, known, mask, direction, class_weights=weights)
        assert {name for name in TERMS if terms[name].item() == 0} == absent
        for name in absent:
            (gradient,) = torch.autograd.grad(terms[name], logits, retain_graph=True)
            assert not gradient.any()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_are_right(logits: Tensor, labels: Tensor, mask: Tensor, direction: Direction) -> None:
    part = (slice(0, 1), slice(0, 3), slice(0, 4))
    coarse = logits[:1, :, :2, :2].clone().requires_grad_()
    for term in (*TERMS, "total"):
        assert torch.autograd.gradcheck(
            lambda z, term=term: dirichlet_loss(z, labels[part], mask[part], direction, 20.0, 0.7, WEIGHTS)[term],
            (coarse,),
        )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_stay_finite(direction: Direction, dtype: torch.dtype) -> None:
    rows = [[1e4] * 4, [-1e4] * 4, [1e4, -1e4, 0, 3], [80, -80, 80, -80], [-1e4, 0, 40, 1e4], [-16.0, -17, -18, -19]]
    for labels in (None, torch.zeros(6, dtype=torch.long)):
        z = torch.tensor(rows, dtype=dtype, requires_grad=True)
        value = dirichlet_divergence(z, labels, direction)
        value.sum().backward()
        assert value.isfinite().all()
        assert z.grad.isfinite().all()
        assert (z.grad[0] > 0).any()  # what is far too large is still drawn back


def test_the_reverse_divergence_is_exact_at_any_size() -> None:
    z = torch.tensor([[300.0, 290, -3, 5], [150.0, 150, 150, 150]], dtype=torch.float64)
    mpmath.mp.dps = 400
    expected = [many_digits(one, 1, "reverse") for one in z]
    mpmath.mp.dps = 80
    np.testing.assert_allclose(dirichlet_divergence(z, torch.tensor([1, 1])), expected, rtol=1e-12)


def test_the_forward_divergence_follows_its_tangent_beyond_its_bound() -> None:
    z = torch.tensor([[30.0, 0, 1, 2], [31.0, 0, 1, 2], [32.0, 0, 1, 2]], dtype=torch.float64)
    exact, one, two = dirichlet_divergence(z, torch.tensor([1, 1, 1]), "forward")
    assert exact.item() == pytest.approx(many_digits(z[0], 1, "forward"), rel=1e-12)
    assert ((two - one) / (one - exact)).item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_descent_reaches_the_targets(direction: Direction) -> None:
    labels, mask = torch.tensor([[[0, 1, 2, IGNORE]]]), torch.tensor([[[0, 0, 0, 1]]])
    z = random_logits(1, 3, 1, 4).requires_grad_()
    optimizer = torch.optim.LBFGS([z], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = dirichlet_loss(z, labels, mask, direction)["total"]
        total.backward()
        return total

    optimizer.step(loss)
    expected = math.log(101) * torch.eye(4, dtype=torch.float64)[:3]
    torch.testing.assert_close(z.detach()[0, :, 0], expected, rtol=0, atol=0.01)


def test_inputs_are_left_as_they_are(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    before = [one.clone() for one in (logits, labels, mask)]
    for direction in DIRECTIONS:
        dirichlet_loss(logits, labels, mask, direction, class_weights=WEIGHTS)
    assert all(torch.equal(old, new) for old, new in zip(before, (logits, labels, mask), strict=True))


def test_bad_input_is_told(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, h, w\) and labels \(N, H, W\)"):
        dirichlet_loss(logits, labels[0], mask)
    with pytest.raises(InputError, match="expected a mask like the labels"):
        dirichlet_loss(logits, labels, mask[:1])
    with pytest.raises(InputError, match="expected labels below 4"):
        dirichlet_loss(logits, labels.clamp(max=CLASSES), mask)
    with pytest.raises(InputError, match="one weight for each of 4 classes"):
        dirichlet_loss(logits, labels, mask, class_weights=torch.ones(3))
    with pytest.raises(InputError, match="direction is 'both': expected 'reverse'"):
        dirichlet_loss(logits, labels, mask, "both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="gamma is -1, expected a finite number"):
        dirichlet_loss(logits, labels, mask, gamma=-1)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (5, 1)])
def test_logits_of_pixels_have_two_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected logits \(M, K\) of M pixels and K >= 2 classes"):
        dirichlet_divergence(torch.zeros(shape))


def test_half_precision_is_widened_and_a_second_derivative_refused() -> None:
    z = random_logits(3, 4).half().requires_grad_()
    value = dirichlet_divergence(z)
    assert value.dtype == torch.float32
    (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        slope.sum().backward()


@pytest.mark.parametrize("concentration", [0.0, -3.0, math.nan, math.inf])
def test_concentrations_out_of_range_are_told(
    logits: Tensor, labels: Tensor, mask: Tensor, concentration: float
) -> None:
    with pytest.raises(InputError, match=f"concentration is {concentration}, expected a finite number above 0"):
        dirichlet_loss(logits, labels, mask, concentration=concentration)
