"""Find the pixels that do not belong: dense anomaly detection for semantic segmentation."""

__version__ = "0.1.0"
