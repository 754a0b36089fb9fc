from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Mixture
from torch import Tensor

from strays.detectors.gaussian_mixture import GaussianMixture, gaussian_mixture_log_density
from strays.errors import InputError
from strays.prediction import Prediction, resize_maps

CLASSES, CHANNELS = 3, 4
SHAPE, SIZE = (10, 12), (20, 24)


def scene(seed: int, images: int = 1, absent: int | None = None) -> tuple[Prediction, Tensor]:
    """Features around two centres per class, with labels in blocks of 2 x 2 pixels of the image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (images, *SHAPE), generator=generator)
    if absent is not None:
        labels[labels == absent] = 255
    side = 6.0 * torch.randint(0, 2, (images, *SHAPE, 1), generator=generator)
    features = torch.randn(images, *SHAPE, CHANNELS, generator=generator) + 20 * (labels[..., None] % 7) + side
    logits = torch.zeros(images, CLASSES, *SHAPE)
    prediction = Prediction(logits, SIZE, features={"decoder": features.permute(0, 3, 1, 2)})
    return prediction, labels.repeat_interleave(2, 1).repeat_interleave(2, 2)


def fitted_on(scenes: list[tuple[Prediction, Tensor]], **settings: object) -> GaussianMixture:
    return GaussianMixture(**settings).fit(*zip(*scenes, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_log_density_agrees_with_scikit_learn(kind: str) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, CHANNELS)) @ rng.normal(size=(CHANNELS, CHANNELS)) + 3
    mixture = Mixture(3, covariance_type=kind, random_state=0).fit(points)
    parameters = [torch.from_numpy(one) for one in (mixture.weights_, mixture.means_, mixture.precisions_cholesky_)]
    queries = rng.normal(size=(50, CHANNELS)) * 4
    found = gaussian_mixture_log_density(torch.from_numpy(queries), *parameters)
    np.testing.assert_allclose(found, mixture.score_samples(queries), rtol=1e-10)
    single = gaussian_mixture_log_density(torch.from_numpy(queries).float(), *(one.float() for one in parameters))
    np.testing.assert_allclose(single, mixture.score_samples(queries), rtol=1e-4, atol=1e-3)


def test_log_density_of_several_mixtures_with_components_left_out() -> None:
    generator = torch.Generator().manual_seed(0)
    points, means = torch.randn(7, 2, generator=generator).double(), torch.randn(2, 3, 2, generator=generator).double()
    weights = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]).double()
    scales = torch.rand(2, 3, 2, generator=generator).double() + 0.5
    found = gaussian_mixture_log_density(points, weights, means, scales)
    for row, point in enumerate(points):
        for c in range(2):
            parts = [
                float(weights[c, m]) * multivariate_normal.pdf(point, means[c, m], np.diag(scales[c, m] ** -2.0))
                for m in range(3)
            ]
            assert float(found[row, c]) == pytest.approx(float(np.log(sum(map(float, parts)))), rel=1e-10)


@pytest.mark.parametrize(("over", "covariance"), [("largest", "diagonal"), ("sum", "diagonal"), ("largest", "full")])
def test_score_agrees_with_scikit_learn(over: str, covariance: str) -> None:
    scenes = [scene(seed) for seed in range(3)]
    detector = fitted_on(scenes, components=2, covariance=covariance, over=over)
    features = np.concatenate([p.features["decoder"].permute(0, 2, 3, 1).reshape(-1, CHANNELS) for p, _ in scenes])
    labels = np.concatenate([one[:, ::2, ::2].reshape(-1) for _, one in scenes])
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    prediction = scene(9)[0]
    points = prediction.features["decoder"].permute(0, 2, 3, 1).reshape(-1, CHANNELS).numpy()
    densities = []
    for label in range(CLASSES):
        kind = "full" if covariance == "full" else "diag"
        own = (features[labels == label] - mean) / deviation
        starts = np.stack([own[own.sum(1).argsort()][: len(own) // 2], own[own.sum(1).argsort()][-(len(own) // 2) :]])
        mixture = Mixture(2, covariance_type=kind, reg_covar=1e-3, means_init=starts.mean(1)).fit(own)
        share = np.log(np.mean(labels == label)) if over == "sum" else 0
        densities.append(mixture.score_samples((points - mean) / deviation) + share)
    best = np.max(densities, 0) if over == "largest" else np.logaddexp.reduce(densities)
    expected = resize_maps(torch.from_numpy(-best).view(1, 1, *SHAPE), SIZE)[:, 0]
    # The two start elsewhere, so that they stop at slightly different places.
    np.testing.assert_allclose(detector(prediction), expected, rtol=0.02, atol=0.05)


def test_features_beyond_every_class_score_higher() -> None:
    detector = fitted_on([scene(0)])
    prediction = scene(1)[0]
    odd = prediction.features["decoder"].clone()
    odd[..., :2] += 200
    score = detector(Prediction(prediction.logits, SIZE, features={"decoder": odd}))
    assert score[..., :2].min() > score[..., 6:].max()


def test_principal_axes_have_unit_variance_and_largest_first() -> None:
    scenes = [scene(seed) for seed in range(3)]
    detector = fitted_on(scenes, dims=2)
    assert detector.axes_ is not None
    points = torch.cat([p.features["decoder"].permute(0, 2, 3, 1).reshape(-1, CHANNELS) for p, _ in scenes]).double()
    projected = (points - detector.centre_.double()) @ detector.axes_.double()
    torch.testing.assert_close(projected.T.cov(correction=0), torch.eye(2).double(), rtol=1e-4, atol=1e-4)
    assert detector.axes_.norm(dim=0)[0] < detector.axes_.norm(dim=0)[1]
    assert detector(scenes[0][0]).isfinite().all()
    with pytest.raises(InputError, match="dims is 5, but the features have 4"):
        fitted_on(scenes, dims=5)


@pytest.mark.parametrize("settings", [{}, {"samples": 40}, {"covariance": "full", "dims": 3}])
def test_shards_equal_one_pass_bit_for_bit(settings: dict[str, object]) -> None:
    scenes = [scene(seed) for seed in range(4)]
    whole = fitted_on(scenes, **settings)
    merged = GaussianMixture(**settings)  # type: ignore[arg-type]
    shards = [merged.statistics(), merged.statistics()]
    for number in (3, 1, 2, 0):
        shards[number % 2].update(*scenes[number], number)
    taken_up = merged.statistics()
    taken_up.restore(shards[1].state())
    taken_up.merge(shards[0])
    merged.conclude(taken_up)
    for name, value in whole.state_dict().items():
        assert torch.equal(merged.state_dict()[name], value), name


def test_every_class_gives_at_most_its_samples() -> None:
    detector = GaussianMixture(samples=15)
    statistics = detector.statistics()
    for seed in range(3):
        statistics.update(*scene(seed), seed)
    assert statistics.sample.labels.bincount().tolist() == [15, 15, 15]


@pytest.mark.parametrize("over", ["largest", "sum"])
def test_a_class_that_never_occurs_takes_the_vectors_of_all_and_is_named(over: str, tmp_path: Path) -> None:
    scenes = [scene(seed, absent=1) for seed in range(3)]
    detector = fitted_on(scenes, components=1, over=over)
    assert detector.absent == (1,)
    assert detector.means_ is not None
    # Vectors are scaled to mean 0 and variance 1, so that this is the one Gaussian of all of them.
    torch.testing.assert_close(detector.means_[1, 0], torch.zeros(CHANNELS), atol=1e-5, rtol=0)
    torch.testing.assert_close(detector.scales_[1, 0], torch.ones(CHANNELS) / 1.001**0.5, atol=1e-4, rtol=0)
    assert detector(scene(5)[0]).isfinite().all()
    detector.save(tmp_path / "file")
    assert GaussianMixture.load(tmp_path / "file").absent == (1,)


@pytest.mark.parametrize("settings", [{}, {"covariance": "full"}, {"dims": 2}])
@pytest.mark.filterwarnings("error")
def test_one_vector_per_class_and_constant_features_give_finite_scores(settings: dict[str, object]) -> None:
    prediction, labels = scene(0)
    few = torch.full_like(labels, 255)
    for label in range(CLASSES):
        few[0, 0, 2 * label : 2 * label + 2] = label
    assert fitted_on([(prediction, few)], **settings)(prediction).isfinite().all()
    same = Prediction(prediction.logits, SIZE, features={"decoder": torch.ones(1, CHANNELS, *SHAPE)})
    detector = fitted_on([(same, labels)], **settings)
    assert detector(same).unique().numel() == 1
    assert detector(prediction).min() > detector(same).max() - 1e-4


def test_what_cannot_be_fitted_is_said() -> None:
    prediction, labels = scene(0)
    with pytest.raises(InputError, match="no labelled pixel"):
        GaussianMixture().fit([], [])
    with pytest.raises(InputError, match="no labelled pixel"):
        fitted_on([(prediction, torch.full_like(labels, 255))])
    broken = prediction.features["decoder"].clone()
    broken[0, 0, 0, 0] = torch.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        fitted_on([(Prediction(prediction.logits, SIZE, features={"decoder": broken}), labels)])
    with pytest.raises(InputError, match="has not been fitted"):
        GaussianMixture()(prediction)


@pytest.mark.parametrize(
    "settings",
    [{"components": 0}, {"samples": 0}, {"dims": 0}, {"floor": 0.0}, {"covariance": "tied"}, {"over": "mean"}],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        GaussianMixture(**settings)  # type: ignore[arg-type]
