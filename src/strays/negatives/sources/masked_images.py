"""Anybody's images with masks."""

from pathlib import Path
from typing import Self

from strays.data.layout import keyed_files
from strays.negatives.sources.base import Instance, InstanceImage, register_source
from strays.negatives.sources.pairs import PairedSource, paired

__all__ = ["MaskedImages"]


@register_source("masked-images")
class MaskedImages(PairedSource):
    """Images with a mask each, of which all that is not 0 is one instance without a class."""

    layout = "images with masks, whose files share their names up to the suffix"
    order = 1

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the images that have a mask, the training split alone if there is one; None in another layout."""
        images, masks = folder / "images", folder / "masks"
        if not (images.is_dir() and masks.is_dir()):
            return None
        return cls(paired(keyed_files(images), keyed_files(masks)).values())

    def read(self, index: int) -> InstanceImage:
        """Return the image at ``index`` and what its mask covers, if anything."""
        image, values = self.image_and_map(index)
        mask = values != 0
        return InstanceImage(image, (Instance("", mask),) if mask.any() else ())

    def classes(self, index: int) -> frozenset[str]:
        """Return no name, as masks tell none."""
        return frozenset()

    @property
    def names(self) -> frozenset[str]:
        """No name, as masks tell none."""
        return frozenset()
