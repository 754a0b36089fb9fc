"""Where things can stand in a frame, and how large they are there: a flat road, seen by a camera above it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strays.building.classes import FURNITURE, GROUND, ROAD_USERS, SURFACE, class_indices
from strays.errors import InputError
from strays.negatives import Negative
from strays.negatives.cutting import resized_cut
from strays.taxonomy import IGNORE, Taxonomy

__all__ = ["EYE", "SHORTEST", "Ground", "Placement", "find_place", "horizon_row", "pixels_per_metre", "read_ground"]

EYE = 1.3
"""Height of the camera above the road in metres, about that of a windscreen."""

_EIGHT = np.ones((3, 3), np.bool_)
_WIDE = 0.005
"""The share of a row that has to be road for the road to reach up to it."""
_BEYOND = 0.02
"""How far above the last row of road the horizon is taken to be, as a share of the height."""
_HORIZONS = 0.3, 0.55
SHORTEST, _LONGEST = 0.07, 0.6
"""The longer side of what is pasted, as a share of the height of the frame."""
_LARGER = 1.25
"""The most that a thing is enlarged."""
_TRIES = 40
_SOLE, _ON_ROAD = 0.08, 0.7
"""The lowest part of a thing, and the share of it that has to stand on the road."""
_BODY, _ON_SURFACE = 0.3, 0.6
"""The part above that, and the share of it that has to have flat ground behind it: no car stands in a wall."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What the labels of a frame tell about space.

    Args:
        horizon: the row where the road would vanish, in pixels from the top.
        road: bool (H, W), where things can stand.
        surface: bool (H, W), the road and what else lies flat.
        lowest: int32 (H, W), the lowest row of the thing that a pixel belongs to, -1 where there is none. What stands
            higher than that is behind it.
        eye: height of the camera above the road in metres.
    """

    horizon: float
    road: NDArray[np.bool_]
    surface: NDArray[np.bool_]
    lowest: NDArray[np.int32]
    eye: float = EYE

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.road.shape[0], self.road.shape[1]


def pixels_per_metre(rows: NDArray[np.float64], horizon: float, eye: float = EYE) -> NDArray[np.float64]:
    """Return how many pixels a metre has at the depth of what stands at a row; 0 at the horizon and above.

    A point of the ground at depth z is seen f eye / z below the horizon, and a metre there is f / z long.

    Args:
        rows: of any shape, in pixels from the top.
        horizon: its row.
        eye: height of the camera in metres.

    Example:
        >>> pixels_per_metre(np.array([150.0, 165.0, 230.0]), horizon=165).tolist()
        [0.0, 0.0, 50.0]
    """
    return np.maximum(rows - horizon, 0) / eye


@dataclass(frozen=True)
class Placement:
    """Where a thing stands: the upper left corner of its box, and how many pixels one of its own becomes."""

    top: int
    left: int
    scale: float


def read_ground(
    labels: NDArray[np.uint8], taxonomy: Taxonomy, eye: float = EYE, horizon: float | None = None
) -> Ground:
    """Return what the labels (H, W) of a frame tell about space.

    Args:
        labels: class indices of the taxonomy, 255 = none.
        taxonomy: the classes; one of them has to be the road.
        eye: height of the camera in metres.
        horizon: as a share of the height; by default just above the last row of road, between 0.3 and 0.55.

    Raises:
        InputError: if no class is the road.
    """
    surface = np.isin(labels, class_indices(taxonomy, SURFACE))
    row, road = horizon_row(labels, taxonomy, horizon), _road(labels, taxonomy)
    return Ground(row, road, surface, _lowest_rows(labels, taxonomy), eye)


def horizon_row(labels: NDArray[np.uint8], taxonomy: Taxonomy, horizon: float | None = None) -> float:
    """Return the row of the horizon, with the arguments and errors of ``read_ground``."""
    height, width = labels.shape
    if horizon is not None:
        return float(horizon * height)
    rows = np.flatnonzero(_road(labels, taxonomy).sum(1) >= max(1, _WIDE * width))
    lowest, highest = (part * height for part in _HORIZONS)
    return float(np.clip(rows[0] - _BEYOND * height if len(rows) else highest, lowest, highest))


def find_place(
    ground: Ground,
    cut: Negative,
    metres_per_pixel: float,
    taken: NDArray[np.bool_],
    random: np.random.Generator,
    shortest: float = SHORTEST,
) -> Placement | None:
    """Return a place on the road where a thing has the size that its depth asks for, or None where none was found.

    Of the rows in which it becomes neither too small nor too large one is drawn, and a pixel of road in it for its
    foot. It has to lie in the frame, most of its sole on the road, and may cover only what is farther away.

    Args:
        ground: the frame.
        cut: the thing, its box tight.
        metres_per_pixel: of the thing as it was found.
        taken: bool (H, W), what it must not touch.
        random: where the chance comes from.
        shortest: the least that its longer side may become, as a share of the height of the frame.
    """
    rows = np.flatnonzero(ground.road.any(1))
    scales = pixels_per_metre(rows.astype(np.float64), ground.horizon, ground.eye) * metres_per_pixel
    sides = scales * max(cut.size) / ground.size[0]
    fitting = np.flatnonzero((sides >= shortest) & (sides <= _LONGEST) & (scales <= _LARGER))
    for number in random.choice(fitting, _TRIES) if len(fitting) else ():
        column = int(random.choice(np.flatnonzero(ground.road[rows[number]])))
        place = _standing(ground, cut, float(scales[number]), (int(rows[number]), column), taken)
        if place is not None:
            return place
    return None


def _standing(
    ground: Ground, cut: Negative, scale: float, foot: tuple[int, int], taken: NDArray[np.bool_]
) -> Placement | None:
    """Return the place of a thing whose foot is at a row and column, None where it cannot be there."""
    height, width = (max(1, round(scale * side)) for side in cut.size)
    mask = resized_cut(cut, (height, width)).mask == 1
    sole, body = _lowest(mask, _SOLE), _lowest(mask, _BODY)
    if not sole.any():
        return None
    top, left = foot[0] + 1 - height, foot[1] - round(float(np.flatnonzero(sole.any(0)).mean()))
    if top < 0 or left < 0 or left + width > ground.size[1]:
        return None
    window = np.s_[top : top + height, left : left + width]
    stands = ground.road[window][sole].mean() >= _ON_ROAD and ground.surface[window][body].mean() >= _ON_SURFACE
    free = not (taken[window] & mask).any() and not (ground.lowest[window][mask] > foot[0]).any()
    return Placement(top, left, scale) if stands and free else None


def _lowest(mask: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Return the pixels (h, w) of a mask that lie in the lowest share of its rows."""
    low = mask.copy()
    low[: len(mask) - max(1, round(share * len(mask)))] = False
    return low


