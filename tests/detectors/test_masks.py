"""Masks strip by strip, sums over queries, and all mask detectors on a real architecture."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from strays.detectors import DETECTORS, build_detector, masks
from strays.detectors.masks import (
    QueryMeans,
    mask_probabilities,
    mask_strips,
    query_ious,
    scored_by_masks,
    select_queries,
    void_as_null,
)
from strays.errors import InputError
from strays.prediction import MaskPrediction, Prediction

SPECS = (
    "rejected-by-all",
    "ensemble-anomaly",
    "maskomaly-all",
    "maskomaly:anomaly_queries=3+0,ground_queries=1",
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def resized(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(mask_logits[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("size", [(5, 7), (20, 28), (13, 19), (3, 4), (1, 1), (5, 30), (31, 7)])
@pytest.mark.parametrize("held", [1, 300, 2**20])
def test_strips_are_the_resized_masks(monkeypatch, size, held) -> None:
    monkeypatch.setattr(masks, "_STRIP", held)
    logits = random(4, 5, 7)
    seen = torch.full((4, *size), torch.nan, dtype=torch.float64)
    for rows, strip in mask_strips(logits, size):
        assert seen[:, rows].isnan().all()
        seen[:, rows] = strip
    torch.testing.assert_close(seen, resized(logits, size), rtol=1e-12, atol=1e-12)


def test_a_hundred_masks_are_never_held_at_the_size_of_the_image() -> None:
    logits = random(100, 8, 512).float()
    shapes = [strip.shape for _, strip in mask_strips(logits, (64, 4096))]
    assert sum(shape[1] for shape in shapes) == 64
    assert max(shape.numel() for shape in shapes) <= 2**19


def test_half_precision_masks_are_widened() -> None:
    logits = random(2, 4, 4).half()
    whole = torch.cat([strip for _, strip in mask_strips(logits, (8, 8))], dim=1)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(whole, resized(logits.float(), (8, 8)))


def test_every_image_is_scored_by_its_own_masks() -> None:
    classes, logits = random(3, 2, 4), random(3, 2, 4, 6)
    prediction = Prediction(logits[:, :1], (9, 11), masks=MaskPrediction(classes, logits))
    scores = scored_by_masks(prediction, "any", lambda c, m: c[:, :1, 0, None] + m.sum(1))
    assert scores.dtype == torch.float32
    expected = [resized(one, (9, 11)).sum(0) + its[0, 0] for one, its in zip(logits, classes, strict=True)]
    torch.testing.assert_close(scores, torch.stack(expected).float())


def test_void_counts_as_no_object() -> None:
    given = MaskPrediction(random(2, 3, 6), random(2, 3, 4, 4))
    assert void_as_null(given, None) is given
    merged = void_as_null(given, 2)
    before, after = given.class_logits.softmax(-1), merged.class_logits.softmax(-1)
    torch.testing.assert_close(after[..., :-1], before[..., [0, 1, 3, 4]])
    torch.testing.assert_close(after[..., -1], before[..., 2] + before[..., 5])


@pytest.mark.parametrize("spec", SPECS)
def test_detectors_leave_the_void_class_out(spec) -> None:
    classes, logits = random(1, 5, 6).float() * 3, random(1, 5, 6, 6, seed=1).float() * 6 - 6
    classes[:, :2, 2] = 9  # the first two queries are sure of void
    with_void = Prediction(random(1, 5, 6, 6), (12, 12), void=2, masks=MaskPrediction(classes, logits))
    merged = MaskPrediction(void_as_null(with_void.masks, 2).class_logits, logits)
    without = Prediction(random(1, 4, 6, 6), (12, 12), masks=merged)
    detector = build_detector(spec)
    assert torch.equal(detector(with_void), detector(without))
    plain = Prediction(with_void.logits, (12, 12), masks=with_void.masks)
    assert not torch.equal(detector(with_void), detector(plain))


@pytest.mark.parametrize(
    ("classes", "logits"),
    [((2, 3, 5), (2, 4, 6, 6)), ((2, 3, 5), (1, 3, 6, 6)), ((3, 5), (3, 6, 6)), ((1, 3, 1), (1, 3, 6, 6))],
)
def test_shapes_that_do_not_belong_together(classes, logits) -> None:
    with pytest.raises(InputError, match=r"got \(.*N = 1"):
        mask_probabilities(torch.zeros(classes), torch.zeros(logits))


@pytest.mark.parametrize("spec", SPECS)
def test_a_network_without_masks(spec) -> None:
    name = spec.partition(":")[0]
    with pytest.raises(InputError, match=f"'{name}' reads the masks.*hf:"):
        build_detector(spec)(Prediction(random(1, 5, 6, 6), (12, 12)))


def test_overlaps_by_counting_pixels(monkeypatch) -> None:
    monkeypatch.setattr(masks, "_STRIP", 150)
    logits = random(6, 5, 7) * 4
    regions, domains = random(2, 15, 20, seed=1) > 0.5, random(2, 15, 20, seed=2) > -1
    ious = query_ious(logits, regions, domains, certain=0.8)
    inside = 1 / (1 + np.exp(-resized(logits, (15, 20)).numpy())) > 0.8
    for region in range(2):
        for query in range(6):
            shared = either = 0
            for y, x in np.argwhere(domains[region].numpy()):
                marked, masked = bool(regions[region, y, x]), inside[query, y, x]
                shared += marked and masked
                either += marked or masked
            assert ious[region, query] == pytest.approx(shared / either, abs=1e-12)


def test_selection_is_by_rank_then_number() -> None:
    ious = torch.tensor([0.1, 0.3, 0.25, 0.3, 0.0, 0.9])
    assert select_queries(ious, 0.25, 1).tolist() == [5, 1, 3]
    assert select_queries(ious, 0.25, 5).tolist() == [5, 1, 3, 2, 0]
    assert select_queries(ious, 0.25, 99).tolist() == [5, 1, 3, 2, 0, 4]
    assert select_queries(torch.zeros(7), 0.25, 4).tolist() == [0, 1, 2, 3]


def test_means_come_out_the_same_in_any_order() -> None:
    rows = torch.rand(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, back = QueryMeans(), QueryMeans()
    for row in rows:
        whole.update(row)
    for start in (30, 10, 0):
        shard = QueryMeans()
        for row in rows[start : {30: 50, 10: 30, 0: 10}[start]].flip(0):
            shard.update(row)
        restored = QueryMeans()
        restored.restore(shard.state())
        restored.merge(QueryMeans())
        back.merge(restored)
    assert torch.equal(back.mean(), whole.mean())
    assert back.images == 50
    torch.testing.assert_close(whole.mean(), rows.mean(0), rtol=0, atol=1e-9)


def test_another_number_of_queries() -> None:
    means = QueryMeans()
    means.update(torch.zeros(5))
    with pytest.raises(InputError, match="expected 5 queries, got 6"):
        means.update(torch.zeros(6))


@pytest.fixture(scope="module")
def seen() -> Prediction:
    """What a tiny Mask2Former sees in an image that it has to pad."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from strays.networks.huggingface import HuggingFaceNetwork
        from tiny_transformers import image, mask2former, randomized
    torch.manual_seed(0)
    with torch.no_grad():
        network = HuggingFaceNetwork(model=randomized(mask2former()))
        return network.predict(image(52, 72, count=2), size=(104, 144))


