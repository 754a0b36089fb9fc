"""What another camera, a darker hour and a video codec would have made of an image."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["another_camera"]

Pixels = NDArray[np.uint8]


def another_camera(image: Pixels, strength: float, random: np.random.Generator) -> Pixels:
    """Return an image as a darker, coarser, noisier or more compressed one, each with its own chance.

    In this order, as light meets lens, sensor and codec: darkness in one image of four, a lower resolution, noise and
    JPEG artefacts in one of three each. What was pasted before goes through all of it like the rest.

    Args:
        image: uint8 (h, w, 3) RGB.
        strength: factor on how far each of them goes, in [0, 3]; 0 changes nothing.
        random: where the chance comes from.
    """
    if strength == 0:
        return image
    for chance, change in ((0.25, _darkened), (0.33, _coarser), (0.33, _noisy), (0.33, _compressed)):
        if random.random() < chance:
            image = change(image, strength, random)
    return image


def _darkened(image: Pixels, strength: float, random: np.random.Generator) -> Pixels:
    """Return less light: at strength 1 down to a fifth of it, and a tenth less of red and green than of blue."""
    light = float(np.exp(random.uniform(strength * np.log(0.2), 0)))
    tint = 1 - strength / 30 * random.random() * np.array([3, 2, 0])
    return np.rint(image * light * tint).clip(0, 255).astype(np.uint8)


def _coarser(image: Pixels, strength: float, random: np.random.Generator) -> Pixels:
    """Return the image by way of a smaller one: at strength 1 down to a half."""
    factor = 1 / random.uniform(1, 1 + strength)
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((max(1, round(factor * width)), max(1, round(factor * height))))
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _noisy(image: Pixels, strength: float, random: np.random.Generator) -> Pixels:
    """Return independent Gaussian noise on top: at strength 1 with a deviation of up to 12 of 255."""
    noise = random.standard_normal(image.shape, np.float32) * np.float32(strength * random.uniform(0, 12))
    return np.rint(image + noise).clip(0, 255).astype(np.uint8)


def _compressed(image: Pixels, strength: float, random: np.random.Generator) -> Pixels:
    """Return the image after JPEG: at strength 1 of a quality down to 35."""
    stream = BytesIO()
    quality = round(random.uniform(max(5, 95 - 60 * strength), 95))
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
