"""Streaming moments and extremes against NumPy, and how statistics are merged and taken up again."""

import numpy as np
import pytest
import torch

from strays.detectors.statistics import ClassMoments, Extremes, Statistics
from strays.errors import InputError


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    # far from 0, where sums of squares would lose every digit
    return 1e4 + torch.randn(4000, generator=generator), torch.randint(0, 4, (4000,), generator=generator)


def moments(values, classes, pieces: int) -> ClassMoments:
    gathered = ClassMoments(5)
    for some, theirs in zip(values.chunk(pieces), classes.chunk(pieces), strict=True):
        gathered.update(some, theirs)
    return gathered


def test_moments_are_those_of_numpy(data) -> None:
    values, classes = data
    found = moments(values, classes, 7)
    for index in range(4):
        own = values[classes == index].double().numpy()
        assert found.count[index] == own.size
        np.testing.assert_allclose(found.mean[index], own.mean(), rtol=1e-12)
        np.testing.assert_allclose(found.variance()[index], own.var(ddof=1), rtol=1e-10)
    assert found.count[4] == 0
    assert found.variance()[4].isnan()


def test_pooled_moments_are_those_of_everything(data) -> None:
    values, classes = data
    together = moments(values, classes, 3).pooled()
    np.testing.assert_allclose(together.mean, values.double().mean(), rtol=1e-12)
    np.testing.assert_allclose(together.variance(), values.double().var(), rtol=1e-10)


def test_merged_moments_are_those_of_one_pass(data) -> None:
    values, classes = data
    whole = moments(values, classes, 1)
    first, second = moments(values[:1500], classes[:1500], 2), moments(values[1500:], classes[1500:], 3)
    first.merge(second)
    torch.testing.assert_close(first.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(first.scatter, whole.scatter, rtol=1e-9, atol=0)


def test_extremes() -> None:
    extremes, other = Extremes(), Extremes()
    with pytest.raises(InputError, match="no pixel"):
        extremes.range()
    extremes.update(torch.tensor([3.0, -1.0]))
    extremes.update(torch.zeros(0))
    other.update(torch.tensor([[7.0]]))
    extremes.merge(other)
    assert extremes.range() == (-1.0, 7.0)


class Both(Statistics):
    def __init__(self) -> None:
        self.range = Extremes()
        self.moments = ClassMoments()

    def update(self, prediction, labels, index) -> None:
        self.range.update(prediction)
        self.moments.update(prediction)


def test_statistics_merge_and_store_all_their_parts() -> None:
    first, second, again = Both(), Both(), Both()
    first.update(torch.tensor([1.0, 2.0]), None, 0)
    second.update(torch.tensor([6.0]), None, 2)
    again.restore(first.state())
    again.merge(second)
    assert set(again.state()) == {"range.lowest", "range.highest", "moments.count", "moments.mean", "moments.scatter"}
    assert again.range.range() == (1.0, 6.0)
    assert again.moments.mean.tolist() == [3.0]