@pytest.mark.parametrize("spec", SPECS)
def test_on_mask2former(seen, spec) -> None:
    detector = build_detector(spec)
    scores = detector(seen)
    assert scores.shape == (2, 104, 144)
    assert scores.isfinite().all()
    assert scores.dtype == torch.float32
    known = seen.masks
    full = torch.stack([resized(one.double(), (104, 144)) for one in known.mask_logits])
    whole = Prediction(seen.logits, seen.size, masks=MaskPrediction(known.class_logits.double(), full))
    torch.testing.assert_close(scores, detector(whole), rtol=1e-4, atol=1e-4)


def test_fit_on_mask2former(seen) -> None:
    masks = [resized(one, (104, 144)).sigmoid() for one in seen.masks.mask_logits]
    certain = float(masks[0][2].quantile(0.7))
    mask = torch.stack([masks[0][2] > certain, masks[1][4] > 2]).byte()  # the second image is clean
    ground_class = int(resized(seen.logits[0], (104, 144)).argmax(0)[mask[0] == 0].mode().values)
    detector = DETECTORS["maskomaly"](certain=certain, ground_class=ground_class, least_queries=1)
    statistics = detector.statistics()
    statistics.update(seen, mask, 0)
    assert statistics.anomaly.images == 1
    assert statistics.anomaly.mean()[2] == pytest.approx(1, abs=1e-3)
    detector.fit([seen], [mask])
    assert 2 in detector.anomaly_queries_.tolist()
    assert detector(seen).isfinite().all()
