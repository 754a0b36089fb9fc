"""The pooled accumulator: exact mode, histogram mode, certified bounds, merging, storing, refusals."""

import io
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from strays.errors import InputError
from strays.metrics import FPR_RULES, PixelMetrics
from strays.metrics.keys import KEYS


def make(rng, size=20_000, shift=2.0, share=0.02):
    mask = rng.choice(np.uint8([0, 1, 255]), size, p=[0.9 - share, share, 0.1])
    return rng.normal(size=size) + shift * (mask == 1), mask


SHAPES = {
    "energy": lambda z: (3 * z - 14).astype(np.float32),
    "probability": lambda z: (1 / (1 + np.exp(-3 * z))).astype(np.float32),
    "saturated": lambda z: (1 / (1 + np.exp(-20 * z))).astype(np.float32),
    "1 - probability": lambda z: 1 - (1 / (1 + np.exp(4 * z))).astype(np.float32),
    "float16": lambda z: z.astype(np.float16),
    "large float16": lambda z: (1000 * z).astype(np.float16),
    "float64": lambda z: 1 + z * 1e-9,
    "beyond float32": lambda z: z * 1e200,
    "huge": lambda z: (z * 1e37).astype(np.float32),
    "denormal": lambda z: (z * 1e-42).astype(np.float32),
    "grey values": lambda z: (np.round(40 * z).clip(0, 255) / 255).astype(np.float32),
    "few keys": lambda z: (1 + np.round(z * 50) * 2.0**-20).astype(np.float32),
    "constant": lambda z: np.zeros_like(z, np.float32),
}


@pytest.fixture(params=SHAPES)
def sample(request):
    latent, mask = make(np.random.default_rng(3))
    return SHAPES[request.param](latent), mask


def test_exact_mode_equals_scikit_learn(sample):
    scores, mask = sample
    truth, values = mask[mask < 255], scores[mask < 255].astype(np.float64)
    metrics = PixelMetrics(exact=True)
    for part in range(0, scores.size, 7000):
        metrics.update(scores[part : part + 7000], mask[part : part + 7000])
    result = metrics.compute()
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    assert result["AP"] == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    assert result["AUROC"] == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    assert result["FPR95"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)
    assert result["F1"] == pytest.approx(f1_score(truth, values >= result["threshold"]), abs=1e-12)
    counts = [result[f"pixels_{kind}"] for kind in ("inlier", "anomaly", "ignored")]
    assert counts == [(mask == kind).sum() for kind in (0, 1, 255)]


@pytest.mark.parametrize("rule", FPR_RULES)
def test_bounds_hold_the_exact_value_and_the_estimate(sample, rule):
    exact = PixelMetrics(exact=True, fpr_rule=rule).update(*sample).compute()
    result = PixelMetrics(fpr_rule=rule).update(*sample).compute()
    assert set(result.bounds) == {"AP", "AUROC", "FPR95"}
    assert result["bounds"] is result.bounds
    assert "bounds" not in dict(result)
    for name, (lower, upper) in result.bounds.items():
        assert 0 <= lower <= exact[name] <= upper <= 1
        assert lower <= result[name] <= upper


def test_bounds_hold_for_every_small_case():
    """Many tiny problems in which nearly everything is left open inside a handful of keys."""
    rng = np.random.default_rng(11)
    for _ in range(60):
        size = int(rng.integers(2, 30))
        # 2**-23 is the spacing of the floats here, and 512 of them share a key.
        scores = (1.5 + rng.integers(0, rng.choice([40, 900, 4000]), size) * 2.0**-23).astype(np.float32)
        mask = np.r_[np.uint8([0, 1]), rng.integers(0, 2, size).astype(np.uint8)]
        scores = np.r_[scores[:2], scores]
        rate, rule = rng.choice([0.25, 0.5, 0.6, 0.95]), rng.choice(FPR_RULES)
        exact = PixelMetrics(True, rate, rule).update(scores, mask).compute()
        result = PixelMetrics(False, rate, rule).update(scores, mask).compute()
        for name, (lower, upper) in result.bounds.items():
            assert lower <= exact[name] <= upper, (name, rate, rule, scores, mask)
            assert lower <= result[name] <= upper


def test_bounds_are_reached_by_the_best_and_the_worst_order():
    steps, ulp = np.arange(200), 2.0**-23
    mask = np.r_[np.ones(100, np.uint8), np.zeros(100, np.uint8)]
    above = np.linspace(2, 4, 50, dtype=np.float32), np.uint8([1, 0] * 25)
    best = (1.5 + 2 * ulp + ulp * (steps < 100)).astype(np.float32)
    worst = (1.5 + 2 * ulp + ulp * steps).astype(np.float32)
    keyed = PixelMetrics().update(best, mask).update(*above).compute()
    exact = [PixelMetrics(exact=True).update(s, mask).update(*above).compute() for s in (worst, best)]
    for name in ("AP", "AUROC", "FPR95"):
        assert keyed.bounds[name] == pytest.approx(sorted(result[name] for result in exact), abs=2e-4)


