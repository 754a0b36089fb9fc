"""Standardized max logits: scores, statistics and what fitting promises, against NumPy and float64."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from strays.detectors import Detector, build_detector
from strays.detectors import standardized_max_logit as module
from strays.detectors.boundary_suppression import dilated_smoothing, suppressed_boundaries
from strays.detectors.standardized_max_logit import (
    MaxLogitStatistics,
    StandardizedMaxLogit,
    largest_logits,
    standardized_max_logit,
)
from strays.errors import InputError
from strays.prediction import Prediction

CLASSES = 5
SIZE = (18, 22)

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def random_logits(*shape: int, seed: int = 0, scale: float = 4.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def prediction(images: int = 2, seed: int = 0, void: int | None = None, size: tuple[int, int] = SIZE) -> Prediction:
    channels = CLASSES + (void is not None)
    return Prediction(logits=random_logits(images, channels, 6, 7, seed=seed), size=size, void=void)


def labels_of(one: Prediction, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (len(one.logits), *one.size), generator=generator) * 255


def winners(predictions: Sequence[Prediction], align_corners: bool = False) -> tuple[Floats, Labels]:
    """The largest logit and the class of all pixels, void dropped, interpolated in float64."""
    best, classes = [], []
    for one in predictions:
        kept = [channel for channel in range(one.logits.shape[1]) if channel != one.void]
        logits = one.logits[:, kept].double()
        full = functional.interpolate(logits, size=one.size, mode="bilinear", align_corners=align_corners).numpy()
        best.append(full.max(axis=1).ravel())
        classes.append(full.argmax(axis=1).ravel())
    return np.concatenate(best), np.concatenate(classes)


def moments_by_class(best: Floats, classes: Labels) -> tuple[Floats, Floats]:
    groups = [best[classes == one] for one in range(CLASSES)]
    return np.array([one.mean() for one in groups]), np.array([one.var(ddof=1) for one in groups])


def fitted_on(predictions: Sequence[Prediction], **settings: bool | int | None) -> StandardizedMaxLogit:
    detector = StandardizedMaxLogit(**settings)  # type: ignore[arg-type]
    return detector.fit(predictions, [labels_of(one, seed) for seed, one in enumerate(predictions)])


@pytest.mark.parametrize("shape", [(2, 7), (1, 7, 5), (3, 7, 4, 1)])
def test_score_equals_loop(shape: tuple[int, ...]) -> None:
    logits = random_logits(*shape, seed=3)
    mean, variance = random_logits(7, seed=4), random_logits(7, seed=5).square() + 0.1
    got = standardized_max_logit(logits, mean, variance)
    assert got.dtype == torch.float32
    pixels = logits.double().movedim(1, -1)
    expected = np.empty(tuple(got.shape))
    for place in np.ndindex(expected.shape):
        values = pixels[place].tolist()
        winner = values.index(max(values))
        expected[place] = -(values[winner] - float(mean[winner])) / float(variance[winner]) ** 0.5
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)
    exact = standardized_max_logit(logits.double(), mean, variance)
    assert exact.dtype == torch.float64
    np.testing.assert_allclose(exact, expected, rtol=1e-12)


def test_score_refuses_moments_that_do_not_fit() -> None:
    logits = random_logits(1, 3, 2, 2)
    with pytest.raises(InputError, match="one mean for each of the 3 classes"):
        standardized_max_logit(logits, torch.zeros(4), torch.ones(3))
    with pytest.raises(InputError, match="one variance for each of the 3 classes"):
        standardized_max_logit(logits, torch.zeros(3), torch.ones(1))
    for broken in (0.0, -1.0, torch.nan):
        with pytest.raises(InputError, match=r"those of the classes \[1\] are not"):
            standardized_max_logit(logits, torch.zeros(3), torch.tensor([1.0, broken, 2.0]))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(6, 7), (24, 28), (31, 17), (1, 1), (1, 40), (3, 4)])
@pytest.mark.parametrize("strip", [1, 1000, 2**20])
def test_largest_logits_are_those_of_upsampled_logits(
    size: tuple[int, int], align_corners: bool, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STRIP", strip)
    logits = random_logits(2, CLASSES, 6, 7).double()
    full = functional.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)
    best, labels = largest_logits(logits, size, align_corners)
    torch.testing.assert_close(best, full.amax(dim=1), rtol=1e-12, atol=1e-12)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), full.argmax(dim=1))
    rough, _ = largest_logits(logits.half(), size, align_corners)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), best, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("classes", [1, 255, 256, 300])
def test_largest_logits_of_any_number_of_classes_and_the_first_of_equals(classes: int) -> None:
    logits = random_logits(1, classes, 9, 8).round()
    logits[0, :, 0, 0] = 2.0
    logits[0, -1, 0, 1] = 99.0
    best, labels = largest_logits(logits, (9, 8))
    flat = logits[0].reshape(classes, -1).numpy()
    assert np.array_equal(best.reshape(-1).numpy(), flat.max(axis=0))
    assert np.array_equal(labels.reshape(-1).numpy(), flat.argmax(axis=0))


def test_broken_logits_give_broken_scores_and_no_crash() -> None:
    detector = fitted_on([prediction()], suppression=False, smoothing=False)
    logits = random_logits(1, CLASSES, *SIZE)
    logits[0, :, 3, 4] = torch.nan
    logits[0, 1, 7, 8] = torch.inf
    broken = ~detector(Prediction(logits, SIZE)).isfinite()[0]
    assert broken[3, 4]
    assert broken[7, 8]
    assert broken.sum() <= 4  # interpolating rows takes the ones above along


@pytest.mark.parametrize("height", [1, 2, 5])
def test_largest_logits_of_small_maps(height: int) -> None:
    logits = random_logits(1, 3, height, 1).double()
    full = functional.interpolate(logits, size=(9, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(largest_logits(logits, (9, 4))[0], full.amax(dim=1), rtol=1e-12, atol=1e-12)


def test_upsampled_logits_are_held_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    heights: list[int] = []
    plain = functional.interpolate

    def watched(strip: Tensor, **settings: object) -> Tensor:
        heights.append(strip.shape[-2])
        return plain(strip, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(module.functional, "interpolate", watched)
    monkeypatch.setattr(module, "_STRIP", 3 * 2 * CLASSES * 20)
    largest_logits(random_logits(2, CLASSES, 4, 5), (10, 20))
    assert heights == [3, 3, 3, 1]


@pytest.mark.parametrize("void", [None, CLASSES, 2])
def test_statistics_are_those_of_numpy(void: int | None) -> None:
    predictions = [prediction(seed=seed, void=void, size=(15 + seed, 19)) for seed in range(3)]
    detector = fitted_on(predictions)
    mean, variance = moments_by_class(*winners(predictions))
    assert detector.mean_ is not None
    assert detector.variance_ is not None
    np.testing.assert_allclose(detector.mean_, mean, rtol=1e-6)
    np.testing.assert_allclose(detector.variance_, variance, rtol=1e-5)
    assert detector.absent == ()


def test_ignored_pixels_are_left_out_on_request() -> None:
    predictions = [prediction(seed=seed) for seed in range(2)]
    kept = np.concatenate([labels_of(one, seed).numpy().ravel() == 0 for seed, one in enumerate(predictions)])
    best, classes = winners(predictions)
    mean, variance = moments_by_class(best[kept], classes[kept])
    detector = fitted_on(predictions, with_ignored=False)
    np.testing.assert_allclose(detector.mean_, mean, rtol=1e-6)
    np.testing.assert_allclose(detector.variance_, variance, rtol=1e-5)
    assert not torch.equal(detector.mean_, fitted_on(predictions).mean_)  # type: ignore[arg-type]


def test_aligned_corners_hold_for_statistics_and_score() -> None:
    predictions = [prediction(seed=seed) for seed in range(2)]
    detector = fitted_on(predictions, align_corners=True, suppression=False, smoothing=False)
    best, classes = winners(predictions, align_corners=True)
    mean, variance = moments_by_class(best, classes)
    np.testing.assert_allclose(detector.mean_, mean, rtol=1e-6)
    expected = -(best - mean[classes]) / np.sqrt(variance[classes])
    got = torch.cat([detector(one).reshape(-1) for one in predictions])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_only_the_first_images_count_on_request() -> None:
    predictions = [prediction(images=2, seed=seed) for seed in range(3)]
    first_three = [predictions[0], Prediction(predictions[1].logits[:1], SIZE)]
    limited, wanted = fitted_on(predictions, max_images=3), fitted_on(first_three)
    torch.testing.assert_close(limited.mean_, wanted.mean_)
    torch.testing.assert_close(limited.variance_, wanted.variance_)


@pytest.mark.parametrize("void", [None, 1])
def test_shards_and_a_restart_equal_one_pass(void: int | None) -> None:
    images = [prediction(images=1, seed=seed, void=void) for seed in range(7)]
    whole = StandardizedMaxLogit(max_images=6).fit(images, [labels_of(one) for one in images])
    shards = [MaxLogitStatistics(max_images=6) for _ in range(3)]
    for index in (5, 0, 3, 6, 1, 4, 2):
        shard = shards[index % 2]
        shard.update(images[index], labels_of(images[index]), index)
        taken_up = MaxLogitStatistics(max_images=6)
        taken_up.restore(shard.state())
        shards[index % 2] = taken_up
    merged = shards[2]  # has seen nothing
    for shard in (shards[1], shards[0], MaxLogitStatistics()):
        merged.merge(shard)
    detector = StandardizedMaxLogit(max_images=6)
    detector.conclude(merged)
    torch.testing.assert_close(detector.mean_, whole.mean_, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(detector.variance_, whole.variance_, rtol=1e-6, atol=1e-6)
    assert detector.absent == whole.absent


def test_statistics_do_not_grow_with_the_images() -> None:
    statistics = MaxLogitStatistics()
    sizes = []
    for index in range(3):
        statistics.update(prediction(images=1, seed=index), torch.zeros(1, *SIZE), index)
        sizes.append(sum(value.numel() for value in statistics.state().values()))
    assert sizes == [3 * CLASSES + 2] * 3


@pytest.mark.parametrize(("void", "numbers"), [(None, (1, 4)), (5, (1, 4)), (0, (2, 5)), (2, (1, 5))])
def test_classes_that_are_never_predicted_get_the_pooled_statistics(void: int | None, numbers: tuple[int, ...]) -> None:
    one = prediction(void=void)
    logits = one.logits.clone()
    logits[:, list(numbers)] = -100.0
    detector = fitted_on([Prediction(logits, SIZE, void=void)])
    best, classes = winners([Prediction(logits, SIZE, void=void)])
    assert detector.absent == numbers
    assert set(classes) == {0, 2, 3}
    assert detector.mean_ is not None
    assert detector.variance_ is not None
    np.testing.assert_allclose(detector.mean_[[1, 4]], best.mean(), rtol=1e-6)
    np.testing.assert_allclose(detector.variance_[[1, 4]], best.var(ddof=1), rtol=1e-5)
    np.testing.assert_allclose(detector.mean_[2], best[classes == 2].mean(), rtol=1e-6)


def test_a_class_that_does_not_vary_gets_the_pooled_variance_and_keeps_its_mean() -> None:
    # class 0 varies, class 1 is 0.1 at three pixels, class 2 occurs once
    logits = torch.full((1, 3, 1, 7), -1.0)
    logits[0, 0, 0, :3] = torch.tensor([1.0, 2.0, 4.0])
    logits[0, 1, 0, 3:6] = 0.1
    logits[0, 2, 0, 6] = 9.0
    detector = StandardizedMaxLogit().fit([Prediction(logits, (1, 7))], [torch.zeros(1, 1, 7)])
    pooled = np.var([1.0, 2.0, 4.0, 0.1, 0.1, 0.1, 9.0], ddof=1)
    np.testing.assert_allclose(detector.mean_, [7 / 3, 0.1, 9.0], rtol=1e-6)
    np.testing.assert_allclose(detector.variance_, [7 / 3, pooled, pooled], rtol=1e-6)
    assert detector.absent == ()


@pytest.mark.parametrize("smoothing", [False, True])
@pytest.mark.parametrize("suppression", [False, True])
def test_each_step_can_be_switched_off(suppression: bool, smoothing: bool) -> None:
    predictions = [prediction(seed=seed) for seed in range(2)]
    detector = fitted_on(predictions, suppression=suppression, smoothing=smoothing)
    best, classes = winners(predictions[:1])
    mean, variance = moments_by_class(*winners(predictions))
    confidence = torch.from_numpy((best - mean[classes]) / np.sqrt(variance[classes])).reshape(2, *SIZE)
    if suppression:
        confidence = suppressed_boundaries(confidence, torch.from_numpy(classes).reshape(2, *SIZE), 4, 4)
    if smoothing:
        confidence = dilated_smoothing(confidence, 1.0, 7, 6)
    torch.testing.assert_close(detector(predictions[0]).double(), -confidence, rtol=1e-4, atol=2e-5)


def test_the_numbers_of_each_step_reach_it() -> None:
    one = prediction()
    plain = fitted_on([one], suppression=False, smoothing=False)
    _, labels = largest_logits(one.logits, SIZE)
    changed = StandardizedMaxLogit(iterations=2, width=6, sigma=0.7, kernel=3, dilation=2)
    changed.mean_, changed.variance_ = plain.mean_, plain.variance_
    expected = dilated_smoothing(suppressed_boundaries(plain(one), labels, 2, 6), 0.7, 3, 2)
    assert torch.equal(changed(one), expected)


def test_saved_and_loaded_detector_keeps_everything(tmp_path: Path) -> None:
    one = prediction(void=0)
    logits = one.logits.clone()
    logits[:, 3] = -100.0
    detector = fitted_on([Prediction(logits, SIZE, void=0)], width=8, max_images=5)
    detector.save(tmp_path / "sml")
    loaded = Detector.load(tmp_path / "sml")
    assert isinstance(loaded, StandardizedMaxLogit)
    assert loaded.absent == detector.absent == (3,)
    assert loaded.settings() == detector.settings()
    assert torch.equal(loaded(one), detector(one))


def test_settings_come_from_a_string() -> None:
    detector = build_detector("standardized-max-logit:suppression=false,width=8,max_images=none")
    assert detector.settings() == StandardizedMaxLogit(suppression=False, width=8).settings()
    assert build_detector("standardized-max-logit:max_images=200").settings()["max_images"] == 200


def test_published_defaults() -> None:
    settings = StandardizedMaxLogit().settings()
    assert settings["suppression"] is settings["smoothing"] is True
    assert [settings[one] for one in ("iterations", "width", "sigma", "kernel", "dilation")] == [4, 4, 1.0, 7, 6]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 6}, "multiple of iterations=4"),
        ({"kernel": 4}, "odd kernel"),
        ({"sigma": -1.0}, "sigma above 0"),
        ({"dilation": 0}, "dilation of at least 1"),
        ({"max_images": 0}, "max_images of at least 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StandardizedMaxLogit(**settings)  # type: ignore[arg-type]


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(InputError, match="no pixel to fit on"):
        StandardizedMaxLogit().fit([], [])
    ignored = torch.full((2, *SIZE), 255)
    with pytest.raises(InputError, match="no pixel to fit on"):
        StandardizedMaxLogit(with_ignored=False).fit([prediction()], [ignored])
    with pytest.raises(InputError, match=r"is 0\.1 at all 792 pixels"):
        StandardizedMaxLogit().fit([Prediction(torch.full((2, 3, 6, 7), 0.1), SIZE)], [ignored])


def test_scoring_before_fitting_and_with_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="has not been fitted"):
        StandardizedMaxLogit()(prediction())
    detector = fitted_on([prediction()])
    with pytest.raises(InputError, match="was fitted on 5 classes, this network has 3"):
        detector(Prediction(random_logits(1, 3, 4, 4), (8, 8)))


def test_images_of_different_networks_are_refused() -> None:
    statistics = MaxLogitStatistics()
    statistics.update(prediction(), torch.zeros(2, *SIZE), 0)
    other = Prediction(random_logits(1, 3, 4, 4), (8, 8))
    with pytest.raises(InputError, match="expected logits of 5 classes"):
        statistics.update(other, torch.zeros(1, 8, 8), 2)
    theirs = MaxLogitStatistics()
    theirs.update(other, torch.zeros(1, 8, 8), 0)
    with pytest.raises(InputError, match="fit on one network only"):
        statistics.merge(theirs)


def test_broken_logits_are_refused_before_anything_is_taken_in() -> None:
    one = prediction()
    logits = one.logits.clone()
    logits[1, 2, 3, 4], logits[1, 0, 0, 0] = torch.nan, torch.inf
    statistics = MaxLogitStatistics()
    with pytest.raises(InputError, match="2 of 420 logits are NaN or infinite"):
        statistics.update(Prediction(logits, SIZE), torch.zeros(2, *SIZE), 0)
    assert not statistics.moments.count.any()
