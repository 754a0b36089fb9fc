"""The exact metrics against scikit-learn and against loops written from the definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from strays.errors import InputError
from strays.metrics import Curve, auroc, average_precision, best_f1, fpr_at_tpr


def scores_of_kind(kind, rng, anomalous):
    noise = rng.normal(size=anomalous.size) + 1.5 * anomalous
    with np.errstate(over="ignore"):
        return {
            "plain": noise.astype(np.float32),
            "float64": noise,
            "ties": np.round(noise * 2).astype(np.float32),
            "float16": noise.astype(np.float16),
            "negative": (noise - 40).astype(np.float32),
            "huge": (noise * 1e37).astype(np.float32),
            "denormal": (noise * 1e-42).astype(np.float32),
            "saturated": (1 / (1 + np.exp(-12 * noise))).astype(np.float32),
            "constant": np.zeros_like(noise, np.float32),
            "signed zeros": np.copysign(np.float32(0), noise.astype(np.float32)),
        }[kind]


KINDS = ["plain", "float64", "ties", "float16", "negative", "huge", "denormal", "saturated", "constant", "signed zeros"]


@pytest.fixture(params=KINDS)
def sample(request):
    rng = np.random.default_rng(7)
    mask = rng.choice(np.uint8([0, 1, 255]), 600, p=[0.75, 0.1, 0.15]).reshape(20, 30)
    return scores_of_kind(request.param, rng, (mask == 1).ravel()).reshape(mask.shape), mask


def valid(scores, mask):
    return (mask[mask < 255] == 1), scores[mask < 255].astype(np.float64)


def points(scores, mask):
    """(TPR, FPR) at every distinct score, from the highest down, by counting."""
    truth, values = valid(scores, mask)
    for threshold in sorted(set(values.tolist()), reverse=True):
        above = values >= threshold
        yield (above & truth).sum() / truth.sum(), (above & ~truth).sum() / (~truth).sum()


def brute_fpr(scores, mask, tpr, rule):
    curve = list(points(scores, mask))
    if rule == "first":
        return next(fpr for reached, fpr in curve if reached >= tpr)
    if rule == "strict":
        return next(fpr for reached, fpr in curve if reached > tpr)
    if rule == "interpolated":
        below, above = (0.0, 0.0), None
        for point in curve:
            if point[0] > tpr or point[0] == 1:
                above = point
                break
            below = point
        if below[0] == tpr:
            return below[1]
        share = (tpr - below[0]) / (above[0] - below[0])
        return below[1] + share * (above[1] - below[1])
    best = min(abs(reached - tpr) for reached, _ in curve)
    reached = max(reached for reached, _ in curve if abs(reached - tpr) == best)
    costs = [fpr for other, fpr in curve if other == reached]
    return min(costs) if reached == 1 else max(costs)


def caos_fpr(scores, mask, tpr):
    """The CAOS benchmark: walk the curve backwards from full recall and take the first of the nearest."""
    curve = list(points(scores, mask))
    full = next(index for index, (reached, _) in enumerate(curve) if reached == 1)
    backwards = curve[full::-1]
    nearest = min(range(len(backwards)), key=lambda index: abs(backwards[index][0] - tpr))
    return backwards[nearest][1]


def test_equals_scikit_learn(sample):
    scores, mask = sample
    truth, values = valid(scores, mask)
    assert average_precision(scores, mask) == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    assert auroc(scores, mask) == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    for rate in (0.5, 0.9, 0.95, 1.0):
        assert fpr_at_tpr(scores, mask, rate) == pytest.approx(fpr[np.argmax(tpr >= rate)], abs=1e-12)


@pytest.mark.parametrize("rule", ["first", "strict", "argmin", "interpolated"])
def test_fpr_rules_equal_counting(sample, rule):
    for rate in (0.1, 0.5, 0.8, 0.95):
        expected = brute_fpr(*sample, rate, rule)
        assert fpr_at_tpr(*sample, rate, rule) == pytest.approx(expected, abs=1e-12)


def test_rules_differ_where_a_rate_is_met_exactly():
    # TPR 1/4 at 9, 2/4 at 8, then two inliers, 3/4 at 5, one inlier, 4/4 at 3.
    scores = np.float32([9, 8, 7, 6, 5, 4, 3])
    mask = np.uint8([1, 1, 0, 0, 1, 0, 1])
    found = {rule: fpr_at_tpr(scores, mask, 0.5, rule) for rule in ("first", "strict", "argmin", "interpolated")}
    assert found == pytest.approx({"first": 0, "strict": 2 / 3, "argmin": 2 / 3, "interpolated": 2 / 3})
    assert fpr_at_tpr(scores, mask, 0.625, "argmin") == 1.0  # as near to 2/4 as to 3/4: the higher; its last point
    assert fpr_at_tpr(scores, mask, 0.625, "interpolated") == pytest.approx(2 / 3)
    assert fpr_at_tpr(scores, mask, 0.3, "interpolated") == 0


def test_argmin_equals_the_caos_walk(sample):
    for rate in (0.3, 0.8, 0.95):
        assert fpr_at_tpr(*sample, rate, "argmin") == pytest.approx(caos_fpr(*sample, rate), abs=1e-12)


def test_interpolated_equals_numpy_on_scikit_learns_curve(sample):
    truth, values = valid(*sample)
    fpr, tpr, _ = roc_curve(truth, values)
    assert fpr_at_tpr(*sample, 0.95, "interpolated") == pytest.approx(np.interp(0.95, tpr, fpr), abs=1e-12)


def test_best_f1_is_reached_at_its_threshold_and_nowhere_beaten(sample):
    scores, mask = sample
    truth, values = valid(scores, mask)
    f1, threshold = best_f1(scores, mask)
    assert f1_score(truth, values >= threshold) == pytest.approx(f1, abs=1e-12)
    every = [f1_score(truth, values >= other) for other in np.quantile(values, np.linspace(0, 1, 40))]
    assert f1 >= max(every) - 1e-12


def test_tensors_and_arrays_give_the_same():
    rng = np.random.default_rng(0)
    scores, mask = rng.normal(size=(2, 5, 6)).astype(np.float32), rng.integers(0, 2, (2, 5, 6)).astype(np.uint8)
    tensors = torch.from_numpy(scores).requires_grad_(), torch.from_numpy(mask)
    assert average_precision(*tensors) == average_precision(scores, mask) == average_precision(scores, mask == 1)


@pytest.mark.parametrize(
    ("rate", "rule", "message"),
    [(95, "first", "0.95"), (0, "first", "0"), (0.95, "nearest", "argmin"), (1.0, "strict", "above 1")],
)
def test_unknown_rules_and_rates_are_refused(rate, rule, message):
    with pytest.raises(InputError, match=message):
        fpr_at_tpr(np.float32([0, 1]), np.uint8([0, 1]), rate, rule)


def test_thinned_curve_keeps_its_ends_and_its_shape():
    tpr, fpr = np.linspace(0, 1, 5001) ** 0.2, np.linspace(0, 1, 5001)
    curve = Curve(np.linspace(1, 0, 5001), tpr, fpr, precision=np.linspace(1, 0.1, 5001))
    thin = curve.thinned(200)
    assert 150 < len(thin) <= 200
    assert (thin.thresholds[0], thin.thresholds[-1]) == (1, 0)
    assert np.abs(np.interp(fpr, thin.fpr, thin.recall) - tpr)[50:].max() < 0.02
    assert curve.thinned(9999) is curve
    with pytest.raises(InputError, match="at least 2"):
        curve.thinned(1)