@pytest.mark.parametrize("name", ["energy", "probability", "saturated", "1 - probability"])
def test_histogram_is_within_1e4_of_exact(name):
    latent, mask = make(np.random.default_rng(5), size=400_000)
    scores = SHAPES[name](latent)
    exact, result = (PixelMetrics(exact=kept).update(scores, mask).compute() for kept in (True, False))
    for metric in ("AP", "AUROC", "FPR95", "F1"):
        assert result[metric] == pytest.approx(exact[metric], abs=1e-4)
    assert all(upper - lower < 2e-4 for lower, upper in result.bounds.values())


@pytest.mark.parametrize("convert", [lambda t: t.half(), lambda t: t.bfloat16()])
def test_half_precision_loses_nothing(convert):
    latent, mask = make(np.random.default_rng(1))
    scores = convert(torch.from_numpy(latent))
    exact, result = (
        PixelMetrics(exact=kept).update(scores, torch.from_numpy(mask)).compute() for kept in (True, False)
    )
    for metric in ("AP", "AUROC", "FPR95", "F1"):
        assert result[metric] == pytest.approx(exact[metric], abs=1e-12)
    assert all(upper - lower < 1e-11 for lower, upper in result.bounds.values())


def test_threshold_separates_what_the_key_separates(sample):
    scores, mask = sample
    result = PixelMetrics().update(scores, mask).compute()
    limit = np.finfo(np.float32).max
    narrow = np.clip(scores.astype(np.float64), -limit, limit).astype(np.float32)[mask < 255]
    assert f1_score(mask[mask < 255], narrow >= result["threshold"]) == pytest.approx(result["F1"], abs=1e-12)


@pytest.mark.parametrize("exact", [False, True])
def test_merged_parts_equal_one_pass(sample, exact):
    scores, mask = sample
    whole = PixelMetrics(exact).update(scores, mask)
    parts = [PixelMetrics(exact).update(scores[i::3], mask[i::3]) for i in range(3)]
    merged = PixelMetrics(exact).merge(parts[2]).merge(parts[0]).merge(parts[1])
    assert merged.compute() == whole.compute()
    assert merged.compute().bounds == whole.compute().bounds


