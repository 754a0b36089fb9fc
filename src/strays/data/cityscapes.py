"""Cityscapes: finely labelled street scenes of 50 cities."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from strays.cards import Card
from strays.data.base import Facts, Frame, FrameSet, read_fitting_map, register_dataset
from strays.data.layout import PairLayout, Pairs
from strays.data.paired import LabelledReader
from strays.data.values import LabelMap
from strays.taxonomy import CITYSCAPES, IGNORE, Taxonomy

__all__ = ["LABEL_IDS", "TRAIN_IDS", "Cityscapes", "CityscapesFrames"]

_TRAINED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

LABEL_IDS = LabelMap({**dict.fromkeys(range(34), IGNORE), **{raw: index for index, raw in enumerate(_TRAINED_IDS)}})
"""The ids 0 to 33 of ``labelIds`` files: 19 of them are trained, the others ignored."""

TRAIN_IDS = LabelMap.indices(
    19,
    hints=dict.fromkeys(
        range(19, 34), "labelTrainIds end at 18: these are labelIds, so call the file ..._labelIds.png"
    ),
)
"""The values of ``labelTrainIds`` files."""

_ENCODINGS = {"_gtFine_labelTrainIds": TRAIN_IDS, "_gtFine_labelIds": LABEL_IDS}

_EGO_VEHICLE, _OUT_OF_ROI = 1, 3
"""The first and last of the ``labelIds`` of pixels that show no scene; between them lies the rectification border."""


class CityscapesFrames(FrameSet):
    """Frames whose ``labelIds``, where they lie beside the labels, tell the own vehicle and borders from the scene."""

    def read_outside(self, frame: Frame, image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
        """Return where there is the own vehicle or a border, bool (H, W); None without a ``labelIds`` file.

        Raises:
            InputError: if there is such a file that cannot be read, or has another size than the picture.
        """
        ids = None if frame.labels is None else _label_ids(frame.labels)
        if ids is None:
            return None
        raw = read_fitting_map(ids, LabelMap.kind, frame, image)
        return (raw >= _EGO_VEHICLE) & (raw <= _OUT_OF_ROI)


def _label_ids(labels: Path) -> Path | None:
    stem = labels.stem.replace("_gtFine_labelTrainIds", "_gtFine_labelIds")
    path = labels.with_name(f"{stem}{labels.suffix}")
    return path if path.stem.endswith("_gtFine_labelIds") and path.is_file() else None


@register_dataset("cityscapes")
class Cityscapes(LabelledReader):
    """Cityscapes in its official layout, the fine labels in their 19 trained classes.

    Reads ``labelTrainIds`` where they exist for as many frames as ``labelIds``, else ``labelIds``; one kind per split.
    The own vehicle and the borders, which only ``labelIds`` know, are marked as outside the scene where they are there.

    Reference:
        Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
    """

    card: ClassVar[Card] = Card(
        title="Cityscapes",
        summary="Street scenes of 50 cities with 19 trained classes, 2048x1024.",
        paper="The Cityscapes Dataset for Semantic Urban Scene Understanding",
        year=2016,
        url="https://www.cityscapes-dataset.com",
        status="read from real files",
        licence="non-commercial",
        notes="labelTrainIds 0 to 18, 255 ignored; or labelIds 0 to 33",
    )
    facts: ClassVar[Facts] = Facts(frames={"train": 2975, "val": 500, "test": 1525}, sizes=frozenset({(1024, 2048)}))
    default_split: ClassVar[str | None] = "val"
    taxonomy: ClassVar[Taxonomy] = CITYSCAPES
    label_map: ClassVar[LabelMap] = TRAIN_IDS
    scenes: ClassVar[type[FrameSet]] = CityscapesFrames
    layouts: ClassVar[tuple[str, ...]] = ("leftImg8bit/SPLIT/CITY/*_leftImg8bit.png with gtFine/SPLIT/CITY/*_gtFine_*",)

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the pairs of a split with the kind of label maps that covers most of it."""
        layouts = (
            PairLayout(f"leftImg8bit/{split}", f"gtFine/{split}", "_leftImg8bit", ending) for ending in _ENCODINGS
        )
        found = [pairs for layout in layouts if (pairs := layout.find(folder)) is not None]
        return max(found, key=lambda pairs: len(pairs.matched), default=None)

    @classmethod
    def declared(cls, pairs: Pairs) -> LabelMap:
        """Return what the raw values of the chosen kind of label maps mean."""
        labels = next((labels for _, labels in pairs.matched.values()), Path())
        return next((known for ending, known in _ENCODINGS.items() if labels.stem.endswith(ending)), cls.label_map)

    @classmethod
    def frame_name(cls, key: str) -> str:
        """Return the official id of a frame, which starts with its city."""
        return key.rpartition("/")[2]
