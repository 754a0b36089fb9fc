"""The loss of the outlier head against loops in float64, term by term."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.outlier_head import label_shares, outlier_head_loss, outlier_targets, soft_cross_entropy
from strays.taxonomy import IGNORE

CLASSES, IMAGES, HEIGHT, WIDTH = 4, 2, 16, 24
SIZES = [(4, 6), (2, 3), (8, 12)]
ALL = {"cross_entropy", "outlier", "auxiliary", "outlier_auxiliary", "total"}

Batch = dict[str, Tensor | tuple[Tensor, ...]]
Make = Callable[..., Batch]


@pytest.fixture
def batch() -> Make:
    """Everything the loss reads: blocks of labels, void, negatives, and pixels that show no scene."""

    def make(dtype: torch.dtype = torch.float64, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        labels = torch.randint(0, CLASSES, (IMAGES, HEIGHT // 2, WIDTH // 2), generator=generator)
        labels = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
        labels[torch.rand(labels.shape, generator=generator) < 0.3] = IGNORE
        mask = torch.zeros_like(labels)
        mask[0, 3:11, 5:14] = 1
        mask[1, :, -5:] = 255
        labels[mask != 0] = IGNORE
        return {
            "logits": random(IMAGES, CLASSES, HEIGHT // 4, WIDTH // 4),
            "outlier_logits": random(IMAGES, 2, HEIGHT // 2, WIDTH // 2),
            "labels": labels.to(torch.uint8),
            "mask": mask.to(torch.uint8),
            "auxiliary_logits": tuple(random(IMAGES, CLASSES, *size) for size in SIZES),
            "auxiliary_outlier_logits": tuple(random(IMAGES, 2, *size) for size in SIZES[:2]),
        }

    return make


def pixelwise(logits: Tensor, targets: NDArray[np.int64], weights: NDArray[np.float64] | None = None) -> float:
    """The (weighted) mean of the cross-entropy over all targets but 255."""
    enlarged = functional.interpolate(logits.double(), (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    surprise = -log_softmax(enlarged.numpy(), axis=1)
    weights = np.ones(logits.shape[1]) if weights is None else weights
    pixels = [(n, k, y, x) for (n, y, x), k in np.ndenumerate(targets) if k != IGNORE]
    mass = sum(weights[k] for _, k, _, _ in pixels)
    return sum(weights[k] * surprise[n, k, y, x] for n, k, y, x in pixels) / mass if pixels else 0.0


def cellwise(logits: Tensor, targets: NDArray[np.int64]) -> list[float]:
    """For all cells, fewer than half of whose pixels are ignored, the cross-entropy with their histogram."""
    surprise = -log_softmax(logits.double().numpy(), axis=1)
    images, classes, rows, columns = logits.shape
    tall, wide = targets.shape[1] // rows, targets.shape[2] // columns
    losses = []
    for n, i, j in np.ndindex(images, rows, columns):
        block = targets[n, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].ravel()
        known = [k for k in block if k < classes]
        if len(block) - len(known) < len(block) / 2:
            losses.append(sum(surprise[n, k, i, j] for k in known) / len(known))
    return losses


def mean_over_cells(maps: list[Tensor], targets: NDArray[np.int64]) -> float:
    """The mean over the cells of all maps, so that fine maps weigh more than coarse ones."""
    losses = [loss for one in maps for loss in cellwise(one, targets)]
    return sum(losses) / len(losses) if losses else 0.0


def targets_of(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class and outlier targets, pixel by pixel."""
    labels, mask = (batch[key].numpy().astype(np.int64) for key in ("labels", "mask"))
    classes, outliers = np.full_like(labels, IGNORE), np.full_like(labels, IGNORE)
    for at in np.ndindex(labels.shape):
        if mask[at] == 1:
            outliers[at] = 1
        elif labels[at] != IGNORE:
            classes[at] = labels[at]
            outliers[at] = 0 if mask[at] == 0 else IGNORE
    return classes, outliers


def reference(batch: Batch, outlier: float = 0.2, auxiliary: float = 0.4) -> dict[str, float]:
    classes, outliers = targets_of(batch)
    terms = {
        "cross_entropy": (1 - auxiliary) * pixelwise(batch["logits"], classes),
        "outlier": outlier * (1 - auxiliary) * pixelwise(batch["outlier_logits"], outliers),
        "auxiliary": auxiliary * mean_over_cells(batch["auxiliary_logits"], classes),
        "outlier_auxiliary": outlier * auxiliary * mean_over_cells(batch["auxiliary_outlier_logits"], outliers),
    }
    return {**terms, "total": sum(terms.values())}


def floats(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in terms.items()}


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_the_specification_says(batch: Make, seed: int) -> None:
    given = batch(seed=seed)
    expected = reference(given)
    assert all(value > 0.01 for value in expected.values()), "the test needs every term"
    assert floats(outlier_head_loss(**given)) == pytest.approx(expected, rel=1e-9)


