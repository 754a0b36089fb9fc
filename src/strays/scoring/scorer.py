"""One pass of a network per image, read by any number of detectors."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.cards import Needs
from strays.detectors.base import Detector, FittedOn, upsampled
from strays.detectors.build import build_detector
from strays.detectors.fitted import FittedDetector, unfitted
from strays.errors import InputError
from strays.model import Model
from strays.prediction import Prediction
from strays.scene import resize_image

__all__ = ["Scored", "Scorer", "as_tensor", "parse_size"]


T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Scored:
    """What a scorer makes of one image.

    Args:
        scores: by detector, float32 (H, W) at the size of the image, larger = more anomalous.
        prediction: what the network saw, without image and features.
        network_milliseconds: time for the network.
        detector_milliseconds: time for each detector on top of the network.
    """

    scores: Mapping[str, NDArray[np.float32]]
    prediction: Prediction
    network_milliseconds: float
    detector_milliseconds: Mapping[str, float]

    @property
    def milliseconds(self) -> float:
        """Time for network and detectors together."""
        return self.network_milliseconds + sum(self.detector_milliseconds.values())

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """The predicted classes, uint8 (H, W), the void class aside; computed when they are asked for."""
        return _labels(self.prediction)


class Scorer:
    """A model and its detectors, ready for images.

    Args:
        model: the model.
        detectors: the detectors by the names their results shall have.
        network_size: (H, W) that images are resized to before the network sees them; scores keep the image's size.

    Raises:
        InputError: if a detector reads a void class or an outlier head that the model has not, has not been fitted,
            or was fitted on another network.
    """

    def __init__(
        self, model: Model, detectors: Mapping[str, Detector], network_size: tuple[int, int] | None = None
    ) -> None:
        self.model = model
        self.detectors = {name: detector.to(model.device).eval() for name, detector in detectors.items()}
        self.network_size = network_size
        self._check_void()
        self._check_outlier_head()
        self._check_fits()
        self.taps = frozenset[str]().union(*(detector.taps() for detector in detectors.values()))

    @classmethod
    def build(cls, model: Model, detectors: Sequence[str] = (), network_size: tuple[int, int] | None = None) -> Self:
        """Return a scorer for detectors in words, such as ``energy:temperature=2``; by default the model's own one."""
        specs = list(dict.fromkeys(detectors)) or [model.facts.detector]
        short = Counter(_short(one) for one in specs)
        names = {spec: _short(spec) if short[_short(spec)] == 1 else spec for spec in specs}
        return cls(model, {name: build_detector(spec) for spec, name in names.items()}, network_size)

    @torch.no_grad()
    def __call__(self, image: NDArray[np.uint8]) -> Scored:
        """Score an RGB image (H, W, 3).

        Raises:
            InputError: if network and detectors do not fit together, or a score is NaN or infinite.
        """
        prediction, network_time = _timed(lambda: self._predicted(image))
        scores, times = {}, {}
        for name, detector in self.detectors.items():
            scores[name], times[name] = _timed(lambda: _checked(detector(prediction)[0], name))  # noqa: B023
        kept = replace(prediction, image=None, features={}, passes=None)
        return Scored(scores, kept, network_time, times)

    def _predicted(self, image: NDArray[np.uint8]) -> Prediction:
        height, width = image.shape[:2]
        seen = image if self.network_size is None else resize_image(image, self.network_size)
        try:
            prediction = self.model.predict(as_tensor(seen), (height, width), self.taps)
        except InputError:
            raise
        except (RuntimeError, ValueError) as error:  # what PyTorch raises for an image too small, or too large
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            what = f"{self.model.name} failed on an image of {seen.shape[0]}x{seen.shape[1]} ({reason})"
            raise InputError(f"{what}: give it another size with --network-size HxW") from error
        return prediction if seen is image else replace(prediction, image=as_tensor(image).to(self.model.device))

    def _check_void(self) -> None:
        readers = self._readers(lambda needs: needs.void_class)
        if readers and self.model.taxonomy.void is None:
            raise InputError(
                f"the detector {readers[0]!r} reads a void class, and {self.model.name} has none: choose another, such "
                "as energy, or name with --taxonomy a file that says which channel is void"
            )

    def _check_outlier_head(self) -> None:
        readers = self._readers(lambda needs: needs.outlier_head)
        if readers and not self.model.network.has_outlier_head:
            raise InputError(
                f"the detector {readers[0]!r} reads an outlier head, and {self.model.name} has none: choose another, "
                "such as energy, or a model that was trained by a recipe with one, such as outlier-head"
            )

    def _readers(self, wanted: Callable[[Needs], bool]) -> list[str]:
        """Return the names of the detectors that need something, or that are made of one that does."""
        return [
            name
            for name, detector in self.detectors.items()
            if any(isinstance(one, Detector) and wanted(one.card.needs) for one in detector.modules())
        ]

    def _check_fits(self) -> None:
        for name, detector in self.detectors.items():
            for one in detector.modules():
                if isinstance(one, FittedDetector) and not one.is_fitted:
                    raise InputError(unfitted(one.name))
                if isinstance(one, Detector) and one.fitted_on is not None:
                    self._check_fit(name, one.fitted_on)

    def _check_fit(self, detector: str, fit: FittedOn) -> None:
        """Refuse statistics of another network: the weights decide, and which channels are classes."""
        if fit.weights_sha256 != self._weights:
            what = f"{fit.model} (weights {fit.weights_sha256[:8]}), not on {self.model.name} ({self._weights[:8]})"
        elif fit.void != self.model.taxonomy.void:
            what = f"{fit.model} with void channel {fit.void}, which is {self.model.taxonomy.void} now"
        else:
            return
        raise InputError(f"{detector} was fitted on {what}: fit it anew with strays fit --model {self.model.source}")

    @cached_property
    def _weights(self) -> str:
        return self.model.sha256()


