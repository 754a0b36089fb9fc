"""A scene: one image with, optionally, its class labels and its anomaly mask."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strays.errors import InputError
from strays.taxonomy import IGNORE

__all__ = ["ANOMALY", "INLIER", "Scene", "resize_image", "resize_map"]

INLIER = 0
ANOMALY = 1

_Values = TypeVar("_Values", np.uint8, np.int32)


@dataclass(frozen=True, eq=False)
class Scene:
    """One image and what is known about its pixels.

    Args:
        image: uint8 (H, W, 3) RGB.
        labels: uint8 (H, W) class indices of a taxonomy, 255 = ignore; or None.
        mask: uint8 (H, W) anomaly mask, 0 inlier, 1 anomaly, 255 ignore; or None.
        name: what the scene is called in results; unique within a data set.
        outside: bool (H, W), True where the image shows no scene: the own vehicle, borders of a rectification; or None.
        instances: int32 (H, W), the number of the anomaly that each pixel belongs to, from 1 up, 0 = none; or None.

    Raises:
        InputError: if a shape, type or mask value is not as stated.

    Example:
        >>> scene = Scene(np.zeros((4, 6, 3), np.uint8), mask=np.eye(4, 6, dtype=np.uint8), name="diagonal")
        >>> scene.size, scene.has_anomaly, scene.resized((2, 3)).size
        ((4, 6), True, (2, 3))
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    name: str = "scene"
    outside: NDArray[np.bool_] | None = None
    instances: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        image = self.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"{self.name}: expected a uint8 RGB image (H, W, 3), got {image.dtype} {image.shape}")
        self._check("labels", self.labels, "uint8")
        self._check("mask", self.mask, "uint8")
        self._check("outside", self.outside, "bool")
        self._check("instances", self.instances, "int32")
        found = [] if self.mask is None else _values(self.mask)
        if not set(found) <= {INLIER, ANOMALY, IGNORE}:
            raise InputError(f"{self.name}: an anomaly mask holds 0, 1 and 255, got {found}")

    def _check(self, kind: str, values: NDArray[np.generic] | None, dtype: str) -> None:
        if values is not None and (values.shape != self.size or values.dtype != np.dtype(dtype)):
            height, width = self.size
            found = f"{values.dtype} {values.shape}"
            raise InputError(f"{self.name}: expected {kind} {dtype} ({height}, {width}) like the image, got {found}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def has_anomaly(self) -> bool:
        """Whether the mask holds at least one anomalous pixel."""
        return self.mask is not None and bool((self.mask == ANOMALY).any())

    def resized(self, size: tuple[int, int]) -> "Scene":
        """Return the scene at another (H, W): the image by Pillow's bilinear filter, its maps by nearest."""
        if size == self.size:
            return self
        labels = None if self.labels is None else resize_map(self.labels, size)
        mask = None if self.mask is None else resize_map(self.mask, size)
        outside = None if self.outside is None else resize_map(self.outside.view(np.uint8), size).view(np.bool_)
        instances = None if self.instances is None else resize_map(self.instances, size)
        image = resize_image(self.image, size)
        return replace(self, image=image, labels=labels, mask=mask, outside=outside, instances=instances)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an RGB image (H, W, 3) at (H, W) = ``size`` by Pillow's antialiased bilinear filter."""
    return _resize(image, size, Image.Resampling.BILINEAR)


def resize_map(values: NDArray[_Values], size: tuple[int, int]) -> NDArray[_Values]:
    """Return a map of labels, instances or a mask (H, W) at (H, W) = ``size`` by nearest neighbour."""
    return _resize(values, size, Image.Resampling.NEAREST)


def _resize(values: NDArray[_Values], size: tuple[int, int], filter_: Image.Resampling) -> NDArray[_Values]:
    height, width = size
    return np.asarray(Image.fromarray(values).resize((width, height), filter_))


def _values(mask: NDArray[np.uint8]) -> list[int]:
    """Return the values in a mask; a ninth of the time of ``np.unique``, which sorts."""
    return [value for value, count in enumerate(Image.fromarray(mask).histogram()) if count]
