"""Negatives: pixels that stand for anomalies in training, one file per kind, found by name."""

from strays.negatives.base import NEGATIVES, Negative, Negatives, Patch, build_negatives, register_negatives

__all__ = ["NEGATIVES", "Negative", "Negatives", "Patch", "build_negatives", "register_negatives"]
