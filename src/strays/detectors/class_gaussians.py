"""Mergeable counts, means and scatter matrices of feature vectors per class."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from strays.detectors.statistics import Accumulator, State
from strays.errors import InputError
from strays.taxonomy import IGNORE

__all__ = ["ClassGaussians"]

_BLOCK = 1 << 15
"""Vectors that are widened to float64 at a time."""


class ClassGaussians(Accumulator):
    """Count, mean and scatter matrix of feature vectors per class, in float64.

    Source: merged by the formula of Chan et al. (1979), with outer products for squares.

    Args:
        shared: keep the sum of the scatter matrices of all classes instead of one for each.

    Attributes:
        count: (K,) float64; mean: (K, C) float64; scatter: (1, C, C) if shared, else (K, C, C), float64, the sum of
            outer products of the deviations from the mean of the class. All empty until something was taken in.

    Example:
        >>> gaussians = ClassGaussians()
        >>> gaussians.update(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1]), classes=2)
        >>> gaussians.mean.tolist(), gaussians.pooled_covariance().tolist()
        ([[2.0], [7.0]], [[0.6666666666666666]])
    """

    def __init__(self, shared: bool = True) -> None:
        self.shared = shared
        self.count = torch.zeros(0, dtype=torch.float64)
        self.mean = torch.zeros(0, 0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, 0, dtype=torch.float64)

    def update(self, vectors: Tensor, labels: Tensor, classes: int) -> None:
        """Take in vectors (P, C) with labels (P,), each below ``classes`` or 255."""
        labels = labels.to(vectors.device)
        for block in torch.split((labels != IGNORE).nonzero()[:, 0], _BLOCK):
            self._combine(*_moments(vectors.detach()[block].double(), labels[block], classes, self.shared))

    def merge(self, other: Self) -> None:
        """Take in what another one has gathered from other images."""
        if len(other.count):
            self._combine(other.count, other.mean, other.scatter)

    def _combine(self, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
        if not len(self.count):
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        _check_same("classes", len(self.count), len(count))
        _check_same("channels of the features", self.mean.shape[1], mean.shape[1])
        total = self.count + count
        share = (count / total.clamp(min=1))[:, None]
        gap = mean - self.mean
        self.scatter = self.scatter + scatter + _outer(gap * self.count[:, None] * share, gap, self.shared)
        self.mean = self.mean + gap * share
        self.count = total

    def pooled_mean(self) -> Tensor:
        """Return the mean (C,) of the vectors of all classes."""
        return (self.count / self.count.sum().clamp(min=1)) @ self.mean

    def pooled_covariance(self) -> Tensor:
        """Return the covariance (C, C) around the means of the classes, over the vectors of all classes."""
        return self.scatter.sum(0) / self.count.sum().clamp(min=1)

    def means(self) -> Tensor:
        """Return the means (K, C); a class that did not occur takes the mean of all vectors."""
        return torch.where((self.count > 0)[:, None], self.mean, self.pooled_mean())

    def covariances(self) -> Tensor:
        """Return the covariances (K, C, C); a class with no more vectors than channels takes the pooled one.

        Raises:
            InputError: if only the shared scatter matrix was kept.
        """
        if self.shared:
            raise InputError("these statistics hold one covariance for all classes: gather them with shared=False")
        own = self.scatter / self.count.clamp(min=1)[:, None, None]
        enough = self.count > self.mean.shape[1]
        return torch.where(enough[:, None, None], own, self.pooled_covariance())

    def state(self) -> State:
        """Return count, mean and scatter."""
        return {"count": self.count, "mean": self.mean, "scatter": self.scatter}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up count, mean and scatter."""
        self.count, self.mean, self.scatter = state["count"], state["mean"], state["scatter"]


def _moments(vectors: Tensor, labels: Tensor, classes: int, shared: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return counts, means and scatter of one block, on the CPU."""
    member = functional.one_hot(labels, classes).to(vectors.dtype).T
    count = member.sum(1)
    mean = member @ vectors / count.clamp(min=1)[:, None]
    deviation = vectors - mean[labels]
    if shared:
        return count.cpu(), mean.cpu(), (deviation.T @ deviation)[None].cpu()
    scatter = vectors.new_zeros(classes, vectors.shape[1], vectors.shape[1])
    for label in range(classes):
        own = deviation[labels == label]
        scatter[label] = own.T @ own
    return count.cpu(), mean.cpu(), scatter.cpu()


def _outer(left: Tensor, right: Tensor, shared: bool) -> Tensor:
    """Return the outer products (K, C, C) of the rows of two matrices (K, C), or their sum (1, C, C)."""
    return (left.T @ right)[None] if shared else left[:, :, None] * right[:, None, :]


def _check_same(what: str, here: int, there: int) -> None:
    if here != there:
        raise InputError(f"statistics of {here} and of {there} {what} cannot be merged: fit all with the same network")
