"""Component metrics as SegmentMeIfYouCan defines them: sIoU, PPV and mean F1."""

from dataclasses import dataclass
from math import fsum
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, State, check_metric, read_pixels
from strays.scene import ANOMALY
from strays.taxonomy import IGNORE

__all__ = ["SEGMENT_PRESETS", "SegmentMetrics", "component_overlaps"]

SEGMENT_PRESETS = MappingProxyType({"anomaly-track": (500, 100), "obstacle-track": (50, 10)})
"""Smallest predicted and smallest true component in pixels, by the name of the benchmark's track."""

_TAUS = np.linspace(0.25, 0.75, 11)
_EIGHT_CONNECTED = np.ones((3, 3), np.int8)


class SegmentMetrics:
    """How well connected regions above a threshold match the connected regions of the truth.

    SegmentMeIfYouCan (Chan et al. 2021) takes as threshold the one of the best F1 of the *pixel* metric over the whole
    data set, so two passes are needed: ``PixelMetrics`` over all images first, then this with
    ``pixels.compute()["threshold"]``. That choice looks at the test labels; say so beside the numbers.

    Components are 8-connected. Predicted ones below ``min_prediction`` pixels are dropped; true ones below
    ``min_truth`` pixels, like all pixels marked 255, count nowhere. ``compute`` returns

    - ``sIoU``: the mean over true components of their overlap with the prediction, where a predicted component
      that covers several true ones is not held against any of them;
    - ``PPV``: the mean over predicted components of the share of their pixels that is anomalous, 0 without any;
    - ``F1_mean``: the mean of F1 over the eleven levels 0.25, 0.30, ... 0.75, where a true component is found if its
      sIoU reaches the level, and a predicted one is false if its PPV does not; ``F1@25`` ... ``F1@75`` are the eleven;
    - ``components_truth`` and ``components_predicted``.

    Args:
        threshold: scores above it are predicted anomalous.
        min_prediction: the smallest predicted component, in pixels.
        min_truth: the smallest true component, in pixels.
        strict: predict where ``score > threshold``, as the benchmark does; else where ``score >= threshold``.

    Raises:
        InputError: if the threshold is not finite or a size is negative.

    Example:
        >>> truth = np.zeros((8, 8), np.uint8); truth[2:6, 2:6] = 1
        >>> score = np.zeros((8, 8), np.float32); score[2:6, 2:4] = 1
        >>> result = SegmentMetrics(0.5, min_prediction=1, min_truth=1).update(score, truth).compute()
        >>> result["sIoU"], result["PPV"], result["F1@50"], result["F1@75"]
        (0.5, 1.0, 1.0, 0.0)
    """

    def __init__(self, threshold: float, min_prediction: int = 500, min_truth: int = 100, strict: bool = True) -> None:
        self.settings = _Settings(float(threshold), min_prediction, min_truth, strict)
        self._siou: list[float] = []
        self._ppv: list[float] = []

    @classmethod
    def preset(cls, name: str, threshold: float) -> Self:
        """Return an empty accumulator with the sizes of a track: ``anomaly-track`` or ``obstacle-track``.

        Raises:
            InputError: for another name, or if the threshold is not finite.
        """
        if name not in SEGMENT_PRESETS:
            raise InputError(f"expected a preset among {', '.join(SEGMENT_PRESETS)}, got {name!r}")
        return cls(threshold, *SEGMENT_PRESETS[name])

    def update(self, score: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> Self:
        """Take in one image.

        Args:
            score: float (H, W), or with leading axes of size one.
            mask: uint8 of the same shape, 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            InputError: if an argument is not as stated, or a score is NaN or infinite.
        """
        size = tuple(score.shape[-2:])
        if len(size) < 2 or any(axis != 1 for axis in score.shape[:-2]):
            raise InputError(f"expected one image (H, W) per update, got {tuple(score.shape)}: update one by one")
        pixels = read_pixels(score, mask)
        truth, predicted = self.settings.components(pixels.scores.reshape(size), pixels.mask.reshape(size))
        siou, ppv = component_overlaps(truth, predicted)
        self._siou += siou.tolist()
        self._ppv += ppv.tolist()
        return self

    def merge(self, other: Self) -> Self:
        """Take in the components of another accumulator, which stays as it is.

        Raises:
            InputError: if its settings differ.
        """
        if self.settings != other.settings:
            raise InputError(f"cannot merge metrics of different settings: {self.settings} and {other.settings}")
        self._siou += other._siou
        self._ppv += other._ppv
        return self

    def compute(self) -> dict[str, float]:
        """Return the metrics of all images so far; they do not depend on the order of the images.

        Raises:
            InputError: if there is no true component.
        """
        truths, predictions = len(self._siou), len(self._ppv)
        if not truths:
            raise InputError(
                f"component metrics need anomalies of at least {self.settings.min_truth} pixels, got none: add images "
                "with anomalies, or lower min_truth"
            )
        result = {"sIoU": fsum(self._siou) / truths, "PPV": fsum(self._ppv) / max(predictions, 1)}
        f1 = self._f1()
        result["F1_mean"] = fsum(f1) / len(f1)
        result |= {"components_truth": truths, "components_predicted": predictions}
        return result | {f"F1@{round(100 * tau)}": value for tau, value in zip(_TAUS.tolist(), f1, strict=True)}

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``."""
        return self.settings.state() | {"sIoU": np.array(self._siou), "PPV": np.array(self._ppv)}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator wrote the state.
        """
        check_metric(state, cls.__name__)
        sizes = int(state["min_prediction"]), int(state["min_truth"])
        metrics = cls(float(state["threshold"]), *sizes, bool(state["strict"]))
        metrics._siou, metrics._ppv = state["sIoU"].tolist(), state["PPV"].tolist()
        return metrics

    def _f1(self) -> list[float]:
        siou, ppv = np.array(self._siou), np.array(self._ppv)
        found = (siou >= _TAUS[:, None]).sum(axis=1)
        false = (ppv < _TAUS[:, None]).sum(axis=1)
        f1: list[float] = (2 * found / (found + siou.size + false)).tolist()
        return f1


@dataclass(frozen=True)
class _Settings:
    threshold: float
    min_prediction: int
    min_truth: int
    strict: bool

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            raise InputError(f"expected a finite threshold, got {self.threshold}")
        if self.min_prediction < 0 or self.min_truth < 0:
            raise InputError(f"expected sizes of 0 pixels or more, got {self.min_prediction} and {self.min_truth}")

    def components(self, score: Floats, mask: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return true and predicted components, both (H, W), numbered from 1, with 0 where there is none."""
        # As a float64 the threshold is compared exactly, whatever the type of the scores.
        threshold = np.float64(self.threshold)
        above = score > threshold if self.strict else score >= threshold
        predicted = _large(_label(above & (mask != IGNORE)), self.min_prediction)
        every = _label(mask == ANOMALY)
        truth = _large(every, self.min_truth)
        return truth, np.where((every > 0) & (truth == 0), 0, predicted)

    def state(self) -> State:
        """Return the settings as arrays."""
        settings = {"threshold": self.threshold, "min_prediction": self.min_prediction, "min_truth": self.min_truth}
        named = {"metric": SegmentMetrics.__name__, "strict": self.strict} | settings
        return {name: np.array(value) for name, value in named.items()}


def component_overlaps(
    truth: NDArray[np.int32], predicted: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sIoU of every true and the PPV of every predicted component.

    Let Q be the union of the predicted components that touch the true component k. With the pixels of Q on other true
    components left out, sIoU(k) = |Q and k| / (|k| + |pixels of Q on no true component|) (Chan et al. 2021, eq. 2).

    Args:
        truth: int (H, W), components numbered from 1, 0 = none.
        predicted: int of the same shape, likewise; numbers that occur nowhere are passed over.

    Returns:
        float64 (number of true components,) and float64 (number of predicted components,), both in [0, 1].
    """
    true_sizes, sizes = (np.bincount(map_.ravel(), minlength=1) for map_ in (truth, predicted))
    both = (truth > 0) & (predicted > 0)
    pairs = (np.ones(np.count_nonzero(both), np.int64), (truth[both], predicted[both]))
    shared = sparse.coo_array(pairs, shape=(true_sizes.size, sizes.size)).tocsr()
    on_truth = shared.sum(axis=0)
    covered, off_truth = shared.sum(axis=1), shared.astype(np.bool_) @ (sizes - on_truth)
    true_numbers, numbers = (1 + np.flatnonzero(present[1:]) for present in (true_sizes, sizes))
    siou = covered[true_numbers] / (true_sizes + off_truth)[true_numbers]
    return siou, on_truth[numbers] / sizes[numbers]


def _label(region: NDArray[np.bool_]) -> NDArray[np.int32]:
    labels, _ = ndimage.label(region, _EIGHT_CONNECTED)
    return np.asarray(labels, np.int32)


def _large(components: NDArray[np.int32], smallest: int) -> NDArray[np.int32]:
    """Return the components of at least ``smallest`` pixels under their numbers; the others become 0."""
    kept = np.bincount(components.ravel(), minlength=1) >= smallest
    kept[0] = False
    return np.where(kept[components], components, 0)