def _road(labels: NDArray[np.uint8], taxonomy: Taxonomy) -> NDArray[np.bool_]:
    indices = class_indices(taxonomy, GROUND)
    if not indices:
        raise InputError(
            f"the taxonomy {taxonomy.name} has no road for things to stand on, only {', '.join(taxonomy.names)}; take "
            "--style wd-pascal or cut-and-paste, which paste anywhere"
        )
    return np.isin(labels, indices)


def _lowest_rows(labels: NDArray[np.uint8], taxonomy: Taxonomy) -> NDArray[np.int32]:
    lowest = np.full(labels.shape, -1, np.int32)
    for mask in _things(labels, taxonomy):
        regions, _ = ndimage.label(mask, _EIGHT)
        ends = [-1, *(rows.stop - 1 for rows, _ in ndimage.find_objects(regions))]
        lowest = np.maximum(lowest, np.array(ends, np.int32)[regions])
    return lowest


def _things(labels: NDArray[np.uint8], taxonomy: Taxonomy) -> Iterator[NDArray[np.bool_]]:
    """Yield where there are road users, class by class, what stands beside the road, and what has no class."""
    for index in class_indices(taxonomy, ROAD_USERS):
        yield labels == index
    yield np.isin(labels, class_indices(taxonomy, FURNITURE))
    yield labels == IGNORE
