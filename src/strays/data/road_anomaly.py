"""RoadAnomaly: 60 web images of unusual dangers on roads."""

from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import Facts, Recognition, register_dataset
from strays.data.layout import PairLayout, Pairs, pair_files
from strays.data.paired import MaskedReader
from strays.data.sources import image_files
from strays.data.values import MaskMap

__all__ = ["RoadAnomaly"]

_REPACKED = PairLayout("images", "labels_masks")
_OWN_VALUES = "RoadAnomaly has 2 for anomalies and ignores nothing; read copies with 0, 1 and 255 as folder=PATH"


@register_dataset("road-anomaly")
class RoadAnomaly(MaskedReader):
    """RoadAnomaly of 2019: 60 frames, 0 inlier, 2 anomaly, nothing ignored.

    Reads the official ``frames/ID.jpg`` with ``frames/ID.labels/labels_semantic.png``, and copies with ``images/N`` and
    ``labels_masks/N.png``.

    Reference:
        Lis et al., "Detecting the Unexpected via Image Resynthesis", ICCV 2019.
    """

    card: ClassVar[Card] = Card(
        title="RoadAnomaly",
        summary="Web images of animals, rocks, lost cargo and other dangers on roads.",
        paper="Detecting the Unexpected via Image Resynthesis",
        year=2019,
        url="https://www.epfl.ch/labs/cvlab/data/road-anomaly/",
        status="read from real files, re-packed; the official layout from miniatures",
        licence="the images keep their owners' licences, for research",
        notes="0 inlier, 2 anomaly, no ignored region",
    )
    facts: ClassVar[Facts] = Facts(
        frames={None: 60},
        sizes=frozenset({(720, 1280)}),
        formats=frozenset({"JPEG"}),
        shares={None: {"inlier": 0.90150, "anomaly": 0.09850, "ignore": 0.0}},
    )
    mask_map: ClassVar[MaskMap] = MaskMap(anomaly=(2,), ignore=(), hints={1: _OWN_VALUES, 255: _OWN_VALUES})
    layouts: ClassVar[tuple[str, ...]] = (
        "frames/ID.jpg with frames/ID.labels/labels_semantic.png",
        "images/N.* with labels_masks/N.png",
    )

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the frames of the official release or of a repacked copy."""
        return _official(folder) or _REPACKED.find(folder)

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim on the official layout, which no other data set has, or on a repacked copy by its content."""
        official = _official(folder)
        if official is None:
            return super().recognise(folder)
        return Recognition(cls.name, f"{cls.layouts[0]}, {len(official.matched)} images")


def _official(folder: Path) -> Pairs | None:
    frames = folder / "frames"
    masks = {path.parent.stem: path for path in frames.glob("*.labels/labels_semantic.png")}
    return pair_files({path.stem: path for path in image_files(frames, recursive=False)}, masks) if masks else None
