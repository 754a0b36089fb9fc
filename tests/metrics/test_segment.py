"""Component metrics against slow loops written from the benchmark's definition."""

import numpy as np
import pytest
import torch

from strays.errors import InputError
from strays.metrics import PixelMetrics, SegmentMetrics


def flood(region):
    """The 8-connected components of a boolean map, each a set of (row, column)."""
    left, found = {tuple(place) for place in np.argwhere(region).tolist()}, []
    while left:
        component, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            component.add((row, column))
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            edge += around
        found.append(component)
    return found


def brute_frame(score, mask, threshold, min_prediction, min_truth, strict=True):
    above = score > threshold if strict else score >= threshold
    predicted = [c for c in flood(above & (mask != 255)) if len(c) >= min_prediction]
    truth = flood(mask == 1)
    vanished = set().union(*(c for c in truth if len(c) < min_truth))
    truth = [c for c in truth if len(c) >= min_truth]
    predicted = [c - vanished for c in predicted if c - vanished]
    siou = []
    for component in truth:
        touching = [p for p in predicted if p & component]
        union = set().union(*touching)
        elsewhere = set().union(*(other for other in truth if other is not component))
        inter = len(union & component)
        siou.append(inter / (len(union) + len(component) - inter - len(union & elsewhere)))
    anomalous = set().union(*truth)
    return siou, [len(p & anomalous) / len(p) for p in predicted]


def brute(frames, *settings):
    siou, ppv = [], []
    for score, mask in frames:
        one, other = brute_frame(score, mask, *settings)
        siou += one
        ppv += other
    f1 = {}
    for tau in np.linspace(0.25, 0.75, 11):
        hit, missed, false = (sum(x >= tau for x in siou), sum(x < tau for x in siou), sum(x < tau for x in ppv))
        f1[f"F1@{round(100 * tau)}"] = 2 * hit / (2 * hit + missed + false)
    counts = {"components_truth": len(siou), "components_predicted": len(ppv)}
    means = {"sIoU": np.mean(siou), "PPV": np.mean(ppv) if ppv else 0.0, "F1_mean": np.mean(list(f1.values()))}
    return means | counts | f1


def frame(seed, size=(48, 64)):
    """Blobs of anomaly, partly found, with false alarms, ignored patches and noise."""
    rng = np.random.default_rng(seed)
    mask, score = np.zeros(size, np.uint8), rng.normal(size=size) * 0.4
    for _ in range(7):
        row, column = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 8)
        height, width = rng.integers(1, 9, 2)
        mask[row : row + height, column : column + width] = 1
        score[row + rng.integers(0, 3) : row + height + 1, column : column + width + rng.integers(0, 4)] += 1.5
    for value in (255, 255, 0):
        row, column = rng.integers(0, size[0] - 9), rng.integers(0, size[1] - 12)
        mask[row : row + 6, column : column + 9] = value
        score[row : row + 7, column : column + 10] += 1.2
    return score.astype(np.float32), mask


@pytest.mark.parametrize("sizes", [(0, 0), (5, 4), (12, 20), (1, 40)])
@pytest.mark.parametrize("strict", [True, False])
def test_equals_loops(sizes, strict):
    frames = [frame(seed) for seed in range(6)]
    metrics = SegmentMetrics(0.7, *sizes, strict)
    for score, mask in frames:
        metrics.update(score, mask)
    expected = brute(frames, 0.7, *sizes, strict)
    assert metrics.compute() == pytest.approx(expected, abs=1e-12)
    assert metrics.compute()["components_truth"] > 3


def test_one_prediction_over_two_truths_is_not_held_against_either():
    mask = np.zeros((10, 30), np.uint8)
    mask[2:8, 2:10] = mask[2:8, 20:28] = 1
    score = np.zeros((10, 30), np.float32)
    score[2:8, 2:28] = 1
    result = SegmentMetrics(0.5, 1, 1).update(score, mask).compute()
    assert result["sIoU"] == pytest.approx(48 / (48 + 60))
    assert result["PPV"] == pytest.approx(96 / 156)


