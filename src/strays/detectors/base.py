"""The contract of every detector: prediction in, anomaly score out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card
from strays.prediction import Prediction
from strays.registry import Registry

__all__ = ["DETECTORS", "Detector", "PixelwiseDetector", "class_logits", "register_detector", "upsampled"]


def class_logits(prediction: Prediction) -> Tensor:
    """Return the logits (N, K, h, w) of the real classes: the void channel, where there is one, is dropped."""
    if prediction.void is None:
        return prediction.logits
    kept = [channel for channel in range(prediction.logits.shape[1]) if channel != prediction.void]
    return prediction.logits[:, kept]


def upsampled(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (N, C, h, w) at (H, W) = ``size``, bilinear with ``align_corners=False``, in float32."""
    values = values.float()
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return functional.interpolate(values, size=size, mode="bilinear", align_corners=False)


class Detector(nn.Module, ABC):
    """Prediction -> anomaly score. Larger is more anomalous, float32, never rescaled.

    A subclass takes its parameters in ``__init__`` and tells them in ``settings`` (they go into the protocol of every
    result) and defines ``score``; one that reads features names them in ``taps``; one that is fitted says
    so in ``card.needs`` and defines ``fit``.
    """

    card: ClassVar[Card]

    def taps(self) -> frozenset[str]:
        """Return the names of the features that it needs from the network."""
        return frozenset()

    def settings(self) -> dict[str, float | int | str | bool | None]:
        """Return the parameters that tell this detector from another of its class."""
        return {}

    def fit(self, predictions: Iterable[Prediction], labels: Iterable[Tensor]) -> Self:
        """Estimate statistics on inlier scenes and return the detector itself; the network is not changed."""
        return self

    @abstractmethod
    def score(self, prediction: Prediction) -> Tensor:
        """Return anomaly scores (N, H, W), float32, larger = more anomalous, at ``prediction.size``."""

    def forward(self, prediction: Prediction) -> Tensor:
        """Same as ``score``, without gradients."""
        with torch.no_grad():
            return self.score(prediction)


class PixelwiseDetector(Detector):
    """A detector whose score depends on one pixel's class logits alone.

    The base class drops the void channel and brings the logits to the size of the image; a subclass turns logits
    (N, K, ...) into scores (N, ...) in ``pixelwise``, a pure function.
    """

    @abstractmethod
    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return scores (N, ...) of class logits (N, K, ...)."""

    def channels(self, prediction: Prediction) -> Tensor:
        """Return the logits (N, K, h, w) that ``pixelwise`` reads: those of the real classes."""
        return class_logits(prediction)

    def score(self, prediction: Prediction) -> Tensor:
        """Return anomaly scores (N, H, W): upsampled logits, scored pixel by pixel."""
        return self.pixelwise(upsampled(self.channels(prediction), prediction.size))


DETECTORS: Registry[type[Detector]] = Registry("detector", "strays.detectors")


def register_detector(name: str) -> Callable[[type[Detector]], type[Detector]]:
    """Return a decorator that enters a detector class under ``name``."""
    return DETECTORS.register(name)
