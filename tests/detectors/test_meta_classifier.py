"""Meta-classification and meta-regression of predicted segments."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from strays.detectors import build_detector
from strays.detectors.meta_classifier import MetaClassifier
from strays.detectors.meta_detector import MetaDetector, interior
from strays.detectors.meta_regressor import MetaRegressor
from strays.detectors.segment_features import adjusted_iou, predicted_segments
from strays.errors import InputError
from strays.prediction import Prediction

SIZE = (48, 64)
CLASSES = 4


def scene(seed: int) -> tuple[Prediction, Tensor]:
    """Blobs that the network sees with errors; where it errs it is less sure."""
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.nn.functional.interpolate(torch.randn(1, CLASSES, 6, 8, generator=generator), SIZE, mode="bicubic")
    labels = smooth.argmax(1)
    labels[:, :3] = 255
    logits = 3 * smooth[:, :, ::4, ::4] + torch.randn(1, CLASSES, 12, 16, generator=generator)
    return Prediction(logits=logits, size=SIZE), labels


SCENES = [scene(seed) for seed in range(12)]


def fitted(detector: MetaDetector) -> MetaDetector:
    return detector.fit(*zip(*SCENES, strict=True)).eval()


@cache
def logistic() -> MetaDetector:
    return fitted(MetaClassifier())


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Features and adjusted IoU of all segments, without the sample in between."""
    found = [
        (one, adjusted_iou(one, labels[0].numpy())) for p, labels in SCENES for one in predicted_segments(p, labels)
    ]
    return np.concatenate([one.features for one, _ in found]), np.concatenate([iou for _, iou in found])


@pytest.mark.parametrize("model", ["logistic", "gradient-boosting"])
def test_the_classifier_tells_segments_that_miss_their_class(model: str) -> None:
    detector = logistic() if model == "logistic" else fitted(MetaClassifier(model))
    scores, missed = [], []
    for prediction, labels in map(scene, range(50, 60)):
        score = detector(prediction)[0].numpy()
        for table in predicted_segments(prediction, labels):
            first = [np.flatnonzero(table.numbers == number)[0] for number in range(1, len(table) + 1)]
            scores += score.ravel()[first].tolist()
            missed += (adjusted_iou(table, labels[0].numpy()) == 0).tolist()
    assert 0 < np.mean(missed) < 1
    assert roc_auc_score(missed, scores) > 0.75


@pytest.mark.parametrize("kind", [MetaClassifier, MetaRegressor])
def test_boosted_scores_are_those_of_scikit_learn_painted(kind: type[MetaDetector]) -> None:
    features, iou = rows()
    inside = interior(features)
    features = features.astype(np.float32)[inside]
    settings = {"max_iter": 100, "max_depth": 3, "early_stopping": False, "random_state": 0}
    prediction = scene(77)[0]
    (table,) = predicted_segments(prediction)
    if kind is MetaClassifier:
        classifier = HistGradientBoostingClassifier(**settings).fit(features, iou[inside] == 0)
        expected = classifier.predict_proba(table.features)[:, 1]
    else:
        regressor = HistGradientBoostingRegressor(**settings).fit(features, iou[inside])
        expected = 1 - np.clip(regressor.predict(table.features), 0, 1)
    score = fitted(kind("gradient-boosting"))(prediction)[0]
    np.testing.assert_allclose(score, expected[table.numbers - 1], rtol=1e-4, atol=1e-5)


def test_regression_is_least_squares_on_segments_with_an_interior_clipped() -> None:
    features, iou = rows()
    inside = interior(features)
    reference = LinearRegression().fit(features[inside], iou[inside])
    detector = fitted(MetaRegressor())
    for prediction, _ in map(scene, range(70, 75)):
        (table,) = predicted_segments(prediction)
        expected = 1 - np.clip(reference.predict(table.features), 0, 1)[table.numbers - 1]
        np.testing.assert_allclose(detector(prediction)[0], expected, rtol=1e-3, atol=1e-3)


