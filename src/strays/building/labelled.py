"""Road users that are cut out of the inlier data themselves, to be pasted as controls."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strays.building.classes import FURNITURE, ROAD_USERS, class_indices
from strays.building.ground import EYE, horizon_row, pixels_per_metre
from strays.building.things import SEARCHED, Thing, Things, hidden_share, is_whole
from strays.data import SceneSet
from strays.errors import InputError
from strays.journal import Record
from strays.negatives.cutting import bounding_box
from strays.scene import Scene
from strays.taxonomy import Taxonomy

__all__ = ["RECOGNISABLE", "LabelledThings"]

RECOGNISABLE = 0.12
"""The longer side that a road user needs, here and where it is pasted, as a share of the height of a frame."""
_SHAPES: Mapping[str, tuple[float, float]] = {"person": (0.2, 0.6), "rider": (0.25, 1.3), "car": (0.7, 2.6)}
"""Class of Cityscapes -> least and largest width by height of one alone, as labels run those side by side together."""
_ANY_SHAPE = (0.3, 3.0)
_FILLED, _HIDDEN = 0.5, 0.1
"""The least share of its box that it fills, and the largest share of its rim at which something may hide it."""


class LabelledThings(Things):
    """Road users that the labels of the inlier data outline, each alone, whole and in full view as far as labels tell.

    Args:
        scenes: the inlier data.
        taxonomy: their classes.
        classes: which of them; by default all road users.
        eye: height of the camera in metres.
        horizon: as a share of the height, None to estimate it.

    Raises:
        InputError: if the scenes have no labels, or there is no such class.
    """

    def __init__(
        self,
        scenes: SceneSet,
        taxonomy: Taxonomy,
        classes: Collection[str] = (),
        eye: float = EYE,
        horizon: float | None = None,
    ) -> None:
        if unknown := sorted(set(classes) - set(taxonomy.names)):
            known = ", ".join(taxonomy.names)
            raise InputError(f"{scenes.name} has no class {', '.join(unknown)}; its classes: {known}")
        wanted = classes or [taxonomy.names[index] for index in class_indices(taxonomy, ROAD_USERS)]
        self.indices = [taxonomy.names.index(name) for name in wanted]
        if not self.indices:
            known = ", ".join(taxonomy.names)
            raise InputError(f"no class of {scenes.name} is a road user; its classes: {known}; name one, or none")
        self.scenes = scenes
        self.taxonomy = taxonomy
        self.eye = eye
        self.horizon = horizon

    def drawn(self, random: np.random.Generator, apart_from: str = "") -> Iterator[Thing]:
        """Yield road users one by one, those of a frame in random order."""
        others = [index for index, name in enumerate(self.scenes.names) if name != apart_from]
        for index in random.permutation(others)[:SEARCHED]:
            try:
                scene = self.scenes.read(int(index))
            except InputError:  # whoever pastes into that frame says so
                continue
            found = list(self._in_scene(scene))
            yield from (found[number] for number in random.permutation(len(found)))

    def _in_scene(self, scene: Scene) -> Iterator[Thing]:
        if scene.labels is None:
            return
        horizon = horizon_row(scene.labels, self.taxonomy, self.horizon)
        standing = np.isin(scene.labels, class_indices(self.taxonomy, ROAD_USERS | FURNITURE))
        for index in self.indices:
            shape = _shape(self.taxonomy, index)
            for mask in _regions(scene.labels == index):
                rows, columns = bounding_box(mask)
                scale = float(pixels_per_metre(np.array(rows.stop - 1.0), horizon, self.eye))
                if scale > 0 and _is_alone(mask, standing, shape):
                    box = [columns.start, rows.start, columns.stop, rows.stop]
                    origin: Record = {"frame": scene.name, "from": box}
                    yield Thing(scene.image, mask, self.taxonomy.names[index], origin, 1 / scale)


def _regions(where: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield the 8-connected regions of (H, W) that are not too small."""
    regions, _ = ndimage.label(where, np.ones((3, 3)))
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
        if max(rows.stop - rows.start, columns.stop - columns.start) >= RECOGNISABLE * len(where):
            yield regions == number


def _is_alone(mask: NDArray[np.bool_], others: NDArray[np.bool_], shape: tuple[float, float]) -> bool:
    rows, columns = bounding_box(mask)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if not shape[0] <= width / height <= shape[1] or not is_whole(mask):
        return False
    return bool(mask.sum() >= _FILLED * height * width and hidden_share(mask, others) <= _HIDDEN)


def _shape(taxonomy: Taxonomy, index: int) -> tuple[float, float]:
    named = (shape for name, shape in _SHAPES.items() if index in class_indices(taxonomy, {name}))
    return next(named, _ANY_SHAPE)
