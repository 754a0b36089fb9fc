"""Prototypes: against float64 loops, one pass against shards, and the five test scales of PAnS."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from strays.detectors.class_labels import channel_labels
from strays.detectors.prototypes import (
    Prototypes,
    PrototypeStatistics,
    cosine_confidence,
    cosine_logits,
    prototype_score,
)
from strays.errors import InputError
from strays.prediction import Prediction

CHANNELS, CLASSES, GRID = 5, 4, (3, 4)
PUBLISHED = "300/720+375/720+450/720+525/720+1000/1280"


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prediction_of(seed: int, images: int = 2, void: int | None = None, size: tuple[int, int] = GRID) -> Prediction:
    features = {"decoder": random(images, CHANNELS, *GRID, seed=seed)}
    return Prediction(logits=random(images, CLASSES, *GRID, seed=seed + 100), size=size, void=void, features=features)


def labels_of(seed: int, images: int = 2, classes: int = CLASSES) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images, *GRID), generator=generator)
    return labels.masked_fill(torch.rand(labels.shape, generator=generator) < 0.2, 255)


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / (np.sqrt(one @ one) * np.sqrt(other @ other)))


def enlarged(values: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear with corners not aligned, by SciPy."""
    rows, columns = ((np.arange(new) + 0.5) * old / new - 0.5 for new, old in zip(size, values.shape, strict=True))
    grid = np.meshgrid(rows, columns, indexing="ij")
    found: NDArray[np.float64] = map_coordinates(values, grid, order=1, mode="nearest")
    return found


def test_cosine_logits_are_those_of_a_loop() -> None:
    features, weights = random(2, CHANNELS, *GRID), random(CLASSES, CHANNELS, seed=1)
    found = cosine_logits(features, weights)
    assert found.shape == (2, CLASSES, *GRID)
    for image, label, row, column in np.ndindex(2, CLASSES, *GRID):
        expected = 10 * cosine(features[image, :, row, column].double().numpy(), weights[label].double().numpy())
        assert float(found[image, label, row, column]) == pytest.approx(expected, abs=1e-5)


def test_cosines_stay_within_their_range_and_vectors_of_zeros_count_as_orthogonal() -> None:
    weights = random(CLASSES, CHANNELS)
    parallel = cosine_logits(weights * 1e-3, weights, scale=1.0)
    assert parallel.abs().max() <= 1
    assert torch.allclose(parallel.diagonal(), torch.ones(CLASSES))
    assert cosine_logits(torch.zeros(1, CHANNELS), weights).tolist() == [[0.0] * CLASSES]
    assert prototype_score(torch.zeros(1, CHANNELS), weights).tolist() == [0.5]


def test_scores_are_one_minus_the_rescaled_largest_cosine() -> None:
    features, weights = random(6, CHANNELS), random(CLASSES, CHANNELS, seed=1)
    largest = [max(cosine(one, w) for w in weights.double().numpy()) for one in features.double().numpy()]
    expected = torch.tensor([1 - (one + 1) / 2 for one in largest])
    torch.testing.assert_close(prototype_score(features, weights), expected)
    torch.testing.assert_close(1 - cosine_confidence(cosine_logits(features, weights, scale=3.0), scale=3.0), expected)


def test_features_of_other_channels_are_refused() -> None:
    with pytest.raises(InputError, match="expected features"):
        cosine_logits(random(2, 3, 4), random(CLASSES, CHANNELS))


def brute_means(predictions: list[Prediction], labels: list[Tensor], void: int | None) -> NDArray[np.float64]:
    """Means of the feature vectors of each real class by loops over pixels."""
    members: dict[int, list[NDArray[np.float64]]] = {one: [] for one in range(CLASSES) if one != void}
    for prediction, its_labels in zip(predictions, labels, strict=True):
        for image, row, column in np.ndindex(*its_labels.shape):
            label = int(its_labels[image, row, column])
            if label in members:
                members[label].append(prediction.features["decoder"][image, :, row, column].double().numpy())
    return np.stack([np.mean(one, axis=0) for one in members.values()])


