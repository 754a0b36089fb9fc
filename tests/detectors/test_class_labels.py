"""Labels as channels of the class logits, and counts of classes."""

import pytest
import torch

from strays.detectors.class_labels import ClassCounts, channel_labels
from strays.detectors.inputs import checked_choice
from strays.errors import InputError
from strays.prediction import Prediction


def test_counts_merge_and_name_the_absent() -> None:
    first, second = ClassCounts(), ClassCounts()
    with pytest.raises(InputError, match="no labelled pixel"):
        first.require()
    second.update(torch.tensor([[0, 255], [2, 2]]), Prediction(torch.zeros(1, 4, 1, 1), (1, 1)))
    first.merge(second)
    first.merge(ClassCounts())
    first.merge(second)
    first.require()
    assert first.count.tolist() == [2, 0, 4, 0]
    assert first.absent == (1, 3)


def test_labels_take_the_numbers_of_the_class_channels() -> None:
    labels = torch.tensor([[[0, 1, 2, 3, 255]]])
    plain, classes = channel_labels(Prediction(torch.zeros(1, 4, 1, 5), (1, 5)), labels)
    assert (plain.tolist(), classes) == (labels.tolist(), 4)
    void, classes = channel_labels(Prediction(torch.zeros(1, 4, 1, 5), (1, 5), void=1), labels)
    assert (void.tolist(), classes) == ([[[0, 255, 1, 2, 255]]], 3)
    with pytest.raises(InputError, match="the label 3 is none of the 3 classes"):
        channel_labels(Prediction(torch.zeros(1, 3, 1, 5), (1, 5)), labels)


def test_labels_are_brought_to_the_tap_by_nearest_neighbour() -> None:
    labels = torch.arange(4).repeat_interleave(4).view(1, 4, 4)
    small, _ = channel_labels(Prediction(torch.zeros(1, 4, 2, 2), (4, 4)), labels, (2, 2))
    assert small.tolist() == [[[0, 0], [2, 2]]]


def test_a_word_that_is_no_choice_is_refused() -> None:
    assert checked_choice("covariance", "shared", ("shared", "per-class")) == "shared"
    with pytest.raises(InputError, match="covariance is 'full', expected one of shared, per-class"):
        checked_choice("covariance", "full", ("shared", "per-class"))


def test_absent_classes_are_channels_of_the_network() -> None:
    prediction = Prediction(torch.zeros(1, 5, 1, 4), (1, 4), void=1)
    counts = ClassCounts()
    counts.update(channel_labels(prediction, torch.tensor([[[0, 1, 3, 255]]]))[0], prediction)
    assert counts.count.tolist() == [1, 0, 1, 0]
    assert counts.absent == (2, 4)
    again = ClassCounts()
    again.restore(counts.state())
    assert again.absent == (2, 4)
