"""Pascal VOC with the maps of its segmentation challenge."""

from pathlib import Path
from typing import ClassVar, Self

from strays.data.layout import keyed_files
from strays.negatives.sources.base import register_source
from strays.negatives.sources.class_names import VOC
from strays.negatives.sources.label_maps import LabelMapSource
from strays.negatives.sources.pairs import paired

__all__ = ["PascalVoc"]


@register_source("voc")
class PascalVoc(LabelMapSource):
    """The outlined objects of 20 classes; background (0) and the border around objects (255) belong to nothing.

    An object bears one number in ``SegmentationObject`` and is called after the most frequent class that
    ``SegmentationClass`` gives its pixels. Images without these maps are left out; train and val are not told apart.

    Reference:
        Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010.
    """

    layout = "JPEGImages with SegmentationClass and SegmentationObject, as in Pascal VOC's VOCdevkit/VOC2012"
    legend: ClassVar[dict[int, str]] = dict(enumerate(VOC, start=1))
    nothing = frozenset({0, 255})

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the images that have both maps; None in another layout."""
        folders = [folder / name for name in ("JPEGImages", "SegmentationClass", "SegmentationObject")]
        if not all(one.is_dir() for one in folders):
            return None
        images, labels, objects = (keyed_files(one) for one in folders)
        pairs = paired(images, {key: path for key, path in labels.items() if key in objects})
        return cls(pairs.values(), (objects[key] for key in pairs))