def test_the_default_weights_are_those_of_the_code(batch: Make) -> None:
    given = batch()
    classes, outliers = targets_of(given)
    by_hand = 0.6 * pixelwise(given["logits"], classes) + 0.2 * 0.6 * pixelwise(given["outlier_logits"], outliers)
    by_hand += 0.4 * mean_over_cells(given["auxiliary_logits"], classes)
    by_hand += 0.2 * 0.4 * mean_over_cells(given["auxiliary_outlier_logits"], outliers)
    assert float(outlier_head_loss(**given)["total"]) == pytest.approx(by_hand, rel=1e-9)


def test_other_weights(batch: Make) -> None:
    given = batch()
    found = outlier_head_loss(**given, outlier_weight=1.5, auxiliary_weight=0.25)
    assert floats(found) == pytest.approx(reference(given, 1.5, 0.25), rel=1e-9)


def test_float32_is_near(batch: Make) -> None:
    given = batch(torch.float32)
    found = outlier_head_loss(**given)
    assert {one.dtype for one in found.values()} == {torch.float32}
    assert floats(found) == pytest.approx(reference(given), rel=1e-5)


def test_half_precision_is_computed_in_float32(batch: Make) -> None:
    given = batch(torch.bfloat16)
    found = outlier_head_loss(**given)
    assert {one.dtype for one in found.values()} == {torch.float32}
    assert floats(found) == pytest.approx(reference(given), rel=1e-5)


def test_class_weights_count_in_the_cross_entropy_of_the_classes_only(batch: Make) -> None:
    given = batch()
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    found, plain = (floats(outlier_head_loss(**given, class_weights=one)) for one in (weights, None))
    expected = 0.6 * pixelwise(given["logits"], targets_of(given)[0], weights.double().numpy())
    assert found["cross_entropy"] == pytest.approx(expected, rel=1e-9)
    rest = ALL - {"cross_entropy", "total"}
    assert {name: found[name] for name in rest} == {name: plain[name] for name in rest}


def test_without_auxiliary_logits_the_other_terms_keep_their_weights(batch: Make) -> None:
    given = batch()
    expected = reference(given)
    paper = {key: value for key, value in given.items() if key != "auxiliary_outlier_logits"}
    found = floats(outlier_head_loss(**paper))
    assert set(found) == ALL - {"outlier_auxiliary"}
    assert found["total"] == pytest.approx(expected["total"] - expected["outlier_auxiliary"], rel=1e-9)
    plain = floats(outlier_head_loss(given["logits"], given["outlier_logits"], given["labels"], given["mask"]))
    assert set(plain) == {"cross_entropy", "outlier", "total"}
    assert plain["total"] == pytest.approx(expected["cross_entropy"] + expected["outlier"], rel=1e-9)


@pytest.mark.parametrize("name", sorted(ALL - {"total"}))
def test_every_term_teaches_its_own_logits_alone(batch: Make, name: str) -> None:
    given = batch()
    owners = {
        "cross_entropy": "logits",
        "outlier": "outlier_logits",
        "auxiliary": "auxiliary_logits",
        "outlier_auxiliary": "auxiliary_outlier_logits",
    }
    leaves = {key: value if isinstance(value, tuple) else (value,) for key, value in given.items() if "logits" in key}
    for one in (each for some in leaves.values() for each in some):
        one.requires_grad_()
    outlier_head_loss(**given)[name].backward()
    taught = {key for key, some in leaves.items() if any(one.grad is not None and one.grad.any() for one in some)}
    assert taught == {owners[name]}
    assert all(one.grad.any() for one in leaves[owners[name]]), "every map takes part"


def test_gradients(batch: Make) -> None:
    given = batch()
    small = {key: value for key, value in given.items() if key in ("labels", "mask")}
    free = [
        given["logits"],
        given["outlier_logits"],
        given["auxiliary_logits"][1],
        given["auxiliary_outlier_logits"][1],
    ]
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])

    def total(logits: Tensor, outlier: Tensor, auxiliary: Tensor, outlier_auxiliary: Tensor) -> Tensor:
        pairs = {"auxiliary_logits": (auxiliary,), "auxiliary_outlier_logits": (outlier_auxiliary,)}
        return outlier_head_loss(logits, outlier, **small, **pairs, class_weights=weights)["total"]

    assert torch.autograd.gradcheck(total, [one.clone().requires_grad_() for one in free], fast_mode=True)


def test_gradients_of_one_map() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 4, (1, 6, 4), generator=generator)
    assert torch.autograd.gradcheck(lambda one: soft_cross_entropy(one, labels), logits)


