"""The maximal detection margin against counting at every threshold, and against scikit-learn."""

import io

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score

from strays.errors import InputError
from strays.metrics import MarginMetrics, PixelMetrics, maximal_detection_margin


def make(seed, size=400, dtype=np.float32):
    """Scores in [0, 1], both ends and multiples of 1 / 100 among them."""
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.uint8([0, 1, 255]), size, p=[0.5, 0.4, 0.1])
    scores = np.clip(0.35 + 0.4 * (mask == 1) + 0.17 * rng.normal(size=size), 0, 1)
    return np.where(rng.random(size) < 0.5, np.round(scores, 2), scores).astype(dtype), mask


def f1(truth, predicted):
    hits = (truth & predicted).sum()
    return 2 * hits / (truth.sum() + predicted.sum())


def iou(truth, predicted):
    return (truth & predicted).sum() / (truth | predicted).sum()


def brute(scores, mask, level, points, score_of=f1):
    """As the definition says: predict at every threshold, then look for the longest run above the level."""
    truth, kept = mask[mask < 255] == 1, scores[mask < 255]
    values = []
    for step in range(points):
        predicted = (kept >= kept.dtype.type(step / points)) & (kept > 0)
        values.append(score_of(truth, predicted))
    longest = run = 0
    for value in values:
        run = run + 1 if value > level else 0
        longest = max(longest, run)
    return longest / points, values


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("level", [0.5, 0.7, 0.9])
def test_equals_counting_at_every_threshold(dtype, level):
    scores, mask = make(1, dtype=dtype)
    metrics = MarginMetrics(level, 100).update(scores, mask)
    result = metrics.compute()
    for name, score_of in (("F1", f1), ("IoU", iou)):
        width, values = brute(scores, mask, level, 100, score_of)
        thresholds, ours = metrics.curve(name)
        assert thresholds == pytest.approx(np.arange(100) / 100)
        assert ours == pytest.approx(values, abs=1e-12)
        assert result[f"MDM-{name}"] == pytest.approx(width, abs=1e-12)
        assert result[f"{name}_upper"] - result[f"{name}_lower"] == pytest.approx(width, abs=1e-12)
    assert result["pixels_anomaly"] == (mask == 1).sum()
    assert (result["pixels_inlier"], result["pixels_ignored"]) == ((mask == 0).sum(), (mask == 255).sum())


def test_curve_equals_scikit_learn():
    scores, mask = make(5)
    truth, kept = mask[mask < 255], scores[mask < 255]
    metrics = MarginMetrics(points=10).update(scores, mask)
    for name, score_of in (("F1", f1_score), ("IoU", jaccard_score)):
        thresholds, values = metrics.curve(name)
        expected = [score_of(truth, (kept >= np.float32(one)) & (kept > 0)) for one in thresholds]
        assert values == pytest.approx(expected, abs=1e-12)


def test_default_grid_has_a_thousand_thresholds():
    scores, mask = make(2)
    width, _ = brute(scores, mask, 0.7, 1000)
    assert 0 < width < 1
    assert MarginMetrics().update(scores, mask).compute()["MDM-F1"] == pytest.approx(width, abs=1e-12)


def test_a_score_of_zero_is_never_predicted():
    metrics = MarginMetrics(0.5, 10).update(np.float32([0, 0, 0, 0.25]), np.uint8([0, 0, 0, 1]))
    _, values = metrics.curve()
    assert values.tolist() == [1, 1, 1] + [0] * 7
    assert metrics.compute()["MDM-F1"] == pytest.approx(0.3)


def test_a_detector_without_margin():
    result = MarginMetrics().update(np.float32([0.3, 0.2]), np.uint8([0, 1])).compute()
    assert (result["MDM-F1"], result["F1_lower"], result["F1_upper"]) == (0, 0, 0)
    perfect = MarginMetrics().update(np.float32([0, 1]), np.uint8([0, 1])).compute()
    assert (perfect["MDM-F1"], perfect["MDM-IoU"], perfect["F1_upper"]) == (1, 1, 1)


def test_merged_and_stored_parts_equal_one_pass():
    scores, mask = make(3)
    whole = MarginMetrics(0.6, 50).update(scores, mask)
    parts = [MarginMetrics(0.6, 50).update(torch.from_numpy(scores[i::3]), mask[i::3]) for i in range(3)]
    merged = MarginMetrics(0.6, 50).merge(parts[1]).merge(parts[0]).merge(parts[2])
    file = io.BytesIO()
    np.savez_compressed(file, **merged.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = MarginMetrics.from_state(dict(stored))
    assert merged.compute() == again.compute() == whole.compute()
    assert (again.level, again.points) == (0.6, 50)
    assert whole.counts.nbytes == 2 * 8 * 51


def test_margin_of_a_curve():
    thresholds, values = np.linspace(0, 0.9, 10), np.array([0, 8, 8, 7, 7.1, 9, 9, 1, 8, 8]) / 10
    assert maximal_detection_margin(thresholds, values) == pytest.approx((0.3, 0.4, 0.7))
    assert maximal_detection_margin(thresholds, values, 0.69) == pytest.approx((0.6, 0.1, 0.7))
    assert maximal_detection_margin(thresholds, values, 0.75) == pytest.approx((0.2, 0.1, 0.3))
    assert maximal_detection_margin(thresholds, values, 0.9).width == 0
    uneven = maximal_detection_margin(np.array([0.1, 0.2, 0.8]), np.array([0.9, 0.1, 0.9]))
    assert uneven == pytest.approx((0.2, 0.8, 1.0))


def test_margin_of_an_exact_curve_is_the_limit_of_the_grid():
    scores, mask = make(4)
    curve = PixelMetrics(exact=True).update(scores, mask).curve()
    recall, precision = curve.recall[::-1], curve.precision[::-1]
    # A point counts for the thresholds from just above the next lower score up to its own.
    starts = np.r_[0, curve.thresholds[:0:-1]]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    kept = np.diff(starts, prepend=-1) > 0
    exact = maximal_detection_margin(starts[kept], f1[kept]).width
    fine = MarginMetrics(points=20_000).update(scores, mask).compute()["MDM-F1"]
    assert fine == pytest.approx(exact, abs=2e-4)


def test_refusals():
    metrics = MarginMetrics()
    for scores in (np.float32([0.5, 1.5]), np.float32([-0.1, 0.5])):
        with pytest.raises(InputError, match=r"scores in \[0, 1\]"):
            metrics.update(scores, np.uint8([0, 1]))
    assert not metrics.counts.any()
    with pytest.raises(InputError, match="anomaly pixels"):
        metrics.update(np.float32([0.5]), np.uint8([0])).compute()
    with pytest.raises(InputError, match="measure"):
        metrics.curve("AP")
    for arguments in ((70,), (-0.1,), (0.7, 0), (0.7, 2.5)):
        with pytest.raises(InputError, match="expected"):
            MarginMetrics(*arguments)
    with pytest.raises(InputError, match="different settings"):
        metrics.merge(MarginMetrics(points=10))
    with pytest.raises(InputError, match="state of MarginMetrics"):
        MarginMetrics.from_state({})
    one, two = np.array([0.5]), np.array([0.2, 0.5])
    for thresholds, values in ((one, two), (two[::-1], two), (two, two * np.nan), (one * 3, one), (one[:0], one[:0])):
        with pytest.raises(InputError, match="expected"):
            maximal_detection_margin(thresholds, values)
