"""Pixel metrics averaged over images, and the choice between that and pooling."""

from math import fsum
from typing import ClassVar, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, State, read_pixels
from strays.metrics.bounds import Bounds
from strays.metrics.curves import FprRule
from strays.metrics.pixel import PixelMetrics, PixelResult, PixelSettings
from strays.scene import ANOMALY, INLIER

__all__ = ["AGGREGATIONS", "Aggregation", "PerImagePixelMetrics", "pixel_metrics"]

Aggregation: TypeAlias = Literal["pooled", "per-image"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)

_COUNTS = ("pixels_inlier", "pixels_anomaly", "pixels_ignored")


class PerImagePixelMetrics:
    """AP, AUROC, FPR at a TPR and best F1 of each image, averaged over images, as StreetHazards and BDD-Anomaly report.

    One update is one image. Images without anomaly or without inlier pixels define no metric: they are skipped and
    counted. ``compute`` returns ``AP``, ``AUROC``, ``FPR95`` (named after ``tpr``) and ``F1``, each a mean over
    images, ``images``, ``images_skipped``, and the pixels of the images that count; ``bounds`` are means of the
    images' bounds. There is no ``threshold``, since every image has its own. It keeps 13 numbers per image.

    Args:
        exact: rank every score of an image instead of counting pixels per key.
        tpr: the true-positive rate of the false-positive rate, in (0, 1].
        fpr_rule: which point of the ROC curve that means: see ``fpr_at_tpr``; those papers use ``argmin``.

    Raises:
        InputError: if the rate or the rule is not as stated.
    """

    aggregation: ClassVar[str] = "per-image"

    def __init__(self, exact: bool = False, tpr: float = 0.95, fpr_rule: FprRule = "first") -> None:
        self.settings = PixelSettings(exact, tpr, fpr_rule)
        self._means = ("AP", "AUROC", self.settings.fpr_name, "F1")
        self._rows: list[list[float]] = []
        self._skipped = 0

    def update(self, scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> Self:
        """Take in one image; a refused update changes nothing.

        Args:
            scores: float16, bfloat16, float32 or float64 (H, W), or with leading axes of size one.
            mask: uint8 of the same shape, 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            InputError: if an argument is not as stated, a score is not finite, or there are several images.
        """
        if any(size != 1 for size in scores.shape[:-2]):
            raise InputError(f"expected one image (H, W) per update, got {tuple(scores.shape)}: update one by one")
        pixels = read_pixels(scores, mask)
        if not (np.any(pixels.mask == ANOMALY) and np.any(pixels.mask == INLIER)):
            self._skipped += 1
            return self
        store = self.settings.store()
        store.add(pixels)
        self._rows.append(self._row(self.settings.evaluate(store)))
        return self

    def merge(self, other: Self) -> Self:
        """Take in the images of another accumulator, which stays as it is.

        Raises:
            InputError: if its settings differ.
        """
        self.settings.check_same(other.settings)
        self._rows.extend(other._rows)
        self._skipped += other._skipped
        return self

    def compute(self) -> PixelResult:
        """Return the means over all images so far; they do not depend on the order of the images.

        Raises:
            InputError: if no image has both anomaly and inlier pixels.
        """
        images = len(self._rows)
        if not images:
            raise InputError(
                f"AP, AUROC and FPR per image need images with anomaly and inlier pixels, got {self._skipped} images "
                "that lack one or the other: add others, or check the mask values"
            )
        sums = [fsum(column) for column in zip(*self._rows, strict=True)]
        values = {name: total / images for name, total in zip(self._means, sums, strict=False)}
        values |= {"images": images, "images_skipped": self._skipped}
        values |= {name: int(total) for name, total in zip(_COUNTS, sums[4:7], strict=True)}
        pairs = zip(sums[7::2], sums[8::2], strict=True)
        bounds = [Bounds(lower / images, upper / images) for lower, upper in pairs]
        return PixelResult(values, dict(zip(self._means[:3], bounds, strict=True)))

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``."""
        rows = np.array(self._rows, np.float64).reshape(len(self._rows), 13)
        return self.settings.state(type(self).__name__) | {"rows": rows, "skipped": np.array(self._skipped)}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator wrote the state.
        """
        settings = PixelSettings.from_state(state, cls.__name__)
        metrics = cls(settings.exact, settings.tpr, settings.fpr_rule)
        metrics._rows = state["rows"].tolist()
        metrics._skipped = int(state["skipped"])
        return metrics

    def _row(self, result: PixelResult) -> list[float]:
        """Return 13 numbers of an image: four metrics, three pixel counts, three pairs of bounds."""
        ends = [end for name in self._means[:3] for end in result.bounds[name]]
        return [result[name] for name in (*self._means, *_COUNTS)] + ends


def pixel_metrics(
    aggregation: Aggregation = "pooled", exact: bool = False, tpr: float = 0.95, fpr_rule: FprRule = "first"
) -> PixelMetrics | PerImagePixelMetrics:
    """Return an empty accumulator of pixel metrics.

    Args:
        aggregation: ``pooled`` ranks all pixels of a data set together; ``per-image`` averages over images.
        exact: keep every score instead of counts per key.
        tpr: the true-positive rate of the false-positive rate, in (0, 1].
        fpr_rule: which point of the ROC curve that means: see ``fpr_at_tpr``.

    Raises:
        InputError: if an argument is not as stated.
    """
    if aggregation not in AGGREGATIONS:
        raise InputError(f"expected an aggregation among {', '.join(AGGREGATIONS)}, got {aggregation!r}")
    kind = PixelMetrics if aggregation == "pooled" else PerImagePixelMetrics
    return kind(exact, tpr, fpr_rule)
