"""Maskomaly against loops written from its specification, and the choice of its queries."""

import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from strays.detectors import Detector, build_detector
from strays.detectors.maskomaly import Maskomaly, QueryOverlaps, maskomaly
from strays.detectors.maskomaly_all import MaskomalyAll, maskomaly_all
from strays.errors import InputError
from strays.prediction import MaskPrediction, Prediction

QUERIES, CLASSES, SIZE = 7, 4, (12, 16)


def outputs(seed: int = 0, images: int = 1, size: tuple[int, int] = (6, 8)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = 3 * torch.randn(images, QUERIES, CLASSES + 1, generator=generator, dtype=torch.float64)
    return classes, 5 * torch.randn(images, QUERIES, *size, generator=generator, dtype=torch.float64) - 4


def scene(seed: int = 0, images: int = 2) -> tuple[Prediction, Tensor]:
    """A prediction and its anomaly mask, of which a tenth is ignored."""
    generator = torch.Generator().manual_seed(seed + 100)
    logits = torch.randn(images, CLASSES, 6, 8, generator=generator) * 4
    classes, masks = outputs(seed, images)
    mask = (torch.rand(images, *SIZE, generator=generator) < 0.3).to(torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < 0.1] = 255
    return Prediction(logits, SIZE, masks=MaskPrediction(classes.float(), masks.float())), mask


def quietly(detector: Maskomaly, predictions: list[Prediction], masks: list[Tensor]) -> Maskomaly:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return detector.fit(predictions, masks)


def softmax(logits: list[float]) -> list[float]:
    exponentials = [math.exp(one) for one in logits]
    return [one / sum(exponentials) for one in exponentials]


def by_loops(classes: Tensor, logits: Tensor, anomaly: list[int] | None, ground: list[int]) -> np.ndarray:
    """The five steps for one image (Q, K + 1), (Q, h, w); without anomaly queries the first two only."""
    table = [softmax(one.tolist()) for one in classes]
    likeliest = [one.index(max(one)) for one in table]
    masks = 1 / (1 + np.exp(-logits.numpy()))
    scores = np.ones(masks.shape[1:])
    for query in range(len(table)):
        if likeliest[query] != CLASSES and max(table[query]) > 0.7:
            scores = np.minimum(scores, 1 - masks[query] * max(table[query]))
    real = [query for query in range(len(table)) if likeliest[query] != CLASSES]
    for first in real:
        for second in real:
            if first < second:
                scores[(masks[first] > 0.1) & (masks[second] > 0.1)] = 0
    if anomaly is None:
        return scores
    for query in ground:
        scores = np.minimum(scores, 1 - masks[query] * max(table[query]))
    prone = np.zeros_like(scores)
    for query in anomaly:
        prone = np.maximum(prone, masks[query] * max(table[query]))
    return 0.6 * scores + 0.4 * prone


def overlaps_by_loops(predictions: list[Prediction], masks: list[Tensor], ground_class: int) -> np.ndarray:
    """The mean overlap (2, Q) of every query with anomalies and with the ground, pixel by pixel."""
    rows: tuple[list[list[float]], list[list[float]]] = ([], [])
    for prediction, batch in zip(predictions, masks, strict=True):
        labels = functional.interpolate(prediction.logits, SIZE, mode="bilinear").argmax(1).numpy()
        probabilities = functional.interpolate(prediction.masks.mask_logits, SIZE, mode="bilinear").sigmoid().numpy()
        for mask, label, masked in zip(batch.numpy(), labels, probabilities > 0.9, strict=True):
            regions = (mask == 1, (mask == 0) & (label == ground_class))
            for kind, (region, domain) in enumerate(zip(regions, (mask != 255, mask == 0), strict=True)):
                if not region.any():
                    continue
                shared = [np.count_nonzero(one & region) for one in masked]
                areas = [np.count_nonzero(one & domain) for one in masked]
                total = np.count_nonzero(region)
                rows[kind].append([i / (area + total - i) for i, area in zip(shared, areas, strict=True)])
    return np.array([np.mean(rows[0], axis=0), np.mean(rows[1], axis=0)])


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_loops(seed) -> None:
    classes, logits = outputs(seed, images=2)
    drawn = np.random.default_rng(seed).permutation(QUERIES)
    anomaly, ground = drawn[:3].tolist(), drawn[2 : 2 + seed % 3].tolist()  # one query may be both
    scores = maskomaly(classes, logits, torch.tensor(anomaly), torch.tensor(ground, dtype=torch.long))
    assert scores.dtype == torch.float64
    for image in range(2):
        expected = by_loops(classes[image], logits[image], anomaly, ground)
        np.testing.assert_allclose(scores[image].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_all_equals_the_first_two_steps(seed) -> None:
    classes, logits = outputs(seed, images=2)
    scores = maskomaly_all(classes, logits)
    assert scores.unique().numel() > 10
    for image in range(2):
        np.testing.assert_allclose(scores[image].numpy(), by_loops(classes[image], logits[image], None, []), atol=1e-12)


def test_without_anomaly_queries_their_map_is_zero() -> None:
    classes, logits = outputs()
    none = torch.zeros(0, dtype=torch.long)
    torch.testing.assert_close(maskomaly(classes, logits, none, none), 0.6 * maskomaly_all(classes, logits))


def test_a_tie_with_no_object_is_a_class() -> None:
    # numpy's argmax takes the first of equals, and "no object" is the last
    classes = torch.tensor([[[0.0, -50.0, 0.0], [9.0, 0.0, 0.0]]])
    both = torch.tensor([[[9.0], [9.0]]])
    assert float(maskomaly_all(classes, both)) == 0
    sure = torch.tensor([[[0.0, -50.0, 1e-3], [9.0, 0.0, 0.0]]])
    assert float(maskomaly_all(sure, both)) > 0


def test_thresholds_are_strict_and_settings_of_the_detectors() -> None:
    classes = torch.tensor([[[math.log(3.0), 0.0], [0.0, 9.0]]])  # 3/4 sure of a class; no object
    logits = torch.tensor([[[2.0, -9.0], [-9.0, 2.0]]])
    sure = float(classes.softmax(-1)[0, 0, 0])
    assert maskomaly_all(classes, logits, confidence=sure)[0].tolist() == [1, 1]
    assert maskomaly_all(classes, logits, confidence=sure - 1e-6)[0, 0] < 0.4
    meeting = torch.tensor([[[3.0, 0.0], [3.0, 0.0]]])
    level = float(torch.tensor(-2.0).sigmoid())
    pair = torch.full((1, 2, 1), -2.0)
    assert maskomaly_all(meeting, pair, overlap=level)[0, 0] > 0.8
    assert maskomaly_all(meeting, pair, overlap=level - 1e-6)[0, 0] == 0
    prediction = Prediction(torch.zeros(1, 1, 1, 2), (1, 2), masks=MaskPrediction(classes, logits[:, :, None]))
    assert MaskomalyAll(confidence=0.8)(prediction).tolist() == [[[1, 1]]]
    weighted = build_detector(
        "maskomaly:confidence=0.8,rejection_weight=2,anomaly_weight=3,anomaly_queries=1,ground_queries=0"
    )
    masks, strength = logits[0].sigmoid(), classes.softmax(-1).amax(-1)[0]
    expected = 2 * (1 - masks[0] * strength[0]) + 3 * masks[1] * strength[1]
    torch.testing.assert_close(weighted(prediction)[0, 0], expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_detector_scores_the_resized_mask_logits(seed) -> None:
    prediction, _ = scene(seed)
    detector = Maskomaly(anomaly_queries="3 + 1", ground_queries="6")
    scores = detector(prediction)
    full = functional.interpolate(prediction.masks.mask_logits.double(), SIZE, mode="bilinear")
    for image in range(2):
        expected = by_loops(prediction.masks.class_logits[image].double(), full[image], [3, 1], [6])
        np.testing.assert_allclose(scores[image].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("ground_class", [0, 2])
def test_fit_ranks_queries_by_their_mean_overlap(ground_class) -> None:
    scenes = [scene(seed) for seed in range(4)]
    predictions, masks = [one for one, _ in scenes], [mask for _, mask in scenes]
    masks[1][0] = masks[1][0].masked_fill(masks[1][0] == 1, 0)  # an image without anomaly says nothing
    masks[2][1] = 255
    detector = quietly(Maskomaly(ground_class=ground_class, least_queries=3), predictions, masks)
    statistics = detector.statistics()
    for index, (prediction, mask) in enumerate(zip(predictions, masks, strict=True)):
        statistics.update(prediction, mask, 2 * index)
    expected = overlaps_by_loops(predictions, masks, ground_class)
    np.testing.assert_allclose(statistics.anomaly.mean().numpy(), expected[0], atol=1e-9)
    np.testing.assert_allclose(statistics.ground.mean().numpy(), expected[1], atol=1e-9)
    assert (statistics.anomaly.images, statistics.ground.images) == (6, 7)
    assert detector.anomaly_queries_.tolist() == np.argsort(-expected[0])[:3].tolist()
    assert detector.ground_queries_.tolist() == np.argsort(-expected[1])[:1].tolist()
    assert detector.anomaly_queries_.dtype == torch.int64


def blocks(anomalies: tuple[int, ...]) -> tuple[Prediction, Tensor]:
    """Seven masks that are seven columns of the image; the columns of some are anomalous, the first is road."""
    logits = torch.full((1, QUERIES, 4, QUERIES), -20.0)
    for query in range(QUERIES):
        logits[0, query, :, query] = 20
    classes = torch.full((1, CLASSES, 4, QUERIES), 0.0)
    classes[:, 1, :, 0] = 9
    classes[:, 0, :, 1:] = 9
    mask = torch.zeros(1, 4, QUERIES, dtype=torch.uint8)
    mask[..., list(anomalies)] = 1
    masks = MaskPrediction(torch.zeros(1, QUERIES, CLASSES + 1), logits)
    return Prediction(classes, (4, QUERIES), masks=masks), mask


def test_fit_finds_the_masks_on_anomalies_and_on_road() -> None:
    prediction, mask = blocks((5, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Maskomaly(ground_class=1, least_queries=1).fit([prediction], [mask])
    assert found.anomaly_queries_.tolist() == [3, 5]  # equal overlaps: the smaller number first
    assert found.ground_queries_.tolist() == [0]
    assert found.is_fitted


def test_at_least_four_are_kept_and_the_reader_is_told() -> None:
    prediction, mask = blocks((2, 3, 4, 5, 6))
    with pytest.warns(UserWarning, match=r"overlaps anomalies with a mean IoU above 0.25 \(best: 0.2\)"):
        found = Maskomaly(ground_class=1).fit([prediction], [mask])
    assert found.anomaly_queries_.tolist() == [2, 3, 4, 5]


def test_shards_equal_one_pass() -> None:
    scenes = [scene(seed) for seed in range(5)]
    whole, merged = Maskomaly(), Maskomaly()
    quietly(whole, [one for one, _ in scenes], [mask for _, mask in scenes])
    shards = [merged.statistics() for _ in range(3)]
    for index, (prediction, mask) in enumerate(scenes):
        shards[index % 2].update(prediction, mask, 2 * index)
    total = QueryOverlaps()
    total.restore(shards[2].state())
    for shard in reversed(shards):
        total.merge(shard)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged.conclude(total)
    assert torch.equal(merged.anomaly_queries_, whole.anomaly_queries_)
    assert torch.equal(merged.ground_queries_, whole.ground_queries_)


def test_given_queries_need_no_fit() -> None:
    detector = Maskomaly(anomaly_queries="5+2", ground_queries="0")
    assert detector.is_fitted
    prediction, mask = scene()
    before = detector(prediction)
    detector.fit([prediction], [mask])
    assert torch.equal(detector(prediction), before)
    assert detector.fit([], []).is_fitted


def test_only_the_queries_that_were_not_given_are_fitted() -> None:
    prediction, mask = blocks((5, 3))
    detector = Maskomaly(ground_class=1, anomaly_queries="6+1")
    assert not detector.is_fitted
    with pytest.raises(InputError, match="maskomaly has not been fitted"):
        detector(prediction)
    detector.fit([prediction], [torch.zeros_like(mask)])  # no anomaly is needed
    assert (detector.anomaly_queries_.tolist(), detector.ground_queries_.tolist()) == ([6, 1], [0])
    other = Maskomaly(ground_class=99, ground_queries="2", least_queries=1)
    with pytest.raises(InputError, match="ground_class is 99, and the network has 4 classes"):
        other.fit([prediction], [mask])


def test_save_and_load(tmp_path: Path) -> None:
    prediction, mask = scene()
    for detector in (
        quietly(Maskomaly(overlap=0.2), [prediction], [mask]),
        quietly(Maskomaly(ground_queries="3"), [prediction], [mask]),
        Maskomaly(anomaly_queries="49+31+83+32", ground_queries="19+24"),
    ):
        detector.save(tmp_path / "it")
        loaded = Detector.load(tmp_path / "it")
        assert isinstance(loaded, Maskomaly)
        assert loaded.settings() == detector.settings()
        assert torch.equal(loaded.anomaly_queries_, detector.anomaly_queries_)
        assert torch.equal(loaded.ground_queries_, detector.ground_queries_)


def test_nothing_to_fit_on() -> None:
    prediction, mask = blocks((5, 3))
    with pytest.raises(InputError, match="no image with anomalies: give scenes with anomalies, or set anomaly_queries"):
        Maskomaly().fit([], [])
    with pytest.raises(InputError, match="no image with anomalies"):
        Maskomaly(ground_class=1).fit([prediction], [torch.zeros_like(mask)])
    with pytest.raises(InputError, match="no image with inlier pixels that the network predicts as class 3: set grou"):
        quietly(Maskomaly(ground_class=3), [prediction], [mask])


def test_queries_that_the_network_does_not_have() -> None:
    prediction, _ = scene()
    for settings in ({"anomaly_queries": "49", "ground_queries": "1"}, {"anomaly_queries": "1", "ground_queries": "7"}):
        with pytest.raises(InputError, match=r"there is no query \d+, the network has 7: .* one checkpoint"):
            Maskomaly(**settings)(prediction)
    with pytest.raises(InputError, match="no query -1"):
        maskomaly(*outputs(), torch.tensor([-1]), torch.tensor([0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anomaly_queries": "49,31"}, "with + between them, such as 49+31+83+32, got '49,31'"),
        ({"ground_queries": "19+-1"}, "got '19+-1'"),
        ({"ground_queries": "19+"}, "got '19+'"),
        ({"confidence": 1.0}, "confidence is 1.0, expected a number in [0, 1)"),
        ({"overlap": -0.1}, "overlap is -0.1"),
        ({"certain": math.nan}, "certain is nan"),
        ({"least_iou": 2}, "least_iou is 2"),
        ({"anomaly_weight": -1}, "anomaly_weight is -1, expected a number that is not negative"),
        ({"rejection_weight": math.inf}, "rejection_weight is inf"),
        ({"ground_class": -1}, "ground_class is -1"),
        ({"least_queries": 0}, "least_queries is 0, expected at least 1"),
    ],
)
def test_wrong_settings(settings, message) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Maskomaly(**settings)


@pytest.mark.parametrize("settings", [{"confidence": 1.5}, {"overlap": -1}])
def test_wrong_settings_of_all(settings) -> None:
    with pytest.raises(InputError, match=r"expected a number in \[0, 1\)"):
        MaskomalyAll(**settings)


def test_published_numbers_are_the_boards() -> None:
    told = {one.metric: one.value for one in Maskomaly.card.published}
    assert told == {"AP": 0.9335, "FPR95": 0.0687, "sIoU": 0.5543, "PPV": 0.5146, "F1*": 0.499}
    assert not MaskomalyAll.card.published
    assert Maskomaly.card.needs.anomalies
