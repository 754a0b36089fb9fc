"""Average precision of instances against loops over sets of pixels, after the rules of Cityscapes and OoDIS."""

import io

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from strays.errors import InputError
from strays.metrics import INSTANCE_LEVELS, InstanceMetrics, instance_outcomes


def frame(seed, size=(30, 40), objects=6):
    """True instances, predictions near them that may overlap, duplicates, false alarms and ignored patches."""
    rng = np.random.default_rng(seed)
    truth, ignore, masks = np.zeros(size, np.int64), np.zeros(size, bool), []
    for number in range(objects):
        row, column, height, width = *rng.integers(0, (size[0] - 8, size[1] - 8)), *rng.integers(2, 9, 2)
        truth[row : row + height, column : column + width] = 26_000 + number
    row, column = rng.integers(0, (size[0] - 10, size[1] - 10))
    ignore[row : row + 9, column : column + 9] = True
    for number in np.unique(truth[truth > 0]):
        for _ in range(rng.integers(0, 3)):
            noise, share = rng.random(size), 0.4 * rng.random()
            masks.append((truth == number) ^ (np.roll(truth == number, 1, 1) & (noise < share)))
    for _ in range(4):
        row, column = rng.integers(0, (size[0] - 8, size[1] - 8))
        masks.append(np.zeros(size, bool))
        masks[-1][row : row + rng.integers(1, 9), column : column + rng.integers(1, 9)] = True
    masks += [ignore & (rng.random(size) > 0.2), np.zeros(size, bool)]
    scores = np.round(rng.random(len(masks)) * 6) / 6
    return np.stack(masks), scores.astype(np.float32), truth, ignore


FRAMES = [frame(seed) for seed in range(6)]


def pixels(mask):
    return set(map(tuple, np.argwhere(mask).tolist()))


def judged(image, level, min_truth):
    """The rules for one image: (score, is true) of every prediction that counts, and the number of true instances."""
    masks, scores, truth, ignore = image
    void = pixels(ignore)
    instances = [pixels(truth == number) - void for number in np.unique(truth[truth > 0])]
    instances = [one for one in instances if one]
    predictions = [(pixels(mask), float(score)) for mask, score in zip(masks, scores, strict=True) if mask.any()]
    small, large = ([one for one in instances if (len(one) >= min_truth) == big] for big in (False, True))
    verdicts = []
    for one in large:
        finders = sorted((score for area, score in predictions if len(one & area) / len(one | area) > level))
        verdicts += [(score, False) for score in finders[:-1]] + [(score, True) for score in finders[-1:]]
    for area, score in predictions:
        if any(len(one & area) / len(one | area) > level for one in instances):
            continue
        not_counted = len(area & void) + sum(len(area & one) for one in small)
        if not_counted / len(area) <= level:
            verdicts.append((score, False))
    return verdicts, len(large)


def area_under(verdicts, truths):
    """The trapezoidal area, with recall over all true instances, from scikit-learn's points."""
    if not any(is_true for _, is_true in verdicts):
        return 0.0
    scores, labels = zip(*verdicts, strict=True)
    precision, recall, _ = precision_recall_curve(labels, scores)
    # scikit-learn leaves out the points after the first full recall, which add no area.
    return auc(recall * sum(labels) / truths, precision)


def brute(frames, min_truth=10):
    areas = []
    for level in INSTANCE_LEVELS:
        parts = [judged(image, level, min_truth) for image in frames]
        verdicts = [verdict for part, _ in parts for verdict in part]
        areas.append(area_under(verdicts, sum(truths for _, truths in parts)))
    return areas


def filled(frames=FRAMES, min_truth=10):
    metrics = InstanceMetrics(min_truth)
    for image in frames:
        metrics.update(*image)
    return metrics


@pytest.mark.parametrize("min_truth", [0, 10, 30])
def test_equals_loops_over_sets(min_truth):
    result, areas = filled(min_truth=min_truth).compute(), brute(FRAMES, min_truth)
    assert [result[f"AP{level}"] for level in range(50, 100, 5)] == pytest.approx(areas, abs=1e-12)
    assert result["AP"] == pytest.approx(np.mean(areas), abs=1e-12)
    assert 0 < areas[-2] < areas[0] < 1
    parts = [judged(image, 0.5, min_truth) for image in FRAMES]
    assert result["instances_truth"] == sum(truths for _, truths in parts)
    assert result["instances_predicted"] == sum(len(part) for part, _ in parts)


def test_each_single_image_equals_loops():
    for seed in range(20, 32):
        image = frame(seed, (16, 20), objects=3)
        if judged(image, 0.5, 5)[1]:
            areas = brute([image], 5)
            result = filled([image], 5).compute()
            assert [result[f"AP{level}"] for level in range(50, 100, 5)] == pytest.approx(areas, abs=1e-12), seed


