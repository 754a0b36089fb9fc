"""False-positive suppression around any detector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from strays.detectors import build_detector
from strays.detectors.entropy import Entropy
from strays.detectors.meta_regressor import MetaRegressor
from strays.detectors.segment_features import segment_features
from strays.detectors.suppressed import Suppressed, lowered
from strays.errors import InputError
from strays.prediction import Prediction

SIZE = (48, 64)
CLASSES = 4


def scene(seed: int) -> tuple[Prediction, Tensor]:
    """Sure everywhere but in big anomalies and in a few false alarms, which are small and of other classes."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, CLASSES, *SIZE, generator=generator) * 0.2
    logits[:, 0] += 6
    mask = torch.zeros(1, *SIZE, dtype=torch.uint8)
    for number in range(4):
        y, x = (int(torch.randint(2, side - 14, (1,), generator=generator)) for side in SIZE)
        side = 10 if number == 0 else 3
        logits[:, 0, y : y + side, x : x + side] -= 6
        logits[:, 1 if number else 2, y : y + side, x : x + side] += 0.6
        if number == 0:
            mask[:, y : y + side, x : x + side] = 1
    mask[:, :1] = 255
    return Prediction(logits=logits, size=SIZE), mask


SCENES = [scene(seed) for seed in range(10)]


def fitted(detector: Suppressed) -> Suppressed:
    return detector.fit(*zip(*SCENES, strict=True)).eval()


def test_false_alarms_fall_below_the_threshold_and_anomalies_stay() -> None:
    detector = fitted(Suppressed("entropy", 0.7))
    kept: dict[bool, list[bool]] = {True: [], False: []}
    for prediction, mask in map(scene, range(50, 60)):
        before, after = Entropy()(prediction)[0].numpy(), detector(prediction)[0].numpy()
        numbers, count = ndimage.label(before >= 0.7, np.ones((3, 3)))
        for one in range(1, count + 1):
            kept[bool((mask[0].numpy()[numbers == one] == 1).any())].append(bool((after[numbers == one] >= 0.7).all()))
    assert len(kept[False]) > 10
    assert not any(kept[False])
    assert all(kept[True])
    assert len(kept[True]) >= 10


def reference(threshold: float) -> tuple[LogisticRegression, np.ndarray, np.ndarray]:
    """Scikit-learn's own model of the components of the fit images, true = 1, and the scaling of their features."""
    features, true = [], []
    for prediction, mask in SCENES:
        above = (Entropy()(prediction)[0].numpy() >= threshold) & (mask[0].numpy() != 255)
        table = segment_features(prediction.logits[0], np.where(above, 0, 255))
        numbers, count = ndimage.label(above, np.ones((3, 3)))
        np.testing.assert_array_equal(numbers, table.numbers)
        features.append(table.features)
        true += [bool((mask[0].numpy()[numbers == one] == 1).any()) for one in range(1, count + 1)]
    rows = np.concatenate(features)
    mean, scale = rows.mean(0), rows.std(0)
    return LogisticRegression(solver="liblinear").fit((rows - mean) / scale, true), mean, scale


def test_components_are_judged_as_scikit_learn_judges_them() -> None:
    detector = fitted(Suppressed("entropy", 0.7))
    model, mean, scale = reference(0.7)
    for prediction, _ in map(scene, range(20, 26)):
        before = Entropy()(prediction)[0]
        numbers, count = ndimage.label(before.numpy() >= 0.7, np.ones((3, 3)))
        table = segment_features(prediction.logits[0], np.where(numbers > 0, 0, 255))
        assert count == len(table) > 0
        true = model.predict((table.features - mean) / scale)
        killed = np.concatenate([[False], ~true.astype(bool)])[table.numbers]
        after = detector(prediction)[0]
        assert (after.numpy()[killed] == np.nextafter(np.float32(0.7), np.float32(0))).all()
        assert torch.equal(after[torch.from_numpy(~killed)], before[torch.from_numpy(~killed)])


