"""Cut-outs: images whose transparency says what belongs to the object."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from strays.data.images import probe_image
from strays.data.sources import is_image_name, walk_files
from strays.errors import InputError, UnreadableImageError
from strays.negatives.sources.base import Instance, InstanceImage, InstanceSource, register_source

__all__ = ["Cutouts"]

_SUFFIXES = frozenset({".png", ".webp", ".tif", ".tiff"})
_OPAQUE = 128
"""The least alpha, of 255, that belongs to the object."""
_LOOKED_AT = 5


@register_source("cutouts")
class Cutouts(InstanceSource):
    """PNG, WebP or TIFF files with transparency: where alpha is 128 or more there is one instance without a class.

    The colours are those in the file, composed on nothing. A folder with other images in it, or whose first five files
    show no transparent pixel, is no folder of cut-outs.

    Args:
        paths: the images.
    """

    layout = "cut-outs, PNG or WebP files with transparency and nothing else"
    order = 2

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the images of a folder and those below it; None in another layout."""
        paths: list[Path] = []
        for name in walk_files(folder):
            if is_image_name(name):
                paths.append(folder / name)
                if paths[-1].suffix.lower() not in _SUFFIXES:
                    return None
        return cls(paths) if any(_is_cutout(path) for path in paths[:_LOOKED_AT]) else None

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> InstanceImage:
        """Return the image at ``index`` and what is opaque in it, if anything."""
        layers = _layers(self.paths[index])
        mask = layers[..., 3] >= _OPAQUE
        return InstanceImage(layers[..., :3].copy(), (Instance("", mask),) if mask.any() else ())

    def classes(self, index: int) -> frozenset[str]:
        """Return no name, as cut-outs have none."""
        return frozenset()

    @property
    def names(self) -> frozenset[str]:
        """No name, as cut-outs have none."""
        return frozenset()

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image in pixels, before any EXIF orientation, from its header."""
        return probe_image(self.paths[index]).size


def _is_cutout(path: Path) -> bool:
    try:
        return bool((_layers(path)[..., 3] < _OPAQUE).any())
    except InputError:
        return False


def _layers(path: Path) -> NDArray[np.uint8]:
    """Return an image as uint8 RGBA (H, W, 4), upright."""
    probe_image(path)  # whatever is no image is told apart here, with the way to mend it
    try:
        with Image.open(path) as image:
            transparent = image.has_transparency_data
            layers = np.array(ImageOps.exif_transpose(image).convert("RGBA"))
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
        raise UnreadableImageError(f"{path} is damaged ({error}); copy or export it again") from error
    if not transparent:
        raise InputError(f"{path} has no transparency among cut-outs; save it with alpha, or remove it")
    return layers
