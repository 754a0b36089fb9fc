"""The four real anomaly sets that benchmarks look at, and where they lie."""

from pathlib import Path

from strays.data import SceneSet, open_scenes

__all__ = ["SETS", "SHARED", "SIZE", "open_real", "title_of"]

SHARED = Path(__file__).resolve().parents[2] / "shared"
SETS = {
    "RoadAnomaly21": ("smiyc-anomaly", "anomaly-track"),
    "RoadObsticle21": ("smiyc-obstacle", "obstacle-track"),
    "fs_static": ("fishyscapes-static", "anomaly-track"),
    "RoadAnomaly": ("road-anomaly", "anomaly-track"),
}
"""Folder -> name of its reader, and track whose component metrics suit it."""

SIZE = (512, 1024)
_TITLES = {"RoadObsticle21": "RoadObstacle21", "fs_static": "Fishyscapes Static"}


def open_real(folder: str) -> SceneSet:
    """Return the scenes of one of the sets under the name of its folder."""
    return open_scenes(f"{SETS[folder][0]}={SHARED / 'data' / 'anomaly_validation' / folder}").renamed(folder)


def title_of(folder: str) -> str:
    """Return what a set is called in tables."""
    return _TITLES.get(folder, folder)
