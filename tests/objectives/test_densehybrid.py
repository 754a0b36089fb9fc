"""The three terms against loops in NumPy, each alone, their gradients, void and margin, and what is missing."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.densehybrid import densehybrid_loss
from strays.taxonomy import IGNORE

CLASSES = 4
SIZE = (6, 8)
TERMS = ("cross_entropy", "density", "posterior")


def random_logits(channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(2, channels, *SIZE, generator=generator, dtype=torch.float64) + 1


@pytest.fixture
def logits() -> Tensor:
    return random_logits(CLASSES, 0)


@pytest.fixture
def outlier_logits() -> Tensor:
    return random_logits(2, 1)


@pytest.fixture
def mask() -> Tensor:
    drawn = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(2))
    return torch.where(drawn < 0.3, 1, torch.where(drawn > 0.9, IGNORE, 0)).to(torch.uint8)


@pytest.fixture
def labels(mask: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randint(0, CLASSES, mask.shape, generator=generator)
    void = (torch.rand(mask.shape, generator=generator) < 0.2) | (mask != 0)
    return torch.where(void, IGNORE, drawn).to(torch.uint8)


def reference(
    logits: Tensor,
    outlier_logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    beta: float = 0.03,
    posterior_weight: float | None = None,
    negative_posterior_weight: float | None = None,
    posterior_void: str = "inlier",
    margin: float | None = None,
    class_weights: Tensor | None = None,
) -> dict[str, float]:
    """The definitions, pixel by pixel in float64, of logits at the size of the labels."""
    z, d = logits.double().numpy(), log_softmax(outlier_logits.double().numpy(), axis=1)
    weights = np.ones(CLASSES) if class_weights is None else class_weights.double().numpy()
    surprise = mass = 0.0
    densities, inliers, outliers = [], [], []
    for (n, y, x), label in np.ndenumerate(labels.numpy()):
        if mask[n, y, x] == 1:
            energy = -logsumexp(z[n, :, y, x])
            densities.append(-energy - z.mean() if margin is None else max(0, margin - energy) ** 2)
            outliers.append(-d[n, 1, y, x])
            continue
        if label != IGNORE:
            surprise -= weights[label] * log_softmax(z[n, :, y, x])[label]
            mass += weights[label]
        if posterior_void == "inlier" or label != IGNORE:
            inliers.append(-d[n, 0, y, x])
    posterior_weight = 10 * beta if posterior_weight is None else posterior_weight
    if negative_posterior_weight is None:
        posterior = posterior_weight * np.mean(inliers + outliers)
    else:
        posterior = posterior_weight * np.mean(inliers) + negative_posterior_weight * np.mean(outliers)
    terms = {"cross_entropy": surprise / mass, "density": beta * np.mean(densities), "posterior": posterior}
    return {**terms, "total": sum(terms.values())}


def assert_terms(found: dict[str, Tensor], expected: dict[str, float], rel: float = 1e-9) -> None:
    assert list(found) == [*TERMS, "total"]
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=rel)
    assert all(value.ndim == 0 for value in found.values())


VARIANTS = {
    "the released code": {},
    "other beta": {"beta": 0.2},
    "weights apart": {"beta": 0.1, "posterior_weight": 2.0},
    "the bound of the paper": {"posterior_weight": 1.0, "negative_posterior_weight": 0.03, "posterior_void": "ignore"},
    "void ignored": {"posterior_void": "ignore"},
    "margin": {"margin": 0.5, "beta": 1.0},
    "class weights": {"class_weights": torch.tensor([0.5, 1.0, 2.0, 4.0])},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_it_is_what_the_definition_says(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor, variant: dict[str, object]
) -> None:
    given = (logits, outlier_logits, labels, mask)
    assert_terms(densehybrid_loss(*given, **variant), reference(*given, **variant))


def test_the_posterior_weighs_ten_times_beta(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    given = (logits, outlier_logits, labels, mask)
    assert_terms(densehybrid_loss(*given), reference(*given, beta=0.03, posterior_weight=0.3))
    assert_terms(densehybrid_loss(*given, beta=0.5), reference(*given, beta=0.5, posterior_weight=5.0))


def test_both_heads_are_brought_to_the_size_of_the_labels(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    coarse, coarser = logits[..., :3, :4], outlier_logits[..., :2, :3]
    larger = [functional.interpolate(one, SIZE, mode="bilinear", align_corners=False) for one in (coarse, coarser)]
    assert_terms(densehybrid_loss(coarse, coarser, labels, mask), reference(*larger, labels, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_are_computed_in_float32(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor, dtype: torch.dtype
) -> None:
    given = (logits.to(dtype), outlier_logits.to(dtype), labels, mask)
    found = densehybrid_loss(*given)
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert_terms(found, reference(*given), rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_gradients(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor, variant: dict[str, object]
) -> None:
    """The constant has no gradient, so it is taken off again before differences are compared."""

    def total(one: Tensor, other: Tensor) -> Tensor:
        value = densehybrid_loss(one, other, labels[:1, :4, :5], mask[:1, :4, :5], **variant)["total"]
        enlarged = functional.interpolate(one, (4, 5), mode="bilinear", align_corners=False)
        constant = 0 if "margin" in variant else enlarged.mean().detach()
        return value + variant.get("beta", 0.03) * constant

    small = (logits[:1, :, :2, :3], outlier_logits[:1, :, :3, :2])
    assert torch.autograd.gradcheck(total, [one.clone().requires_grad_() for one in small])


def gradients(term: str, *given: Tensor, **variant: object) -> tuple[Tensor, Tensor]:
    """What one term alone asks of the class logits and of the outlier logits."""
    logits, outlier_logits = (one.clone().requires_grad_() for one in given[:2])
    densehybrid_loss(logits, outlier_logits, *given[2:], **variant)[term].backward()
    return tuple(torch.zeros_like(one) if one.grad is None else one.grad for one in (logits, outlier_logits))


def test_density_pulls_by_the_softmax_on_negatives_and_nowhere_else(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    found, none = gradients("density", logits, outlier_logits, labels, mask, beta=1.0)
    negative = mask == 1
    expected = np.exp(log_softmax(logits.numpy(), axis=1)) / int(negative.sum()) * negative[:, None].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert not found[~negative[:, None].expand_as(found)].any()
    assert not none.any()


def test_cross_entropy_and_posterior_reach_only_their_own_head_and_pixels(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    given = (logits, outlier_logits, labels, mask)
    classes, none = gradients("cross_entropy", *given)
    assert torch.equal(classes.abs().sum(dim=1) > 0, labels != IGNORE)
    assert not none.any()
    none, posterior = gradients("posterior", *given)
    assert not none.any()
    assert (posterior[:, 1] < 0).equal(mask == 1)  # up on negatives, down on all others, void and border too
    assert (posterior[:, 1] > 0).equal(mask != 1)


def test_void_and_border_count_as_inliers_unless_ignored(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    _, posterior = gradients("posterior", logits, outlier_logits, labels, mask, posterior_void="ignore")
    assert (posterior[:, 1] > 0).equal(labels != IGNORE)
    assert (posterior[:, 1] < 0).equal(mask == 1)


def test_a_pixel_beyond_the_border_is_ignored_even_with_a_label(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    labelled = labels.masked_fill(mask == IGNORE, 0)
    _, posterior = gradients("posterior", logits, outlier_logits, labelled, mask, posterior_void="ignore")
    assert not posterior[:, 1][mask == IGNORE].any()


def test_the_constant_is_the_mean_of_all_logits(labels: Tensor, mask: Tensor) -> None:
    """Logits of another pixel move the value of the density term, by their share, and none of its gradient."""
    logits, flat = torch.zeros(2, CLASSES, *SIZE), torch.zeros(2, 2, *SIZE)
    before = densehybrid_loss(logits, flat, labels, mask, beta=1.0)["density"]
    n, y, x = (mask != 1).nonzero()[0]
    logits[n, 0, y, x] = 1000.0
    after = densehybrid_loss(logits, flat, labels, mask, beta=1.0)["density"]
    assert (before - after).item() == pytest.approx(1000 / logits.numel(), rel=1e-5)
    assert before.item() == pytest.approx(math.log(CLASSES), rel=1e-6)


def test_it_may_be_negative_and_does_not_change_with_a_common_offset(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    lowered = logits.clone()
    lowered.movedim(1, -1)[mask == 1] -= 50
    density = densehybrid_loss(lowered, outlier_logits, labels, mask)["density"]
    assert density < 0
    shifted = densehybrid_loss(lowered + 7, outlier_logits, labels, mask)["density"]
    torch.testing.assert_close(shifted, density, rtol=1e-9, atol=0)


def test_negatives_beyond_the_margin_are_left_alone(outlier_logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    """Free energies of 5 - ln 4 and -ln 4 with a margin of 2."""
    logits = torch.zeros(2, CLASSES, *SIZE, dtype=torch.float64)
    far = (mask == 1) & (torch.arange(SIZE[1]) % 2 == 0)
    logits.movedim(1, -1)[far] = -5
    given = (logits, outlier_logits, labels, mask)
    near = (mask == 1) & ~far
    expected = (2 + math.log(CLASSES)) ** 2 * near.sum().item() / (mask == 1).sum().item()
    assert densehybrid_loss(*given, beta=1.0, margin=2.0)["density"].item() == pytest.approx(expected, rel=1e-12)
    found, _ = gradients("density", *given, beta=1.0, margin=2.0)
    assert torch.equal(found.abs().sum(dim=1) > 0, near)


def test_without_negatives_classes_and_inliers_are_learnt(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    given = (logits, outlier_logits, labels, mask.masked_fill(mask == 1, 0))
    found = densehybrid_loss(*given)
    assert found["density"].item() == 0
    assert not any(one.any() for one in gradients("density", *given))
    inlier = -log_softmax(outlier_logits.numpy(), axis=1)[:, 0].mean()
    assert found["posterior"].item() == pytest.approx(0.3 * inlier, rel=1e-9)
    assert not any(one.any() for one in gradients("density", *given, margin=3.0))
    split = densehybrid_loss(*given, posterior_weight=1.0, negative_posterior_weight=1.0)
    assert split["posterior"].item() == pytest.approx(inlier, rel=1e-9)


def test_without_anything_to_learn_all_terms_and_gradients_are_zero(logits: Tensor, outlier_logits: Tensor) -> None:
    nothing = torch.full((2, *SIZE), IGNORE)
    found = densehybrid_loss(logits, outlier_logits, nothing, nothing, posterior_void="ignore")
    assert all(value.item() == 0 for value in found.values())
    assert not any(one.any() for one in gradients("total", logits, outlier_logits, nothing, nothing, beta=0.0))
    ignored = gradients("total", logits, outlier_logits, nothing, nothing, posterior_void="ignore")
    assert not any(one.any() for one in ignored)


def test_a_negative_with_a_label_is_still_none_of_the_class(
    logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor
) -> None:
    labelled = labels.masked_fill(mask == 1, 2)
    loss = partial(densehybrid_loss, logits, outlier_logits)
    assert loss(labelled, mask)["total"] == loss(labels, mask)["total"]


@pytest.mark.parametrize("variant", [{}, {"margin": 5.0}], ids=["plain", "margin"])
def test_large_logits_stay_finite(labels: Tensor, mask: Tensor, variant: dict[str, float]) -> None:
    logits, outlier_logits = torch.zeros(2, CLASSES, *SIZE), torch.zeros(2, 2, *SIZE)
    logits[:, 1], logits[:, 2] = 1e4, -1e4
    outlier_logits[:, 0], outlier_logits[:, 1] = 1e4, -1e4
    given = (logits, outlier_logits, labels, mask)
    assert_terms(densehybrid_loss(*given, **variant), reference(*given, **variant), rel=1e-4)
    assert all(one.isfinite().all() for one in gradients("total", *given, **variant))


def test_nothing_given_is_changed(logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    weights = torch.linspace(0.5, 2, CLASSES)
    given = [logits, outlier_logits, labels, mask, weights]
    before = [one.clone() for one in given]
    for void in ("inlier", "ignore"):
        densehybrid_loss(*given[:4], posterior_void=void, class_weights=weights)
    assert all(torch.equal(old, new) for old, new in zip(before, given, strict=True))


def test_bad_input_is_refused(logits: Tensor, outlier_logits: Tensor, labels: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, h, w\) and labels \(N, H, W\)"):
        densehybrid_loss(logits[0], outlier_logits, labels, mask)
    with pytest.raises(InputError, match=r"expected outlier logits \(2, 2, h, w\), got \(2, 1, 6, 8\)"):
        densehybrid_loss(logits, outlier_logits[:, :1], labels, mask)
    with pytest.raises(InputError, match="expected a mask like the labels"):
        densehybrid_loss(logits, outlier_logits, labels, mask[:, 1:])
    with pytest.raises(InputError, match="expected labels below 4"):
        densehybrid_loss(logits, outlier_logits, labels.clamp(min=CLASSES), mask)
    for name in ("beta", "posterior_weight", "negative_posterior_weight"):
        with pytest.raises(InputError, match=f"^{name} is nan, expected a finite number, 0 or more"):
            densehybrid_loss(logits, outlier_logits, labels, mask, **{name: math.nan})
    with pytest.raises(InputError, match="posterior_void is 'maybe', expected one of inlier, ignore"):
        densehybrid_loss(logits, outlier_logits, labels, mask, posterior_void="maybe")