def _short(spec: str) -> str:
    """Return a detector in words without the folder and the ending of its file.

    Example:
        >>> _short("nearest-neighbors@fits/city.safetensors")
        'nearest-neighbors@city'
    """
    name, at, file = spec.partition("@")
    return f"{name}@{Path(file).stem}" if at and "(" not in name else spec


def _timed(compute: Callable[[], T]) -> tuple[T, float]:
    """Return what ``compute`` returns, and how many milliseconds it took."""
    started = time.perf_counter()
    result = compute()
    return result, 1000 * (time.perf_counter() - started)


def as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Return an RGB image (H, W, 3) uint8 as a batch of one, (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of ``HxW``.

    Raises:
        InputError: if the text is something else.

    Example:
        >>> parse_size("512x1024")
        (512, 1024)
    """
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) > 0 and int(width) > 0):
        raise InputError(f"expected a size as HEIGHTxWIDTH, such as 512x1024, got {text!r}")
    return int(height), int(width)


def _labels(prediction: Prediction) -> NDArray[np.uint8]:
    """Return the class of the largest upsampled logit; channel by channel, so that memory does not grow with them."""
    logits, size = prediction.logits, prediction.size
    best = torch.full(size, -torch.inf, device=logits.device)
    labels = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    for channel in range(logits.shape[1]):
        if channel != prediction.void:
            values = upsampled(logits[:1, channel : channel + 1], size)[0, 0]
            labels.masked_fill_(values > best, channel)
            best = torch.maximum(best, values)
    return labels.cpu().numpy()


def _checked(score: Tensor, detector: str) -> NDArray[np.float32]:
    values = score.float().cpu().numpy()
    broken = int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise InputError(
            f"{detector}: {broken} of {values.size} scores are NaN or infinite: look for damaged weights, or for an "
            "overflow of the network in half precision"
        )
    return values
