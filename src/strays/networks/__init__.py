"""Segmentation networks: one file each, found by name."""

from strays.networks.base import (
    IMAGENET,
    NETWORKS,
    SCHEMES,
    UNIT,
    Normalization,
    SegmentationNetwork,
    register_network,
    register_scheme,
)

__all__ = [
    "IMAGENET",
    "NETWORKS",
    "SCHEMES",
    "UNIT",
    "Normalization",
    "SegmentationNetwork",
    "register_network",
    "register_scheme",
]
