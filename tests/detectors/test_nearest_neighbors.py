"""DNP and cDNP against a float64 brute force written from the specification; sampling, shards and errors."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.detectors import Detector, build_detector, nearest_neighbors_energy, reference_bank
from strays.detectors.nearest_neighbors import NearestNeighbors, nearest_neighbors
from strays.detectors.nearest_neighbors_energy import NearestNeighborsEnergy
from strays.detectors.reference_bank import coreset, leave_one_out_distance, sample_size
from strays.errors import InputError
from strays.prediction import Prediction

SIZE, HERE, CHANNELS, CLASSES = (18, 30), (6, 10), 5, 4
needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scene(seed: int, images: int = 2) -> Prediction:
    return Prediction(
        logits=random(images, CLASSES, 9, 15, seed=seed) * 3,
        size=SIZE,
        features={"encoder": random(images, CHANNELS, *HERE, seed=seed + 500)},
    )


def classes(seed: int, images: int = 2) -> Tensor:
    """Labels in blocks of 3 x 3, a fifth of them ignored."""
    labels = torch.randint(0, CLASSES + 1, (images, *HERE), generator=torch.Generator().manual_seed(seed))
    labels[labels == CLASSES] = 255
    return labels.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)


SEEDS = (1, 2, 3)
SCENES, LABELS = [scene(seed) for seed in SEEDS], [classes(seed) for seed in SEEDS]


def drawable() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All features whose label is not ignored, and their labels."""
    found, named = [], []
    for one, labels in zip(SCENES, LABELS, strict=True):
        for image in range(len(labels)):
            for y in range(HERE[0]):
                for x in range(HERE[1]):
                    label = int(labels[image, 3 * y, 3 * x])
                    if label != 255:
                        found.append(one.features["encoder"][image, :, y, x].double().numpy())
                        named.append(label)
    return np.array(found), np.array(named)


def mean_distance(vector: NDArray[np.float64], bank: NDArray[np.float64], k: int) -> float:
    return float(np.mean(sorted(math.dist(vector, one) for one in bank)[:k]))


