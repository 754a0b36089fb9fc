"""IDD-Lite: small frames of Indian roads in seven coarse classes."""

from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import Facts, register_dataset
from strays.data.layout import PairLayout, Pairs
from strays.data.paired import LabelledReader
from strays.data.values import LabelMap
from strays.taxonomy import LabelClass, Taxonomy

__all__ = ["IDD_LITE", "IddLite"]

IDD_LITE = Taxonomy(
    name="idd-lite",
    classes=(
        LabelClass(name="drivable", colour=(128, 64, 128), contains=("road",)),
        LabelClass(name="non-drivable", colour=(244, 35, 232), contains=("sidewalk", "pavement", "terrain")),
        LabelClass(name="living things", colour=(220, 20, 60), contains=("person", "pedestrian", "rider", "bicyclist")),
        LabelClass(
            name="vehicles",
            colour=(0, 0, 142),
            contains=("car", "truck", "bus", "train", "motorcycle", "bicycle", "bicyclist"),
        ),
        LabelClass(
            name="roadside objects",
            colour=(220, 190, 40),
            contains=("wall", "fence", "pole", "traffic light", "traffic sign", "sign"),
        ),
        LabelClass(name="far objects", colour=(70, 70, 70), contains=("building", "vegetation", "tree")),
        LabelClass(name="sky", colour=(70, 130, 180)),
    ),
)
"""The seven coarse classes; animals are living things here, so they are no anomalies for a network trained on them.

What they contain are our words for the finer classes that the paper lists below each of them."""


@register_dataset("idd-lite")
class IddLite(LabelledReader):
    """IDD-Lite in its official layout.

    Reads ``leftImg8bit/SPLIT/DRIVE/*_image.jpg`` with ``gtFine/SPLIT/DRIVE/*_label.png``; a frame is called
    ``DRIVE_FRAME``, as drives number their frames alike.

    Reference:
        Varma et al., "IDD: A Dataset for Exploring Problems of Autonomous Navigation in Unconstrained Environments",
        WACV 2019.
    """

    card: ClassVar[Card] = Card(
        title="IDD-Lite",
        summary="Frames of Indian roads, 320x227, in seven coarse classes.",
        paper="IDD: A Dataset for Exploring Problems of Autonomous Navigation in Unconstrained Environments",
        year=2019,
        url="https://idd.insaan.iiit.ac.in",
        status="read from real files",
        licence="research and non-commercial use",
        notes="labels 0 to 6, 255 ignored; animals count as living things",
    )
    facts: ClassVar[Facts] = Facts(frames={"train": 1403, "val": 204}, sizes=frozenset({(227, 320)}))
    default_split: ClassVar[str | None] = "val"
    taxonomy: ClassVar[Taxonomy] = IDD_LITE
    label_map: ClassVar[LabelMap] = LabelMap.indices(7)
    layouts: ClassVar[tuple[str, ...]] = ("leftImg8bit/SPLIT/DRIVE/*_image.jpg with gtFine/SPLIT/DRIVE/*_label.png",)

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the pairs of a split; the instance maps that lie beside the label maps are passed over."""
        pairs = PairLayout(f"leftImg8bit/{split}", f"gtFine/{split}", "_image", "_label").find(folder)
        if pairs is None:
            return None
        orphans = tuple(path for path in pairs.orphans if not path.stem.endswith("_inst_label"))
        return Pairs(pairs.matched, pairs.unlabelled, orphans)
