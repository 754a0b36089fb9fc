"""What a benchmark gathers of every image it has scored: metrics of pixels, components, instances and classes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from strays.errors import InputError
from strays.metrics import (
    FailureMetrics,
    InstanceMetrics,
    OpenSetConfusion,
    PerImagePixelMetrics,
    PixelMetrics,
    SmiycPixelMetrics,
)
from strays.scene import INLIER
from strays.segments import find_segments
from strays.taxonomy import IGNORE

__all__ = [
    "AnyPixelMetrics",
    "Gathering",
    "Measure",
    "OfClasses",
    "OfFailures",
    "OfInstances",
    "OfPixels",
    "Sight",
    "State",
]

State: TypeAlias = dict[str, NDArray[np.generic]]
AnyPixelMetrics: TypeAlias = PixelMetrics | PerImagePixelMetrics | SmiycPixelMetrics


@dataclass(frozen=True, eq=False)
class Sight:
    """One image that has been scored.

    Args:
        scores: by detector, float32 (H, W).
        mask: uint8 (H, W), 0 inlier, 1 anomaly, 255 ignore.
        half: which half of the data set it belongs to.
        labels: uint8 (H, W) in the classes of the model, 255 = none; None where no measure asks for them.
        predicted: uint8 (H, W), the class the model gives each pixel; likewise.
        instances: int32 (H, W), the number of the anomaly that each pixel belongs to, 0 = none; None where they are not
            told apart.
    """

    scores: Mapping[str, NDArray[np.float32]]
    mask: NDArray[np.uint8]
    half: str = ""
    labels: NDArray[np.uint8] | None = None
    predicted: NDArray[np.uint8] | None = None
    instances: NDArray[np.int32] | None = None

    def classes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return predicted classes and labels.

        Raises:
            InputError: if the image has no labels.
        """
        if self.labels is None or self.predicted is None:
            raise InputError("the image has no class labels, which metrics of classes need")
        return self.predicted, self.labels


class Gathering(Protocol):
    """What takes in images and can be stored."""

    def take(self, sight: Sight, /) -> None:
        """Take in one image."""

    def state(self) -> State:
        """Return what was gathered as arrays."""

    def restore(self, state: State, /) -> None:
        """Take up what was gathered before."""


class Accumulator(Protocol):
    """What gathers the numbers of a measure."""

    def state(self) -> State:
        """Return what was gathered as arrays."""

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose state this was."""


class OfScores(Accumulator, Protocol):
    """An accumulator of scores and masks."""

    def update(self, scores: NDArray[np.float32], mask: NDArray[np.uint8], /) -> object:
        """Take in one image."""


A = TypeVar("A", bound=Accumulator)
P = TypeVar("P", bound=OfScores)


class Measure(ABC, Generic[A]):
    """An accumulator, and what of an image it takes in.

    Args:
        accumulator: what gathers.
        detector: whose scores it reads.
        half: the half of the data set that it counts; None for all images.
    """

    def __init__(self, accumulator: A, detector: str, half: str | None = None) -> None:
        self.accumulator = accumulator
        self.detector = detector
        self.half = half

    def take(self, sight: Sight) -> None:
        """Take in an image, unless it belongs to the other half."""
        if self.half in (None, sight.half):
            self._take(sight, sight.scores[self.detector])

    @abstractmethod
    def _take(self, sight: Sight, scores: NDArray[np.float32]) -> None: ...

    def state(self) -> State:
        """Return what was gathered as arrays."""
        return self.accumulator.state()

    def restore(self, state: State) -> None:
        """Take up what was gathered before."""
        self.accumulator = type(self.accumulator).from_state(state)


class OfPixels(Measure[P]):
    """Reads scores and mask."""

    def _take(self, sight: Sight, scores: NDArray[np.float32]) -> None:
        self.accumulator.update(scores, sight.mask)


class OfFailures(Measure[FailureMetrics]):
    """Reads scores, predicted classes and labels, on inlier pixels."""

    def _take(self, sight: Sight, scores: NDArray[np.float32]) -> None:
        predicted, labels = sight.classes()
        known = np.where(sight.mask == INLIER, labels, np.uint8(IGNORE))
        self.accumulator.update(scores, predicted, known)


class OfClasses(Measure[OpenSetConfusion]):
    """Reads scores, mask, predicted classes and labels."""

    def _take(self, sight: Sight, scores: NDArray[np.float32]) -> None:
        predicted, labels = sight.classes()
        self.accumulator.update(predicted, scores, labels, sight.mask)


class OfInstances(Measure[InstanceMetrics]):
    """Reads scores and instances: a connected region of high scores is an instance, as sure as its mean score.

    Args:
        accumulator: what gathers.
        detector: whose scores it reads.
        threshold: the least score of a pixel that belongs to a region.
    """

    def __init__(self, accumulator: InstanceMetrics, detector: str, threshold: float) -> None:
        super().__init__(accumulator, detector)
        self.threshold = threshold

    def _take(self, sight: Sight, scores: NDArray[np.float32]) -> None:
        if sight.instances is None:
            raise InputError("the anomalies of the image are not told apart, which metrics of instances need")
        regions = find_segments(scores, self.threshold, min_area=self.accumulator.min_truth)
        numbers = np.zeros(scores.shape, np.int32)
        for number, region in enumerate(regions, start=1):
            numbers[region.box.window][region.mask] = number
        sureness = np.array([region.mean for region in regions], np.float64)
        self.accumulator.update(numbers, sureness, sight.instances, sight.mask == IGNORE)
