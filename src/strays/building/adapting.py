"""Making what is pasted look as if the same camera had seen it: light, colour, sharpness and edge."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["EDGE", "Floats", "luminance", "matched_light", "matching_blur", "soft_edge"]

Floats = NDArray[np.float32]

EDGE = 1 / 3
"""The least part of a pixel that an object has to cover for the pixel to be pasted at all."""

_WEIGHTS = np.array((0.299, 0.587, 0.114), np.float32)
_GAIN = (0.6, 1.6)
"""How much less and more contrast and colour a thing may get."""
_EXPOSURE = (0.1, 2.0)
"""How much darker and brighter it may get."""
_BLURS = (0.0, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5)
_FEWEST = 60
"""Of fewer pixels no sharpness is measured."""

T = TypeVar("T", np.float32, np.float64)


def luminance(colours: NDArray[T]) -> NDArray[T]:
    """Return the luminance (...) of RGB (..., 3), in the same unit (ITU-R BT.601)."""
    weighted: NDArray[T] = colours @ _WEIGHTS.astype(colours.dtype)
    return weighted


def matched_light(colours: Floats, inside: NDArray[np.bool_], around: Floats, strength: float) -> Floats:
    """Return the pixels of a thing in the light of what surrounds it.

    It is exposed like them, so that what is dark stays dark; the spread of its luminance and the strength of its
    colours move towards theirs, and it takes on some of their tint.

    Args:
        colours: (h, w, 3) RGB in [0, 255].
        inside: bool (h, w), at least one pixel: which of them are the thing's.
        around: (n, 3) RGB of the pixels around it, at least one.
        strength: how far to go, 0 not at all, 1 all the way.

    Returns:
        (h, w, 3) in [0, 255]. What is outside changes with it.
    """
    exposure = _ratio(luminance(around).mean(), luminance(colours[inside]).mean(), _EXPOSURE) ** strength
    exposed = colours * np.float32(exposure)
    light, ours = luminance(exposed), exposed[inside]
    mean, spread = float(luminance(ours).mean()), float(luminance(ours).std())
    shade = (light - mean) * _ratio(float(luminance(around).std()), spread, _GAIN) ** strength + mean
    tint = 0.5 * strength * (around - luminance(around)[:, None]).mean(0)
    vivid = _ratio(_colourfulness(around), _colourfulness(ours), _GAIN) ** strength
    matched: Floats = np.clip(shade[..., None] + (exposed - light[..., None]) * vivid + tint, 0, 255)
    return matched.astype(np.float32)


def matching_blur(thing: Floats, inside: NDArray[np.bool_], scene: Floats) -> float:
    """Return the standard deviation in pixels of the least Gaussian blur that makes a thing no sharper than a scene.

    Args:
        thing: (h, w) luminance.
        inside: bool (h, w), which pixels are the thing's.
        scene: (H, W) luminance.
    """
    interior = ndimage.binary_erosion(inside, iterations=2)
    if interior.sum() < _FEWEST:
        return _BLURS[2]
    wanted = _sharpness(scene, np.ones(scene.shape, np.bool_))
    blurred = (sigma for sigma in _BLURS if _sharpness(ndimage.gaussian_filter(thing, sigma), interior) <= wanted)
    return next(blurred, _BLURS[-1])


def soft_edge(alpha: Floats, sigma: float) -> Floats:
    """Return an opacity (h, w) in [0, 1] with its edge blurred, and nothing where it covers less than ``EDGE``."""
    soft = ndimage.gaussian_filter(alpha, sigma)
    return np.where(soft >= EDGE, np.minimum(soft, 1), 0).astype(np.float32)


def _sharpness(values: Floats, where: NDArray[np.bool_]) -> float:
    """Return how much of its slopes an image loses by a blur: 1 for none at all, the more the sharper it is."""
    blurred = ndimage.gaussian_filter(values, 1.0)
    return float(_slopes(values)[where].mean() / (_slopes(blurred)[where].mean() + 1e-6))


def _slopes(values: Floats) -> Floats:
    down, right = np.gradient(values)
    slopes: Floats = np.hypot(down, right)
    return slopes


def _colourfulness(colours: Floats) -> float:
    return float((colours - luminance(colours)[:, None]).std())


def _ratio(wanted: float, have: float, limits: tuple[float, float]) -> float:
    return float(np.clip((wanted + 1) / (have + 1), *limits))
