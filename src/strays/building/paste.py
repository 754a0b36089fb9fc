"""Pasting one thing into one frame: scaled, lit and blurred like its surroundings, with a soft edge and a shadow."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from strays.building.adapting import Floats, luminance, matched_light, matching_blur, soft_edge
from strays.building.ground import Placement
from strays.negatives import Negative
from strays.negatives.cutting import bounding_box, cut_out

__all__ = ["Blending", "Pasted", "blended", "frame_generator", "shadowed", "trimmed"]

_ROOM = 3
"""Pixels around a thing into which its blur may spread."""
_TRIM = 0.008
"""How much of a thing's edge is cut off, as a share of its longer side: outlines are drawn a little too wide."""

_KEPT = 0.95
"""The share of a trimmed thing that has to hang together, else it is not trimmed."""


@dataclass(frozen=True)
class Blending:
    """How a thing is made to look as if it had been there.

    Args:
        light: how far its light and colours follow the surroundings, from 0 to 1.
        edge: standard deviation in pixels of the blur of its edge.
        shadow: how dark the ground under it becomes, from 0 (not at all) to 1.
        sharpness: whether it is blurred where it is sharper than the frame.
    """

    light: float = 0.6
    edge: float = 0.6
    shadow: float = 0.6
    sharpness: bool = True


@dataclass(frozen=True, eq=False)
class Pasted:
    """A frame with something in it.

    Args:
        image: uint8 (H, W, 3) RGB.
        where: bool (H, W), the pixels that the thing covers; beyond them only its shadow has changed the frame.
    """

    image: NDArray[np.uint8]
    where: NDArray[np.bool_]


def frame_generator(seed: int, name: str) -> np.random.Generator:
    """Return the random numbers of one frame, which depend on the seed and the frame's name alone."""
    digest = hashlib.sha256(name.encode("utf-8")).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], np.uint32).tolist()])


def trimmed(cut: Negative) -> Negative:
    """Return a thing without its outermost pixels, so that no background comes with it; thin things stay whole."""
    taken = np.pad(cut.mask == 1, 1)
    eroded = ndimage.binary_erosion(taken, iterations=max(1, round(_TRIM * max(cut.size))))[1:-1, 1:-1]
    regions, count = ndimage.label(eroded, np.ones((3, 3)))
    if not count:
        return cut
    sizes = np.bincount(regions.ravel())[1:]
    if sizes.max() < _KEPT * eroded.sum() or eroded.sum() < _KEPT / 2 * cut.mask.sum():
        return cut
    return cut_out(cut.image, regions == sizes.argmax() + 1)


def blended(image: NDArray[np.uint8], cut: Negative, place: Placement, blending: Blending) -> Pasted:
    """Return a frame with a thing in it.

    Args:
        image: uint8 (H, W, 3) RGB; it is not changed.
        cut: the thing, which has to lie in the frame at its place.
        place: where it stands.
        blending: how it is made to fit.
    """
    scene = image.astype(np.float32)
    colours, alpha = _scaled(cut, place.scale)
    inside = alpha >= 0.5 if (alpha >= 0.5).any() else alpha > 0
    height, width = alpha.shape[0] - 2 * _ROOM, alpha.shape[1] - 2 * _ROOM
    # The road beside it and not the sky behind it, which would make it as pale as itself.
    rows = slice(place.top + height // 2, place.top + height + max(1, height // 4))
    around = scene[rows, max(0, place.left - width) : place.left + 2 * width].reshape(-1, 3)
    colours = matched_light(colours, inside, around, blending.light)
    sigma = matching_blur(luminance(colours), inside, luminance(scene)) if blending.sharpness else 0.0
    colours, alpha = _blurred(colours, alpha, sigma)
    opacity = _in_frame(soft_edge(alpha, blending.edge), place, image.shape[:2])
    layer, part = _in_frame(colours, place, image.shape[:2]), opacity[..., None]
    mixed = part * layer + (1 - part) * shadowed(scene, opacity > 0, blending.shadow)
    return Pasted(np.clip(mixed.round(), 0, 255).astype(np.uint8), opacity > 0)


def shadowed(scene: Floats, where: NDArray[np.bool_], strength: float) -> Floats:
    """Return a frame (H, W, 3) with a soft spot of shadow under a thing.

    Args:
        scene: RGB in [0, 255].
        where: bool (H, W), the thing; with at least one pixel.
        strength: how dark the middle of the spot is, from 0 to 1.
    """
    rows, _ = bounding_box(where)
    height = rows.stop - rows.start
    sole = np.flatnonzero(where[rows.stop - max(1, height // 5) : rows.stop].any(0))
    middle, wide = (sole[0] + sole[-1]) / 2, 0.6 * (sole[-1] - sole[0] + 1) + 1
    deep = float(np.clip(0.25 * wide, 1.5, 0.2 * height + 1.5))
    y, x = np.ogrid[: where.shape[0], : where.shape[1]]
    away = np.hypot((x - middle) / wide, (y - rows.stop + 0.5 * deep) / deep)
    darkness = strength * np.clip(1.3 - away, 0, 1) ** 1.5
    dark: Floats = scene * (1 - darkness[..., None]).astype(np.float32)
    return dark


def _scaled(cut: Negative, scale: float) -> tuple[Floats, Floats]:
    """Return colours (h, w, 3) and how much of each pixel is covered (h, w), with room around them.

    No colour from around the thing comes with it, as Pillow weighs colours by their opacity.
    """
    alpha = np.where(cut.mask == 1, np.uint8(255), np.uint8(0))
    height, width = (max(1, round(scale * side)) for side in cut.size)
    layered = Image.fromarray(np.dstack([cut.image, alpha]))
    pixels = np.asarray(layered.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    room = ((_ROOM, _ROOM), (_ROOM, _ROOM))
    return np.pad(pixels[..., :3], (*room, (0, 0))), np.pad(pixels[..., 3] / 255, room)


def _blurred(colours: Floats, alpha: Floats, sigma: float) -> tuple[Floats, Floats]:
    """Return colours and coverage after a Gaussian blur; where nothing is, the nearest colour of the thing is."""
    nearest = ndimage.distance_transform_edt(alpha < 0.5, return_distances=False, return_indices=True)
    filled = colours[tuple(nearest)] if (alpha >= 0.5).any() else colours
    blurred: Floats = ndimage.gaussian_filter(filled, (sigma, sigma, 0))
    return blurred, ndimage.gaussian_filter(alpha, sigma)


def _in_frame(values: Floats, place: Placement, size: tuple[int, ...]) -> Floats:
    """Return values (h, w, ...) with room around them at their place in a frame of (H, W) = ``size``, 0 elsewhere."""
    height, width = values.shape[:2]
    frame = np.zeros((size[0] + 2 * _ROOM, size[1] + 2 * _ROOM, *values.shape[2:]), np.float32)
    frame[place.top : place.top + height, place.left : place.left + width] = values
    return frame[_ROOM:-_ROOM, _ROOM:-_ROOM]