def test_small_truths_vanish_from_the_prediction_too():
    mask = np.zeros((10, 20), np.uint8)
    mask[1:3, 1:3], mask[4:9, 8:18] = 1, 1
    score = (mask == 1).astype(np.float32)
    result = SegmentMetrics(0.5, min_prediction=1, min_truth=10).update(score, mask).compute()
    assert (result["components_truth"], result["components_predicted"], result["F1_mean"]) == (1, 1, 1.0)


def test_diagonal_neighbours_are_one_component_and_ignored_pixels_split():
    mask = np.eye(6, dtype=np.uint8)
    score = np.eye(6, dtype=np.float32)
    assert SegmentMetrics(0.5, 1, 1).update(score, mask).compute()["components_truth"] == 1
    row, ones = np.uint8([[1, 1, 255, 1, 1]]), np.ones((1, 5), np.float32)
    result = SegmentMetrics(0.5, 1, 1).update(ones, row).compute()
    assert (result["components_truth"], result["components_predicted"]) == (2, 2)


def test_threshold_is_strict_by_default_and_compared_exactly():
    mask = np.uint8([[0, 1, 1, 0]])
    score = np.float16([[0, 0.1, 0.1, 0]])
    equal = float(np.float16(0.1))
    assert SegmentMetrics(equal, 1, 1).update(score, mask).compute()["sIoU"] == 0
    assert SegmentMetrics(equal, 1, 1, strict=False).update(score, mask).compute()["sIoU"] == 1
    # Rounded to float16 these thresholds would be the score itself.
    assert SegmentMetrics(equal - 1e-9, 1, 1).update(score, mask).compute()["sIoU"] == 1
    assert SegmentMetrics(equal + 1e-9, 1, 1, strict=False).update(score, mask).compute()["sIoU"] == 0


def test_nothing_predicted_and_nothing_true():
    score, mask = frame(0)
    result = SegmentMetrics(1e9, 1, 1).update(score, mask).compute()
    assert (result["sIoU"], result["PPV"], result["F1_mean"], result["components_predicted"]) == (0, 0, 0, 0)
    with pytest.raises(InputError, match="at least 100 pixels"):
        SegmentMetrics(0.5).update(score, np.zeros_like(mask)).compute()


def test_merging_and_storing_equal_one_pass():
    frames = [frame(seed) for seed in range(5)]
    whole, merged = SegmentMetrics.preset("obstacle-track", 0.7), SegmentMetrics.preset("obstacle-track", 0.7)
    for one in frames:
        whole.update(*one)
    for one in reversed(frames):
        part = SegmentMetrics.preset("obstacle-track", 0.7).update(*one)
        merged.merge(SegmentMetrics.from_state(part.state()))
    assert merged.compute() == whole.compute()
    assert merged.settings == whole.settings


def test_two_passes_with_the_pixel_threshold():
    frames = [frame(seed) for seed in range(3)]
    pixels = PixelMetrics()
    for score, mask in frames:
        pixels.update(torch.from_numpy(score), torch.from_numpy(mask))
    threshold = pixels.compute()["threshold"]
    segments = SegmentMetrics(threshold, 5, 5)
    for score, mask in frames:
        segments.update(torch.from_numpy(score)[None], torch.from_numpy(mask)[None])
    assert segments.compute() == pytest.approx(brute(frames, threshold, 5, 5), abs=1e-12)


def test_refusals():
    score, mask = frame(0)
    with pytest.raises(InputError, match="anomaly-track, obstacle-track"):
        SegmentMetrics.preset("fishyscapes", 0.5)
    with pytest.raises(InputError, match="finite threshold"):
        SegmentMetrics(float("nan"))
    with pytest.raises(InputError, match="0 pixels or more"):
        SegmentMetrics(0.5, -1)
    with pytest.raises(InputError, match="one image"):
        SegmentMetrics(0.5).update(np.stack([score] * 2), np.stack([mask] * 2))
    with pytest.raises(InputError, match="one image"):
        SegmentMetrics(0.5).update(score.ravel(), mask.ravel())
    with pytest.raises(InputError, match="NaN"):
        SegmentMetrics(0.5).update(np.full_like(score, np.nan), mask)
    with pytest.raises(InputError, match="different settings"):
        SegmentMetrics(0.5).merge(SegmentMetrics(0.6))
    with pytest.raises(InputError, match="expected a state of SegmentMetrics"):
        SegmentMetrics.from_state(PixelMetrics().state())
