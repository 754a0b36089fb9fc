"""Sets in the form of Fishyscapes Web: numbered images with numbered masks."""

from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import Recognition, register_dataset
from strays.data.fishyscapes import FishyscapesLostAndFound, FishyscapesStatic
from strays.data.fishyscapes_files import images_beside, masks_of
from strays.data.layout import PairLayout, Pairs, pair_files
from strays.data.paired import MaskedReader

__all__ = ["FishyscapesWeb"]

_PARTED = PairLayout("images", "labels", map_ending="_labels")


@register_dataset("fishyscapes-web")
class FishyscapesWeb(MaskedReader):
    """A set that is prepared as Fishyscapes Web is: complete images with masks under the same numbers.

    Reads ``DDDD_NAME.png`` (or JPEG, WebP) with ``DDDD_NAME_labels.png`` in one folder, or in ``images`` and
    ``labels``. The sets of the benchmark itself stay with its authors, who run what is handed in on
    ``/input/DDDD_NAME.png``.

    Reference:
        Blum et al., "The Fishyscapes Benchmark", IJCV 2021.
    """

    card: ClassVar[Card] = Card(
        title="Fishyscapes Web style",
        summary="Sets prepared like Fishyscapes Web, whose own frames stay hidden: images and masks by number.",
        paper=FishyscapesStatic.card.paper,
        year=2021,
        url="https://fishyscapes.com",
        status="read from miniatures of the official layout",
        licence="that of the images you blend objects into",
        notes="0 inlier, 1 anomaly, 255 ignore. Nothing to download: Static is the public set with the same blending, "
        "and numbers on a set of one's own compare with each other alone",
    )
    layouts: ClassVar[tuple[str, ...]] = (
        "DDDD_NAME.png with DDDD_NAME_labels.png",
        "images/DDDD_NAME.png with labels/DDDD_NAME_labels.png",
    )

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the numbered images with their masks; None where Static or Lost & Found lies."""
        if any(reader.official_masks(folder) for reader in (FishyscapesStatic, FishyscapesLostAndFound)):
            return None
        masks = masks_of(folder)
        if masks:
            return pair_files(images_beside(masks), masks)
        parted = masks_of(folder / "labels")
        found = _PARTED.find(folder)
        return found.where(parted.__contains__) if parted and found is not None else None

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim on the numbered names, which no other set has together with images."""
        pairs = cls.pairs(folder, None)
        if pairs is None or not pairs.matched:
            return None
        return Recognition(cls.name, f"{len(pairs.matched)} numbered images with masks such as {_first(pairs).name}")


def _first(pairs: Pairs) -> Path:
    return next(mask for _, mask in pairs.matched.values())
