"""The contract of every detector: prediction in, anomaly score out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from strays import __version__
from strays.cards import Card
from strays.detectors.stored import Facts, FittedOn, Settings, read_detector, restore, write_detector
from strays.errors import InputError, WeightsError
from strays.prediction import Prediction, resize_maps
from strays.registry import Registry

__all__ = [
    "DETECTORS",
    "Detector",
    "FittedOn",
    "PixelwiseDetector",
    "Settings",
    "class_logits",
    "register_detector",
    "upsampled",
]


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
    return resize_maps(values, size)


class Detector(nn.Module, ABC):
    """Prediction -> anomaly score. Larger is more anomalous, float32, never rescaled.

    A subclass takes its parameters in ``__init__`` and tells them in ``settings`` (they go into the protocol of every
    result) and defines ``score``; one that reads features names them in ``taps``; one that is fitted says
    so in ``card.needs`` and is a ``FittedDetector``. What it estimates it keeps in buffers, registered as None until
    then, so that ``save`` and ``load`` carry it.

    Attributes:
        fitted_on: what it was fitted on, where whoever fitted it said so.
        absent: the classes that never occurred when it was fitted.
    """

    card: ClassVar[Card]
    fitted_on: FittedOn | None = None
    absent: tuple[int, ...] = ()

    def taps(self) -> frozenset[str]:
        """Return the names of the features that it needs from the network."""
        return frozenset()

    @property
    def name(self) -> str:
        """The name it is registered under.

        Raises:
            InputError: if its class is not registered.
        """
        for name, kind in DETECTORS.items():
            if kind is type(self):
                return name
        kind_name = type(self).__name__
        raise InputError(f"{kind_name} has no name: put @register_detector('some-name') above the class")

    def settings(self) -> Settings:
        """Return the parameters that tell this detector from another of its class."""
        return {}

    def fit(self, predictions: Iterable[Prediction], labels: Iterable[Tensor]) -> Self:
        """Estimate statistics on inlier scenes and return the detector itself; the network is not changed.

        Args:
            predictions: what the network saw, one batch after another, each used once.
            labels: for each batch the class indices (N, H, W) at its ``size``, 255 = ignore.
        """
        return self

    @abstractmethod
    def score(self, prediction: Prediction) -> Tensor:
        """Return anomaly scores (N, H, W), float32, larger = more anomalous, at ``prediction.size``."""

    def expect(self, state: Mapping[str, Tensor]) -> None:
        """Build the submodules whose shape only saved tensors tell, before ``load`` puts these back; none by default.

        Buffers need nothing of the kind: one that is None takes whatever was saved.
        """

    def save(self, path: str | Path) -> None:
        """Write the detector into one safetensors file: its tensors, and its name and settings as JSON metadata.

        Raises:
            InputError: if its class is not registered.
        """
        facts = Facts(
            name=self.name,
            settings=self.settings(),
            version=__version__,
            taps=tuple(sorted(self.taps())),
            fitted_on=self.fitted_on,
            absent=self.absent,
        )
        write_detector(Path(path), facts, self.state_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the detector that ``save`` wrote, on the CPU; nothing is unpickled.

        ``Detector.load`` takes every file; a subclass takes only files of its own kind.

        Raises:
            WeightsError: if the file is missing or damaged, or holds another detector.
        """
        facts, state = read_detector(Path(path))
        try:
            detector = DETECTORS[facts.name](**facts.settings)
        except TypeError as error:
            raise WeightsError(f"{path} was written by strays {facts.version} with other settings: {error}") from error
        detector.fitted_on, detector.absent = facts.fitted_on, facts.absent
        if not isinstance(detector, cls):
            raise WeightsError(f"{path} holds the detector {facts.name!r}, expected {cls.__name__}: use Detector.load")
        detector.expect(state)
        restore(detector, state, str(path))
        return detector

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