@pytest.mark.parametrize("void", [None, 1])
def test_fitting_takes_the_means_of_the_pixels_of_each_class(void: int | None) -> None:
    predictions, labels = [prediction_of(seed, void=void) for seed in (1, 2)], [labels_of(1), labels_of(2)]
    detector = Prototypes().fit(predictions, labels)
    means = brute_means(predictions, labels, void)
    assert detector.prototypes_ is not None
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(detector.prototypes_.numpy(), expected, atol=1e-6)
    assert detector.absent == ()
    scored = prediction_of(9)
    found = detector(scored)
    for image, row, column in np.ndindex(2, *GRID):
        pixel = scored.features["decoder"][image, :, row, column].double().numpy()
        confidence = (max(cosine(pixel, one) for one in means) + 1) / 2
        assert float(found[image, row, column]) == pytest.approx(1 - confidence, abs=1e-5)


def test_the_maximum_is_taken_before_upsampling() -> None:
    detector = Prototypes().fit([prediction_of(1)], [labels_of(1)])
    scored, size = prediction_of(3, images=1, size=(9, 16)), (9, 16)
    assert detector.prototypes_ is not None
    coarse = cosine_confidence(cosine_logits(scored.features["decoder"], detector.prototypes_))[0].double().numpy()
    np.testing.assert_allclose(detector(scored)[0].numpy(), 1 - enlarged(coarse, size), atol=1e-6)


def test_labels_are_brought_to_the_features_by_nearest_neighbour() -> None:
    labels = labels_of(1).repeat_interleave(2, dim=1).repeat_interleave(3, dim=2)
    fine = Prototypes().fit([prediction_of(1)], [labels])
    coarse = Prototypes().fit([prediction_of(1)], [labels_of(1)])
    assert torch.equal(fine.state_dict()["prototypes_"], coarse.state_dict()["prototypes_"])


def gathered(shards: list[list[int]]) -> PrototypeStatistics:
    """Statistics of shards of batches, written down, taken up and merged; only the last batch knows class 3."""
    made = []
    for shard in shards:
        statistics = Prototypes().statistics()
        for seed in shard:
            labels = labels_of(seed, classes=CLASSES if seed == 4 else CLASSES - 1)
            statistics.update(prediction_of(seed), labels, index=2 * seed)
        made.append(Prototypes().statistics())
        made[-1].restore(statistics.state())
    for other in made[1:]:
        made[0].merge(other)
    return made[0]


@pytest.mark.parametrize("shards", [[[1, 2], [3, 4]], [[4], [2, 1, 3]], [[], [1, 2, 3, 4], []]])
def test_shards_give_what_one_pass_gives(shards: list[list[int]]) -> None:
    whole, merged = Prototypes(), Prototypes()
    whole.conclude(gathered([[1, 2, 3, 4]]))
    merged.conclude(gathered(shards))
    torch.testing.assert_close(merged.prototypes_, whole.prototypes_, rtol=1e-6, atol=1e-6)


def test_classes_that_never_occur_get_the_mean_of_all_pixels() -> None:
    prediction, labels = prediction_of(1, void=0), labels_of(1).masked_fill(labels_of(1) == 2, 255)
    detector = Prototypes().fit([prediction], [labels])
    assert detector.absent == (2,)
    used = (labels != 255) & (labels != 0)
    pooled = prediction.features["decoder"].movedim(1, -1)[used].double().mean(dim=0)
    assert detector.prototypes_ is not None
    assert len(detector.prototypes_) == CLASSES - 1
    torch.testing.assert_close(detector.prototypes_[1], (pooled / pooled.norm()).float())


def test_fitting_on_nothing_and_on_labels_of_other_classes_is_refused() -> None:
    with pytest.raises(InputError, match="no labelled pixel to fit on"):
        Prototypes().fit([prediction_of(1)], [torch.full((2, *GRID), 255)])
    with pytest.raises(InputError, match="the label 19 is none"):
        Prototypes().fit([prediction_of(1)], [torch.full((2, *GRID), 19)])
    with pytest.raises(InputError, match="strays fit prototypes"):
        Prototypes()(prediction_of(1))


