"""Several prototypes per class: against float64 loops, and one pass against shards."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from strays.detectors.prototype_guided import PrototypeGuided, nearest_prototype_distance, spherical_centres
from strays.errors import InputError
from strays.prediction import Prediction

CHANNELS, CLASSES, GRID = 5, 4, (6, 8)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prediction_of(seed: int, void: int | None = None) -> Prediction:
    features = {"decoder": random(2, CHANNELS, *GRID, seed=seed)}
    return Prediction(logits=torch.zeros(2, CLASSES, *GRID), size=GRID, void=void, features=features)


def labels_of(seed: int, classes: int = CLASSES) -> Tensor:
    labels = torch.randint(0, classes, (2, *GRID), generator=torch.Generator().manual_seed(seed))
    return labels.masked_fill(random(2, *GRID, seed=seed) < -1, 255)


def prototypes_of(detector: PrototypeGuided) -> Tensor:
    assert detector.prototypes_ is not None
    return detector.prototypes_


def test_distances_are_those_of_a_loop() -> None:
    features, prototypes = random(2, CHANNELS, 3), random(7, CHANNELS, seed=1)
    found = nearest_prototype_distance(features, prototypes)
    assert found.shape == (2, 3)
    for image, pixel in np.ndindex(2, 3):
        one = features[image, :, pixel].double().numpy()
        others = prototypes.double().numpy()
        cosines = [one @ other / (np.linalg.norm(one) * np.linalg.norm(other)) for other in others]
        assert float(found[image, pixel]) == pytest.approx(1 - max(cosines), abs=1e-6)


def test_centres_are_found_whatever_the_length_of_the_samples() -> None:
    truth = torch.nn.functional.normalize(random(3, 8), dim=1)
    lengths = torch.rand(300, 1, generator=torch.Generator().manual_seed(1)) * 9 + 1
    samples = (truth.repeat(100, 1) + 0.03 * random(300, 8, seed=2)) * lengths
    found = spherical_centres(samples, 3, seed=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    assert (truth @ found.T).amax(dim=1).min() > 0.999
    assert torch.equal(found, spherical_centres(samples, 3, seed=0))


def test_centres_are_the_normalised_ones_of_k_means_over_directions() -> None:
    samples = random(200, CHANNELS)
    directions = samples.double().numpy() / np.linalg.norm(samples.double().numpy(), axis=1, keepdims=True)
    centres = KMeans(4, n_init=4, random_state=3).fit(directions).cluster_centers_
    expected = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    np.testing.assert_allclose(spherical_centres(samples, 4, seed=3).numpy(), expected, atol=1e-6)


def test_fewer_directions_than_centres_are_the_centres_themselves() -> None:
    samples = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    assert sorted(spherical_centres(samples, 5).tolist()) == [[0.0, 1.0], [1.0, 0.0]]


def test_every_class_gets_prototypes_of_its_own_pixels() -> None:
    prediction, labels = prediction_of(1, void=2), labels_of(1)
    detector = PrototypeGuided(prototypes=3).fit([prediction], [labels])
    assert detector.absent == ()
    assert len(prototypes_of(detector)) == 3 * (CLASSES - 1)
    pixels = prediction.features["decoder"].movedim(1, -1)
    classes = [one for one in range(CLASSES) if one != 2]
    for found, label in zip(prototypes_of(detector).split(3), classes, strict=True):
        centres = spherical_centres(pixels[labels == label], 3)
        spread = nearest_prototype_distance(pixels[labels == label], centres).mean()
        own = nearest_prototype_distance(pixels[labels == label], found).mean()
        assert own == pytest.approx(float(spread), rel=0.1)  # the order of the sample may lead to other optima


def test_one_prototype_is_the_mean_direction_of_a_class() -> None:
    prediction, labels = prediction_of(1), labels_of(1)
    detector = PrototypeGuided(prototypes=1).fit([prediction], [labels])
    pixels = torch.nn.functional.normalize(prediction.features["decoder"].movedim(1, -1), dim=-1)
    means = torch.stack([pixels[labels == one].mean(dim=0) for one in range(CLASSES)])
    torch.testing.assert_close(prototypes_of(detector), torch.nn.functional.normalize(means, dim=1))


@pytest.mark.parametrize("samples", [5, 2000])
def test_shards_give_what_one_pass_gives(samples: int) -> None:
    whole, merged = (PrototypeGuided(samples=samples) for _ in range(2))
    whole.fit([prediction_of(seed) for seed in range(4)], [labels_of(seed) for seed in range(4)])
    shards = [merged.statistics() for _ in range(2)]
    for seed in range(4):
        shards[seed % 2].update(prediction_of(seed), labels_of(seed), index=2 * seed)
    first = merged.statistics()
    first.restore(shards[1].state())
    first.merge(shards[0])
    merged.conclude(first)
    assert torch.equal(prototypes_of(merged), prototypes_of(whole))


def test_the_sample_is_bounded() -> None:
    statistics = PrototypeGuided(samples=6).statistics()
    for seed in range(5):
        statistics.update(prediction_of(seed), labels_of(seed), index=2 * seed)
    assert torch.bincount(statistics.sample.labels).tolist() == [6] * CLASSES
    assert statistics.counts.count.sum() == sum(int((labels_of(seed) != 255).sum()) for seed in range(5))


def test_classes_that_never_occur_share_the_prototypes_of_all() -> None:
    labels = labels_of(1, classes=CLASSES - 1)
    detector = PrototypeGuided(prototypes=2).fit([prediction_of(1)], [labels])
    assert detector.absent == (CLASSES - 1,)
    assert len(prototypes_of(detector)) == 2 * CLASSES


def test_wrong_numbers_and_nothing_to_fit_on_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1 prototype"):
        PrototypeGuided(prototypes=0)
    with pytest.raises(InputError, match="no fewer samples"):
        PrototypeGuided(prototypes=5, samples=4)
    with pytest.raises(InputError, match="no labelled pixel to fit on"):
        PrototypeGuided().fit([prediction_of(1)], [torch.full((2, *GRID), 255)])
