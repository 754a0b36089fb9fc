"""SegmentMeIfYouCan's binned pixel metrics, and Fishyscapes' curve, against their descriptions step by step."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_curve

from strays.errors import InputError
from strays.metrics import PixelMetrics, SmiycPixelMetrics


def frame(seed, size=(40, 60), scale=1.0, top=None):
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.uint8([0, 1, 255]), size, p=[0.8, 0.1, 0.1])
    scores = (scale * (rng.normal(size=size) + 1.5 * (mask == 1))).astype(np.float32)
    return (scores if top is None else np.minimum(scores, np.float32(top))), mask


FRAMES = [frame(seed) for seed in range(4)]
PROBABILITIES = [((1 / (1 + np.exp(-scores))).astype(np.float32), mask) for scores, mask in FRAMES]


def bins_of_image(scores, mask, uniform):
    """Lower edges and counts, from the highest down: what a frame contributes, its two outer bins included."""
    half = scores.astype(np.float16)
    kept, kinds = half[mask < 255], [half[mask == 1], half[mask == 0]]
    if uniform:
        edges = np.histogram_bin_edges(kept.astype(np.float64), 4096, (-0.01, 1.01))
    else:
        low, high = float(kept.min()), float(kept.max())
        edge = max(0.01, 0.01 * (high - low))
        levels = [np.quantile(kind, np.linspace(0, 1, min(384, kind.size))) for kind in kinds if kind.size]
        edges = np.unique(np.concatenate([[low - edge, high + edge], *levels]))
    counts = [np.histogram(kind.astype(np.float64), edges)[0][::-1] for kind in kinds]
    return edges[:-1][::-1], *counts


def described(frames, uniform=False):
    """Merge, sort by threshold, keep the last of equal ones and index 0, start at the origin, integrate."""
    parts = zip(*(bins_of_image(*one, uniform) for one in frames), strict=True)
    thresholds, hits, false = (np.concatenate(part) for part in parts)
    # Stable, so that of the frames that share a threshold the one that is given first comes first.
    order = np.argsort(-thresholds, kind="stable")
    thresholds, tp, fp = thresholds[order], np.cumsum(hits[order]), np.cumsum(false[order])
    kept = [i for i in range(tp.size) if i in (0, tp.size - 1) or thresholds[i] != thresholds[i + 1]]
    thresholds, tp, fp = np.r_[np.inf, thresholds[kept]], np.r_[0, tp[kept]], np.r_[0, fp[kept]]
    positives, negatives = tp[-1], fp[-1]
    precision = np.divide(tp, tp + fp, out=np.ones(tp.size), where=tp + fp > 0)
    f1 = 2 * tp / (2 * tp + fp + positives - tp)
    first = next(i for i in range(tp.size) if tp[i] / positives >= 0.95)
    values = {"AP": np.sum(np.diff(tp / positives) * precision[1:]), "FPR95": fp[first] / negatives, "F1": f1.max()}
    return values | {"threshold": thresholds[np.argmax(f1)]}


def computed(frames, uniform=False):
    metrics = SmiycPixelMetrics(uniform)
    for one in frames:
        metrics.update(*one)
    return metrics.compute()


def few_anomalies(count):
    scores, mask = frame(7)
    mask[mask == 1] = 255
    mask.ravel()[:count] = 1
    return scores, mask


CASES = {
    "logits": FRAMES,
    "probabilities": PROBABILITIES,
    "large": [frame(seed, scale=500) for seed in range(3)],
    "tiny": [frame(seed, scale=1e-6) for seed in range(3)],
    "no anomaly in one": [*FRAMES[:2], few_anomalies(0)],
    "one anomaly in one": [*FRAMES[:2], few_anomalies(1)],
    "only anomalies in one": [FRAMES[0], (FRAMES[1][0], np.ones_like(FRAMES[1][1]))],
    "one image": FRAMES[:1],
    "constant": [(np.full((4, 5), 0.5, np.float32), np.uint8([[0, 1, 0, 1, 0]] * 4))],
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_description(name):
    result, expected = computed(CASES[name]), described(CASES[name])
    for metric, value in expected.items():
        assert result[metric] == pytest.approx(value, abs=1e-12), metric
    assert result["images"] == len(CASES[name])
    masks = np.concatenate([mask.ravel() for _, mask in CASES[name]])
    assert [result[f"pixels_{kind}"] for kind in ("inlier", "anomaly", "ignored")] == [
        (masks == kind).sum() for kind in (0, 1, 255)
    ]


def test_uniform_bins_equal_the_description():
    result, expected = computed(PROBABILITIES, True), described(PROBABILITIES, True)
    for metric, value in expected.items():
        assert result[metric] == pytest.approx(value, abs=1e-12), metric
    assert result["AP"] != computed(PROBABILITIES)["AP"]
    shared = [(np.minimum(scores, np.float32(0.9)), mask) for scores, mask in PROBABILITIES]
    assert all(lower == upper for lower, upper in computed(shared, True).bounds.values())


def test_the_order_of_images_that_share_the_highest_score_is_in_the_bounds():
    frames = [frame(seed, top=1.5 - 0.25 * (seed == 2)) for seed in range(4)]
    result = computed(frames)
    first = [described(frames[at:] + frames[:at]) for at in range(4)]
    for name, bounds in result.bounds.items():
        seen = [one[name] for one in first]
        assert (bounds.lower, bounds.upper) == pytest.approx((min(seen), max(seen)), abs=1e-12)
        assert bounds.lower <= result[name] <= bounds.upper
    assert result.bounds["AP"].upper > result.bounds["AP"].lower
    assert set(result.bounds) == {"AP", "FPR95", "F1"}
    # An image with a higher score of its own settles what comes first.
    settled = [*frames, frame(8, top=9)]
    assert computed(settled).bounds["AP"] == pytest.approx([described(settled)["AP"]] * 2, abs=1e-12)


def test_few_distinct_scores_are_ranked_exactly_in_float16():
    frames = [(np.clip(np.round(2 * scores), -1, 5) / 2 + np.float32(1e-5), mask) for scores, mask in FRAMES]
    result = computed(frames)
    scores, mask = (np.concatenate([one.ravel() for one in column]) for column in zip(*frames, strict=True))
    half, truth = scores[mask < 255].astype(np.float16).astype(np.float64), mask[mask < 255]
    fpr, tpr, _ = roc_curve(truth, half, drop_intermediate=False)
    assert result["AP"] == pytest.approx(average_precision_score(truth, half), abs=1e-12)
    assert result["FPR95"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)
    assert result["F1"] == pytest.approx(f1_score(truth, half >= result["threshold"]), abs=1e-12)
    exact = PixelMetrics(exact=True).update(scores, mask).compute()["AP"]
    assert result["AP"] == pytest.approx(exact, abs=1e-12)
    coarse = computed([(1000 + scores, mask) for scores, mask in frames])["AP"]
    assert coarse == pytest.approx(exact, abs=1e-12)
    coarser = computed([(2000 + scores / 2, mask) for scores, mask in frames])["AP"]
    assert abs(coarser - exact) > 1e-3


def test_a_narrow_map_is_resized_after_rounding():
    scores, mask = frame(3, size=(20, 30))
    large = np.kron(mask, np.ones((2, 2), np.uint8))
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(scores.astype(np.float16).astype(np.float32))[None, None], size=(40, 60), mode="bilinear"
    )
    fine, kept = resized[0, 0].numpy().ravel()[large.ravel() < 255], large[large < 255]
    kinds = [fine[kept == kind] for kind in (0, 1)]
    edges = np.unique(np.concatenate([np.quantile(one, np.linspace(0, 1, min(384, one.size))) for one in kinds]))
    binned = edges[np.searchsorted(edges, fine, "right") - 1]
    result = SmiycPixelMetrics().update(scores, large).compute()
    assert result["AP"] == pytest.approx(average_precision_score(kept, binned), abs=1e-12)
    again = SmiycPixelMetrics().update(torch.from_numpy(scores)[None, None], large[None]).compute()
    assert again == result


@pytest.mark.parametrize("uniform", [False, True])
def test_merged_and_stored_parts_equal_one_pass(uniform):
    frames = [(np.minimum(scores, np.float32(0.8)), mask) for scores, mask in PROBABILITIES]
    whole = SmiycPixelMetrics(uniform)
    parts = [SmiycPixelMetrics(uniform).update(*one) for one in frames]
    for one in frames:
        whole.update(*one)
    merged = SmiycPixelMetrics(uniform).merge(parts[2]).merge(parts[0]).merge(parts[3]).merge(parts[1])
    file = io.BytesIO()
    np.savez_compressed(file, **merged.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = SmiycPixelMetrics.from_state(dict(stored))
    for other in (merged, again):
        assert other.compute() == whole.compute()
        assert other.compute().bounds == whole.compute().bounds
    assert again.update(*frames[0]).compute() == whole.update(*frames[0]).compute()


def test_an_image_adds_at_most_768_thresholds_and_a_repeated_one_none():
    metrics = SmiycPixelMetrics().update(*FRAMES[0])
    held = metrics.state()
    assert held["thresholds"].size <= 768
    again = metrics.update(*FRAMES[0]).state()
    assert again["thresholds"].size == held["thresholds"].size
    assert again["counts"].sum() == 2 * held["counts"].sum()
    assert SmiycPixelMetrics().update(FRAMES[0][0], np.full_like(FRAMES[0][1], 255)).state()["thresholds"].size == 0


def fishyscapes(scores, truth):
    """Distinct scores from the top to the first full recall, then the point (0, 1), and the step sum between them."""
    points, levels = [], np.unique(scores)[::-1]
    for level in levels:
        above = scores >= level
        points.append(((above & truth).sum() / truth.sum(), truth[above].mean()))
        if points[-1][0] == 1:
            break
    points = [(0.0, 1.0), *points]
    return sum((b[0] - a[0]) * b[1] for a, b in pairwise(points))


@pytest.mark.parametrize("steps", [1, 2, 7, 40, 10_000])
def test_fishyscapes_average_precision_is_that_of_pixel_metrics(steps):
    rng = np.random.default_rng(steps)
    truth = rng.random(600) < 0.1
    scores = (np.round(steps * (rng.random(600) + 0.4 * truth)) / steps).astype(np.float32)
    expected = fishyscapes(scores, truth)
    assert PixelMetrics(exact=True).update(scores, truth).compute()["AP"] == pytest.approx(expected, abs=1e-12)
    assert average_precision_score(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_fishyscapes_rounds_to_float32_as_the_exact_mode_does_not():
    scores, mask = 1 + np.arange(8) * 1e-9, np.uint8([0, 1] * 4)
    narrow = scores.astype(np.float32)
    assert PixelMetrics(exact=True).update(scores, mask).compute()["AP"] != fishyscapes(narrow, mask == 1)
    assert PixelMetrics(exact=True).update(narrow, mask).compute()["AP"] == fishyscapes(narrow, mask == 1) == 0.5


def test_refusals():
    scores, mask = FRAMES[0]
    metrics = SmiycPixelMetrics().update(scores, mask)
    before = metrics.compute()
    refused = [
        ((scores * 1e5, mask), "float16 holds"),
        ((np.full_like(scores, np.nan), mask), "2400 NaN"),
        ((scores.T, mask), "one shape"),
        ((np.stack([scores, scores]), np.stack([mask, mask])), "one image"),
        ((scores.ravel(), mask.ravel()), "one image"),
        ((np.ones_like(mask), mask), "floating-point"),
        ((scores, mask + 1), "map them first"),
    ]
    for arguments, message in refused:
        with pytest.raises(InputError, match=message):
            metrics.update(*arguments)
    assert metrics.compute() == before
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        SmiycPixelMetrics(uniform=True).update(scores, mask)
    with pytest.raises(InputError, match="cannot merge"):
        metrics.merge(SmiycPixelMetrics(uniform=True))
    with pytest.raises(InputError, match="anomaly and inlier"):
        SmiycPixelMetrics().compute()
    with pytest.raises(InputError, match="PixelMetrics"):
        SmiycPixelMetrics.from_state(PixelMetrics().state())