@pytest.mark.parametrize("exact", [False, True])
def test_state_survives_a_file(sample, exact):
    scores, mask = sample
    metrics = PixelMetrics(exact, 0.9, "strict").update(scores, mask)
    file = io.BytesIO()
    np.savez_compressed(file, **metrics.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = PixelMetrics.from_state(dict(stored))
    assert again.settings == metrics.settings
    assert again.compute() == metrics.compute()
    assert again.compute().bounds == metrics.compute().bounds
    assert again.update(scores, mask).compute() == metrics.update(scores, mask).compute()


def test_an_empty_state_is_restored():
    for exact in (False, True):
        again = PixelMetrics.from_state(PixelMetrics(exact).state())
        assert again.update(np.float32([0, 1]), np.uint8([0, 1])).compute()["AP"] == 1.0


def test_state_holds_only_what_occurs_and_memory_does_not_grow():
    latent, mask = make(np.random.default_rng(0))
    scores = latent.astype(np.float32)
    metrics = PixelMetrics().update(scores, mask)
    small = sum(values.nbytes for values in metrics.state().values())
    assert small < 6 * scores.size
    held = metrics._store._counts.nbytes
    for _ in range(5):
        metrics.update(scores, mask)
    assert metrics._store._counts.nbytes == held == 8 * (2 * KEYS + 1)
    assert sum(values.nbytes for values in metrics.state().values()) < 1.3 * small


def test_curve_agrees_with_counting():
    latent, mask = make(np.random.default_rng(2), size=3000)
    scores = latent.astype(np.float32)
    for exact in (False, True):
        curve = PixelMetrics(exact).update(scores, mask).curve()
        assert (np.diff(curve.thresholds) < 0).all()
        for at in (0, 10, len(curve) // 2, len(curve) - 1):
            above = scores >= curve.thresholds[at]
            hits, false = (above & (mask == 1)).sum(), (above & (mask == 0)).sum()
            expected = hits / (mask == 1).sum(), false / (mask == 0).sum(), hits / (hits + false)
            assert (curve.tpr[at], curve.fpr[at], curve.precision[at]) == pytest.approx(expected, abs=1e-12)
        assert (curve.recall[-1], curve.fpr[-1]) == (1, 1)


@pytest.mark.parametrize("exact", [False, True])
def test_histogram_counts_every_pixel_once(exact):
    latent, mask = make(np.random.default_rng(2))
    scores = latent.astype(np.float32)
    histogram = PixelMetrics(exact).update(scores, mask).histogram(50)
    assert histogram.edges.shape == (51,)
    kept = scores[mask < 255]
    assert (histogram.edges[0], histogram.edges[-1]) == pytest.approx((kept.min(), kept.max()), rel=1e-4)
    for counts, kind in ((histogram.inliers, 0), (histogram.anomalies, 1)):
        expected, _ = np.histogram(scores[mask == kind], histogram.edges)
        assert counts.sum() == (mask == kind).sum()
        assert np.abs(counts - expected).sum() <= (0 if exact else 0.001) * mask.size + 2


def test_histogram_of_one_score_has_width():
    histogram = PixelMetrics(exact=True).update(np.float32([3, 3, 3]), np.uint8([0, 0, 1])).histogram(4)
    assert histogram.edges.tolist() == [2.5, 2.75, 3.0, 3.25, 3.5]
    assert (histogram.inliers.tolist(), histogram.anomalies.tolist()) == ([0, 0, 2, 0], [0, 0, 1, 0])
    with pytest.raises(InputError, match="at least 1"):
        PixelMetrics().histogram(0)


def test_result_is_json_and_named_after_the_rate():
    result = PixelMetrics(tpr=0.995).update(np.float32([0, 1]), np.uint8([0, 1])).compute()
    assert json.loads(json.dumps(result))["FPR99.5"] == 0.0
    assert "FPR90" in PixelMetrics(tpr=0.9).update(np.float32([0, 1]), np.uint8([0, 1])).compute()


@pytest.mark.parametrize("exact", [False, True])
def test_refused_updates_change_nothing(exact):
    metrics = PixelMetrics(exact).update(np.float32([0, 1, 1]), np.uint8([0, 1, 0]))
    before = metrics.compute()
    ones = np.ones(3, np.uint8)
    refused = [
        (np.float32([np.nan, np.inf, 1]), ones, "1 NaN and 1 infinite among 3"),
        (np.float32([1, -np.inf, 1]), np.uint8([0, 255, 1]), "0 NaN and 1 infinite"),
        (np.float32([1, 2, 3]), np.uint8([0, 7, 2]), r"\[2, 7\]"),
        (np.float32([1, 2]), ones, r"\(2,\) and \(3,\)"),
        (np.array([1, 2, 3]), ones, "int64"),
        (np.float32([1, 2, 3]), np.array([0, 1, 0]), "uint8"),
    ]
    for scores, mask, message in refused:
        with pytest.raises(InputError, match=message):
            metrics.update(scores, mask)
    assert metrics.compute() == before


@pytest.mark.parametrize("exact", [False, True])
def test_a_missing_kind_of_pixel_is_named(exact):
    with pytest.raises(InputError, match="got 0 anomaly and 0 inlier"):
        PixelMetrics(exact).compute()
    with pytest.raises(InputError, match=r"0 anomaly and 3 inlier.*with anomaly"):
        PixelMetrics(exact).update(np.zeros(4, np.float32), np.uint8([0, 0, 0, 255])).compute()
    with pytest.raises(InputError, match=r"2 anomaly and 0 inlier.*with inlier"):
        PixelMetrics(exact).update(np.zeros(2, np.float32), np.uint8([1, 1])).curve()


def test_other_settings_and_states_are_refused():
    for other in (PixelMetrics(exact=True), PixelMetrics(tpr=0.9), PixelMetrics(fpr_rule="strict")):
        with pytest.raises(InputError, match="different settings"):
            PixelMetrics().merge(other)
    with pytest.raises(InputError, match="expected a state of PixelMetrics, got one of something else"):
        PixelMetrics.from_state({})
    with pytest.raises(InputError, match="keys"):
        PixelMetrics.from_state(PixelMetrics().state() | {"keys": np.array(5)})
    with pytest.raises(InputError, match="true-positive rate"):
        PixelMetrics(tpr=95)


def test_scores_are_left_as_they_are():
    scores, mask = np.float32([-0.0, -2, 0.7, 3]), np.uint8([0, 255, 1, 1])
    scores.flags.writeable = mask.flags.writeable = False
    PixelMetrics().update(scores, mask)
    strided = torch.arange(12.0).reshape(3, 4).T
    kinds = torch.tensor([[0, 1, 0]] * 4, dtype=torch.uint8)
    assert PixelMetrics().update(strided, kinds).compute()["AUROC"] == 0.5
