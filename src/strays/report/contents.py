"""What goes into a report: plain values, whoever measured them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strays.drawing import ColourScale
from strays.metrics import Curve, PixelHistogram
from strays.scene import resize_image, resize_map

__all__ = ["PANEL_WIDTH", "NotMeasured", "Panel", "Report", "ReportRow", "Skipped"]

PANEL_WIDTH = 640


@dataclass(frozen=True, eq=False)
class Panel:
    """One frame worth looking at, shown as image, score and ground truth side by side.

    Args:
        kind: ``"miss"`` for an anomaly that scores low, ``"false alarm"`` for normal road that scores high.
        name: what the frame is called in its data set.
        caption: what to see, in plain words.
        image: uint8 (H, W, 3) RGB.
        score: float32 (H, W).
        mask: uint8 (H, W) anomaly mask.
        scale: the colour scale, one for all panels of a data set and detector.
        threshold: the score whose contour is drawn.
        metrics: numbers of this frame alone, fractions in [0, 1].
    """

    kind: Literal["miss", "false alarm"]
    name: str
    caption: str
    image: NDArray[np.uint8]
    score: NDArray[np.float32]
    mask: NDArray[np.uint8]
    scale: ColourScale
    threshold: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def shrunk(self, width: int = PANEL_WIDTH) -> "Panel":
        """Return the panel with arrays of at most ``width`` columns: keep this one while a benchmark runs."""
        height, full = self.mask.shape
        if full <= width:
            return self
        size = (max(1, round(height * width / full)), width)
        score = Image.fromarray(self.score).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        image, mask = resize_image(self.image, size), resize_map(self.mask, size)
        return replace(self, image=image, score=np.asarray(score), mask=mask)


@dataclass(frozen=True, eq=False)
class ReportRow:
    """The result of one detector with one model on one data set.

    Args:
        model: name of the model.
        detector: name of the detector.
        dataset: name of the data set.
        metrics: by name, as the accumulators of ``strays.metrics`` compute them: fractions in [0, 1], but ``threshold``
            is a score, and ``pixels_...``, ``images...`` and ``components_...`` are counts.
        protocol: how they were measured. ``size``, ``network_size``, ``aggregation``, ``images``, ``anomaly_free`` and
            ``pixels`` (a number, or a mapping from kind to number) are shown at first sight, the rest on request.
        curve: the points of the curves, or None.
        histogram: the distribution of the scores, or None.
        panels: the worst misses and false alarms.

    Example:
        >>> ReportRow("enet", "energy", "road", {"AP": 0.27}, {"images": 10}).anomaly_share is None
        True
    """

    model: str
    detector: str
    dataset: str
    metrics: Mapping[str, float]
    protocol: Mapping[str, object]
    curve: Curve | None = None
    histogram: PixelHistogram | None = None
    panels: Sequence[Panel] = ()

    @property
    def anomaly_share(self) -> float | None:
        """Share of the anomaly pixels among all that count: the AP of a detector that guesses. None if unknown."""
        if self.curve is not None:
            return float(self.curve.precision[-1])
        if self.histogram is None:
            return None
        anomalies, inliers = int(self.histogram.anomalies.sum()), int(self.histogram.inliers.sum())
        return anomalies / (anomalies + inliers) if anomalies + inliers else None


@dataclass(frozen=True)
class Skipped:
    """An image that is in no number, and why."""

    dataset: str
    name: str
    reason: str


@dataclass(frozen=True)
class NotMeasured:
    """Something of a model on a data set that could not be measured, and why."""

    model: str
    dataset: str
    reason: str


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a report shows.

    Args:
        title: the heading.
        rows: the results; models, detectors and data sets appear in the order of their first row.
        created: when they were measured.
        versions: library versions by name.
        command: the command that measures them again.
        skipped: images that could not be read.
        unmeasured: what could not be measured.
        weights: SHA-256 of the weights by model.
    """

    title: str
    rows: Sequence[ReportRow]
    created: datetime
    versions: Mapping[str, str]
    command: str
    skipped: Sequence[Skipped] = ()
    unmeasured: Sequence[NotMeasured] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
