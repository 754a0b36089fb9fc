"""Scenes with objects pasted into them that no training saw, for benchmarks."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from strays.negatives import Negatives, Patch
from strays.scene import ANOMALY, INLIER, Scene
from strays.taxonomy import IGNORE

__all__ = ["anomaly_mask", "pasted_scenes"]


def pasted_scenes(frames: Iterable[Scene], objects: Negatives, seed: int = 7) -> Iterator[Scene]:
    """Yield labelled frames with one object each; always the same object at the same place."""
    for index, scene in enumerate(frames):
        plain = Patch(scene.image, scene.labels, np.zeros_like(scene.labels))
        patch = objects.mix(plain, np.random.default_rng([seed, index]))
        yield Scene(patch.image, patch.labels, anomaly_mask(patch.labels, patch.mask == ANOMALY), scene.name)


def anomaly_mask(labels: NDArray[np.uint8], anomalous: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return an anomaly mask: unlabelled pixels that are no anomaly are ignored."""
    return np.where(anomalous, np.uint8(ANOMALY), np.where(labels == IGNORE, np.uint8(IGNORE), np.uint8(INLIER)))
