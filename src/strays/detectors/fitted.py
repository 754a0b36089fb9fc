"""Detectors that estimate something on inlier scenes before they can score."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Generic, Literal, Self, TypeVar

from torch import Tensor

from strays.detectors.base import Detector
from strays.detectors.statistics import Statistics
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["FitTarget", "FittedDetector", "S", "fitted", "unfitted"]

FitTarget = Literal["image", "labels", "mask"]
"""What fitting reads beside the image: at most which pixels are ignored, the class labels, or the anomaly mask."""

S = TypeVar("S", bound=Statistics)


class FittedDetector(Detector, Generic[S]):
    """A detector with statistics: ``statistics`` gives empty ones, ``conclude`` turns full ones into buffers.

    A subclass registers its buffers as None in ``__init__``; ``fitted(self.name, ...)`` reads them with a clear error
    where nothing was fitted yet.

    Attributes:
        target: what ``labels`` are. ``"image"``: any, only 255 = ignore counts. ``"labels"``: class indices in the
            taxonomy of the network, 255 = ignore. ``"mask"``: the anomaly mask, 0, 1 and 255.
        sweeps: how often every image is shown.
        mergeable: whether statistics of shards can be merged.
    """

    mergeable: ClassVar[bool] = True

    @property
    def target(self) -> FitTarget:
        """What ``labels`` are when it is fitted."""
        return "image"

    @property
    def sweeps(self) -> int:
        """How often every image is shown."""
        return 1

    @property
    def is_fitted(self) -> bool:
        """Whether it can score."""
        return bool(self.state_dict())

    @abstractmethod
    def statistics(self) -> S:
        """Return empty statistics."""

    @abstractmethod
    def conclude(self, statistics: S) -> None:
        """Estimate what ``score`` needs from statistics that have seen all images.

        Raises:
            InputError: if there was too little to fit on.
        """

    def fit(self, predictions: Iterable[Prediction], labels: Iterable[Tensor]) -> Self:
        """Estimate statistics on inlier scenes and return the detector itself; the network is not changed.

        Args:
            predictions: what the network saw, one batch after another; not an iterator where ``sweeps`` is above 1.
            labels: for each batch what ``target`` says, (N, H, W) at its ``size``, 255 = ignore.

        Raises:
            InputError: if there was too little to fit on.
        """
        statistics = self.statistics()
        for _ in range(self.sweeps):
            index = 0
            for prediction, its_labels in zip(predictions, labels, strict=True):
                statistics.update(prediction, its_labels, index)
                index += len(prediction.logits)
        self.conclude(statistics)
        return self


def fitted(detector: Detector, value: Tensor | None) -> Tensor:
    """Return a buffer that fitting fills.

    Raises:
        InputError: if nothing was fitted yet.
    """
    if value is None:
        raise InputError(unfitted(detector.name))
    return value


def unfitted(name: str) -> str:
    """Return what to do with a detector to which nothing was fitted yet."""
    return (
        f"{name} has not been fitted: run `strays fit {name} --model MODEL --data NAME=DIR --out FILE` and write "
        f"{name}@FILE, or call its fit"
    )
