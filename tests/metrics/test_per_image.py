"""The mean over images against a loop over images."""

import numpy as np
import pytest

from strays.errors import InputError
from strays.metrics import (
    PerImagePixelMetrics,
    PixelMetrics,
    auroc,
    average_precision,
    best_f1,
    fpr_at_tpr,
    pixel_metrics,
)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    made = []
    for index in range(8):
        mask = rng.choice(np.uint8([0, 1, 255]), (20, 30), p=[0.8, 0.1, 0.1])
        if index == 2:
            mask[mask == 1] = 0
        if index == 5:
            mask[mask == 0] = 255
        made.append(((rng.normal(size=mask.shape) + (mask == 1)).astype(np.float32), mask))
    return made


def counted(images):
    return [(scores, mask) for scores, mask in images if {0, 1} <= set(mask.ravel().tolist())]


@pytest.mark.parametrize("exact", [False, True])
def test_is_the_mean_over_images_that_have_both_kinds(images, exact):
    metrics = PerImagePixelMetrics(exact, fpr_rule="argmin")
    for scores, mask in images:
        metrics.update(scores, mask)
    result, good = metrics.compute(), counted(images)
    tolerance = 1e-12 if exact else 1e-3
    assert result["AP"] == pytest.approx(np.mean([average_precision(*image) for image in good]), abs=tolerance)
    assert result["AUROC"] == pytest.approx(np.mean([auroc(*image) for image in good]), abs=tolerance)
    assert result["F1"] == pytest.approx(np.mean([best_f1(*image)[0] for image in good]), abs=tolerance)
    expected = np.mean([fpr_at_tpr(*image, 0.95, "argmin") for image in good])
    assert result["FPR95"] == pytest.approx(expected, abs=tolerance)
    assert (result["images"], result["images_skipped"]) == (6, 2)
    assert result["pixels_anomaly"] == sum((mask == 1).sum() for _, mask in good)
    assert "threshold" not in result
    exactly = {"AP": average_precision, "AUROC": auroc}
    for name, function in exactly.items():
        lower, upper = result.bounds[name]
        assert lower <= np.mean([function(*image) for image in good]) <= upper


def test_merging_in_any_order_and_storing_give_the_same_bits(images):
    whole = PerImagePixelMetrics()
    parts = [PerImagePixelMetrics().update(*image) for image in images]
    for image in images:
        whole.update(*image)
    merged = PerImagePixelMetrics()
    for part in reversed(parts):
        merged.merge(PerImagePixelMetrics.from_state(part.state()))
    assert merged.compute() == whole.compute()
    assert merged.compute().bounds == whole.compute().bounds


def test_differs_from_pooling_under_its_own_name(images):
    pooled, per_image = pixel_metrics("pooled"), pixel_metrics("per-image", tpr=0.9)
    assert isinstance(pooled, PixelMetrics)
    assert isinstance(per_image, PerImagePixelMetrics)
    assert (pooled.aggregation, per_image.aggregation) == ("pooled", "per-image")
    good = counted(images)
    for index, (scores, mask) in enumerate(good):
        pooled.update(scores + 10 * index, mask)
        per_image.update(scores + 10 * index, mask)
    assert per_image.compute()["AUROC"] > 0.7 > 0.6 > pooled.compute()["AUROC"]
    assert "FPR90" in per_image.compute()


def test_refusals(images):
    scores, mask = images[0]
    with pytest.raises(InputError, match="one image"):
        PerImagePixelMetrics().update(np.stack([scores] * 2), np.stack([mask] * 2))
    assert PerImagePixelMetrics().update(scores[None], mask[None]).compute()["images"] == 1
    with pytest.raises(InputError, match="got 1 images"):
        PerImagePixelMetrics().update(*images[2]).compute()
    with pytest.raises(InputError, match="different settings"):
        PerImagePixelMetrics().merge(PerImagePixelMetrics(tpr=0.9))
    with pytest.raises(InputError, match="expected a state of PerImagePixelMetrics, got one of PixelMetrics"):
        PerImagePixelMetrics.from_state(PixelMetrics().state())
    with pytest.raises(InputError, match="pooled, per-image"):
        pixel_metrics("mean")
