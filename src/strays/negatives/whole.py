"""Whole images with objects in place of the scene."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from strays.cards import Card
from strays.negatives.base import Negative, register_negatives
from strays.negatives.cutting import covering_box, mirrored, parse_span, union, view, view_map
from strays.negatives.sourced import Fold, SourcedNegatives
from strays.taxonomy import IGNORE

__all__ = ["Whole"]


@register_negatives("whole")
class Whole(SourcedNegatives):
    """An image with objects instead of the scene; what surrounds the objects counts nowhere.

    Images without an instance are passed over; a window that happens to show none is not.

    Reference:
        Chan et al., "Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic
        Segmentation", ICCV 2021.

    Args:
        folder: images with instances.
        exclude: exclusion list, by whose classes images are left out.
        min_size: the least height and width of an image in pixels; by default what the list asks for.
        fold: ``train`` leaves every eighth image out, ``val`` takes just those; ``all`` by default.
        zoom: LOW+HIGH, the scale of the image, drawn uniformly; where that does not cover the patch it is the least
            one that does, as with ``0``. The published crops of 480 pixels have ``1``.
        flip: whether half of the images are mirrored.

    Raises:
        InputError: if a setting is wrong, or the folder holds nothing that can be used.
    """

    card: ClassVar[Card] = Card(
        title="Whole images",
        summary="Images with objects in place of the scene; only the pixels of the objects count.",
        paper="Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic Segmentation",
        year=2021,
        url="https://arxiv.org/abs/2012.06575",
        notes="Images too small for the patch are enlarged to cover it, as the authors do below 480 pixels. Their code "
        "gives what surrounds the objects, and images without any, the label 0, which is road; here it counts nowhere.",
    )

    def __init__(
        self,
        folder: Path | None = None,
        /,
        *,
        exclude: str = "meta-ood",
        min_size: int | None = None,
        fold: Fold = "all",
        zoom: float | str = "1",
        flip: bool = True,
    ) -> None:
        self.zoom = parse_span("whole: zoom", zoom, 0)
        self.flip = flip
        super().__init__("whole", folder, exclude, min_size, fold)

    def sample(self, random: np.random.Generator, size: tuple[int, int]) -> Negative:
        """Return an image of (h, w) = ``size``: mask 1 on its things, 255 elsewhere.

        Raises:
            InputError: if no image that was looked at has an instance.
        """
        for picture in self.drawn(random):
            if picture.things:
                objects = union(one.mask for one in picture.things)
                box = covering_box((objects.shape[0], objects.shape[1]), size, random.uniform(*self.zoom), random)
                mask = view_map(np.where(objects, np.uint8(1), np.uint8(IGNORE)), box, size)
                negative = Negative(view(picture.image, box, size), mask)
                return mirrored(negative) if self.flip and random.random() < 0.5 else negative
        raise self.unusable("an instance", "name a folder with masks or annotations; patches=DIR needs none")
