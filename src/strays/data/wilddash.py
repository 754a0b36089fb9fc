"""WildDash 1: hard weather, light and cameras from all over the world, labelled as Cityscapes is."""

from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import Facts, register_dataset
from strays.data.cityscapes import LABEL_IDS
from strays.data.layout import PairLayout, Pairs, keyed_files, pair_files
from strays.data.paired import LabelledReader
from strays.data.values import LabelMap
from strays.taxonomy import CITYSCAPES, Taxonomy

__all__ = ["WildDash"]

_IMAGE, _LABELS = "_100000", "_100000_labelIds"
_UNPACKED = PairLayout("wd_val_01", "wd_val_01", _IMAGE, _LABELS)


@register_dataset("wilddash")
class WildDash(LabelledReader):
    """WildDash 1, the 70 labelled validation frames, in the 19 trained classes of Cityscapes.

    Reads ``wd_val_01``, or the folder above it. The frames hold no masks: anomalies are pasted into them.

    Reference:
        Zendel et al., "WildDash - Creating Hazard-Aware Benchmarks", ECCV 2018.
    """

    card: ClassVar[Card] = Card(
        title="WildDash 1",
        summary="Frames of hard conditions from many countries with the classes of Cityscapes; 70 are labelled.",
        paper="WildDash - Creating Hazard-Aware Benchmarks",
        year=2018,
        url="https://wilddash.cc",
        status="read from miniatures of the official layout",
        licence="research and non-commercial use, with an account",
        notes="labelIds as in Cityscapes, 0 to 33, of which 19 are trained. The papers from Zagreb evaluate at a "
        "shorter side of 540; the backgrounds of WD-Pascal are these frames",
    )
    facts: ClassVar[Facts] = Facts(frames={"val": 70}, sizes=frozenset({(1080, 1920)}))
    default_split: ClassVar[str | None] = "val"
    taxonomy: ClassVar[Taxonomy] = CITYSCAPES
    label_map: ClassVar[LabelMap] = LABEL_IDS
    layouts: ClassVar[tuple[str, ...]] = (f"wd_val_01/NAME{_IMAGE}.png with wd_val_01/NAME{_LABELS}.png",)

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the frames with their labels, which lie in one folder; None where no label map has such a name."""
        if split != "val":
            return None
        if any(folder.glob(f"*{_LABELS}.png")):
            return pair_files(
                keyed_files(folder, _IMAGE, recursive=False), keyed_files(folder, _LABELS, recursive=False)
            )
        return _UNPACKED.find(folder)
