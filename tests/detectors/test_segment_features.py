"""Segments, their features and their adjusted IoU, against loops over pixels written from the definitions."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.detectors.segment_features import (
    FEATURES,
    SegmentRows,
    adjusted_iou,
    boundary_pixels,
    dispersion_maps,
    label_segments,
    painted,
    predicted_segments,
    segment_features,
)
from strays.errors import InputError
from strays.prediction import Prediction

Pixel = tuple[int, int]
Segment = tuple[int, list[Pixel]]


def blobs(seed: int, height: int = 13, width: int = 17, classes: int = 3, ignored: float = 0.0) -> NDArray[np.int64]:
    """A random label map whose segments are of all sizes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (height // 3 + 1, width // 3 + 1))
    labels = np.kron(coarse, np.ones((3, 3), np.int64))[:height, :width]
    noisy = rng.random((height, width)) < 0.2
    labels[noisy] = rng.integers(0, classes, noisy.sum())
    labels[rng.random((height, width)) < ignored] = 255
    return labels


def logits_for(labels: NDArray[np.int64], classes: int, seed: int = 0) -> Tensor:
    """Float64 logits whose largest entry is that of the label, whatever it is where the label is 255."""
    logits = torch.randn(classes, *labels.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for y, x in product(*map(range, labels.shape)):
        if labels[y, x] != 255:
            logits[labels[y, x], y, x] = logits[:, y, x].max() + 0.3
    return logits


def around(pixel: Pixel, shape: tuple[int, ...]) -> list[Pixel]:
    y, x = pixel
    places = product((y - 1, y, y + 1), (x - 1, x, x + 1))
    return [(b, a) for b, a in places if 0 <= b < shape[0] and 0 <= a < shape[1] and (b, a) != pixel]


def flood(start: set[Pixel], wanted: NDArray[np.bool_]) -> set[Pixel]:
    """The wanted pixels that steps over wanted pixels reach from the start, the start left out unless wanted."""
    found: set[Pixel] = set()
    open_ = list(start)
    while open_:
        for one in around(open_.pop(), wanted.shape):
            if wanted[one] and one not in found:
                found.add(one)
                open_.append(one)
    return found


def segments_by_loop(labels: NDArray[np.int64]) -> list[Segment]:
    """Label and pixels of every segment, in the order of the first pixels."""
    done: set[Pixel] = set()
    segments: list[Segment] = []
    for pixel in product(*map(range, labels.shape)):
        if pixel in done or labels[pixel] == 255:
            continue
        members = flood({pixel}, labels == labels[pixel]) | {pixel}
        done |= members
        segments.append((int(labels[pixel]), sorted(members)))
    return segments


def on_boundary(pixel: Pixel, labels: NDArray[np.int64]) -> bool:
    return any(labels[one] != labels[pixel] for one in around(pixel, labels.shape))


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def features_by_loop(members: list[Pixel], labels: NDArray[np.int64], logits: Tensor) -> list[float]:
    probabilities = torch.softmax(logits, 0).numpy()
    classes = len(probabilities)
    inner = [one for one in members if not on_boundary(one, labels)]
    edge = [one for one in members if on_boundary(one, labels)]

    def entropy(pixel: Pixel) -> float:
        terms = [p * math.log(p + 2.0**-23) for p in probabilities[:, pixel[0], pixel[1]]]
        return -sum(terms) / math.log(classes)

    def margin(pixel: Pixel) -> float:
        *_, second, first = sorted(probabilities[:, pixel[0], pixel[1]])
        return 1 - first + second

    relative, relative_in = (len(one) / len(edge) if edge else 0.0 for one in (members, inner))
    row = [float(len(members)), float(len(inner)), float(len(edge)), relative, relative_in]
    for h in (entropy, margin):
        whole, inside, border = (mean([h(one) for one in part]) for part in (members, inner, edge))
        row += [whole, inside, border, whole * relative, inside * relative_in]
    return row + [mean([probabilities[c, y, x] for y, x in members]) for c in range(classes)]


def iou_by_loop(label: int, members: list[Pixel], labels: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    hits = sum(truth[one] == label for one in members)
    reached = flood(set(members), (truth == label) & (labels != label))
    return hits / (len(members) + len(reached))


@pytest.mark.parametrize("seed", range(5))
def test_segments_are_those_of_a_flood_fill_in_raster_order(seed: int) -> None:
    labels = blobs(seed, ignored=0.1)
    numbers, classes = label_segments(labels)
    expected = np.zeros_like(labels)
    for number, (_, members) in enumerate(segments_by_loop(labels), start=1):
        for one in members:
            expected[one] = number
    np.testing.assert_array_equal(numbers, expected)
    assert classes.tolist() == [label for label, _ in segments_by_loop(labels)]


@pytest.mark.parametrize("seed", range(5))
def test_boundary_pixels_have_another_label_beside_them(seed: int) -> None:
    labels = blobs(seed, ignored=0.1)
    expected = [[on_boundary((y, x), labels) for x in range(labels.shape[1])] for y in range(labels.shape[0])]
    np.testing.assert_array_equal(boundary_pixels(labels), expected)


@pytest.mark.parametrize("ignored", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_features_are_those_of_loops_over_pixels(seed: int, ignored: float) -> None:
    labels = blobs(seed, ignored=ignored)
    logits = logits_for(labels, 4, seed)
    table = segment_features(logits, labels)
    expected = [features_by_loop(members, labels, logits) for _, members in segments_by_loop(labels)]
    np.testing.assert_allclose(table.features, expected, rtol=1e-12, atol=1e-14)
    assert table.features.shape[1] == len(FEATURES) + 4 == 19
    assert (table.features[:, FEATURES.index("S_in")] > 0).any()


def test_segments_are_cut_from_the_predicted_class_by_default() -> None:
    labels = blobs(1)
    logits = logits_for(labels, 3).float()
    np.testing.assert_array_equal(segment_features(logits).features, segment_features(logits, labels).features)


def test_a_segment_that_fills_the_image_has_no_quotients() -> None:
    logits = torch.zeros(3, 4, 5)
    logits[1] = 2
    row = dict(zip(FEATURES, segment_features(logits).features[0], strict=False))
    assert (row["S"], row["S_in"], row["S_bd"]) == (20, 20, 0)
    assert row["S_rel"] == row["S_rel_in"] == row["E_bd"] == row["E_rel"] == row["D_rel_in"] == 0
    assert row["E"] == row["E_in"] > 0


def test_an_image_without_any_segment_has_no_rows() -> None:
    table = segment_features(torch.zeros(3, 4, 5), np.full((4, 5), 255))
    assert table.features.shape == (0, len(FEATURES) + 3)
    assert (painted(table, np.zeros(0)) == 0).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_dispersion_maps_are_their_formulas(classes: int) -> None:
    p = torch.softmax(torch.randn(classes, 7, 3, generator=torch.Generator().manual_seed(0)) * 3, 0)
    before = p.clone()
    entropy, margin = dispersion_maps(p)
    highest = p.sort(0, descending=True).values
    torch.testing.assert_close(entropy, -(p * (p + 2.0**-23).log()).sum(0) / math.log(classes))
    torch.testing.assert_close(margin, 1 - highest[0] + highest[1])
    assert torch.equal(p, before)


def test_dispersion_of_one_class_is_an_error() -> None:
    with pytest.raises(InputError, match="2 classes or more, got 1"):
        segment_features(torch.zeros(1, 4, 5))


@pytest.mark.parametrize("ignored", [0.0, 0.15])
@pytest.mark.parametrize("seed", range(6))
def test_adjusted_iou_is_that_of_loops_over_pixels(seed: int, ignored: float) -> None:
    truth = blobs(seed + 100, ignored=ignored)
    labels = blobs(seed) if seed % 2 else np.where(np.random.default_rng(seed).random(truth.shape) < 0.3, 1, truth)
    labels = np.where(truth == 255, 255, labels) % 256
    table = segment_features(logits_for(labels, 3), labels)
    expected = [iou_by_loop(label, members, labels, truth) for label, members in segments_by_loop(labels)]
    np.testing.assert_allclose(adjusted_iou(table, truth), expected, rtol=1e-15)


def test_labels_that_another_segment_covers_do_not_count_against_one() -> None:
    truth = np.array([[1, 1, 1, 1, 1, 0]])
    predicted = np.array([[1, 1, 0, 1, 0, 0]])
    table = segment_features(logits_for(predicted, 2), predicted)
    # Ones: two hits and the missed pixel beside them; one hit and both missed pixels beside it, these twice in all.
    np.testing.assert_allclose(adjusted_iou(table, truth), [2 / 3, 0, 1 / 3, 1 / 2])


def random_prediction(seed: int, images: int = 3, size: tuple[int, int] = (12, 20)) -> Prediction:
    logits = torch.randn(images, 4, 3, 5, generator=torch.Generator().manual_seed(seed)) * 3
    return Prediction(logits=logits, size=size)


def test_predicted_segments_leave_void_and_ignored_pixels_out() -> None:
    prediction = random_prediction(0, images=1)
    full = torch.nn.functional.interpolate(prediction.logits, size=(12, 20), mode="bilinear")
    labels = torch.zeros(1, 12, 20, dtype=torch.long)
    labels[0, :4] = 255
    without = Prediction(logits=prediction.logits, size=(12, 20), void=2)
    (table,) = predicted_segments(without, labels)
    expected = full[0, [0, 1, 3]].argmax(0).numpy()
    expected[:4] = 255
    np.testing.assert_array_equal(table.labels, expected)
    assert table.features.shape[1] == len(FEATURES) + 3


def test_painted_gives_each_pixel_the_value_of_its_segment() -> None:
    labels = np.array([[0, 0, 1], [255, 1, 1]])
    table = segment_features(torch.zeros(2, 2, 3), labels)
    assert painted(table, np.array([0.5, 0.25])).tolist() == [[0.5, 0.5, 0.25], [0, 0.25, 0.25]]


def described(prediction: Prediction, labels: Tensor) -> list[tuple[object, NDArray[np.float64]]]:
    return [(one, np.arange(len(one), dtype=np.float64)) for one in predicted_segments(prediction, labels)]


def test_rows_of_shards_are_those_of_one_pass_in_bounded_memory() -> None:
    count = 40
    whole, first, second = (SegmentRows(count, described) for _ in range(3))
    for seed in range(4):
        prediction = random_prediction(seed)
        labels = torch.zeros(3, 12, 20, dtype=torch.long)
        whole.update(prediction, labels, 3 * seed)
        (first if seed % 2 else second).update(prediction, labels, 3 * seed)
    restored = SegmentRows(count, described)
    restored.restore(first.state())
    restored.merge(second)
    assert whole.sample.seen > count
    for merged, one in zip(restored.table(), whole.table(), strict=True):
        assert len(one) == count
        np.testing.assert_array_equal(merged, one)


def test_rows_hold_every_segment_and_its_target_while_there_is_room() -> None:
    rows = SegmentRows(1000, described)
    prediction = random_prediction(0)
    rows.update(prediction, torch.zeros(3, 12, 20, dtype=torch.long), 0)
    tables = list(predicted_segments(prediction))
    expected = np.concatenate([np.column_stack([one.features, np.arange(len(one))]) for one in tables])
    got = np.column_stack(rows.table())
    assert sorted(got.tolist()) == sorted(expected.astype(np.float32).astype(np.float64).tolist())


def test_no_segment_at_all_is_an_error() -> None:
    rows = SegmentRows(10, described)
    rows.update(random_prediction(0), torch.full((3, 12, 20), 255), 0)
    with pytest.raises(InputError, match="no segment to fit on"):
        rows.table()
