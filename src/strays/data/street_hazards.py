"""StreetHazards: rendered streets with foreign objects, in the two readings that papers report."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from strays.cards import Card
from strays.data.base import Facts, Frame, FrameSet, Recognition, register_dataset
from strays.data.images import read_image
from strays.data.layout import PairLayout, Pairs
from strays.data.paired import LabelledReader
from strays.data.values import LabelMap, MaskMap
from strays.taxonomy import IGNORE, STREETHAZARDS, Taxonomy

__all__ = ["STREETHAZARDS_12", "StreetHazards", "StreetHazards12", "StreetHazardsFrames"]

_OTHER, _ANOMALY = 4, 14
"""The raw values of the class that some ignore, and of anomalies; raw values start at 1."""

_LAYOUTS = {
    "train": PairLayout("train/images/training", "train/annotations/training"),
    "val": PairLayout("train/images/validation", "train/annotations/validation"),
    "test": PairLayout("test/images/test", "test/annotations/test"),
}
_TOWNS = ("t5", "t6")
_SHIFTED = {0: "StreetHazards numbers its classes from 1: use the original annotations, or add 1 to these"}

STREETHAZARDS_12 = Taxonomy(
    name="streethazards-12",
    classes=tuple(one for raw, one in enumerate(STREETHAZARDS.classes, start=1) if raw != _OTHER),
)
"""The classes without ``other``, as the papers from Zagreb train on them."""


class StreetHazardsFrames(FrameSet):
    """Frames whose images may have a fourth channel that means nothing."""

    def read_image(self, frame: Frame) -> NDArray[np.uint8]:
        """Return the picture of a frame without its fourth channel, uint8 RGB (H, W, 3)."""
        return read_image(frame.image, drop_alpha=True)


@register_dataset("street-hazards")
class StreetHazards(LabelledReader):
    """StreetHazards with 13 known classes and nothing ignored, as its authors evaluate it.

    Reads ``train`` and ``test`` as the two archives unpack, beside each other or one of them alone. A label map holds 1
    to 13 for the classes (raw value - 1 is the index) and 14 for anomalies, which the class labels ignore. Scenes of
    the splits ``test``, ``test-t5`` and ``test-t6`` (its two towns, of which one sets the threshold for the other in
    open-set evaluation) have the anomaly mask as well; the training towns hold no anomaly.

    Reference:
        Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022.
    """

    card: ClassVar[Card] = Card(
        title="StreetHazards",
        summary="Rendered streets of CARLA with foreign objects; 13 known classes, nothing ignored.",
        paper="Scaling Out-of-Distribution Detection for Real-World Settings",
        year=2022,
        url="https://github.com/hendrycks/anomaly-seg",
        status="read from miniatures of the official layout",
        licence="not stated by its authors; rendered with CARLA, whose assets are CC BY",
        notes="Unpack streethazards_train.tar and streethazards_test.tar, linked there, into one folder. Raw labels 1 "
        "to 13 are classes, the first of them background, and 14 is the anomaly. AP, AUROC and FPR95 are published as "
        "means over the test images: --aggregation per-image.",
    )
    facts: ClassVar[Facts] = Facts(frames={"train": 5125, "val": 1031, "test": 1500}, sizes=frozenset({(720, 1280)}))
    default_split: ClassVar[str | None] = "test"
    taxonomy: ClassVar[Taxonomy] = STREETHAZARDS
    label_map: ClassVar[LabelMap] = LabelMap({**{raw: raw - 1 for raw in range(1, 14)}, _ANOMALY: IGNORE}, _SHIFTED)
    anomaly_map: ClassVar[MaskMap] = MaskMap(range(1, 14), (_ANOMALY,), (), _SHIFTED)
    scenes: ClassVar[type[FrameSet]] = StreetHazardsFrames
    layouts: ClassVar[tuple[str, ...]] = (
        "train/images/training/TOWN with train/annotations/training/TOWN, likewise validation, and "
        "test/images/test/TOWN with test/annotations/test/TOWN",
    )

    @classmethod
    def known_splits(cls) -> tuple[str | None, ...]:
        """Return the splits, of which the test split can also be had by town."""
        return (*cls.facts.frames, *(f"test-{town}" for town in _TOWNS))

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the pairs of a split, or of one town of it."""
        part, _, town = (split or "").partition("-")
        layout = _LAYOUTS.get(part)
        found = None if layout is None else layout.find(folder)
        return found.where(lambda key: key.startswith(f"{town}/")) if found is not None and town else found

    @classmethod
    def anomalies(cls, pairs: Pairs, split: str | None) -> MaskMap | None:
        """Return the anomaly reading of the label maps of the test towns."""
        return cls.anomaly_map if split is not None and split.startswith("test") else None


@register_dataset("street-hazards-12")
class StreetHazards12(StreetHazards):
    """StreetHazards with 12 known classes: the class ``other`` (raw value 4) is ignored, in labels and in masks.

    It has the same files as ``street-hazards`` and other numbers, so it is never recognised and must be named.

    Reference:
        Hendrycks et al., ICML 2022; evaluated so by Grcić, Bevandić and Šegvić, "DenseHybrid", ECCV 2022.
    """

    card: ClassVar[Card] = StreetHazards.card.model_copy(
        update={
            "title": "StreetHazards, 12 classes",
            "summary": "Rendered streets of CARLA with foreign objects; 12 known classes, the class other is ignored.",
            "notes": "The files of street-hazards. Raw label 4 counts neither in mIoU nor in anomaly scores: the "
            "numbers of DenseHybrid, NFlowJS and their kin are so, those of most others with 13 classes. Published as "
            "means over the test images: --aggregation per-image.",
        }
    )
    taxonomy: ClassVar[Taxonomy] = STREETHAZARDS_12
    label_map: ClassVar[LabelMap] = LabelMap(
        {
            **{raw: raw - 1 - (raw > _OTHER) for raw in range(1, 14)},
            _OTHER: IGNORE,
            _ANOMALY: IGNORE,
        },
        _SHIFTED,
    )
    anomaly_map: ClassVar[MaskMap] = MaskMap(
        (raw for raw in range(1, 14) if raw != _OTHER), (_ANOMALY,), (_OTHER,), _SHIFTED
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return None: the files are those of ``street-hazards``."""
        return None