def brute_map(prediction: Prediction, bank: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Mean distances, every feature's repeated over its 3 x 3 pixels."""
    features = prediction.features["encoder"].double().numpy().transpose(0, 2, 3, 1)
    maps = np.apply_along_axis(mean_distance, 3, features, bank, k)
    return maps.repeat(3, axis=1).repeat(3, axis=2)


def bank_of(detector: NearestNeighbors | NearestNeighborsEnergy) -> Tensor:
    assert detector.bank_ is not None
    return detector.bank_


def test_mean_distance_agrees_with_brute_force() -> None:
    features, references = random(2, 7, 3, 4, seed=1), random(40, 7)
    found = nearest_neighbors(features, references, k=5)
    assert found.shape == (2, 3, 4)
    bank = references.double().numpy()
    for n, y, x in np.ndindex(2, 3, 4):
        assert float(found[n, y, x]) == pytest.approx(mean_distance(features[n, :, y, x].double().numpy(), bank, 5))


@pytest.mark.parametrize("k", [1, 3])
def test_score_is_the_mean_distance_to_labelled_features(k: int) -> None:
    detector = NearestNeighbors(k=k).fit(SCENES, LABELS)
    bank, _ = drawable()
    assert sorted(bank_of(detector).double().tolist()) == sorted(bank.tolist())
    np.testing.assert_allclose(detector(scene(9)).numpy(), brute_map(scene(9), bank, k), rtol=1e-5)


def test_bilinear_upsampling_is_an_option() -> None:
    nearest = NearestNeighbors().fit(SCENES, LABELS)(scene(9))
    bilinear = NearestNeighbors(upsampling="bilinear").fit(SCENES, LABELS)(scene(9))
    torch.testing.assert_close(bilinear[:, 1::3, 1::3], nearest[:, 1::3, 1::3])  # the centres stay
    assert not torch.allclose(bilinear, nearest)


def test_as_many_references_as_asked_for_are_drawn_without_repetition() -> None:
    detector = NearestNeighbors(references=50).fit(SCENES, LABELS)
    rows = {tuple(row) for row in bank_of(detector).tolist()}
    assert len(rows) == 50
    assert rows <= {tuple(row) for row in drawable()[0].astype(np.float32).tolist()}
    other = NearestNeighbors(references=50, seed=1).fit(SCENES, LABELS)
    assert rows != {tuple(row) for row in bank_of(other).tolist()}


def test_class_balanced_sampling_gives_each_class_its_share() -> None:
    detector = NearestNeighbors(references=40, sampling="class-balanced").fit(SCENES, LABELS)
    assert detector.target == "labels"
    assert NearestNeighbors().target == "image"
    features, labels = drawable()
    named = {tuple(row): label for row, label in zip(features.astype(np.float32).tolist(), labels, strict=True)}
    found = [named[tuple(row)] for row in bank_of(detector).tolist()]
    assert np.bincount(found).tolist() == [10, 10, 10, 10]
    assert detector.absent == ()


def test_class_balanced_sampling_tells_absent_classes() -> None:
    labels = [torch.where(one == 2, 255, one) for one in LABELS]
    detector = NearestNeighbors(references=40, sampling="class-balanced").fit(SCENES, labels)
    assert detector.absent == (2,)
    assert len(bank_of(detector)) == 30


Kind = type[NearestNeighbors] | type[NearestNeighborsEnergy]


@pytest.mark.parametrize("kind", [NearestNeighbors, NearestNeighborsEnergy])
@pytest.mark.parametrize("sampling", ["random", "class-balanced", "coreset"])
def test_shards_and_restarts_give_the_bits_of_one_pass(kind: Kind, sampling: reference_bank.Sampling) -> None:
    whole = kind(references=30, sampling=sampling).fit(SCENES, LABELS)
    split = kind(references=30, sampling=sampling)
    shards = [split.statistics() for _ in range(3)]
    for number, order in ((1, [2]), (0, [1, 0])):
        for at in order:
            shards[number].update(SCENES[at], LABELS[at], index=2 * at)
    merged = split.statistics()
    merged.restore(shards[1].state())
    merged.merge(shards[2])  # empty
    shards[2].merge(shards[0])
    merged.merge(shards[2])
    split.conclude(merged)
    assert torch.equal(bank_of(whole), bank_of(split))
    assert torch.equal(whole(scene(9)), split(scene(9)))


def test_statistics_are_bounded() -> None:
    detector = NearestNeighborsEnergy(references=20)
    statistics = detector.statistics()
    sizes = []
    for number in range(4):
        statistics.update(scene(number), classes(number), index=2 * number)
        sizes.append(sum(one.numel() for one in statistics.state().values()))
    assert len(set(sizes)) == 1


def farthest_first(points: NDArray[np.float64], count: int) -> list[int]:
    taken = [0]
    while len(taken) < count:
        gaps = [min(math.dist(one, points[other]) for other in taken) for one in points]
        taken.append(int(np.argmax(gaps)))
    return taken


@pytest.mark.parametrize("few", [4, 17, 4096])
def test_coreset_is_the_farthest_first_traversal(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_bank, "_FARTHEST", few)
    points = random(90, 3)
    assert coreset(points, 25).tolist() == farthest_first(points.double().numpy(), 25)


@pytest.mark.parametrize("count", [1, 7, 12, 50])
def test_coreset_of_few_or_equal_points_names_each_once(count: int) -> None:
    points = torch.tensor([0.0, 1.0, 5.0]).repeat(4)[:, None]
    taken = coreset(points, count).tolist()
    assert len(taken) == len(set(taken)) == min(count, 12)
    assert {float(points[one, 0]) for one in taken[:3]} == ({0.0, 1.0, 5.0} if count >= 3 else {0.0})


def test_coreset_covers_the_features_better_than_chance() -> None:
    everything = torch.from_numpy(drawable()[0]).float()[None].permute(2, 0, 1)[None]
    spread, chance = (
        nearest_neighbors(everything, bank_of(NearestNeighbors(references=40, sampling=kind).fit(SCENES, LABELS)), k=1)
        for kind in ("coreset", "random")
    )
    assert spread.max() < 0.9 * chance.max()


def test_coreset_is_chosen_from_a_bounded_sample() -> None:
    assert sample_size(1000, "random") == 1000
    assert sample_size(1000, "coreset") == 8000
    assert sample_size(100_000, "coreset") == 200_000
    assert sample_size(300_000, "coreset") == 300_000
    assert NearestNeighbors(references=10, sampling="coreset").statistics().sample.quota == 80


@pytest.mark.parametrize("k", [1, 3])
def test_a_reference_is_no_neighbour_of_itself_but_its_duplicates_are(k: int) -> None:
    references = torch.cat([random(30, 4), random(3, 4, seed=1).repeat(2, 1), random(1, 4, seed=2).repeat(6, 1)])
    points = references.double().numpy()
    expected = [mean_distance(one, np.delete(points, at, axis=0), k) for at, one in enumerate(points)]
    np.testing.assert_allclose(leave_one_out_distance(references, k).numpy(), expected, rtol=1e-5, atol=1e-12)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum())


