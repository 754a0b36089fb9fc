"""Fitting detectors on inlier scenes: one pass, in shards if wanted, that survives being killed."""

from strays.fitting.merging import merge_shards
from strays.fitting.run import FitRun
from strays.fitting.shards import Shard

__all__ = ["FitRun", "Shard", "merge_shards"]