def test_nothing_is_ever_raised_and_what_is_below_the_threshold_stays() -> None:
    detector = fitted(Suppressed("entropy", 0.7))
    prediction = scene(30)[0]
    before, after = Entropy()(prediction), detector(prediction)
    assert (after <= before).all()
    assert torch.equal(after[before < 0.7], before[before < 0.7])
    assert ((after < before) <= (before >= 0.7)).all()


def test_lowered_goes_just_below_the_threshold_for_any_unit() -> None:
    score = torch.tensor([[-5.0, -3.0, -2.0, 4.0]])
    numbers, false = torch.tensor([[0, 1, 1, 2]]), torch.tensor([True, False])
    got = lowered(score, -3.0, numbers, false)
    assert got[0, 0] == -5
    assert got[0, 3] == 4
    assert (got[0, 1:3] < -3).all()
    assert (got[0, 1:3] > -3.00001).all()


def test_ignored_pixels_cut_components_and_do_not_make_them_true() -> None:
    prediction, mask = SCENES[0]
    found = Suppressed("entropy", 0.7).statistics()
    found.update(prediction, torch.full_like(mask, 255), 0)
    with pytest.raises(InputError, match="no segment to fit on"):
        found.table()
    found.update(prediction, torch.where(mask == 1, 255, mask), 0)
    assert len(found.table()[1]) > 0
    assert not found.table()[1].any()


@pytest.mark.parametrize(("fill", "which"), [(0, "none overlaps"), (1, "every one overlaps")])
def test_components_of_one_kind_are_an_error(fill: int, which: str) -> None:
    prediction, mask = SCENES[0]
    with pytest.raises(InputError, match=f"components with entropy >= 0.7 in the fit images {which} an anomaly"):
        Suppressed("entropy", 0.7).fit([prediction], [torch.full_like(mask, fill)])


def test_no_component_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="to fit on"):
        fitted(Suppressed("entropy", 2.0))


def test_a_threshold_must_be_finite() -> None:
    with pytest.raises(InputError, match="finite threshold"):
        Suppressed("entropy", float("nan"))


def test_it_takes_detectors_and_strings_and_tells_which() -> None:
    one = Suppressed(Entropy(temperature=2), threshold=0.5)
    assert one.settings() == {"detector": "entropy(temperature=2.0)", "threshold": 0.5, "segments": 200_000}
    again = build_detector("suppressed(entropy(temperature=2),threshold=0.5)")
    assert again.settings() == one.settings()
    assert one.target == "mask"


def test_a_fitted_inner_detector_comes_back_from_the_file(tmp_path: Path) -> None:
    labels = [3 * Entropy()(prediction).gt(0.7).long() for prediction, _ in SCENES]
    inner = MetaRegressor().fit([prediction for prediction, _ in SCENES], labels)
    detector = Suppressed(inner, threshold=0.5)
    assert not detector.is_fitted
    fitted(detector).save(tmp_path / "file")
    loaded = build_detector(f"suppressed@{tmp_path / 'file'}")
    assert torch.equal(loaded(scene(40)[0]), detector(scene(40)[0]))


def test_taps_are_those_of_the_inner_detector() -> None:
    class Reads(Entropy):
        def taps(self) -> frozenset[str]:
            return frozenset({"decoder"})

    assert Suppressed(Reads()).taps() == {"decoder"}


def test_shards_merge_to_what_one_pass_gives() -> None:
    whole, merged = fitted(Suppressed(segments=15)), Suppressed(segments=15)
    first, second = merged.statistics(), merged.statistics()
    for index, (prediction, mask) in enumerate(SCENES):
        (first if index % 3 else second).update(prediction, mask, index)
    second.merge(first)
    merged.conclude(second)
    assert torch.equal(merged(scene(5)[0]), whole(scene(5)[0]))