PARAMETRIC = {
    "energy": lambda z: 1 - math.log(np.exp(z).sum()),
    "msp": lambda z: 1 - softmax(z).max(),
    "entropy": lambda z: -(softmax(z) * np.log(softmax(z) + 1e-6)).sum(),
    "max-logit": lambda z: -z.max(),
}


def parametric_maps(predictions: Sequence[Prediction], name: str) -> NDArray[np.float64]:
    """A score of the logits at the size of the image, all images below each other."""
    resized = [
        torch.nn.functional.interpolate(one.logits.double(), size=SIZE, mode="bilinear", align_corners=False)
        for one in predictions
    ]
    return np.apply_along_axis(PARAMETRIC[name], 1, torch.cat(resized).numpy())


@pytest.mark.parametrize("name", PARAMETRIC)
def test_combination_agrees_with_brute_force(name: nearest_neighbors_energy.Parametric) -> None:
    detector = NearestNeighborsEnergy(parametric=name).fit(SCENES, LABELS)
    bank, _ = drawable()
    farthest = max(mean_distance(one, np.delete(bank, at, axis=0), 3) for at, one in enumerate(bank))
    seen = parametric_maps(SCENES, name)
    test = scene(9)
    test.logits[0, :, 3:6, 3:6] = -50  # beyond what was seen
    scaled = (parametric_maps([test], name) - seen.min()) / (seen.max() - seen.min())
    expected = scaled + brute_map(test, bank, 3) / farthest
    np.testing.assert_allclose(detector(test).numpy(), expected, rtol=2e-5, atol=2e-5)
    assert scaled.max() > 1


def test_extremes_are_taken_over_ignored_pixels_too() -> None:
    loud = Prediction(logits=SCENES[0].logits.clone(), size=SIZE, features=SCENES[0].features)
    loud.logits[0, :, :2] = torch.tensor([90.0, 0.0, 0.0, 0.0])[:, None, None]
    labels = LABELS[0].clone()
    labels[0, :6] = 255
    detector = NearestNeighborsEnergy().fit([loud], [labels])
    assert detector.scales_ is not None
    assert float(detector.scales_[0]) == pytest.approx(1 - 90)


def test_largest_distance_is_taken_among_a_part_of_many_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_neighbors_energy, "_SCALED_BY", 60)
    detector = NearestNeighborsEnergy(sampling="coreset").fit(SCENES, LABELS)
    everything = NearestNeighborsEnergy()
    monkeypatch.setattr(nearest_neighbors_energy, "_SCALED_BY", 30_000)
    everything.fit(SCENES, LABELS)
    assert detector.scales_ is not None
    assert everything.scales_ is not None
    assert torch.equal(detector.scales_[:2], everything.scales_[:2])
    assert detector.scales_[2] > everything.scales_[2]  # fewer neighbours to be near


@pytest.mark.parametrize("kind", [NearestNeighbors, NearestNeighborsEnergy])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_banks_are_half_as_large(
    kind: Kind, precision: reference_bank.Precision, tmp_path: Path
) -> None:
    whole = kind().fit(SCENES, LABELS)
    half = kind(precision=precision).fit(SCENES, LABELS)
    assert bank_of(half).dtype == getattr(torch, precision)
    torch.testing.assert_close(half(scene(9)), whole(scene(9)), rtol=2e-2, atol=2e-2)
    half.save(tmp_path / "half")
    loaded = Detector.load(tmp_path / "half")
    assert torch.equal(loaded(scene(9)), half(scene(9)))
    whole.save(tmp_path / "whole")
    saved = bank_of(half).numel() * 2
    assert (tmp_path / "whole").stat().st_size - (tmp_path / "half").stat().st_size == pytest.approx(saved, abs=16)


@needs_faiss
@pytest.mark.parametrize("kind", [NearestNeighbors, NearestNeighborsEnergy])
def test_flat_index_gives_the_scores_of_exact_search(kind: Kind, tmp_path: Path) -> None:
    exact, flat = kind().fit(SCENES, LABELS), kind(search="faiss-flat").fit(SCENES, LABELS)
    torch.testing.assert_close(flat(scene(9)), exact(scene(9)), rtol=1e-6, atol=1e-6)
    assert set(flat.state_dict()) == set(exact.state_dict())
    flat.save(tmp_path / "flat")
    assert torch.equal(Detector.load(tmp_path / "flat")(scene(9)), flat(scene(9)))


