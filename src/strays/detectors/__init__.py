"""Detectors, one file per method: prediction in, anomaly score out."""

from strays.detectors.base import DETECTORS, Detector, PixelwiseDetector, register_detector
from strays.detectors.build import build_detector

__all__ = ["DETECTORS", "Detector", "PixelwiseDetector", "build_detector", "register_detector"]
