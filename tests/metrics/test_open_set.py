"""Open-set mIoU and its threshold against scikit-learn and loops written from the definition."""

import io
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score, roc_curve

from strays.errors import InputError
from strays.metrics import (
    ConfusionMatrix,
    OpenSetConfusion,
    OpenSetThreshold,
    PixelMetrics,
    crossed_thresholds,
    fpr_at_tpr,
    open_set_over_halves,
    open_set_threshold,
)

K = 5


def frame(seed, size=(12, 17), classes=(0, 1, 2, 3)):
    """An image whose labels lack class 4, with anomalies, void and ignored pixels, and scores with many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.uint8([*classes, 255]), size)
    mask = rng.choice(np.uint8([0, 1, 255]), size, p=[0.7, 0.2, 0.1])
    predicted = np.where(rng.random(size) < 0.7, np.minimum(labels, K - 1), rng.choice(classes, size)).astype(np.int64)
    scores = np.round(4 * (rng.normal(size=size) + 1.5 * (mask == 1))).astype(np.float32) / 4
    return predicted, scores, labels, mask


FRAMES = [frame(seed) for seed in range(4)]


def brute(frames, threshold, classes=K):
    """The pixels one by one, and sets of pixels for every IoU."""
    truths, opened, closed, ignored = [], [], [], 0
    for predicted, scores, labels, mask in frames:
        for place in np.ndindex(mask.shape):
            if mask[place] == 1:
                truth = classes
            elif mask[place] == 0 and labels[place] != 255:
                truth = int(labels[place])
            else:
                ignored += 1
                continue
            truths.append(truth)
            closed.append(int(predicted[place]))
            opened.append(classes if float(scores[place]) > threshold else int(predicted[place]))
    pairs = list(zip(truths, opened, strict=True))
    known = [(truth, found) for truth, found in zip(truths, closed, strict=True) if truth != classes]
    iou, closed_iou = ([one_iou(which, k) for k in range(classes)] for which in (pairs, known))
    values = {"open_mIoU": np.mean([v for v in iou if v is not None])}
    values["closed_mIoU"] = np.mean([v for v in closed_iou if v is not None])
    values["gap"] = values["closed_mIoU"] - values["open_mIoU"]
    if classes in truths:
        values["anomaly_IoU"] = one_iou(pairs, classes)
        values["anomalies_found"] = np.mean([found == classes for truth, found in pairs if truth == classes])
    values["inliers_refused"] = np.mean([found == classes for truth, found in pairs if truth != classes])
    values |= {"images": len(frames), "pixels_known": len(known), "pixels_anomaly": truths.count(classes)}
    return values | {"pixels_ignored": ignored, "threshold": threshold}, iou, closed_iou


def one_iou(pairs, k):
    truth = {place for place, (true, _) in enumerate(pairs) if true == k}
    found = {place for place, (_, got) in enumerate(pairs) if got == k}
    return len(truth & found) / len(truth | found) if truth | found else None


def check(result, values, iou, closed_iou):
    assert set(result) == set(values)
    assert dict(result) == pytest.approx(values, abs=1e-12)
    for found, expected in ((result.iou, iou), (result.closed_iou, closed_iou)):
        assert [value is None for value in found] == [value is None for value in expected]
        present = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
        assert [a for a, _ in present] == pytest.approx([b for _, b in present], abs=1e-12)


def counted(frames, threshold, classes=K):
    confusion = OpenSetConfusion(classes, threshold)
    for one in frames:
        confusion.update(*one)
    return confusion


@pytest.mark.parametrize("threshold", [0.25, 1.0, -100.0, 100.0])
def test_equals_loops(threshold):
    """The scores are multiples of one fourth, so the thresholds fall on ties: what equals the threshold is kept."""
    result = counted(FRAMES, threshold).compute()
    check(result, *brute(FRAMES, threshold))
    json.dumps([result, result.iou, result.gaps], allow_nan=False)


def test_equals_scikit_learn():
    predicted, scores, labels, mask = (np.stack(maps) for maps in zip(*FRAMES, strict=True))
    truth = np.where(mask == 1, K, np.where(mask == 0, labels, 255))
    opened, seen = np.where(scores > 0.5, K, predicted)[truth != 255], truth[truth != 255]
    confusion = counted(FRAMES, 0.5)
    matrix = np.c_[confusion.counts[..., 0], confusion.counts[..., 1].sum(axis=1)]
    np.testing.assert_array_equal(matrix, confusion_matrix(seen, opened, labels=range(K + 1)))
    result = confusion.compute()
    expected = jaccard_score(seen, opened, labels=range(K + 1), average=None, zero_division=0)
    assert [*result.iou, result["anomaly_IoU"]] == pytest.approx(expected, abs=1e-12)
    known = truth < K
    expected = jaccard_score(truth[known], predicted[known], labels=range(K - 1), average=None)
    assert result.closed_iou[: K - 1] == pytest.approx(expected, abs=1e-12)


def test_classes_that_the_labels_cannot_name_have_no_iou():
    confusion, named = counted(FRAMES, 0.5), {0, 2}
    whole, result = confusion.compute(), confusion.compute(named)
    for name in ("iou", "closed_iou"):
        kept = [one if label in named else None for label, one in enumerate(getattr(whole, name))]
        assert list(getattr(result, name)) == kept
    assert result["open_mIoU"] == pytest.approx((whole.iou[0] + whole.iou[2]) / 2, abs=1e-12)
    assert result["closed_mIoU"] == pytest.approx((whole.closed_iou[0] + whole.closed_iou[2]) / 2, abs=1e-12)
    unchanged = ("anomaly_IoU", "anomalies_found", "inliers_refused", "pixels_known")
    assert [result[name] for name in unchanged] == [whole[name] for name in unchanged]
    assert open_set_over_halves({"a": confusion, "b": confusion}, named)["open_mIoU"] == result["open_mIoU"]


def test_closed_is_the_confusion_matrix_of_the_known_pixels():
    plain = ConfusionMatrix(K)
    for predicted, _, labels, mask in FRAMES:
        plain.update(predicted, np.where(mask == 0, labels, 255))
    for threshold in (-1.0, 2.0):
        result = counted(FRAMES, threshold).compute()
        assert result["closed_mIoU"] == plain.compute()["mIoU"]
        assert result.closed_iou == plain.compute().iou


def test_a_perfect_detector_has_no_gap():
    perfect = [(predicted, mask == np.float32(1), labels, mask) for predicted, _, labels, mask in FRAMES]
    result = counted([(p, s.astype(np.float32), y, m) for p, s, y, m in perfect], 0.5).compute()
    assert result["gap"] == 0
    assert (result["anomaly_IoU"], result["anomalies_found"], result["inliers_refused"]) == (1, 1, 0)
    assert {gap for gap in result.gaps if gap is not None} == {0.0}


def test_classes_that_occur_in_one_mean_alone():
    # Class 1 is predicted on an anomaly alone, class 2 on a refused pixel alone, class 3 nowhere.
    predicted, scores = np.uint8([[0, 0, 1, 2]]), np.float32([[0, 0, 0, 9]])
    result = (
        OpenSetConfusion(4, 5).update(predicted, scores, np.uint8([[0, 0, 0, 0]]), np.uint8([[0, 0, 1, 0]])).compute()
    )
    assert result.iou == (2 / 3, 0, None, None)
    assert result.closed_iou == (2 / 3, None, 0, None)
    assert result.gaps == (0, None, None, None)
    assert result["open_mIoU"] == result["closed_mIoU"] == 1 / 3


def test_one_class():
    frames = [frame(seed, classes=(0,)) for seed in range(3)]
    frames = [(np.zeros_like(predicted), *rest) for predicted, *rest in frames]
    result = counted(frames, 0.5, 1).compute()
    check(result, *brute(frames, 0.5, 1))
    assert result["closed_mIoU"] == 1
    assert 0 < result["gap"] < 1


def test_without_anomalies_only_the_cost_is_told():
    frames = [(predicted, scores, labels, np.where(mask == 1, 255, mask)) for predicted, scores, labels, mask in FRAMES]
    frames = [(p, s, y, m.astype(np.uint8)) for p, s, y, m in frames]
    result = counted(frames, 0.5).compute()
    check(result, *brute(frames, 0.5))
    assert "anomalies_found" not in result
    assert result["gap"] > 0


def test_void_under_anomalies_and_in_ignored_pixels_is_not_read():
    predicted, scores, labels, mask = FRAMES[0]
    wild, nowhere = labels.copy(), predicted.copy()
    wild[mask != 0] = 77
    nowhere[(mask == 255) | ((mask == 0) & (labels == 255))] = 99
    result = OpenSetConfusion(K, 0.5).update(nowhere, scores, wild, mask).compute()
    assert result == OpenSetConfusion(K, 0.5).update(predicted, scores, labels, mask).compute()


def test_merging_storing_and_batches_equal_one_pass():
    whole, merged = counted(FRAMES, 0.5), OpenSetConfusion(K, 0.5)
    for one in FRAMES:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **OpenSetConfusion(K, 0.5).update(*one).state())
        merged.merge(OpenSetConfusion.from_state(np.load(io.BytesIO(buffer.getvalue()))))
    batch = OpenSetConfusion(K, 0.5).update(*(torch.from_numpy(np.stack(maps)) for maps in zip(*FRAMES, strict=True)))
    for other in (merged, batch):
        assert other.compute() == whole.compute()
        assert (other.compute().iou, other.compute().closed_iou) == (whole.compute().iou, whole.compute().closed_iou)
    state = whole.state()
    whole.update(*FRAMES[0])
    np.testing.assert_array_equal(state["counts"], merged.counts)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_scores_are_compared_exactly(dtype):
    scores = torch.tensor([[0.1, 0.2]], dtype=dtype)
    largest_kept = float(scores[0, 1])
    zeros, mask = np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8)
    for threshold, refused in ((largest_kept, 0), (np.nextafter(largest_kept, 0), 1)):
        confusion = OpenSetConfusion(1, threshold).update(zeros, scores, zeros, mask)
        assert confusion.counts[0, 0].tolist() == [2 - refused, refused]


def test_refused_updates_change_nothing():
    confusion = counted(FRAMES, 0.5)
    before = confusion.state()
    predicted, scores, labels, mask = FRAMES[0]
    refused = [
        ((np.full_like(predicted, K), scores, labels, mask), rf"predicted classes in \[0, {K}\), got \[{K}\]"),
        ((predicted, scores, np.full_like(labels, 9), mask), rf"labels in \[0, {K}\), got \[9\]"),
        ((predicted, scores, np.full(labels.shape, -1), mask), r"got \[-1\]"),
        ((predicted.astype(np.float32), scores, labels, mask), "argmax"),
        ((predicted, scores * np.nan, labels, mask), "finite scores"),
        ((predicted, scores, labels, mask + 2), "expected a mask"),
        ((predicted[:3], scores, labels, mask), "predicted classes and scores of one shape"),
        ((predicted, scores, labels[:3], mask), "labels and scores of one shape"),
        (tuple(values.ravel() for values in FRAMES[0]), r"\(H, W\)"),
    ]
    for arguments, message in refused:
        with pytest.raises(InputError, match=message):
            confusion.update(*arguments)
    assert all(np.array_equal(before[name], value) for name, value in confusion.state().items())


def test_refusals_of_the_confusion():
    with pytest.raises(InputError, match="needs known pixels"):
        OpenSetConfusion(2, 0).compute()
    with pytest.raises(InputError, match=r"2 classes at 0.0 and 2 classes at 1.0"):
        OpenSetConfusion(2, 0).merge(OpenSetConfusion(2, 1))
    with pytest.raises(InputError, match="1 to 255"):
        OpenSetConfusion(0, 0)
    with pytest.raises(InputError, match="finite threshold"):
        OpenSetConfusion(2, np.nan)
    with pytest.raises(InputError, match="expected a state of OpenSetConfusion"):
        OpenSetConfusion.from_state(ConfusionMatrix(2).state())


def pixels(seed, size=400, steps=None, share=0.3):
    rng = np.random.default_rng(seed)
    mask = np.r_[np.uint8([0, 1]), rng.choice(np.uint8([0, 1, 255]), size, p=[0.9 - share, share, 0.1])]
    scores = (rng.normal(size=size + 2) + 2 * (mask == 1)).astype(np.float32)
    return (scores if steps is None else np.round(scores * steps) / np.float32(steps)), mask


def first_above(scores, mask, tpr, drop=True):
    """The authors' loop over scikit-learn's curve."""
    _, found, thresholds = roc_curve(mask[mask < 255], scores[mask < 255], drop_intermediate=drop)
    return next(float(threshold) for rate, threshold in zip(found, thresholds, strict=True) if rate > tpr)


@pytest.mark.parametrize("steps", [None, 1, 4, 50])
@pytest.mark.parametrize("drop", [True, False])
def test_threshold_equals_scikit_learn(steps, drop):
    cases = [(seed, size, tpr) for seed in range(6) for size in (0, 3, 20, 400) for tpr in (0.02, 0.5, 0.95)]
    for seed, size, tpr in cases:
        scores, mask = pixels(seed, size, steps)
        assert open_set_threshold(scores, mask, tpr, drop) == first_above(scores, mask, tpr, drop)


def test_exactly_the_rate_is_not_above_it():
    scores, mask = np.arange(40, dtype=np.float32), np.tile(np.uint8([0, 1]), 20)
    assert open_set_threshold(scores, mask) == 1  # 19 of 20 anomalies are 0.95
    assert open_set_threshold(scores, mask, tpr=0.9499) == 3


def test_the_end_of_a_run_of_anomalies_counts_as_in_scikit_learn():
    scores, mask = np.arange(200, dtype=np.float32), np.repeat(np.uint8([0, 1]), 100)
    assert open_set_threshold(scores, mask) == 100
    assert open_set_threshold(scores, mask, drop_intermediate=False) == 104


def test_threshold_reaches_the_rate_of_the_strict_rule():
    scores, mask = pixels(3, 2000)
    threshold = open_set_threshold(scores, mask, drop_intermediate=False)
    assert np.mean(scores[mask == 0] >= threshold) == fpr_at_tpr(scores, mask, rule="strict")
    assert np.mean(scores[mask == 1] >= threshold) > 0.95


@pytest.mark.parametrize("scale", [1, -1, 60])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_streaming_half_precision_is_exact(scale, dtype):
    for seed in range(5):
        scores, mask = pixels(seed, 300)
        rounded = torch.from_numpy(scores * scale).clamp(-255, 255).to(dtype)
        streamed = OpenSetThreshold().update(rounded, mask).compute()
        assert streamed == first_above(rounded.double().numpy(), mask, 0.95)


def test_streaming_probabilities_near_one_are_exact_in_half_precision():
    scores = np.arange(2**10, 2**11 + 1).astype(np.float16) / np.float16(2**11)  # all of [0.5, 1]
    mask = np.tile(np.uint8([1, 0]), scores.size)[: scores.size]
    for tpr in (0.1, 0.5, 0.9, 0.999):
        assert OpenSetThreshold(tpr).update(scores, mask).compute() == first_above(scores, mask, tpr)


@pytest.mark.parametrize("offset", [0, -10, 300])
def test_streaming_float32_is_within_a_key(offset):
    for seed in range(5):
        scores, mask = pixels(seed, 20_000, share=0.1)
        scores = scores + np.float32(offset)
        exact = open_set_threshold(scores, mask, drop_intermediate=False)
        streamed = OpenSetThreshold(drop_intermediate=False).update(scores, mask).compute()
        assert 0 <= exact - streamed <= max(abs(exact), 2**-15) * (2.0**-7 if abs(exact) > 256 else 2.0**-13)
        assert np.mean(scores[mask == 1] >= streamed) > 0.95


def test_streaming_float32_takes_every_score_whatever_is_asked():
    """Anomalies far above the inliers: dropping counts per key would move the threshold by a tenth."""
    rng = np.random.default_rng(0)
    scores = np.r_[rng.normal(size=20_000), rng.normal(6, 1, 2_000)].astype(np.float32)
    mask = np.repeat(np.uint8([0, 1]), [20_000, 2_000])
    every, corners = (first_above(scores, mask, 0.95, drop) for drop in (False, True))
    assert every - corners > 0.1
    assert OpenSetThreshold().update(scores, mask).compute() == pytest.approx(every, rel=2.0**-13)
    assert OpenSetThreshold(exact=True).update(scores, mask).compute() == corners


def test_turned_maps_are_downsampled_too():
    scores, mask = (one.reshape(2, 6, 8) for one in pixels(0, 94, share=0.5))
    turned = OpenSetThreshold(downsampling=2).update(scores[:, ::-1, ::-1], mask[:, ::-1, ::-1]).compute()
    copied = OpenSetThreshold(downsampling=2).update(scores[:, ::-1, ::-1].copy(), mask[:, ::-1, ::-1].copy())
    assert turned == copied.compute()


@pytest.mark.parametrize("exact", [True, False])
def test_threshold_in_parts_stored_and_from_pixel_metrics(exact):
    scores, mask = pixels(5, 1000)
    whole, merged = OpenSetThreshold(exact=exact).update(scores, mask), OpenSetThreshold(exact=exact)
    for part in (slice(0, 300), slice(300, None)):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **OpenSetThreshold(exact=exact).update(scores[part], mask[part]).state())
        merged.merge(OpenSetThreshold.from_state(np.load(io.BytesIO(buffer.getvalue()))))
    metrics = PixelMetrics(exact).update(scores, mask)
    before = metrics.compute()
    assert merged.settings == whole.settings
    assert merged.compute() == whole.compute() == OpenSetThreshold.from_pixels(metrics).compute()
    assert metrics.compute() == before
    if exact:
        assert whole.compute() == first_above(scores, mask, 0.95)


@pytest.mark.parametrize("size", [(2, 2), (8, 10), (7, 9), (3, 2, 7, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_downsampling_is_that_of_pytorch(size, dtype):
    """As the authors call it, which decides what odd sizes do; void pixels give their scores but are not counted."""
    rng = np.random.default_rng(8)
    scores = torch.from_numpy(rng.normal(size=size)).to(dtype)
    mask = rng.choice(np.uint8([0, 1, 255]), size)
    mask[..., 0, 0], mask[..., 1, 1] = 1, 255
    stored = OpenSetThreshold(exact=True, downsampling=2).update(scores, mask).state()
    float_scores = (scores.float() if dtype == torch.float16 else scores).reshape(1, -1, *size[-2:])
    small = torch.nn.functional.interpolate(float_scores, scale_factor=0.5, mode="bilinear")
    kinds = torch.nn.functional.interpolate(
        torch.from_numpy(mask).reshape(1, -1, *size[-2:]).float(), scale_factor=0.5, mode="nearest"
    )
    np.testing.assert_array_equal(stored["anomalies"], small[kinds == 1].numpy())
    np.testing.assert_array_equal(stored["inliers"], small[kinds == 0].numpy())
    assert stored["ignored"] == (kinds == 255).sum()


@pytest.mark.parametrize("factor", [3, 4])
def test_downsampling_by_other_factors(factor):
    rng = np.random.default_rng(9)
    scores, mask = torch.from_numpy(rng.normal(size=(24, 12))).float(), rng.choice(np.uint8([0, 1]), (24, 12))
    stored = OpenSetThreshold(exact=True, downsampling=factor).update(scores, mask).state()
    size = [24 // factor, 12 // factor]
    small = torch.nn.functional.interpolate(scores[None, None], size=size, mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(stored["anomalies"], small[mask[::factor, ::factor] == 1], rtol=1e-6)


def test_refusals_of_the_threshold():
    scores, zeros = np.float32([1, 2, 3]), np.zeros(3, np.uint8)
    for mask, message in ((zeros, "0 anomaly and 3 inlier"), (zeros + np.uint8(1), "3 anomaly and 0 inlier")):
        for exact in (True, False):
            with pytest.raises(InputError, match=f"threshold at 95 % TPR .* got {message}"):
                OpenSetThreshold(exact=exact).update(scores, mask).compute()
    for tpr in (0, 1, 95):
        with pytest.raises(InputError, match=r"in \(0, 1\)"):
            open_set_threshold(scores, zeros, tpr)
    with pytest.raises(InputError, match="down-sampling"):
        OpenSetThreshold(downsampling=0)
    with pytest.raises(InputError, match="at least 2 x 2"):
        OpenSetThreshold(downsampling=2).update(scores, zeros)
    with pytest.raises(InputError, match="different settings"):
        OpenSetThreshold().merge(OpenSetThreshold(downsampling=2))
    with pytest.raises(InputError, match="expected a state of OpenSetThreshold"):
        OpenSetThreshold.from_state(PixelMetrics().state())


HALVES = {"t5": FRAMES[:3], "t6": [frame(9, (8, 8)), *(frame(seed, (5, 20)) for seed in range(10, 14))]}


def first_pass(halves, **settings):
    thresholds = {name: OpenSetThreshold(exact=True, **settings) for name in halves}
    for name, frames in halves.items():
        for _, scores, _, mask in frames:
            thresholds[name].update(scores, mask)
    return thresholds


def test_halves_equal_the_protocol_in_loops():
    crossed = crossed_thresholds(first_pass(HALVES, downsampling=2))
    second = {name: counted(frames, crossed[name]) for name, frames in HALVES.items()}
    result = open_set_over_halves(second)
    expected = {}
    for name, other in (("t5", "t6"), ("t6", "t5")):
        scores, kinds = [], []
        for _, score, _, mask in HALVES[other]:
            small = torch.nn.functional.interpolate(
                torch.from_numpy(score)[None, None], scale_factor=0.5, mode="bilinear"
            )
            scores.append(small.numpy().ravel())
            kinds.append(mask[: mask.shape[0] // 2 * 2 : 2, : mask.shape[1] // 2 * 2 : 2].ravel())
        threshold = first_above(np.concatenate(scores), np.concatenate(kinds), 0.95)
        expected[name], iou, closed_iou = brute(HALVES[name], threshold)
        check(result.halves[name], expected[name], iou, closed_iou)
    mean = (3 * expected["t5"]["open_mIoU"] + 5 * expected["t6"]["open_mIoU"]) / 8
    assert result["open_mIoU"] == pytest.approx(mean, abs=1e-12)
    pooled, _, closed_iou = brute([*HALVES["t5"], *HALVES["t6"]], 0.0)
    assert result["closed_mIoU"] == pytest.approx(pooled["closed_mIoU"], abs=1e-12)
    assert result["gap"] == pytest.approx(pooled["closed_mIoU"] - mean, abs=1e-12)
    assert result.closed_iou[0] == pytest.approx(closed_iou[0], abs=1e-12)
    counts = sum(part.counts for part in second.values())
    assert result.iou[2] == counts[2, 2, 0] / (counts[2].sum() + counts[:, 2, 0].sum() - counts[2, 2, 0])
    assert result["anomalies_found"] == counts[K, :, 1].sum() / counts[K].sum()
    assert result["inliers_refused"] == counts[:K, :, 1].sum() / counts[:K].sum()
    assert (result["images"], "threshold" in result) == (8, False)
    json.dumps(result, allow_nan=False)


def test_more_than_two_parts_take_the_threshold_of_all_others():
    parts = {str(seed): [frame(seed)] for seed in range(3)}
    crossed = crossed_thresholds(first_pass(parts))
    for name in parts:
        others = [one[0] for other, one in parts.items() if other != name]
        scores, mask = (np.concatenate([one[at].ravel() for one in others]) for at in (1, 3))
        assert crossed[name] == first_above(scores, mask, 0.95)


def test_refusals_of_the_halves():
    one = first_pass({"t5": FRAMES[:1]})
    with pytest.raises(InputError, match="at least 2 halves, got 1"):
        crossed_thresholds(one)
    with pytest.raises(InputError, match=r"threshold for t5, estimated on t6: .* 0 anomaly"):
        crossed_thresholds(one | {"t6": OpenSetThreshold(exact=True)})
    with pytest.raises(InputError, match=r"one number of classes, got \[2, 3\]"):
        open_set_over_halves({"t5": OpenSetConfusion(2, 0), "t6": OpenSetConfusion(3, 0)})
    with pytest.raises(InputError, match=r"one number of classes, got \[\]"):
        open_set_over_halves({})
    with pytest.raises(InputError, match="half t6: open-set mIoU needs known pixels"):
        open_set_over_halves({"t5": counted(FRAMES, 0), "t6": OpenSetConfusion(K, 0)})
