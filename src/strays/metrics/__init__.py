"""Pixel, component, closed-set and open-set metrics as mergeable accumulators, and as pure functions on arrays."""

from strays.metrics.bounds import Bounds
from strays.metrics.closed_set import ClosedSetResult, ConfusionMatrix
from strays.metrics.curves import FPR_RULES, Curve, FprRule, auroc, average_precision, best_f1, fpr_at_tpr
from strays.metrics.open_set import (
    OpenSetConfusion,
    OpenSetResult,
    OpenSetThreshold,
    crossed_thresholds,
    open_set_over_halves,
    open_set_threshold,
)
from strays.metrics.per_image import AGGREGATIONS, Aggregation, PerImagePixelMetrics, pixel_metrics
from strays.metrics.pixel import PixelHistogram, PixelMetrics, PixelResult
from strays.metrics.segment import SEGMENT_PRESETS, SegmentMetrics, component_overlaps

__all__ = [
    "AGGREGATIONS",
    "FPR_RULES",
    "SEGMENT_PRESETS",
    "Aggregation",
    "Bounds",
    "ClosedSetResult",
    "ConfusionMatrix",
    "Curve",
    "FprRule",
    "OpenSetConfusion",
    "OpenSetResult",
    "OpenSetThreshold",
    "PerImagePixelMetrics",
    "PixelHistogram",
    "PixelMetrics",
    "PixelResult",
    "SegmentMetrics",
    "auroc",
    "average_precision",
    "best_f1",
    "component_overlaps",
    "crossed_thresholds",
    "fpr_at_tpr",
    "open_set_over_halves",
    "open_set_threshold",
    "pixel_metrics",
]