def test_logistic_scores_are_the_probabilities_of_what_was_learnt() -> None:
    detector = logistic()
    prediction = scene(80)[0]
    (table,) = predicted_segments(prediction)
    learnt = detector.learnt
    z = (table.features - learnt.mean.numpy()) / learnt.scale.numpy()
    expected = expit(z @ learnt.coefficients.numpy() + float(learnt.intercept))[table.numbers - 1]
    np.testing.assert_allclose(detector(prediction)[0], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(learnt.mean.numpy(), rows()[0].mean(0), rtol=1e-5)


@pytest.mark.parametrize("detector", [MetaClassifier("gradient-boosting"), MetaRegressor("gradient-boosting")])
def test_boosted_detectors_come_back_from_their_files(detector: MetaDetector, tmp_path: Path) -> None:
    fitted(detector).save(tmp_path / "file")
    loaded = build_detector(f"{detector.name}@{tmp_path / 'file'}")
    assert loaded.settings() == detector.settings()
    assert torch.equal(loaded(scene(5)[0]), detector(scene(5)[0]))


def test_shards_merge_to_what_one_pass_gives() -> None:
    whole, merged = fitted(MetaRegressor(segments=50)), MetaRegressor(segments=50)
    shards = [merged.statistics() for _ in range(3)]
    for index, (prediction, labels) in enumerate(SCENES):
        shards[index % 3].update(prediction, labels, index)
    shards[2].merge(shards[0])
    shards[2].merge(shards[1])
    merged.conclude(shards[2])
    assert torch.equal(merged(scene(5)[0]), whole(scene(5)[0]))


def test_void_in_the_middle_is_ignored_and_the_classes_behind_it_move_up() -> None:
    void = [torch.cat([p.logits[:, :1], -9 + 0 * p.logits[:, :1], p.logits[:, 1:]], 1) for p, _ in SCENES]
    moved = [labels + ((labels > 0) & (labels != 255)).long() for _, labels in SCENES]
    detector = MetaRegressor().fit([Prediction(logits=one, size=SIZE, void=1) for one in void], moved)
    assert torch.equal(detector(SCENES[0][0]), fitted(MetaRegressor())(SCENES[0][0]))


def test_labels_of_another_taxonomy_are_an_error() -> None:
    prediction, labels = SCENES[0]
    with pytest.raises(InputError, match="the label 9 is none of the 4 classes"):
        MetaClassifier().fit([prediction], [labels.masked_fill(labels == 2, 9)])


@pytest.mark.parametrize(("truth", "which"), [("right", "every one"), ("wrong", "no")])
def test_segments_of_one_kind_are_an_error(truth: str, which: str) -> None:
    prediction = SCENES[0][0]
    predicted = torch.nn.functional.interpolate(prediction.logits, size=SIZE, mode="bilinear").argmax(1)
    labels = predicted if truth == "right" else (predicted + 1) % CLASSES
    with pytest.raises(InputError, match=f"predicted segments {which} overlaps labels of its class"):
        MetaClassifier().fit([prediction], [labels])


@pytest.mark.parametrize("kind", [MetaClassifier, MetaRegressor])
def test_ignored_images_and_unknown_models_are_errors(kind: type[MetaDetector]) -> None:
    prediction, labels = SCENES[0]
    with pytest.raises(InputError, match="no segment to fit on"):
        kind().fit([prediction], [torch.full_like(labels, 255)])
    with pytest.raises(InputError, match=r"'forest'.*or 'gradient-boosting'"):
        kind(model="forest")


@pytest.mark.parametrize("model", ["linear", "gradient-boosting"])
def test_a_network_with_other_classes_is_an_error(model: str) -> None:
    detector = fitted(MetaRegressor(model))
    with pytest.raises(InputError, match="another number of classes"):
        detector(Prediction(logits=torch.randn(1, 6, 12, 16), size=SIZE))


def test_segments_without_an_interior_serve_where_there_is_nothing_better() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, 12, 16, generator=generator)  # single pixels
    labels = torch.randint(0, CLASSES, (2, 12, 16), generator=generator)
    prediction = Prediction(logits=logits, size=(12, 16))
    assert sum(int(interior(one.features).sum()) for one in predicted_segments(prediction)) < 4
    for detector in (MetaClassifier(), MetaRegressor()):
        assert detector.fit([prediction], [labels])(prediction).unique().numel() > 1