@pytest.mark.parametrize(
    ("labels", "mask", "absent"),
    [
        (IGNORE, 0, ALL),  # nothing but void
        (IGNORE, 255, ALL),  # no scene at all
        (IGNORE, 1, {"cross_entropy", "auxiliary"}),  # a whole negative image
        (2, 0, set()),  # no negatives
    ],
)
def test_an_absent_population_gives_zero_with_a_gradient(batch: Make, labels: int, mask: int, absent: set[str]) -> None:
    given = batch()
    given["labels"], given["mask"] = (torch.full_like(given["labels"], one) for one in (labels, mask))
    leaves = [given["logits"], given["outlier_logits"], given["auxiliary_logits"][0]]
    for one in leaves:
        one.requires_grad_()
    found = outlier_head_loss(**given)
    assert {name for name, value in found.items() if float(value.detach()) == 0} == absent
    found["total"].backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in leaves)
    if absent == ALL:
        assert not any(one.grad.any() for one in leaves)


def test_class_weights_of_absent_classes_give_zero(batch: Make) -> None:
    given = batch()
    given["labels"] = torch.full_like(given["labels"], IGNORE)
    found = outlier_head_loss(**given, class_weights=torch.ones(CLASSES))
    assert float(found["cross_entropy"]) == 0


def test_what_is_ignored_may_hold_any_logits(batch: Make) -> None:
    given = batch()
    classes, outliers = (torch.from_numpy(one) for one in targets_of(given))
    given["logits"] = functional.interpolate(given["logits"], (HEIGHT, WIDTH))
    given["outlier_logits"] = functional.interpolate(given["outlier_logits"], (HEIGHT, WIDTH))
    expected = floats(outlier_head_loss(**given))
    given["logits"][(classes == IGNORE)[:, None].expand_as(given["logits"])] = torch.inf
    given["outlier_logits"][(outliers == IGNORE)[:, None].expand_as(given["outlier_logits"])] = torch.nan
    assert floats(outlier_head_loss(**given)) == expected


def test_a_label_under_a_negative_is_not_learnt(batch: Make) -> None:
    given = batch()
    expected = floats(outlier_head_loss(**given))
    given["labels"][given["mask"] == 1] = 0
    assert floats(outlier_head_loss(**given)) == expected


def test_large_logits_stay_finite(batch: Make) -> None:
    given = batch(torch.float32)
    scaled = {
        key: tuple(4e3 * one for one in value)
        if isinstance(value, tuple)
        else (4e3 * value if "logits" in key else value)
        for key, value in given.items()
    }
    assert max(float(one.abs().max()) for one in scaled["auxiliary_logits"]) > 1e4
    scaled["logits"].requires_grad_()
    found = outlier_head_loss(**scaled)
    found["total"].backward()
    assert all(one.isfinite() for one in found.values())
    assert scaled["logits"].grad.isfinite().all()


def test_inputs_are_not_modified(batch: Make) -> None:
    given, kept = batch(), batch()
    outlier_head_loss(**given, class_weights=torch.ones(CLASSES))
    for key, value in kept.items():
        pairs = zip(value, given[key], strict=True) if isinstance(value, tuple) else [(value, given[key])]
        assert all(torch.equal(old, new) for old, new in pairs)


def test_outlier_targets() -> None:
    labels = torch.tensor([[[3, 255, 255, 255, 3, 3]]], dtype=torch.uint8)
    mask = torch.tensor([[[0, 0, 1, 255, 1, 255]]], dtype=torch.uint8)
    found = outlier_targets(labels, mask)
    assert found.dtype == torch.int64
    assert found.tolist() == [[[0, 255, 1, 255, 1, 255]]]


@pytest.mark.parametrize("size", [(4, 6), (16, 24), (1, 1), (8, 3)])
def test_shares_are_the_histograms_of_blocks(batch: Make, size: tuple[int, int]) -> None:
    labels = batch()["labels"]
    shares, counts = label_shares(labels, CLASSES, size)
    tall, wide = HEIGHT // size[0], WIDTH // size[1]
    for n, i, j in np.ndindex(IMAGES, *size):
        block = labels[n, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].numpy().ravel()
        known = np.bincount(block[block < CLASSES], minlength=CLASSES)
        np.testing.assert_allclose(shares[n, :, i, j], known / max(1, known.sum()), rtol=1e-12)
        assert bool(counts[n, i, j]) == (np.mean(block >= CLASSES) < 0.5)


def test_exactly_half_ignored_is_too_much() -> None:
    half = torch.tensor([[[0, 255, 1], [255, 1, 255]]])
    less = torch.tensor([[[0, 255, 1], [255, 1, 0]]])
    assert label_shares(half, 2, (1, 1))[1].tolist() == [[[False]]]
    assert label_shares(less, 2, (1, 1))[1].tolist() == [[[True]]]


