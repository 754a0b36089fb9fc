"""Noisy negatives: boxes of other images, pasted as opaque rectangles, and whole images."""

from math import sqrt
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from strays.cards import Card
from strays.negatives.base import Negative, register_negatives
from strays.negatives.cutting import Box, bounding_box, covering_box, mirrored, parse_span, random_box, view, view_map
from strays.negatives.sourced import Fold, SourcedNegatives
from strays.negatives.sources import InstanceImage
from strays.taxonomy import IGNORE

__all__ = ["Patches"]

_SMALLEST_BOX = 0.25
"""The least height and width of a random box as a share of those of the image."""
_MOST_IGNORED, _WINDOWS = 0.2, 21


@register_negatives("patches")
class Patches(SourcedNegatives):
    """Boxes with whatever they show, inlier classes too, and whole images in place of the scene.

    The box is that around an instance, or a random one in an image without any. A whole image is cropped at random to
    the patch; where it has instances, what lies outside their boxes counts nowhere, and of up to 21 windows the first
    is taken that shows less than 20 % of that, else the last.

    Of the ablations of the journal version, ``whole=0`` is patches of random size, ``whole=0,area=N`` of fixed size.

    Reference:
        Bevandić et al., "Simultaneous Semantic Segmentation and Outlier Detection in Presence of Domain Shift", GCPR
        2019. Bevandić et al., "Dense open-set recognition based on training with noisy negative images", IVC 2022.

    Args:
        folder: images, with or without instances.
        whole: probability of a whole image.
        area: LOW+HIGH in thousandths, the area of a box as a share of the patch's, drawn among the whole numbers.
        exclude: exclusion list, by whose classes images are left out.
        min_size: the least height and width of an image in pixels; by default what the list asks for.
        fold: ``train`` leaves every eighth image out, ``val`` takes just those; ``all`` by default.
        fit: probability that a whole image is resized to just cover the patch.
        zoom: LOW+HIGH, otherwise its scale, drawn uniformly; where that does not cover the patch it is the least one
            that does.
        flip: whether half of the boxes and images are mirrored.

    Raises:
        InputError: if a setting is wrong, or the folder holds nothing that can be used.
    """

    card: ClassVar[Card] = Card(
        title="Noisy negatives",
        summary="Boxes of other images, resized and pasted as opaque rectangles, and whole images.",
        paper="Dense open-set recognition based on training with noisy negative images",
        year=2022,
        url="https://arxiv.org/abs/2101.09193",
        notes="Random boxes in images without instances are ours, and so is that images too small for the patch are "
        "enlarged instead of padded. Areas are shares of the crop, not of the image that it is cut from.",
    )

    def __init__(
        self,
        folder: Path | None = None,
        /,
        *,
        whole: float = 0.5,
        area: int | str = "1+100",
        exclude: str = "none",
        min_size: int | None = None,
        fold: Fold = "all",
        fit: float = 0.3,
        zoom: str = "0.75+1.5",
        flip: bool = True,
    ) -> None:
        self.whole = parse_span("patches: whole", whole, 0, 1)[0]
        self.area = parse_span("patches: area", area, 1, 1000, whole=True)
        self.fit = parse_span("patches: fit", fit, 0, 1)[0]
        self.zoom = parse_span("patches: zoom", zoom, 1e-3)
        self.flip = flip
        super().__init__("patches", folder, exclude, min_size, fold)

    def sample(self, random: np.random.Generator, size: tuple[int, int]) -> Negative:
        """Return a box of at most (h, w) = ``size``, or a whole image of that size.

        Raises:
            InputError: if none of the images that were looked at can be read.
        """
        whole = random.random() < self.whole
        for picture in self.drawn(random):
            negative = self._image(picture, random, size) if whole else self._box(picture, random, size)
            return mirrored(negative) if self.flip and random.random() < 0.5 else negative
        raise self.unusable("pixels that can be read", "copy or download them again")

    def _box(self, picture: InstanceImage, random: np.random.Generator, size: tuple[int, int]) -> Negative:
        left, top, right, bottom = box = _boxed(picture, random)
        height, width = bottom - top, right - left
        low, high = (int(end) for end in self.area)
        area = int(random.integers(low, high + 1)) / 1000 * size[0] * size[1]
        scale = min(sqrt(area / (height * width)), size[0] / height, size[1] / width)
        # Rounded down like the released code.
        resized = max(1, int(height * scale)), max(1, int(width * scale))
        return Negative(view(picture.image, box, resized), np.ones(resized, np.uint8))

    def _image(self, picture: InstanceImage, random: np.random.Generator, size: tuple[int, int]) -> Negative:
        mask, have = _boxes_mask(picture), (picture.image.shape[0], picture.image.shape[1])
        scale = 0.0 if random.random() < self.fit else random.uniform(*self.zoom)
        for _ in range(_WINDOWS):
            box = covering_box(have, size, scale, random)
            seen = view_map(mask, box, size)
            if (seen == IGNORE).mean() < _MOST_IGNORED:
                break
        return Negative(view(picture.image, box, size), seen)


def _boxed(picture: InstanceImage, random: np.random.Generator) -> Box:
    """Return the box around a random instance, or in an image without any a random one of random aspect."""
    height, width = picture.image.shape[:2]
    if picture.instances:
        chosen = picture.instances[int(random.integers(len(picture.instances)))]
        rows, columns = bounding_box(chosen.mask)
        return columns.start, rows.start, columns.stop, rows.stop
    want = (max(1.0, side * random.uniform(_SMALLEST_BOX, 1)) for side in (height, width))
    return random_box((height, width), (next(want), next(want)), random)


def _boxes_mask(picture: InstanceImage) -> NDArray[np.uint8]:
    """Return 1 inside the boxes around all instances and 255 elsewhere; 1 everywhere in an image without any."""
    mask = np.full(picture.image.shape[:2], IGNORE if picture.instances else 1, np.uint8)
    for one in picture.instances:
        mask[bounding_box(one.mask)] = 1
    return mask
