"""The confusion matrix against scikit-learn."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from strays.errors import InputError
from strays.metrics import ConfusionMatrix


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    labels = rng.choice(np.uint8([0, 1, 2, 4, 255]), (3, 20, 30))  # no class 3, no class 5
    predicted = np.where(rng.random(labels.shape) < 0.6, labels, rng.integers(0, 4, labels.shape)).astype(np.int64)
    predicted[labels == 255] = 99  # what is predicted under ignored pixels counts nowhere
    return predicted, labels


def test_equals_scikit_learn(maps):
    predicted, labels = maps
    known = labels != 255
    matrix = ConfusionMatrix(6).update(torch.from_numpy(predicted), torch.from_numpy(labels))
    np.testing.assert_array_equal(matrix.counts, confusion_matrix(labels[known], predicted[known], labels=range(6)))
    result = matrix.compute()
    expected = jaccard_score(labels[known], predicted[known], labels=range(5), average=None)
    assert result.iou[:5] == pytest.approx(expected, abs=1e-12)
    assert result.iou[3] == 0  # predicted, never right
    assert result.iou[5] is None
    assert result["mIoU"] == pytest.approx(expected.mean(), abs=1e-12)
    assert result["accuracy"] == pytest.approx(accuracy_score(labels[known], predicted[known]), abs=1e-12)
    assert result["pixels"] == known.sum()
    json.dumps([result, result.iou], allow_nan=False)


def test_classes_that_the_labels_cannot_name_have_no_iou(maps):
    predicted, labels = maps
    known = labels != 255
    matrix = ConfusionMatrix(6).update(predicted, labels)
    result = matrix.compute(named={0, 1, 2, 4})
    assert result.iou[3] is None  # predicted, and still wrong for the classes of those pixels
    expected = jaccard_score(labels[known], predicted[known], labels=[0, 1, 2, 4], average="macro")
    assert result["mIoU"] == pytest.approx(expected, abs=1e-12)
    assert result["accuracy"] == matrix.compute()["accuracy"]


def test_merging_and_storing_equal_one_pass(maps):
    predicted, labels = maps
    whole, merged = ConfusionMatrix(6).update(predicted, labels), ConfusionMatrix(6)
    for one, other in zip(predicted, labels, strict=True):
        merged.merge(ConfusionMatrix.from_state(ConfusionMatrix(6).update(one, other).state()))
    assert merged.compute() == whole.compute()
    assert merged.compute().iou == whole.compute().iou


def test_a_matrix_and_its_state_do_not_share_memory(maps):
    matrix = ConfusionMatrix(6).update(*maps)
    state = matrix.state()
    before = state["counts"].copy()
    ConfusionMatrix.from_state(state).update(*maps)
    matrix.update(*maps)
    np.testing.assert_array_equal(state["counts"], before)


def test_refused_updates_change_nothing(maps):
    matrix = ConfusionMatrix(6).update(*maps)
    before = matrix.counts.copy()
    refused = [
        (np.array([6]), np.uint8([0]), r"predicted classes in \[0, 6\), got \[6\]"),
        (np.array([-1]), np.uint8([0]), r"got \[-1\]"),
        (np.array([0]), np.uint8([19]), r"labels in \[0, 6\), got \[19\]"),
        (np.float32([0]), np.uint8([0]), "argmax"),
        (np.array([0, 1]), np.uint8([0]), r"\(2,\) and \(1,\)"),
    ]
    for predicted, labels, message in refused:
        with pytest.raises(InputError, match=message):
            matrix.update(predicted, labels)
    np.testing.assert_array_equal(matrix.counts, before)


def test_refusals():
    with pytest.raises(InputError, match="needs labelled pixels"):
        ConfusionMatrix(2).update(np.uint8([0]), np.uint8([255])).compute()
    with pytest.raises(InputError, match="2 and 3 classes"):
        ConfusionMatrix(2).merge(ConfusionMatrix(3))
    with pytest.raises(InputError, match="1 to 255"):
        ConfusionMatrix(0)
    with pytest.raises(InputError, match="expected a state of ConfusionMatrix"):
        ConfusionMatrix.from_state({"metric": np.array("PixelMetrics")})