def test_a_case_worked_out_by_hand():
    """Five predictions on two instances of 16 pixels; points (recall, precision) as the comment below has them."""
    truth = np.zeros((8, 20), np.int64)
    truth[:4, :4], truth[4:, :4] = 1, 2
    masks = np.zeros((5, 8, 20), bool)
    masks[0, :4, :4] = True  # the first instance, exactly
    masks[1, :4, :3] = True  # once more, IoU 12 / 16
    masks[2, 4:, 10:] = True  # nothing
    masks[3, 4:, :4] = True  # the second instance, and as many pixels beside it: IoU 16 / 32
    masks[3, 4:, 8:12] = True
    masks[4, 4:, :4] = masks[4, 4:, 6] = True  # the second instance, IoU 16 / 20
    scores = np.float32([0.9, 0.8, 0.7, 0.6, 0.5])
    result = InstanceMetrics().update(masks, scores, truth).compute()
    # Both are found up to 0.75: (0, 1), (1/2, 1), (1/2, 1/2), (1/2, 1/3), (1/2, 1/4), (1, 2/5).
    until_80 = 1 / 2 + (1 / 4 + 2 / 5) / 2 / 2
    expected = [until_80] * 6 + [1 / 2] * 4
    assert [result[f"AP{level}"] for level in range(50, 100, 5)] == pytest.approx(expected, abs=1e-12)
    # The IoU has to be above the level: neither 16 / 32 at 0.5 nor 16 / 20 at 0.8 is.
    assert result["AP80"] < result["AP75"]
    # Neither the step sum nor an interpolated precision gives that.
    assert average_precision_score([1, 0, 0, 0, 1], scores) == pytest.approx(0.7)
    assert result["AP50"] == pytest.approx(0.6625)


def test_what_counts_nowhere():
    truth, ignore = np.zeros((10, 10), np.int64), np.zeros((10, 10), bool)
    truth[:5, :5], truth[9, :3] = 4, 9
    ignore[5:9, 5:] = True
    masks = np.zeros((4, 10, 10), bool)
    masks[0, 9, :3] = True  # an instance that is too small
    masks[1, 5:9, 5:] = True  # ignored altogether
    masks[2, 5:9, 2:] = True  # 20 of its 32 pixels are ignored: aside up to 0.60
    masks[3, 9, :4] = True  # the small instance, with an IoU of 0.75
    outcomes, truths = instance_outcomes(masks, np.float32([0.9, 0.8, 0.7, 0.6]), truth, ignore)
    assert truths == 1
    assert outcomes.tolist() == [[-1] * 10, [-1] * 10, [-1] * 3 + [0] * 7, [-1] * 5 + [0] * 5]
    everywhere = instance_outcomes(masks, np.float32([0.9, 0.8, 0.7, 0.6]), truth, np.ones_like(ignore))
    assert everywhere.truths == 0


def test_a_map_of_numbers_equals_masks():
    truth, ignore = FRAMES[0][2:]
    numbers = np.zeros(truth.shape, np.int32)
    numbers[3:9, 4:20], numbers[12:25, 2:9], numbers[14:20, 20:30] = 1, 2, 4
    scores = torch.tensor([0.3, 0.9, 0.5, 0.7])
    masks = torch.from_numpy(numbers == np.arange(1, 5)[:, None, None])
    outcomes = instance_outcomes(torch.from_numpy(numbers), scores, torch.from_numpy(truth), torch.from_numpy(ignore))
    assert np.array_equal(outcomes.outcomes, instance_outcomes(masks, scores, truth, ignore).outcomes)
    assert outcomes.outcomes[2].tolist() == [-1] * 10


def test_images_without_predictions_or_without_instances():
    truth = np.ones((6, 6), np.uint8)
    empty = np.zeros((0, 6, 6), bool), np.zeros(0, np.float32)
    metrics = InstanceMetrics().update(*empty, truth)
    assert metrics.compute()["AP"] == 0
    metrics.update(truth[None] > 0, np.float32([0.5]), truth)
    assert metrics.compute()["AP50"] == pytest.approx(0.5)
    metrics.update(truth[None] > 0, np.float32([0.9]), 0 * truth)
    # The false alarm comes first: (0, 1), (0, 0), (1/2, 1/2).
    assert metrics.compute()["AP50"] == pytest.approx(0.125)
    with pytest.raises(InputError, match="at least 10 pixels"):
        InstanceMetrics().update(*empty, 0 * truth).compute()
    with pytest.raises(InputError, match="lower min_truth"):
        InstanceMetrics(37).update(*empty, truth).compute()


def test_merged_and_stored_parts_equal_one_pass_in_any_order():
    whole = filled().compute()
    parts = [filled(FRAMES[start::3]) for start in range(3)]
    merged = InstanceMetrics().merge(parts[2]).merge(parts[0]).merge(parts[1])
    file = io.BytesIO()
    np.savez_compressed(file, **merged.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = InstanceMetrics.from_state(dict(stored))
    assert merged.compute() == again.compute() == whole
    assert again.update(*FRAMES[0]).compute() == filled([*FRAMES, FRAMES[0]]).compute()
    kept = merged.state()
    assert kept["scores"].nbytes + kept["outcomes"].nbytes == 18 * sum(len(image[1]) for image in FRAMES)


def test_refusals():
    masks, scores, truth, ignore = FRAMES[0]
    metrics = filled()
    before = metrics.compute()
    refused = [
        ((masks[1:], scores, truth), "one per score"),
        ((masks.astype(np.float32), scores, truth), "float32"),
        ((masks[:, 1:], scores, truth), "resize"),
        ((masks, scores * np.nan, truth), "finite scores"),
        ((masks, scores[:, None], truth), r"scores \(N,\)"),
        ((truth, scores, truth), "renumber"),
        ((masks, scores, truth - 1), "numbered from 1"),
        ((masks, scores, truth.astype(np.float32)), "true instances as integers"),
        ((masks, scores, truth, ignore.astype(np.uint8)), "mask == 255"),
        ((masks, scores, truth, ignore[1:]), "one shape"),
    ]
    for arguments, message in refused:
        with pytest.raises(InputError, match=message):
            metrics.update(*arguments)
    assert metrics.compute() == before
    with pytest.raises(InputError, match="0 pixels or more"):
        InstanceMetrics(-1)
    with pytest.raises(InputError, match="10 and 11 pixels"):
        metrics.merge(InstanceMetrics(11))
    with pytest.raises(InputError, match="InstanceMetrics"):
        InstanceMetrics.from_state({})
