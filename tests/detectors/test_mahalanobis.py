from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis
from torch import Tensor

from strays.detectors.mahalanobis import (
    Mahalanobis,
    interpolation_spread,
    mahalanobis_distances,
    whitening_matrix,
)
from strays.errors import InputError
from strays.prediction import Prediction, resize_maps

Floats = NDArray[np.float64]

CLASSES, CHANNELS = 3, 6
SHAPE, SIZE = (6, 8), (24, 32)


def scene(seed: int, images: int = 2, absent: int | None = None) -> tuple[Prediction, Tensor]:
    """Features around a mean per class, correlated, with labels in blocks of 4 x 4 pixels of the image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (images, *SHAPE), generator=generator)
    if absent is not None:
        labels[labels == absent] = 255
    labels[:, 0, 0] = 255
    mixing = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(images, *SHAPE, CHANNELS, generator=generator) @ mixing
    features = (noise + 3 * (labels[..., None] % 7)).permute(0, 3, 1, 2)
    prediction = Prediction(torch.zeros(images, CLASSES, *SHAPE), SIZE, features={"decoder": features})
    return prediction, labels.repeat_interleave(4, 1).repeat_interleave(4, 2)


def by_hand(scenes: list[tuple[Prediction, Tensor]], shrinkage: float) -> tuple[Floats, Floats, Floats]:
    """Class means, shared inverse covariance, and one inverse covariance per class, in float64."""
    features = np.concatenate(
        [p.features["decoder"].double().permute(0, 2, 3, 1).reshape(-1, CHANNELS) for p, _ in scenes]
    )
    labels = np.concatenate([one[:, ::4, ::4].reshape(-1) for _, one in scenes])
    groups = [features[labels == label] for label in range(CLASSES)]
    own = [np.cov(group.T, bias=True) for group in groups]
    shared = sum(len(group) * matrix for group, matrix in zip(groups, own, strict=True)) / sum(map(len, groups))

    def inverse(matrix: Floats) -> Floats:
        shrunk = (1 - shrinkage) * matrix + shrinkage * np.trace(matrix) / CHANNELS * np.eye(CHANNELS)
        return np.linalg.inv(shrunk)

    return np.stack([group.mean(0) for group in groups]), inverse(shared), np.stack([inverse(one) for one in own])


@pytest.mark.parametrize("per_class", [False, True])
def test_distances_agree_with_scipy(per_class: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(CLASSES, CHANNELS, CHANNELS, generator=generator, dtype=torch.float64)
    covariance = root @ root.mT if per_class else (root @ root.mT)[:1].expand(CLASSES, -1, -1)
    points = torch.randn(10, CHANNELS, generator=generator, dtype=torch.float64)
    means = torch.randn(CLASSES, CHANNELS, generator=generator, dtype=torch.float64) + 50
    white = whitening_matrix(covariance, 0.0)
    found = mahalanobis_distances(points + 50, means, white if per_class else white[0])
    for p, point in enumerate(points + 50):
        for c in range(CLASSES):
            expected = scipy_mahalanobis(point, means[c], np.linalg.inv(covariance[c])) ** 2
            assert float(found[p, c]) == pytest.approx(expected, rel=1e-7)


def test_whitened_vectors_have_unit_covariance() -> None:
    vectors = torch.randn(500, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64)
    white = vectors @ whitening_matrix(vectors.T.cov(correction=0), 0.0)
    torch.testing.assert_close(white.T.cov(correction=0), torch.eye(4, dtype=torch.float64), rtol=1e-8, atol=1e-8)


def test_constant_channels_need_shrinkage() -> None:
    singular = torch.diag(torch.tensor([1.0, 0.0]))
    with pytest.raises(InputError, match="set shrinkage above 0"):
        whitening_matrix(singular, 0.0)
    white = whitening_matrix(singular, 0.1)
    torch.testing.assert_close(white @ white.T, torch.diag(torch.tensor([1 / 0.95, 1 / 0.05], dtype=torch.float64)))
    zeros = whitening_matrix(torch.zeros(2, 2), 0.01)
    torch.testing.assert_close(zeros, 10 * torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("size", [(24, 32), (6, 8), (13, 31), (3, 5), (60, 8)])
def test_spread_is_what_upsampling_takes_from_squared_norms(size: tuple[int, int]) -> None:
    maps = torch.randn(1, 19, *SHAPE, dtype=torch.float64)
    expected = resize_maps((maps**2).sum(1, keepdim=True), size)[0, 0] - (resize_maps(maps, size) ** 2).sum(1)[0]
    torch.testing.assert_close(interpolation_spread(maps[0], size), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("covariance", ["shared", "per-class"])
@pytest.mark.parametrize("resolution", ["image", "tap"])
def test_score_agrees_with_brute_force(covariance: str, resolution: str) -> None:
    scenes = [scene(seed) for seed in range(4)]
    detector = Mahalanobis(covariance=covariance, shrinkage=0.01, resolution=resolution).fit(*zip(*scenes, strict=True))
    prediction = scene(10)[0]
    features = prediction.features["decoder"].double()
    features = resize_maps(features, SIZE) if resolution == "image" else features
    means, shared, own = by_hand(scenes, 0.01)
    expected = np.full((2, *features.shape[-2:]), np.inf)
    for label in range(CLASSES):
        gap = features.permute(0, 2, 3, 1).numpy() - means[label]
        matrix = shared if covariance == "shared" else own[label]
        expected = np.minimum(expected, np.einsum("nhwi,ij,nhwj->nhw", gap, matrix, gap))
    if resolution == "tap":
        expected = resize_maps(torch.from_numpy(expected)[:, None], SIZE)[:, 0].numpy()
    score = detector(prediction)
    assert score.shape == (2, *SIZE)
    np.testing.assert_allclose(score, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("covariance", ["shared", "per-class"])
def test_shards_equal_one_pass(covariance: str) -> None:
    scenes = [scene(seed) for seed in range(4)]
    whole = Mahalanobis(covariance=covariance).fit(*zip(*scenes, strict=True))
    merged = Mahalanobis(covariance=covariance)
    shards = [merged.statistics(), merged.statistics()]
    for number, (prediction, labels) in enumerate(scenes):
        shards[number % 2].update(prediction, labels, 2 * number)
    taken_up = merged.statistics()
    taken_up.restore(shards[1].state())
    taken_up.merge(shards[0])
    merged.conclude(taken_up)
    torch.testing.assert_close(merged.means_, whole.means_, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(merged.whitening_, whole.whitening_, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("covariance", ["shared", "per-class"])
def test_a_class_that_never_occurs_takes_pooled_statistics_and_is_named(covariance: str, tmp_path: Path) -> None:
    scenes = [scene(seed, absent=1) for seed in range(4)]
    detector = Mahalanobis(covariance=covariance).fit(*zip(*scenes, strict=True))
    assert detector.absent == (1,)
    features = torch.cat([p.features["decoder"].permute(0, 2, 3, 1).reshape(-1, CHANNELS) for p, _ in scenes])
    labels = torch.cat([one[:, ::4, ::4].reshape(-1) for _, one in scenes])
    torch.testing.assert_close(detector.means_[1], features[labels != 255].mean(0), rtol=1e-5, atol=1e-5)
    detector.save(tmp_path / "file")
    assert Mahalanobis.load(tmp_path / "file").absent == (1,)


def test_one_vector_per_class_and_constant_features_give_finite_scores() -> None:
    prediction, labels = scene(0, images=1)
    few = torch.full_like(labels, 255)
    for label in range(CLASSES):
        few[0, 0, 4 * label : 4 * label + 4] = label
    for covariance in ("shared", "per-class"):
        assert Mahalanobis(covariance=covariance).fit([prediction], [few])(prediction).isfinite().all()
    same = Prediction(prediction.logits, SIZE, features={"decoder": torch.ones(1, CHANNELS, *SHAPE)})
    assert Mahalanobis().fit([same], [labels])(same).abs().max() == 0
    assert Mahalanobis().fit([same], [labels])(prediction).isfinite().all()


def test_the_void_channel_is_no_class() -> None:
    prediction, labels = scene(0)
    with_void = Prediction(torch.zeros(2, CLASSES + 1, *SHAPE), SIZE, void=1, features=prediction.features)
    shifted = torch.where((labels > 0) & (labels != 255), labels + 1, labels)
    shifted[:, 0, :] = torch.where(labels[:, 0] == 255, 1, shifted[:, 0])
    found = Mahalanobis().fit([with_void], [shifted])
    torch.testing.assert_close(found(with_void), Mahalanobis().fit([prediction], [labels])(prediction))


def test_what_cannot_be_fitted_is_said() -> None:
    prediction, labels = scene(0)
    with pytest.raises(InputError, match="no labelled pixel"):
        Mahalanobis().fit([], [])
    with pytest.raises(InputError, match="no labelled pixel"):
        Mahalanobis().fit([prediction], [torch.full_like(labels, 255)])
    with pytest.raises(InputError, match="none of the 3 classes"):
        Mahalanobis().fit([prediction], [labels.clamp(max=7)])
    broken = prediction.features["decoder"].clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        Mahalanobis().fit([Prediction(prediction.logits, SIZE, features={"decoder": broken})], [labels])
    with pytest.raises(InputError, match="has not been fitted"):
        Mahalanobis()(prediction)


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(InputError, match="shrinkage in"):
        Mahalanobis(shrinkage=1.5)
    with pytest.raises(InputError, match="expected one of shared, per-class"):
        Mahalanobis(covariance="diagonal")
    with pytest.raises(InputError, match="expected one of image, tap"):
        Mahalanobis(resolution="full")
