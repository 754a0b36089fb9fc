from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from torch import Tensor
from torch.nn import functional

from strays.detectors.embedding_knn import EmbeddingKNN, mean_neighbour_distance, neighbour_disagreement
from strays.errors import InputError
from strays.prediction import Prediction, resize_maps

CLASSES, CHANNELS = 4, 5
SHAPE, SIZE = (6, 8), (12, 16)


def scene(seed: int, images: int = 1, absent: int | None = None) -> tuple[Prediction, Tensor]:
    """Features near their class, of which later ones are rarer, with labels in blocks of 2 x 2 pixels of the image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor([0.6, 0.2, 0.15, 0.05]), images * 48, True, generator=generator)
    labels = labels.view(images, *SHAPE)
    if absent is not None:
        labels[labels == absent] = 255
    features = torch.randn(images, CHANNELS, *SHAPE, generator=generator) + (labels[:, None] % 7)
    prediction = Prediction(torch.zeros(images, CLASSES, *SHAPE), SIZE, features={"encoder": features})
    return prediction, labels.repeat_interleave(2, 1).repeat_interleave(2, 2)


def fitted_on(scenes: list[tuple[Prediction, Tensor]], **settings: object) -> EmbeddingKNN:
    return EmbeddingKNN(**settings).fit(*zip(*scenes, strict=True))  # type: ignore[arg-type]


def flat(prediction: Prediction) -> Tensor:
    return prediction.features["encoder"].permute(0, 2, 3, 1).reshape(-1, CHANNELS).double()


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("measure", "disagreement"), [("density", "entropy"), ("class-density", "entropy"), ("class-density", "minority")]
)
def test_score_agrees_with_brute_force(measure: str, disagreement: str, upsampling: str) -> None:
    scenes = [scene(seed, images=2) for seed in range(3)]
    settings = {"measure": measure, "disagreement": disagreement, "upsampling": upsampling}
    detector = fitted_on(scenes, k=7, **settings)
    bank = np.concatenate([flat(prediction) for prediction, _ in scenes])
    labels = np.concatenate([one[:, ::2, ::2].reshape(-1) for _, one in scenes])
    prediction = scene(9, images=2)[0]
    distances = cdist(flat(prediction), bank)
    values = []
    for row in distances:
        near = row.argsort()[:7]
        shares = np.bincount(labels[near], minlength=CLASSES) / 7
        by_name = {"density": row[near].mean(), "entropy": entropy(shares), "minority": 1 - shares.max()}
        values.append(by_name["density" if measure == "density" else disagreement])
    maps = torch.tensor(values).view(2, 1, *SHAPE)
    expected = resize_maps(maps, SIZE) if upsampling == "bilinear" else functional.interpolate(maps, SIZE)
    torch.testing.assert_close(detector(prediction).double(), expected[:, 0].double(), rtol=1e-5, atol=1e-5)


def test_pure_functions_by_hand() -> None:
    assert mean_neighbour_distance(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [3.0]
    labels = torch.tensor([[[0, 0, 0, 0]], [[0, 1, 2, 3]]])
    torch.testing.assert_close(neighbour_disagreement(labels, 4), torch.tensor([[0.0], [float(np.log(4))]]))
    torch.testing.assert_close(neighbour_disagreement(labels, 4, by="minority"), torch.tensor([[0.0], [0.75]]))


def test_ignored_pixels_are_no_references() -> None:
    prediction, labels = scene(0)
    labels[:, :6] = 255
    detector = fitted_on([(prediction, labels)], k=2)
    kept = flat(prediction).view(*SHAPE, CHANNELS)[3:].reshape(-1, CHANNELS)
    assert detector.references_ is not None
    torch.testing.assert_close(detector.references_.double().sort(0).values, kept.sort(0).values)


def test_balanced_references_hold_as_many_of_each_class() -> None:
    scenes = [scene(seed, images=2) for seed in range(4)]
    balanced = fitted_on(scenes, references=40, sampling="class-balanced")
    random = fitted_on(scenes, references=40)
    assert balanced.labels_ is not None
    assert random.labels_ is not None
    assert balanced.labels_.bincount().tolist() == [10, 10, 10, 10]
    assert len(random.labels_) == 40
    assert random.labels_.bincount()[0] > 15


@pytest.mark.parametrize("sampling", ["random", "class-balanced"])
def test_shards_equal_one_pass_bit_for_bit(sampling: str) -> None:
    scenes = [scene(seed) for seed in range(4)]
    settings = {"sampling": sampling, "references": 60, "k": 3}
    whole = fitted_on(scenes, **settings)
    merged = EmbeddingKNN(**settings)  # type: ignore[arg-type]
    shards = [merged.statistics() for _ in range(3)]
    for number in (3, 1, 2, 0):
        shards[number % 3].update(*scenes[number], number)
    together = merged.statistics()
    for shard in shards:
        taken_up = merged.statistics()
        taken_up.restore(shard.state())
        together.merge(taken_up)
    merged.conclude(together)
    assert torch.equal(merged.references_, whole.references_)
    assert torch.equal(merged.labels_, whole.labels_)


def test_saved_references_come_back_with_absent_classes(tmp_path: Path) -> None:
    scenes = [scene(seed, absent=2) for seed in range(2)]
    detector = fitted_on(scenes, measure="class-density", sampling="class-balanced")
    assert detector.absent == (2,)
    detector.save(tmp_path / "file")
    loaded = EmbeddingKNN.load(tmp_path / "file")
    assert loaded.absent == (2,)
    assert torch.equal(loaded(scenes[0][0]), detector(scenes[0][0]))


def test_constant_features_and_one_vector_per_class_are_fine() -> None:
    prediction, labels = scene(0)
    same = Prediction(prediction.logits, SIZE, features={"encoder": torch.ones(1, CHANNELS, *SHAPE)})
    assert fitted_on([(same, labels)])(same).abs().max() == 0
    few = torch.full_like(labels, 255)
    for label in range(CLASSES):
        few[0, 0, 2 * label : 2 * label + 2] = label
    assert fitted_on([(prediction, few)], k=4)(prediction).isfinite().all()


def test_what_cannot_be_fitted_is_said() -> None:
    prediction, labels = scene(0)
    with pytest.raises(InputError, match="at least k = 49 labelled feature vectors to fit on, got 48"):
        fitted_on([(prediction, labels)], k=49)
    with pytest.raises(InputError, match="no labelled pixel"):
        EmbeddingKNN().fit([], [])
    with pytest.raises(InputError, match="no labelled pixel"):
        fitted_on([(prediction, torch.full_like(labels, 255))])
    broken = prediction.features["encoder"].clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        fitted_on([(Prediction(prediction.logits, SIZE, features={"encoder": broken}), labels)])
    with pytest.raises(InputError, match="has not been fitted"):
        EmbeddingKNN()(prediction)


@pytest.mark.parametrize(
    "settings",
    [{"k": 0}, {"k": 11, "references": 10}, {"measure": "flow"}, {"disagreement": "gini"}, {"sampling": "coreset"}],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        EmbeddingKNN(**settings)  # type: ignore[arg-type]
