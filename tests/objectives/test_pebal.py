"""The loss of PEBAL against its specification, pixel by pixel in NumPy: every term, every option, gradients."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.pebal import pebal_loss
from strays.taxonomy import IGNORE

CLASSES, SIZE = 4, (7, 9)
TERMS = (
    "abstention_plain",
    "abstention_inlier",
    "abstention_outlier",
    "energy_inlier",
    "energy_outlier",
    "sparsity",
    "smoothness",
)
OPTIONS: dict[str, dict[str, Any]] = {
    "released": {},
    "margins": {"m_in": -7.5, "m_out": -2.25},
    "detached": {"detach_penalty": True},
    "sharp": {"blur_penalty": False},
    "abstention as a class": {"outlier_abstention": "channel"},
    "absolute differences": {"smoothness": "absolute"},
    "mean energy": {"sparsity": "mean"},
    "weights": {"outlier_weight": 1.0, "energy_weight": 0.3, "sparsity_weight": 2.0, "smoothness_weight": 0.7},
}

Array = NDArray[np.float64]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def logits() -> Tensor:
    """Energies of -12 to 0, so that both hinges act on some pixels and not on others."""
    z = 3 * torch.randn(3, CLASSES + 1, *SIZE, generator=seeded(0), dtype=torch.float64)
    return z + torch.tensor([5.0] * CLASSES + [3.0], dtype=torch.float64).view(1, -1, 1, 1)


@pytest.fixture
def labels() -> Tensor:
    found = torch.randint(0, CLASSES, (3, *SIZE), generator=seeded(1))
    return torch.where(torch.rand(3, *SIZE, generator=seeded(2)) < 0.2, IGNORE, found).to(torch.uint8)


@pytest.fixture
def mask(labels: Tensor) -> Tensor:
    """Negatives in the first two images, none in the third; the labels under them are removed."""
    found = torch.zeros_like(labels)
    found[0, 2:5, 1:6] = 1
    found[1, 0, 0] = 1
    found[2, 6] = 255
    labels[found != 0] = IGNORE
    return found


def pixels_of(chosen: Array) -> list[tuple[int, int, int]]:
    return [(int(n), int(y), int(x)) for n, y, x in np.argwhere(chosen)]


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def reference(logits: Tensor, labels: Tensor, mask: Tensor, **options: Any) -> dict[str, float]:
    """Every term as the specification has it, one pixel after the other in float64."""
    z, y, negative = logits.detach().double().numpy(), labels.numpy(), mask.numpy() == 1
    given = {"m_in": -12.0, "m_out": -6.0, "outlier_weight": 0.1, "energy_weight": 0.1, **options}
    energy = -np.log(np.exp(z[:, :-1]).sum(1))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    a = energy**2
    if options.get("blur_penalty", True):
        a = np.stack([gaussian_filter(one, sigma=1, mode="mirror", radius=3) for one in a])
    worth = p[:, -1] / a
    plain = np.array([not one.any() for one in negative])[:, None, None]
    inlier = (y != IGNORE) & ~negative

    def surprise(chosen: Array) -> float:
        return mean([-np.log(p[n, y[n, i, j], i, j] + worth[n, i, j]) for n, i, j in pixels_of(chosen)])

    def hinge(distance: Callable[[float], float], chosen: Array) -> float:
        share = 0.5 if negative.any() else 1.0
        return share * mean([max(distance(energy[at]), 0.0) ** 2 for at in pixels_of(chosen)])

    channels = [CLASSES] if options.get("outlier_abstention") == "channel" else range(CLASSES)
    outlier = [-np.log(max(p[n, k, i, j] + worth[n, i, j], 1e-7)) for n, i, j in pixels_of(negative) for k in channels]
    weight = given["energy_weight"]
    return {
        "abstention_plain": surprise(inlier & plain),
        "abstention_inlier": surprise(inlier & ~plain),
        "abstention_outlier": given["outlier_weight"] * mean(outlier),
        "energy_inlier": weight * hinge(lambda e: e - given["m_in"], inlier),
        "energy_outlier": weight * hinge(lambda e: given["m_out"] - e, negative),
        "sparsity": weight * options.get("sparsity_weight", 5e-4) * size_of(energy[negative], **options),
        "smoothness": weight * options.get("smoothness_weight", 3e-6) * roughness(energy, **options),
    }


def size_of(energies: Array, sparsity: str = "norm", **_: Any) -> float:
    return mean([abs(e) for e in energies]) if sparsity == "mean" else sum(e * e for e in energies) ** 0.5


def roughness(energy: Array, smoothness: str = "squared", **_: Any) -> float:
    power = {"squared": 2, "absolute": 1}[smoothness]
    total, (count, height, width) = 0.0, energy.shape
    for n, i, j in np.ndindex(count, height, width):
        neighbours = [(n, i + 1, j)] * (i + 1 < height) + [(n, i, j + 1)] * (j + 1 < width)
        total += sum(abs(energy[at] - energy[n, i, j]) ** power for at in neighbours)
    return total / 2


def values_of(terms: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in terms.items()}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_term_is_as_specified(logits: Tensor, labels: Tensor, mask: Tensor, options: dict[str, Any]) -> None:
    found = values_of(pebal_loss(logits, labels, mask, **options))
    expected = reference(logits, labels, mask, **options)
    assert tuple(found) == (*TERMS, "total")
    assert all(value > 0 for value in expected.values())
    assert found.pop("total") == pytest.approx(sum(expected.values()), rel=1e-9)
    assert found == pytest.approx(expected, rel=1e-9)


def test_without_negatives_the_hinge_of_inliers_counts_in_full(logits: Tensor, labels: Tensor) -> None:
    mask = torch.zeros_like(labels)
    found = values_of(pebal_loss(logits, labels, mask))
    expected = reference(logits, labels, mask)
    assert found == pytest.approx({**expected, "total": sum(expected.values())}, rel=1e-9)
    assert {name for name, value in found.items() if value == 0} == {
        "abstention_inlier",
        "abstention_outlier",
        "energy_outlier",
        "sparsity",
    }


def test_negatives_everywhere_leave_no_inlier(logits: Tensor, labels: Tensor) -> None:
    nothing, mask = torch.full_like(labels, IGNORE), torch.ones_like(labels)
    found = values_of(pebal_loss(logits, nothing, mask))
    expected = reference(logits, nothing, mask)
    assert found == pytest.approx({**expected, "total": sum(expected.values())}, rel=1e-9)
    assert found["abstention_plain"] == found["abstention_inlier"] == found["energy_inlier"] == 0


def test_the_mask_wins_over_a_label(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    labelled = labels.masked_fill(mask == 1, 0)
    assert values_of(pebal_loss(logits, labelled, mask)) == values_of(pebal_loss(logits, labels, mask))


def flat(energy: float, log_r: float = 0.0, classes: int = CLASSES) -> Tensor:
    """One image whose class logits are all alike and sum to an energy; the channel of abstention has its own."""
    z = torch.full((1, classes + 1, *SIZE), -energy - float(np.log(classes)), dtype=torch.float64)
    z[:, -1] = log_r
    return z


def test_only_smoothness_sees_ignored_pixels(logits: Tensor) -> None:
    ignored = torch.full((3, *SIZE), IGNORE)
    found = values_of(pebal_loss(logits, ignored, torch.zeros_like(ignored)))
    assert {name for name, value in found.items() if value} == {"smoothness", "total"}


def test_only_abstention_acts_within_the_margins() -> None:
    labels, mask = torch.zeros(1, *SIZE, dtype=torch.long), torch.zeros(1, *SIZE)
    found = values_of(pebal_loss(flat(-13.0), labels, mask))
    assert {name for name, value in found.items() if abs(value) > 1e-12} == {"abstention_plain", "total"}
    z = np.array([13 - np.log(CLASSES)] * CLASSES + [0.0])
    p = np.exp(z) / np.exp(z).sum()
    assert found["total"] == pytest.approx(-np.log(p[0] + p[-1] / 13**2), rel=1e-9)


def test_only_the_hinge_of_inliers_tells_energies_of_a_sure_network_apart() -> None:
    labels, mask = torch.zeros(1, *SIZE, dtype=torch.long), torch.zeros(1, *SIZE)
    z = torch.full((1, CLASSES + 1, *SIZE), -60.0, dtype=torch.float64)
    z[:, 0] = 9.0
    found = values_of(pebal_loss(z, labels, mask))
    assert found["total"] == pytest.approx(0.1 * 3**2, rel=1e-9)
    assert found["energy_inlier"] == pytest.approx(found["total"], rel=1e-12)


@pytest.mark.parametrize(("energy", "cost"), [(-10.0, 0.1 * 0.5 * 16), (-6.0, 0.0), (-1.0, 0.0)])
def test_negatives_cost_where_their_energy_is_below_the_margin(energy: float, cost: float) -> None:
    nothing, mask = torch.full((1, *SIZE), IGNORE), torch.ones(1, *SIZE)
    found = values_of(pebal_loss(flat(energy), nothing, mask, outlier_weight=0, sparsity_weight=0))
    assert found["energy_outlier"] == pytest.approx(cost, abs=1e-12)
    assert found["total"] == pytest.approx(cost, abs=1e-12)


def test_sparsity_grows_with_the_root_of_the_negatives() -> None:
    nothing = torch.full((1, *SIZE), IGNORE)
    few, many = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE)
    few[0, 3, 4] = 1
    many[0, :3, :3] = 1
    found = [float(pebal_loss(flat(-2.0), nothing, mask)["sparsity"]) for mask in (few, many)]
    assert found == pytest.approx([0.1 * 5e-4 * 2, 0.1 * 5e-4 * 6], rel=1e-9)


def test_improbable_classes_of_negatives_cost_no_more_than_the_clamp() -> None:
    nothing, mask = torch.full((1, *SIZE), IGNORE), torch.ones(1, *SIZE)
    z = torch.full((1, CLASSES + 1, *SIZE), -300.0, dtype=torch.float64)
    z[:, 0] = 5.0
    found = float(pebal_loss(z, nothing, mask, outlier_weight=1)["abstention_outlier"])
    assert found == pytest.approx(-np.log(1e-7) * (CLASSES - 1) / CLASSES, rel=1e-9)


def test_the_penalty_stays_above_zero() -> None:
    labels, mask = torch.zeros(1, *SIZE, dtype=torch.long), torch.zeros(1, *SIZE)
    z = flat(0.0).requires_grad_()
    terms = pebal_loss(z, labels, mask)
    p = 1 / 2  # the classes share the other half
    assert float(terms["abstention_plain"].detach()) == pytest.approx(-np.log(p / CLASSES + p / 1e-6), rel=1e-9)
    terms["total"].backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_logits_are_brought_to_the_size_of_the_labels(logits: Tensor) -> None:
    labels = torch.randint(0, CLASSES, (3, 20, 26), generator=seeded(3))
    mask = torch.zeros_like(labels)
    mask[0, 4:9, 8:20] = 1
    large = functional.interpolate(logits, (20, 26), mode="bilinear", align_corners=False)
    expected = reference(large, labels, mask)
    assert values_of(pebal_loss(logits, labels, mask))["total"] == pytest.approx(sum(expected.values()), rel=1e-9)


def test_class_weights_weight_the_abstention_of_inliers_alone(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    found = values_of(pebal_loss(logits, labels, mask, class_weights=weights))
    by_class = [labels.masked_fill(labels != k, IGNORE) for k in range(CLASSES)]
    for name, images in (("abstention_plain", [2]), ("abstention_inlier", [0, 1])):
        means = [reference(logits, one, mask)[name] for one in by_class]
        masses = [float(weights[k]) * int((labels[images] == k).sum()) for k in range(CLASSES)]
        assert found[name] == pytest.approx(np.average(means, weights=masses), rel=1e-6)
    plain = values_of(pebal_loss(logits, labels, mask))
    assert all(found[name] == plain[name] for name in TERMS[2:])


def test_margins_may_be_tensors(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    found = pebal_loss(logits, labels, mask, torch.tensor(-9.5), torch.tensor(-1.5))
    assert values_of(found) == pytest.approx(values_of(pebal_loss(logits, labels, mask, -9.5, -1.5)), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "detached"])
def test_gradients_are_those_of_the_formula(name: str) -> None:
    z = (2 * torch.randn(2, 3, 4, 4, generator=seeded(4), dtype=torch.float64) + 4).requires_grad_()
    labels = torch.randint(0, 2, (2, 4, 4), generator=seeded(5))
    mask = torch.zeros_like(labels)
    mask[0, 1:3, 1:4] = 1
    options = OPTIONS[name]
    assert torch.autograd.gradcheck(
        lambda x: pebal_loss(x, labels, mask, **options)["total"], z, fast_mode=name != "released"
    )


def test_a_detached_penalty_is_a_constant_to_the_gradient(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    """A common offset of all logits changes the penalty, and nothing else in the abstention of inliers."""
    shift = torch.zeros(1, CLASSES + 1, 1, 1, dtype=torch.float64, requires_grad=True)
    quiet = {"energy_weight": 0.0, "outlier_weight": 0.0}
    pebal_loss(logits + shift, labels, mask, detach_penalty=True, **quiet)["total"].backward()
    assert float(shift.grad.sum()) == pytest.approx(0, abs=1e-12)
    shift.grad = None
    pebal_loss(logits + shift, labels, mask, **quiet)["total"].backward()
    assert abs(float(shift.grad.sum())) > 1e-4


@pytest.mark.parametrize("value", [0, 1])
def test_without_a_population_gradients_are_finite(logits: Tensor, labels: Tensor, value: int) -> None:
    logits.requires_grad_()
    terms = pebal_loss(logits, torch.full_like(labels, IGNORE), torch.full_like(labels, value), smoothness_weight=0)
    terms["total"].backward()
    assert logits.grad.isfinite().all()
    assert bool(logits.grad.any()) == bool(value)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("scale", [1e4, 100.0])
def test_large_logits_give_finite_terms_and_gradients(scale: float, options: dict[str, Any]) -> None:
    z = (scale * torch.randn(2, CLASSES + 1, *SIZE, generator=seeded(6)).sign()).requires_grad_()
    labels = torch.randint(0, CLASSES, (2, *SIZE), generator=seeded(7))
    mask = torch.zeros_like(labels)
    mask[0, 2:5] = 1
    terms = pebal_loss(z, labels, mask, **options)
    terms["total"].backward()
    assert all(one.isfinite() for one in terms.values())
    assert z.grad is not None
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_is_computed_in_float32(
    logits: Tensor, labels: Tensor, mask: Tensor, dtype: torch.dtype
) -> None:
    terms = pebal_loss(logits.to(dtype), labels, mask)
    assert {one.dtype for one in terms.values()} == {torch.float32}
    expected = reference(logits.to(dtype), labels, mask)
    assert float(terms["total"]) == pytest.approx(sum(expected.values()), rel=1e-5)


def test_autocast_changes_nothing(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    expected = pebal_loss(logits.float(), labels, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pebal_loss(logits.float(), labels, mask)
    assert values_of(found) == pytest.approx(values_of(expected), rel=1e-6)


def test_inputs_are_left_as_they_are(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    before = [one.clone() for one in (logits, labels, mask)]
    pebal_loss(logits, labels, mask)
    assert all(torch.equal(old, new) for old, new in zip(before, (logits, labels, mask), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outlier_abstention": "both"}, "outlier_abstention is 'both', expected one of classes, channel"),
        ({"smoothness": "cubed"}, "smoothness is 'cubed', expected one of squared, absolute"),
        ({"sparsity": "l1"}, "sparsity is 'l1', expected one of norm, mean"),
        ({"outlier_weight": -1.0}, "outlier_weight is -1.0, expected a finite number, 0 or more"),
        ({"class_weights": torch.ones(CLASSES + 1)}, "one weight for each of 4 classes, got \\(5,\\)"),
    ],
)
def test_unknown_options_are_refused(
    logits: Tensor, labels: Tensor, mask: Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pebal_loss(logits, labels, mask, **options)


def test_what_does_not_fit_is_refused(logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match="the channel of abstention last, got \\(3, 1, 7, 9\\)"):
        pebal_loss(logits[:, :1], labels, mask)
    with pytest.raises(InputError, match="the channel of abstention last"):
        pebal_loss(logits[0], labels, mask)
    with pytest.raises(InputError, match="labels \\(N, H, W\\)"):
        pebal_loss(logits, labels[:2], mask[:2])
    with pytest.raises(InputError, match="a mask like the labels"):
        pebal_loss(logits, labels, mask[:, :3])
    with pytest.raises(InputError, match="labels below 4"):  # abstention is no class
        pebal_loss(logits, labels.masked_fill(labels == 1, CLASSES), mask)
    with pytest.raises(InputError, match="more than 3 rows and columns"):
        pebal_loss(logits, labels[:, :3], mask[:, :3])
