"""Pixel, component, instance, failure and open-set metrics as mergeable accumulators, and as pure functions."""

from strays.metrics.bounds import Bounds
from strays.metrics.closed_set import ClosedSetResult, ConfusionMatrix
from strays.metrics.curves import FPR_RULES, Curve, FprRule, auroc, average_precision, best_f1, fpr_at_tpr
from strays.metrics.failure import FAILURE_FPRS, FailureFpr, FailureMetrics, failure_mask
from strays.metrics.instance import INSTANCE_LEVELS, InstanceMetrics, InstanceOutcomes, instance_outcomes
from strays.metrics.margin import MARGIN_MEASURES, Margin, MarginMeasure, MarginMetrics, maximal_detection_margin
from strays.metrics.open_set import OpenSetConfusion, OpenSetResult, open_set_over_halves
from strays.metrics.open_set_threshold import OpenSetThreshold, crossed_thresholds, open_set_threshold
from strays.metrics.per_image import AGGREGATIONS, Aggregation, PerImagePixelMetrics, pixel_metrics
from strays.metrics.pixel import PixelHistogram, PixelMetrics, PixelResult
from strays.metrics.segment import SEGMENT_PRESETS, SegmentMetrics, component_overlaps
from strays.metrics.smiyc_pixel import SmiycPixelMetrics

__all__ = [
    "AGGREGATIONS",
    "FAILURE_FPRS",
    "FPR_RULES",
    "INSTANCE_LEVELS",
    "MARGIN_MEASURES",
    "SEGMENT_PRESETS",
    "Aggregation",
    "Bounds",
    "ClosedSetResult",
    "ConfusionMatrix",
    "Curve",
    "FailureFpr",
    "FailureMetrics",
    "FprRule",
    "InstanceMetrics",
    "InstanceOutcomes",
    "Margin",
    "MarginMeasure",
    "MarginMetrics",
    "OpenSetConfusion",
    "OpenSetResult",
    "OpenSetThreshold",
    "PerImagePixelMetrics",
    "PixelHistogram",
    "PixelMetrics",
    "PixelResult",
    "SegmentMetrics",
    "SmiycPixelMetrics",
    "auroc",
    "average_precision",
    "best_f1",
    "component_overlaps",
    "crossed_thresholds",
    "failure_mask",
    "fpr_at_tpr",
    "instance_outcomes",
    "maximal_detection_margin",
    "open_set_over_halves",
    "open_set_threshold",
    "pixel_metrics",
]
