"""Failure detection against scikit-learn and loops over thresholds."""

import io

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from strays.errors import InputError
from strays.metrics import FAILURE_FPRS, FailureMetrics, PixelMetrics, failure_mask
from strays.metrics.keys import KEYS


def frame(seed, size=(23, 31), wrong=0.2):
    """Scores with many ties, predictions, and labels with ignored pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.uint8([0, 1, 2, 255]), size)
    errors = rng.random(size) < wrong
    predicted = np.where(errors, (labels.astype(np.int64) + 1) % 3, labels)
    scores = np.round(20 * (rng.normal(size=size) + 1.2 * errors)).astype(np.float32) / 20
    return scores, predicted, labels


FRAMES = [frame(seed) for seed in range(5)] + [frame(9, wrong=0), frame(10, wrong=2)]


def flat(frames):
    """Scores and errors of all pixels that are not ignored."""
    parts = [(scores[labels < 255], (predicted != labels)[labels < 255]) for scores, predicted, labels in frames]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def filled(exact=False, fpr="pooled-success", frames=FRAMES, tpr=0.95):
    metrics = FailureMetrics(exact, tpr, fpr)
    for one in frames:
        metrics.update(*one)
    return metrics


def per_image(frames, level=0.95):
    """Errors are the positives: the share of right pixels at the recall nearest to the level, a mean over images."""
    rates = []
    for one in frames:
        scores, errors = flat([one])
        if errors.all() or not errors.any():
            continue
        points = [((errors & (scores >= t)).sum() / errors.sum(), t) for t in np.unique(scores)]
        nearest = min(abs(recall - level) for recall, _ in points)
        best = max(recall for recall, _ in points if abs(recall - level) == nearest)
        costs = [(~errors & (scores >= t)).sum() / (~errors).sum() for recall, t in points if recall == best]
        rates.append(min(costs) if best == 1 else max(costs))
    return np.mean(rates), len(rates)


def on_the_grid(scores, errors, level=0.95):
    """The published search: 1000 confidences from the lowest up, the first with a TPR in the window."""
    confidence = -scores.astype(np.float64)
    low, high = confidence.min(), confidence.max()
    for step in range(1000):
        accepted = confidence >= low + step * (high - low) / 1000
        if level - 0.0005 <= accepted[~errors].mean() <= level + 0.0005:
            return accepted[errors].mean()
    return None


@pytest.mark.parametrize("exact", [False, True])
def test_pooled_metrics_equal_scikit_learn(exact):
    result, (scores, errors) = filled(exact).compute(), flat(FRAMES)
    expected = {"AP-Success": average_precision_score(~errors, -scores)}
    expected |= {"AP-Error": average_precision_score(errors, scores), "AUROC": roc_auc_score(~errors, -scores)}
    fpr, tpr, _ = roc_curve(~errors, -scores, drop_intermediate=False)
    expected |= {"FPR95": fpr[np.argmax(tpr >= 0.95)], "accuracy": (~errors).mean()}
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-12), name
    counts = [result[f"pixels_{kind}"] for kind in ("right", "wrong", "ignored")]
    assert counts == [(~errors).sum(), errors.sum(), sum((labels == 255).sum() for _, _, labels in FRAMES)]
    assert result["AUROC"] == pytest.approx(roc_auc_score(errors, scores), abs=1e-12)


def test_the_definitions_of_the_fpr_differ():
    scores, errors = flat(FRAMES)
    pooled, image = filled(True).compute(), filled(True, "per-image-error").compute()
    mean, images = per_image(FRAMES)
    assert image["FPR95"] == pytest.approx(mean, abs=1e-12)
    assert (image["images"], image["images_skipped"]) == (images, 2)
    assert image["AP-Error"] == pooled["AP-Error"]
    assert "images" not in pooled
    of_errors, recall, _ = roc_curve(errors, scores, drop_intermediate=False)
    values = [pooled["FPR95"], image["FPR95"], of_errors[np.argmax(recall >= 0.95)]]
    assert len({round(value, 6) for value in values}) == 3


@pytest.mark.parametrize("exact", [False, True])
def test_the_grid_is_searched_as_published(exact):
    rng = np.random.default_rng(3)
    errors = rng.random(9000) < 0.2
    scores = (rng.normal(size=9000) + errors).astype(np.float16)
    result = FailureMetrics(exact, fpr="pooled-success-grid").update(scores, errors.astype(int), 0 * errors).compute()
    expected = on_the_grid(scores, errors)
    assert result["FPR95"] == pytest.approx(expected, abs=1e-12)
    plain = FailureMetrics(exact).update(scores, errors.astype(int), 0 * errors).compute()["FPR95"]
    assert plain != result["FPR95"]
    assert plain == pytest.approx(expected, abs=0.01)


def test_an_entry_is_missing_where_the_grid_misses_the_rate():
    result = filled(True, "pooled-success-grid", FRAMES[:1]).compute()
    assert on_the_grid(*flat(FRAMES[:1])) is None
    assert "FPR95" not in result
    assert "FPR95" not in result.bounds
    same = FailureMetrics(fpr="pooled-success-grid").update(np.zeros(4, np.float32), np.arange(4) % 2, np.zeros(4, int))
    assert "FPR95" not in same.compute()


@pytest.mark.parametrize("fpr", ["pooled-success", "per-image-error"])
def test_bounds_hold_the_exact_values(fpr):
    rng = np.random.default_rng(1)
    frames = []
    for scores, predicted, labels in FRAMES[:3]:
        # 512 of these steps share a key.
        fine = (1.5 + rng.integers(0, 4000, scores.shape) * 2.0**-23 + 2e-5 * (predicted != labels)).astype(np.float32)
        frames.append((fine, predicted, labels))
    exact, result = filled(True, fpr, frames).compute(), filled(False, fpr, frames).compute()
    assert set(result.bounds) == {"AP-Success", "AP-Error", "AUROC", "FPR95"}
    for name, (lower, upper) in result.bounds.items():
        assert lower < upper
        assert lower <= exact[name] <= upper
        assert lower <= result[name] <= upper


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("fpr", FAILURE_FPRS)
def test_merged_and_stored_parts_equal_one_pass(exact, fpr):
    whole = filled(exact, fpr, tpr=0.9)
    parts = [filled(exact, fpr, FRAMES[start::3], tpr=0.9) for start in range(3)]
    merged = FailureMetrics(exact, 0.9, fpr).merge(parts[2]).merge(parts[0]).merge(parts[1])
    file = io.BytesIO()
    np.savez_compressed(file, **merged.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = FailureMetrics.from_state(dict(stored))
    for other in (merged, again):
        assert other.compute() == whole.compute()
        assert other.compute().bounds == whole.compute().bounds
    assert "FPR95" not in whole.compute()
    assert again.update(*FRAMES[0]).compute() == whole.update(*FRAMES[0]).compute()


def test_memory_does_not_grow_with_the_pixels():
    metrics = filled()
    held = metrics._store._counts.nbytes
    for _ in range(5):
        metrics.update(*FRAMES[0])
    assert metrics._store._counts.nbytes == held == 8 * (2 * KEYS + 1)


def test_mask_of_failures_serves_every_pixel_metric():
    scores, predicted, labels = FRAMES[0]
    mask = failure_mask(torch.from_numpy(predicted), torch.from_numpy(labels))
    assert mask.dtype == np.uint8
    assert ((mask == 255) == (labels == 255)).all()
    assert ((mask == 1) == (predicted != labels) & (labels < 255)).all()
    pixels = PixelMetrics(exact=True).update(scores, mask).compute()
    assert pixels["AP"] == filled(True, frames=FRAMES[:1]).compute()["AP-Error"]


def test_refusals():
    scores, predicted, labels = FRAMES[0]
    metrics = filled(fpr="per-image-error")
    before = metrics.compute()
    refused = [
        ((scores[:2], predicted, labels), r"scores and labels of one shape"),
        ((scores, predicted[:2], labels), r"predicted classes and labels of one shape"),
        ((scores, predicted.astype(np.float32), labels), "argmax"),
        ((np.full_like(scores, np.nan), predicted, labels), "finite"),
        (tuple(np.stack([one, one]) for one in FRAMES[0]), "one image"),
    ]
    for arguments, message in refused:
        with pytest.raises(InputError, match=message):
            metrics.update(*arguments)
    assert metrics.compute() == before
    with pytest.raises(InputError, match="definition of the FPR"):
        FailureMetrics(fpr="pooled")
    with pytest.raises(InputError, match="true-positive rate"):
        FailureMetrics(tpr=95)
    for other in (FailureMetrics(True, fpr="per-image-error"), FailureMetrics()):
        with pytest.raises(InputError, match="cannot merge"):
            metrics.merge(other)
    with pytest.raises(InputError, match="PixelMetrics"):
        FailureMetrics.from_state(PixelMetrics().state())


def test_missing_kinds_are_named():
    with pytest.raises(InputError, match=r"\d+ right and 0 wrong"):
        filled(frames=FRAMES[5:6]).compute()
    with pytest.raises(InputError, match="FPR95 per image"):
        filled(fpr="per-image-error", frames=FRAMES[5:]).compute()
