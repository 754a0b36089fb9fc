"""Plots and pictures of a report: thinned curves for Plotly, histograms as SVG paths, panels as embedded JPEG."""

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strays.drawing import ColourScale, draw_mask, draw_overlay
from strays.metrics import Curve, PixelHistogram
from strays.report.contents import Panel, ReportRow

__all__ = ["HistogramDrawing", "Pictures", "Style", "colour_ramp", "curve_points", "draw_histogram", "make_styles"]

POINTS = 400
BINS = 96
DECADES = 5
JPEG_QUALITY = 82
COLOURS = ("#4c78d0", "#e4572e", "#2a9d6f", "#b05cc4", "#d99a1c", "#21a5c4", "#d6457f", "#7a8b2f", "#8a6d5b", "#7d7f8c")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

Values = NDArray[np.float64]


class Style(NamedTuple):
    """How one row is drawn wherever it appears: colour by detector, dash by model."""

    colour: str
    dash: str


def make_styles(rows: Sequence[ReportRow]) -> dict[tuple[str, str], Style]:
    """Return the style of each (model, detector)."""
    models = list(dict.fromkeys(row.model for row in rows))
    detectors = list(dict.fromkeys(row.detector for row in rows))
    return {
        (model, detector): Style(COLOURS[d % len(COLOURS)], DASHES[m % len(DASHES)])
        for m, model in enumerate(models)
        for d, detector in enumerate(detectors)
    }


def curve_points(curve: Curve) -> dict[str, list[float] | float]:
    """Return recall, precision and false-positive rate of at most 400 points, to five digits, and FPR95."""
    few = curve.thinned(POINTS)
    axes = {"recall": few.recall, "precision": few.precision, "fpr": few.fpr}
    points = {name: [float(f"{one:.5g}") for one in values.tolist()] for name, values in axes.items()}
    return points | {"fpr95": float(curve.fpr[np.searchsorted(curve.recall, 0.95)])}


class Tick(NamedTuple):
    """One label of an axis and where it stands."""

    at: float
    text: str


@dataclass(frozen=True)
class HistogramDrawing:
    """A histogram as SVG: path data in a box of ``width`` x ``height``, y downwards, densities as logarithms."""

    width: int
    height: int
    inliers: str
    anomalies: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    threshold: float | None


def draw_histogram(
    histogram: PixelHistogram, threshold: float | None = None, size: tuple[int, int] = (280, 120)
) -> HistogramDrawing:
    """Return the densities of inlier and anomaly scores over a logarithmic axis of five decades.

    Args:
        histogram: counts; more than 96 bins are joined.
        threshold: the score to be marked, if it lies on the axis.
        size: width and height of the plot area.
    """
    edges, inliers, anomalies = _densities(histogram)
    highest = max(inliers.max(), anomalies.max())
    top = math.ceil(math.log10(highest)) if highest > 0 else 0
    left, right = float(edges[0]), float(edges[-1])

    def across(value: float) -> float:
        return (value - left) / (right - left) * size[0]

    def down(decade: float) -> float:
        return (top - decade) / DECADES * size[1]

    visible = threshold is not None and left <= threshold <= right
    return HistogramDrawing(
        *size,
        inliers=_area(edges, inliers, top, size),
        anomalies=_area(edges, anomalies, top, size),
        x_ticks=tuple(Tick(across(one), f"{one:g}") for one in _round_numbers(left, right)),
        y_ticks=tuple(Tick(down(top - one), _power(top - one)) for one in range(0, DECADES + 1)),
        threshold=across(threshold) if threshold is not None and visible else None,
    )


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _densities(histogram: PixelHistogram) -> tuple[Values, Values, Values]:
    """Edges and densities of inliers and anomalies, with at most ``BINS`` bins."""
    starts = np.arange(0, len(histogram.inliers), math.ceil(len(histogram.inliers) / BINS))
    edges = np.append(histogram.edges[starts], histogram.edges[-1])
    if edges[0] == edges[-1]:
        # A detector that gives every pixel one score still has a histogram: a column one wide.
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, len(edges))
    inliers, anomalies = (
        np.add.reduceat(counts, starts) / (max(1, counts.sum()) * np.diff(edges))
        for counts in (histogram.inliers, histogram.anomalies)
    )
    return edges, inliers, anomalies


def _area(edges: Values, density: Values, top: int, size: tuple[int, int]) -> str:
    width, height = size
    x = (edges - edges[0]) / (edges[-1] - edges[0]) * width
    with np.errstate(divide="ignore"):
        y = np.clip((top - np.log10(density)) / DECADES, 0, 1) * height
    steps = "".join(f"V{one:.1f}H{right:.1f}" for one, right in zip(y, x[1:], strict=True))
    return f"M0 {height}{steps}V{height}Z"


def _round_numbers(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(4).tick_values(low, high)
    return [round(float(one), 10) for one in ticks if low <= one <= high]


class Pictures:
    """JPEG pictures by a name made of their content, so that a picture that appears often is embedded once."""

    def __init__(self) -> None:
        self.by_name: dict[str, str] = {}

    def add(self, picture: Image.Image) -> str:
        """Embed a picture and return its name."""
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
        name = hashlib.sha256(stream.getvalue()).hexdigest()[:16]
        self.by_name[name] = base64.b64encode(stream.getvalue()).decode("ascii")
        return name

    def add_panel(self, panel: Panel) -> tuple[str, str, str]:
        """Embed image, score and ground truth of a panel and return their names."""
        small = panel.shrunk()
        score = draw_overlay(small.image, small.score, small.scale, small.threshold, small.mask, legend=False)
        truth = draw_mask(small.image, small.mask)
        return self.add(Image.fromarray(small.image)), self.add(score), self.add(truth)


@cache
def colour_ramp(scale: ColourScale, stops: int = 16) -> str:
    """Return the colours of an overlay over mid-grey, from the clear to the highest score, as a CSS colour list."""
    score = np.linspace(scale.overlay.low, scale.high, stops, dtype=np.float32)[None]
    grey = np.full((1, stops, 3), 128, np.uint8)
    drawn = np.asarray(draw_overlay(grey, score, scale, legend=False))[0]
    return ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in drawn.tolist())
