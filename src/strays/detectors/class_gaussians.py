"""What detectors with a distribution per class share: labels by channel, and mergeable counts, means and scatters."""

from collections.abc import Mapping
from typing import Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from strays.detectors.inputs import labels_at
from strays.detectors.statistics import Accumulator, State
from strays.errors import InputError
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = ["ClassCounts", "ClassGaussians", "channel_labels", "checked_choice"]

Word = TypeVar("Word", bound=str)

_BLOCK = 1 << 15
"""Vectors that are widened to float64 at a time."""


def checked_choice(setting: str, value: Word, choices: tuple[Word, ...]) -> Word:
    """Return a setting that is one of a few words.

    Raises:
        InputError: if it is none of them.
    """
    if value not in choices:
        raise InputError(f"{setting} is {value!r}, expected one of {', '.join(choices)}")
    return value


def channel_labels(prediction: Prediction, labels: Tensor, features: Tensor) -> tuple[Tensor, int]:
    """Return labels at the size of features, in the numbering of ``class_logits``, and how many classes that has.

    Args:
        prediction: tells the classes of the network and which of them is void.
        labels: (N, H, W) class indices in the taxonomy of the network, 255 = ignore.
        features: (N, C, h, w); labels are brought to their size by nearest neighbour.

    Returns:
        (N, h, w) int64, 255 also for void pixels; and K.

    Raises:
        InputError: if a label is no class of the network.
    """
    channels, void = prediction.logits.shape[1], prediction.void
    labels = labels_at(labels, (features.shape[2], features.shape[3]))
    outside = (labels != IGNORE) & ((labels < 0) | (labels >= channels))
    if outside.any():
        raise InputError(
            f"the label {int(labels[outside][0])} is none of the {channels} classes of the network: translate labels "
            "into its taxonomy, 255 where it has no such class"
        )
    if void is None:
        return labels, channels
    later = (labels > void) & (labels != IGNORE)
    return torch.where(labels == void, IGNORE, labels - later.long()), channels - 1


class ClassCounts(Accumulator):
    """How many labelled pixels of each class there were.

    Attributes:
        count: (K,) int64; empty until something was taken in.

    Example:
        >>> counts = ClassCounts()
        >>> counts.update(torch.tensor([0, 2, 2, 255]), classes=4)
        >>> counts.count.tolist(), counts.absent
        ([1, 0, 2, 0], (1, 3))
    """

    def __init__(self) -> None:
        self.count = torch.zeros(0, dtype=torch.long)

    @property
    def absent(self) -> tuple[int, ...]:
        """The classes that did not occur."""
        return tuple((self.count == 0).nonzero()[:, 0].tolist())

    def update(self, labels: Tensor, classes: int) -> None:
        """Take in labels of any shape, each below ``classes`` or 255."""
        self._add(torch.bincount(labels[labels != IGNORE], minlength=classes).cpu())

    def merge(self, other: Self) -> None:
        """Take in the counts of other images."""
        self._add(other.count)

    def _add(self, count: Tensor) -> None:
        if len(self.count) and len(count):
            _check_same("classes", len(self.count), len(count))
            count = self.count + count
        self.count = count if len(count) else self.count

    def require(self) -> None:
        """Complain where there was nothing.

        Raises:
            InputError: if no pixel was labelled.
        """
        if not int(self.count.sum()):
            raise InputError(
                "no labelled pixel to fit on: give images with class labels that the network knows, not all of them "
                "ignored"
            )

    def state(self) -> State:
        """Return the counts."""
        return {"count": self.count}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up the counts."""
        self.count = state["count"]


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
