"""Procedural road scenes with anomalies and exact masks: geometry, materials, things and light in a file each."""

from strays.data.synthetic.dataset import SyntheticReader
from strays.data.synthetic.rendering import SyntheticScenes, synthetic_scene

__all__ = ["SyntheticReader", "SyntheticScenes", "synthetic_scene"]
