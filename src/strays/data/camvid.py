"""CamVid: 701 labelled frames of drives through Cambridge, 11 classes."""

from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import Facts, register_dataset
from strays.data.layout import PairLayout, Pairs, best_pairs
from strays.data.paired import LabelledReader
from strays.data.values import LabelMap
from strays.taxonomy import CAMVID, Taxonomy

__all__ = ["CamVid"]


@register_dataset("camvid")
class CamVid(LabelledReader):
    """CamVid in 11 classes and void, in the usual split of 367 / 101 / 233 frames.

    Reads ``SPLIT/images`` with ``SPLIT/labels``, and ``SPLIT`` with ``SPLITannot`` as the SegNet tutorial packs it.

    Reference:
        Brostow, Fauqueur and Cipolla, "Semantic object classes in video", Pattern Recognition Letters 2009.
    """

    card: ClassVar[Card] = Card(
        title="CamVid",
        summary="Frames of drives through Cambridge with 11 classes, at 480x360.",
        paper="Semantic object classes in video: a high-definition ground truth database",
        year=2009,
        url="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        status="read from real files",
        licence="research and non-commercial use",
        notes="labels 0 to 10 are classes, 11 is void and ignored",
    )
    facts: ClassVar[Facts] = Facts(
        frames={"train": 367, "val": 101, "test": 233}, sizes=frozenset({(360, 480), (720, 960)})
    )
    default_split: ClassVar[str | None] = "test"
    taxonomy: ClassVar[Taxonomy] = CAMVID
    label_map: ClassVar[LabelMap] = LabelMap.indices(11, ignore=(11,))
    layouts: ClassVar[tuple[str, ...]] = ("SPLIT/images with SPLIT/labels", "SPLIT with SPLITannot")

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the pairs of a split, or None where its folders are missing."""
        layouts = (PairLayout(f"{split}/images", f"{split}/labels"), PairLayout(f"{split}", f"{split}annot"))
        return best_pairs(layouts, folder)
