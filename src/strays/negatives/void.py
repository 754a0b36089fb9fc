"""The unlabelled pixels of the inlier set itself."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from strays.cards import Card
from strays.errors import InputError
from strays.negatives.base import Negatives, Patch, register_negatives
from strays.taxonomy import IGNORE

__all__ = ["Void"]


@register_negatives("void")
class Void(Negatives):
    """Pixels without a class become negatives; those that show no scene, such as the own vehicle, do not.

    It needs no folder, pastes nothing, and applies to every patch. The own vehicle and borders stand always in the
    same place: negatives there would teach where to look for anomalies.

    Reference:
        Blum et al., "The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation", IJCV 2021.
    """

    card: ClassVar[Card] = Card(
        title="Void pixels",
        summary="The pixels of the training scenes that have no class, own vehicle and borders left out.",
        paper="The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        notes="Leaving out what shows no scene is our choice; where a data set does not tell, only padding is.",
    )
    everywhere: ClassVar[bool] = True

    def __init__(self, folder: Path | None = None, /) -> None:
        if folder is not None:
            raise InputError(f"void takes no folder, its pixels are those of --data, got {folder}: write void alone")

    def __len__(self) -> int:
        """Return 0: it has no images of its own."""
        return 0

    def mix(self, patch: Patch, random: np.random.Generator) -> Patch:
        """Return the patch with its unlabelled scene pixels marked as negatives."""
        void = (patch.labels == IGNORE) & (patch.mask == 0)
        return replace(patch, mask=np.where(void, np.uint8(1), patch.mask))
