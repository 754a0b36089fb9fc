"""Whether a detector tells pasted anomalies from pasted things of its own classes, or only finds what was pasted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from strays.building.pasted import CONTROLS
from strays.data import open_scenes, read_map
from strays.errors import InputError
from strays.metrics import PixelMetrics
from strays.scene import ANOMALY, Scene
from strays.taxonomy import IGNORE

__all__ = ["ControlFrame", "ControlResult", "compare_controls", "control_frames"]


@dataclass(frozen=True, eq=False)
class ControlFrame:
    """A frame of a pasted benchmark.

    Args:
        scene: its image and anomaly mask.
        controls: bool (H, W), where things of the inlier classes were pasted.
    """

    scene: Scene
    controls: NDArray[np.bool_]


@dataclass(frozen=True)
class ControlResult:
    """What a detector makes of pasted anomalies, of pasted things of the inlier classes, and of all else.

    Args:
        anomaly: mean score of the pixels of anomalies in a frame, the median over frames.
        control: the same of pasted things of the inlier classes.
        elsewhere: the same of the other pixels that count.
        auroc: how often a pixel of an anomaly has a higher score than one of a control, in [0, 1], over all frames.
    """

    anomaly: float
    control: float
    elsewhere: float
    auroc: float

    @property
    def holds(self) -> bool:
        """Whether the controls are less anomalous than the anomalies."""
        return self.control < self.anomaly and self.auroc > 0.5


def control_frames(folder: Path) -> Iterator[ControlFrame]:
    """Yield the frames of a folder that ``strays data paste`` has written.

    Raises:
        InputError: if it is none, or has no controls.
    """
    if not (folder / CONTROLS).is_dir():
        raise InputError(f"{folder} has no {CONTROLS}: build it with strays data paste --control labels")
    for scene in open_scenes(f"folder={folder}"):
        yield ControlFrame(scene, read_map(folder / CONTROLS / f"{scene.name}.png") == 1)


def compare_controls(scored: Iterable[tuple[ControlFrame, NDArray[np.float32]]]) -> ControlResult:
    """Return how anomalous a detector finds pasted anomalies and pasted things of the inlier classes.

    Args:
        scored: frames, of which some hold anomalies and some hold controls, each with the detector's scores (H, W) of
            its image, larger = more anomalous.

    Raises:
        InputError: if no frame holds anomalies, or none holds controls.
    """
    pixels = PixelMetrics()
    means: dict[str, list[float]] = {"anomaly": [], "control": [], "elsewhere": []}
    for frame, values in scored:
        mask = _mask(frame)
        kinds = {"anomaly": mask == ANOMALY, "control": frame.controls & (mask == 0)}
        kinds["elsewhere"] = (mask == 0) & ~frame.controls
        for kind, where in kinds.items():
            if where.any():
                means[kind].append(float(values[where].mean()))
        pixels.update(values, np.where(kinds["control"], 0, np.where(kinds["anomaly"], 1, IGNORE)).astype(np.uint8))
    if not (means["anomaly"] and means["control"]):
        raise InputError("expected frames with pasted anomalies and with controls; build them with --control labels")
    typical = {kind: median(values) if values else float("nan") for kind, values in means.items()}
    return ControlResult(**typical, auroc=pixels.compute()["AUROC"])


def _mask(frame: ControlFrame) -> NDArray[np.uint8]:
    if frame.scene.mask is None or frame.scene.mask.shape != frame.controls.shape:
        raise InputError(f"{frame.scene.name}: expected a mask and controls of one size; build the frames again")
    return frame.scene.mask
