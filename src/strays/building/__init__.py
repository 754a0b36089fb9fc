"""Benchmarks of anybody's own inlier data: with anomalies pasted in, or with classes held out."""

from strays.building.hold_out import HoldOutRun, HoldOutSettings
from strays.building.pasted import CONTROLS, PasteRun, PasteSettings, pasted_kinds, read_settings

__all__ = ["CONTROLS", "HoldOutRun", "HoldOutSettings", "PasteRun", "PasteSettings", "pasted_kinds", "read_settings"]