@needs_faiss
def test_index_follows_the_bank() -> None:
    detector = NearestNeighbors(search="faiss-ivf").fit(SCENES, LABELS)
    before = detector(scene(9))
    detector.fit([scene(20)], [classes(20)])
    expected = NearestNeighbors(search="faiss-ivf").fit([scene(20)], [classes(20)])
    assert torch.equal(detector(scene(9)), expected(scene(9)))
    assert not torch.equal(detector(scene(9)), before)


def test_settings_as_people_write_them() -> None:
    detector = build_detector("nearest-neighbors-energy:tap=decoder,k=5,references=900,parametric=msp,sampling=coreset")
    assert detector.taps() == {"decoder"}
    assert detector.settings()["k"] == 5
    assert detector.settings()["parametric"] == "msp"


IGNORED = [torch.full_like(one, 255) for one in LABELS]


@pytest.mark.parametrize("kind", [NearestNeighbors, NearestNeighborsEnergy])
def test_too_little_to_fit_on(kind: Kind) -> None:
    with pytest.raises(InputError, match="at least k = 3 reference features, got 0"):
        kind().fit(SCENES, IGNORED)
    with pytest.raises(InputError, match="at least k = 3 reference features, got 0"):
        kind().fit([], [])
    few = IGNORED[0].clone()
    few[0, :3, :6] = 0
    with pytest.raises(InputError, match="k = 3 reference features, got 2"):
        kind().fit(SCENES[:1], [few])


def test_scales_need_one_reference_more_than_neighbours() -> None:
    three = IGNORED[0].clone()
    three[0, :3, :9] = 0
    NearestNeighbors().fit(SCENES[:1], [three])
    with pytest.raises(InputError, match="more than k = 3 reference features, got 3"):
        NearestNeighborsEnergy().fit(SCENES[:1], [three])


def test_scenes_without_any_difference_are_refused() -> None:
    flat = Prediction(logits=torch.ones(1, 4, 9, 15), size=SIZE, features={"encoder": torch.ones(1, 5, *HERE)})
    with pytest.raises(InputError, match="give scenes that differ"):
        NearestNeighborsEnergy().fit([flat], [torch.zeros(1, *SIZE)])


def test_wrong_features_are_told() -> None:
    detector = NearestNeighbors().fit(SCENES, LABELS)
    broken = random(1, CHANNELS, *HERE)
    broken[0, 2, 3, 4] = torch.nan
    logits = random(1, CLASSES, 9, 15)
    with pytest.raises(InputError, match="NaN or infinite"):
        detector(Prediction(logits=logits, size=SIZE, features={"encoder": broken}))
    with pytest.raises(InputError, match="no features 'encoder' \\(it has: decoder\\)"):
        detector(Prediction(logits=logits, size=SIZE, features={"decoder": broken}))
    with pytest.raises(InputError, match="vectors of the same length"):
        detector(Prediction(logits=logits, size=SIZE, features={"encoder": random(1, 8, *HERE)}))
    with pytest.raises(InputError, match="has not been fitted"):
        NearestNeighbors()(scene(9))


def test_features_too_large_for_half_precision_are_refused() -> None:
    large = Prediction(logits=SCENES[0].logits, size=SIZE, features={"encoder": SCENES[0].features["encoder"] * 1e5})
    with pytest.raises(InputError, match="precision=bfloat16 or float32"):
        NearestNeighbors(precision="float16").fit([large], LABELS[:1])
    NearestNeighbors(precision="bfloat16").fit([large], LABELS[:1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("k=0", "k between 1 and the number of references"),
        ("references=2", "k between 1 and the number of references, 2, got k = 3"),
        ("sampling=grid", "'random', 'class-balanced' or 'coreset'"),
        ("search=tree", "'exact', 'faiss-flat', 'faiss-ivf' or 'faiss-pq'"),
    ],
)
def test_wrong_settings_are_told(settings: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_detector(f"nearest-neighbors:{settings}")


def test_wrong_words_are_told_in_python_too() -> None:
    for wrong in ({"sampling": "grid"}, {"upsampling": "area"}, {"search": "tree"}, {"precision": "int8"}):
        with pytest.raises(InputError, match="expected one of"):
            NearestNeighbors(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected one of energy, msp, entropy, max-logit"):
        NearestNeighborsEnergy(parametric="odin")  # type: ignore[arg-type]
