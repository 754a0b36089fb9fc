"""COCO-Stuff: label maps of things and stuff, in the official layouts or together with instance maps."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from strays.negatives.sources.base import Instance, register_source
from strays.negatives.sources.class_names import COCO_STUFF
from strays.negatives.sources.label_maps import LabelMapSource
from strays.negatives.sources.pairs import files_ending, paired, training_first

__all__ = ["CocoStuff"]

_PHOTOS = (".jpg", ".jpeg")
_MAPS = (".png",)
_THINGS = 91
_SPLITS = ("train2017", "val2017", "train2014", "val2014")

Pairs = dict[str, tuple[Path, Path]]


@register_source("coco-stuff")
class CocoStuff(LabelMapSource):
    """COCO images of which every pixel bears the label of a thing or of stuff, or none (255).

    Reads the official maps, ``train2017/*.png`` in ``stuffthingmaps``, in ``annotations`` or on their own, with the
    images in ``train2017`` or ``images/train2017``: an instance is all that bears one label. And ``{train,val}_img``
    with ``{train,val}_label`` and, where it is there, ``{train,val}_inst``: the label map with every outlined thing
    drawn over it, numbered from 0. There an instance is all that bears one number, called after the most frequent label
    in it. The fringe that an outline leaves of a thing's label is no instance; what bears a low label and was never
    outlined goes with the thing of that number, as nothing tells them apart.

    Reference:
        Caesar, Uijlings and Ferrari, "COCO-Stuff: Thing and Stuff Classes in Context", CVPR 2018. The instance maps are
        those of Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019.
    """

    layout = "train_img with train_label and perhaps train_inst, or images in train2017 with stuffthingmaps/train2017"
    legend: ClassVar[dict[int, str]] = dict(enumerate(COCO_STUFF))
    nothing = frozenset({255})
    stuff = frozenset(COCO_STUFF[_THINGS:])

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the training images, or the others where there are none; None in another layout."""
        for split in ("train", "val"):
            if (folder / f"{split}_img").is_dir() and (folder / f"{split}_label").is_dir():
                return cls._opened(*(folder / f"{split}_{kind}" for kind in ("img", "label", "inst")))
        pairs = _official_pairs(folder)
        return cls(pairs.values()) if pairs else None

    @classmethod
    def _opened(cls, images: Path, labels: Path, instances: Path) -> Self:
        photos, label_maps = files_ending(images, _PHOTOS), files_ending(labels, _MAPS)
        if not instances.is_dir():
            return cls(paired(photos, label_maps).values())
        numbered = files_ending(instances, _MAPS)
        pairs = paired(photos, {key: path for key, path in label_maps.items() if key in numbered})
        return cls(pairs.values(), (numbered[key] for key in pairs))

    def _regions(self, labels: NDArray[np.uint8], numbers: NDArray[np.uint8]) -> Iterator[Instance]:
        regions = list(super()._regions(labels, numbers))
        untouched = [bool((labels[one.mask] == numbers[one.mask]).all()) for one in regions]
        outlined = {one.name for one, whole in zip(regions, untouched, strict=True) if not whole}
        fringes = outlined & frozenset(COCO_STUFF[:_THINGS])
        for one, whole in zip(regions, untouched, strict=True):
            if not (whole and one.name in fringes):
                yield one


def _official_pairs(folder: Path) -> Pairs:
    """Return the pairs in the first of the official layouts that has any."""
    for maps in (folder / "stuffthingmaps", folder / "annotations", folder):
        for images in (folder / "images", folder):
            splits = [one for one in _SPLITS if (images / one).is_dir() and (maps / one).is_dir()]
            found = [_pairs(images / split, maps / split) for split in training_first(splits)]
            if any(found):
                return {str(image): (image, labels) for pairs in found for image, labels in pairs.values()}
    return {}


def _pairs(images: Path, maps: Path) -> Pairs:
    """Return photographs with their maps; both may have been unpacked into one folder."""
    photos, label_maps = files_ending(images, _PHOTOS), files_ending(maps, _MAPS)
    return paired(photos, label_maps) if photos and label_maps else {}
