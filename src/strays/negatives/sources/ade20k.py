"""ADE20K as the SceneParsing release has it."""

from pathlib import Path
from typing import ClassVar, Self

from strays.data.layout import keyed_files
from strays.negatives.sources.base import register_source
from strays.negatives.sources.class_names import ADE20K, ADE20K_STUFF
from strays.negatives.sources.label_maps import LabelMapSource
from strays.negatives.sources.pairs import paired

__all__ = ["Ade20k"]


@register_source("ade20k")
class Ade20k(LabelMapSource):
    """Indoor and outdoor images with 151 labels, 0 being everything that is none of the 150 classes.

    The full release, whose maps are packed into colours, is not read.

    Reference:
        Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
    """

    layout = "images/training with annotations/training, as ADE20K's SceneParsing release has them"
    legend: ClassVar[dict[int, str]] = dict(enumerate(ADE20K))
    stuff = ADE20K_STUFF

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the training images, or the validation images where they are alone; None in another layout."""
        for split in ("training", "validation"):
            images, maps = folder / "images" / split, folder / "annotations" / split
            if images.is_dir() and maps.is_dir():
                return cls(paired(keyed_files(images), keyed_files(maps)).values())
        return None
