"""Negatives: pixels that stand for anomalies in training, one file per kind, found by name."""

from strays.negatives.base import (
    NEGATIVES,
    Negative,
    Negatives,
    PastedNegatives,
    Patch,
    build_negatives,
    register_negatives,
)
from strays.negatives.mixing import Mixture

__all__ = [
    "NEGATIVES",
    "Mixture",
    "Negative",
    "Negatives",
    "PastedNegatives",
    "Patch",
    "build_negatives",
    "register_negatives",
]
