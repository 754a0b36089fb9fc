"""Mergeable statistics: the same object serves a stream, several shards and a restart."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["Accumulator", "ClassMoments", "Extremes", "State", "Statistics"]

State = dict[str, Tensor]


class Accumulator(ABC):
    """Something gathered piece by piece that can be merged, written down and taken up again."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another one, of the same making, has gathered from other pieces."""

    @abstractmethod
    def state(self) -> State:
        """Return what was gathered as tensors on the CPU; nothing where nothing was."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state`` returned, instead of what was gathered here."""


class Statistics(Accumulator):
    """What a detector gathers while it is fitted.

    A subclass keeps accumulators as attributes and feeds them in ``update``; merging, writing down and taking up is
    done here, attribute by attribute.
    """

    @abstractmethod
    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in a batch of images.

        Args:
            prediction: what the network saw.
            labels: (N, H, W) at ``prediction.size``, 255 = ignore; what they hold beside that is the detector's choice.
            index: number of the first image of the batch among all images of the fit, whichever shard it is in.
        """

    @property
    def parts(self) -> dict[str, Accumulator]:
        """The accumulators by the names of their attributes."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Accumulator)}

    def merge(self, other: Self) -> None:
        """Merge every part with the other's."""
        theirs = other.parts
        for name, part in self.parts.items():
            part.merge(theirs[name])

    def state(self) -> State:
        """Return the tensors of all parts, under ``part.key``."""
        return {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Give every part its tensors back."""
        for name, part in self.parts.items():
            prefix = f"{name}."
            part.restore({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})


class ClassMoments(Accumulator):
    """Count, mean and variance of a number per class, in float64 by the merging formula of Chan et al. (1979).

    Args:
        classes: K; with one class it is the moments of everything.

    Attributes:
        count, mean, scatter: (K,) float64; scatter is the sum of squared deviations from the mean.

    Example:
        >>> moments = ClassMoments(2)
        >>> moments.update(torch.tensor([1.0, 3.0, 7.0]), torch.tensor([0, 0, 1]))
        >>> moments.mean.tolist(), moments.variance().tolist()
        ([2.0, 7.0], [2.0, nan])
    """

    def __init__(self, classes: int = 1) -> None:
        self.count, self.mean, self.scatter = torch.zeros(3, classes, dtype=torch.float64).unbind()

    def update(self, values: Tensor, classes: Tensor | None = None) -> None:
        """Take in values of any shape, with the classes of the same shape they belong to; values are not weighted."""
        flat = values.detach().reshape(-1).cpu().double()
        index = torch.zeros(len(flat), dtype=torch.long) if classes is None else classes.reshape(-1).long().cpu()
        count = torch.zeros_like(self.count).index_add_(0, index, torch.ones_like(flat))
        mean = torch.zeros_like(self.mean).index_add_(0, index, flat) / count.clamp(min=1)
        scatter = torch.zeros_like(self.scatter).index_add_(0, index, (flat - mean[index]) ** 2)
        self._combine(count, mean, scatter)

    def merge(self, other: Self) -> None:
        """Take in what another one has gathered."""
        self._combine(other.count, other.mean, other.scatter)

    def _combine(self, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        share = count / total.clamp(min=1)
        gap = mean - self.mean
        self.scatter = self.scatter + scatter + gap**2 * self.count * share
        self.mean = self.mean + gap * share
        self.count = total

    def variance(self) -> Tensor:
        """Return the unbiased variances (K,), NaN for classes with fewer than two values."""
        return torch.where(self.count > 1, self.scatter / (self.count - 1), torch.nan)

    def pooled(self) -> "ClassMoments":
        """Return the moments of all classes together, as of one class."""
        together = ClassMoments()
        for count, mean, scatter in zip(self.count, self.mean, self.scatter, strict=True):
            together._combine(count[None], mean[None], scatter[None])
        return together

    def state(self) -> State:
        """Return count, mean and scatter."""
        return {"count": self.count, "mean": self.mean, "scatter": self.scatter}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up count, mean and scatter."""
        self.count, self.mean, self.scatter = state["count"], state["mean"], state["scatter"]


class Extremes(Accumulator):
    """Smallest and largest of all values.

    Raises:
        InputError: by ``range``, if there was no value.
    """

    def __init__(self) -> None:
        self.lowest, self.highest = torch.tensor([torch.inf, -torch.inf]).unbind()

    def update(self, values: Tensor) -> None:
        """Take in values of any shape; an empty tensor changes nothing."""
        if values.numel():
            low, high = values.detach().float().cpu().aminmax()
            self.lowest, self.highest = torch.minimum(self.lowest, low), torch.maximum(self.highest, high)

    def merge(self, other: Self) -> None:
        """Take in what another one has seen."""
        self.lowest = torch.minimum(self.lowest, other.lowest)
        self.highest = torch.maximum(self.highest, other.highest)

    def range(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        if self.lowest > self.highest:
            raise InputError("no pixel to fit on: give images whose labels are not all ignored")
        return float(self.lowest), float(self.highest)

    def state(self) -> State:
        """Return both values."""
        return {"lowest": self.lowest, "highest": self.highest}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up both values."""
        self.lowest, self.highest = state["lowest"], state["highest"]