def test_void_pixels_are_ignored() -> None:
    labels = torch.tensor([[[0, 1, 255]]])
    prediction = Prediction(logits=torch.zeros(1, 2, 1, 3), size=(1, 3), void=1)
    assert channel_labels(prediction, labels)[0].tolist() == [[[0, 255, 255]]]


@dataclass
class Looks:
    """Passes of a network with a cosine classifier; notes the sizes it was shown."""

    image: Tensor
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def again(self, image: Tensor) -> Prediction:
        self.seen.append(tuple(image.shape[-2:]))
        coarse = torch.nn.functional.avg_pool2d(image, 8)
        logits = cosine_logits(coarse - 0.5, random(CLASSES, 3, seed=5))
        return Prediction(logits=logits, size=(72, 128))

    def sampled(self, seed: int) -> Prediction:
        raise AssertionError("nothing to sample")


def test_published_scales_give_the_published_sizes() -> None:
    looks = Looks(torch.rand(1, 3, 720, 1280, generator=torch.Generator().manual_seed(0)))
    prediction = Prediction(logits=torch.zeros(1, CLASSES, 9, 16), size=(72, 128), passes=looks)
    Prototypes(source="classifier", scales=PUBLISHED)(prediction)
    assert looks.seen == [(304, 536), (376, 672), (456, 800), (528, 936), (568, 1000)]


def test_confidences_of_the_scales_are_averaged() -> None:
    image = torch.rand(1, 3, 72, 128, generator=torch.Generator().manual_seed(0))
    looks = Looks(image)
    own = cosine_logits(random(1, 3, 9, 16), random(CLASSES, 3, seed=5))
    prediction = Prediction(logits=own, size=(72, 128), passes=looks)
    found = Prototypes(source="classifier", scales="1/2 + 1")(prediction)[0].numpy()
    assert looks.seen == [(40, 64)]  # the scale 1 is what was seen already
    half = torch.nn.functional.interpolate(image, (40, 64), mode="bilinear", antialias=True)
    maps = [(one.amax(1)[0].double().numpy() + 10) / 20 for one in (looks.again(half).logits, own)]
    np.testing.assert_allclose(found, 1 - sum(enlarged(one, (72, 128)) for one in maps) / 2, atol=1e-6)


def test_the_classifier_of_the_network_needs_no_fitting() -> None:
    detector = Prototypes(source="classifier")
    assert detector.is_fitted
    assert detector.taps() == frozenset()
    assert not Prototypes().is_fitted
    logits = torch.tensor([7.0, -10.0, 10.0, 0.0]).view(1, 4, 1, 1)
    assert detector(Prediction(logits=logits, size=(1, 1), void=2)).item() == pytest.approx(1 - 17 / 20)
    with pytest.raises(InputError, match="is not fitted"):
        detector.statistics()


def test_logits_that_are_no_cosines_are_refused() -> None:
    logits = torch.full((1, CLASSES, 2, 2), 10.5)
    with pytest.raises(InputError, match=r"no cosine classifier.*source=fit"):
        Prototypes(source="classifier")(Prediction(logits=logits, size=(2, 2)))
    half = Prediction(logits=torch.full((1, CLASSES, 2, 2), 10.04).half(), size=(2, 2))
    assert Prototypes(source="classifier")(half).eq(0).all()


@pytest.mark.parametrize("scales", ["", "big", "1/0", "0", "1+-2"])
def test_scales_that_are_none_are_refused(scales: str) -> None:
    with pytest.raises(InputError, match="expected scales"):
        Prototypes(scales=scales)


def test_other_sources_and_scales_without_a_network_are_refused() -> None:
    with pytest.raises(InputError, match="fit or classifier"):
        Prototypes(source="weights")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="runs the network again"):
        Prototypes(source="classifier", scales="1/2")(prediction_of(1))