def test_ids_from_the_number_of_classes_on_count_as_ignored() -> None:
    shares, counts = label_shares(torch.tensor([[[0, 2, 1, 0], [0, 3, 254, 0]]]), 2, (1, 2))
    assert counts.tolist() == [[[False, True]]]
    assert shares[0, :, 0, 1].tolist() == [2 / 3, 1 / 3]


@pytest.mark.parametrize("size", [(5, 7), (3, 24), (16, 5), (20, 30), (11, 23)])
def test_cells_that_no_block_size_fits_cover_every_pixel_they_touch(batch: Make, size: tuple[int, int]) -> None:
    """The windows of adaptive pooling, which PyTorch computes on its own."""
    labels = batch()["labels"]
    pooled = torch.stack(
        [functional.adaptive_avg_pool2d((labels == k).double(), size) for k in [*range(CLASSES), IGNORE]], 1
    )
    known = pooled[:, :CLASSES].sum(1, keepdim=True)
    shares, counts = label_shares(labels, CLASSES, size)
    torch.testing.assert_close(shares, pooled[:, :CLASSES] / known.clamp(min=1e-9))
    sure = (pooled[:, CLASSES] - 0.5).abs() > 1e-9
    assert torch.equal(counts[sure], (pooled[:, CLASSES] < 0.5)[sure])


@pytest.mark.parametrize("size", [(5, 7), (20, 30)])
def test_the_loss_takes_maps_of_any_size(batch: Make, size: tuple[int, int]) -> None:
    labels = batch()["labels"]
    logits = torch.randn(IMAGES, CLASSES, *size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    shares, counts = label_shares(labels, CLASSES, size)
    surprise = -(shares.numpy() * log_softmax(logits.numpy(), axis=1)).sum(1)
    assert float(soft_cross_entropy(logits, labels)) == pytest.approx(surprise[counts.numpy()].mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outlier_logits": torch.zeros(2, 3, 4, 6)}, r"expected outlier logits \(2, 2, h, w\), got \(2, 3, 4, 6\)"),
        ({"outlier_logits": torch.zeros(1, 2, 4, 6)}, r"expected outlier logits \(2, 2, h, w\)"),
        ({"outlier_logits": torch.zeros(2, 4, 6)}, r"expected outlier logits \(2, 2, h, w\)"),
        ({"auxiliary_logits": (torch.zeros(2, 5, 4, 6),)}, r"expected auxiliary logits \(2, 4, h, w\)"),
        ({"auxiliary_outlier_logits": (torch.zeros(2, 4, 4, 6),)}, r"expected outlier logits \(2, 2, h, w\)"),
        ({"logits": torch.zeros(4, 4, 6)}, r"expected logits \(N, K, h, w\)"),
        ({"mask": torch.zeros(2, 4, 6)}, r"expected a mask like the labels \(2, 16, 24\)"),
        ({"labels": torch.full((2, 16, 24), 4)}, r"expected labels below 4, .* or 255, got 4"),
        ({"class_weights": torch.ones(3)}, r"expected one weight for each of 4 classes, got \(3,\)"),
        ({"outlier_weight": -0.1}, r"outlier_weight is -0.1, expected a finite number, 0 or more"),
        ({"auxiliary_weight": 1.1}, r"auxiliary_weight is 1.1, expected 0 to 1"),
    ],
)
def test_bad_input(batch: Make, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        outlier_head_loss(**{**batch(), **change})


def test_a_map_and_labels_of_different_batches_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected auxiliary logits \(N, K, h, w\) and labels \(N, H, W\)"):
        soft_cross_entropy(torch.zeros(2, 3, 4, 4), torch.zeros(1, 8, 8))


def test_a_map_weighs_as_much_as_it_has_cells(batch: Make) -> None:
    """The coarse map has no cell that counts: it does not pull the mean of the fine one towards 0."""
    given = batch()
    given["labels"] = torch.full_like(given["labels"], IGNORE)
    given["labels"][:, :2, :2] = 1
    given["mask"] = torch.zeros_like(given["mask"])
    classes = given["logits"].shape[1]
    flat = [torch.zeros(2, classes, *size, dtype=torch.float64) for size in ((1, 1), (8, 12))]
    given |= {"auxiliary_logits": flat, "auxiliary_outlier_logits": []}
    assert float(outlier_head_loss(**given)["auxiliary"]) == pytest.approx(0.4 * np.log(classes), rel=1e-9)


def test_an_impossible_class_that_no_cell_has_is_no_matter() -> None:
    logits = torch.tensor([0.5, -torch.inf, 1.0]).view(1, 3, 1, 1).requires_grad_()
    labels = torch.tensor([[[0, 2], [0, 0]]])
    loss = soft_cross_entropy(logits, labels)
    loss.backward()
    expected = -(0.75 * log_softmax([0.5, 1.0])[0] + 0.25 * log_softmax([0.5, 1.0])[1])
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
