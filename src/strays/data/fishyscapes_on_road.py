"""Fishyscapes Lost & Found on the road: its frames with the labels that Lost and Found gave them."""

from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import Facts, Recognition, register_dataset
from strays.data.fishyscapes import FishyscapesLostAndFound
from strays.data.layout import Pairs, pair_files
from strays.data.lost_and_found import LostAndFound
from strays.data.values import MaskMap

__all__ = ["FishyscapesOnRoad"]


@register_dataset("fishyscapes-on-road")
class FishyscapesOnRoad(FishyscapesLostAndFound):
    """The 100 frames of Fishyscapes Lost & Found, measured on the road alone.

    The official masks of Fishyscapes say which frames these are; images and masks are those of Lost and Found, found
    beside them: labelIds 0 are ignored, 1 is road, all others are obstacles. Two of the frames have no such label and
    are ignored altogether. It has the same files as ``fishyscapes-lost-and-found`` and other numbers, so it is never
    recognised and must be named.

    Reference:
        Blum et al., "The Fishyscapes Benchmark", IJCV 2021: ``FishyscapesLafOnRoad`` of its code.
    """

    card: ClassVar[Card] = FishyscapesLostAndFound.card.model_copy(
        update={
            "title": "Fishyscapes Lost & Found, on the road",
            "summary": "The frames of Fishyscapes Lost & Found with the obstacle labels of Lost and Found itself.",
            "notes": "labelIds of Lost and Found: 0 ignored, 1 road, 2 and more obstacles. Unpack "
            "fishyscapes_lostandfound.zip beside Lost and Found with leftImg8bit and gtCoarse; AP over all pixels",
        }
    )
    facts: ClassVar[Facts] = FishyscapesLostAndFound.facts
    mask_map: ClassVar[MaskMap] = LostAndFound.official_map
    layouts: ClassVar[tuple[str, ...]] = ("DDDD_ID_labels.png beside Lost and Found with leftImg8bit and gtCoarse",)

    @classmethod
    def known_splits(cls) -> tuple[str | None, ...]:
        """Return the one split."""
        return tuple(cls.facts.frames)

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the frames that the official masks name, with the labels of Lost and Found."""
        masks = cls.official_masks(folder)
        return cls.official(folder, masks, None) if masks else None

    @classmethod
    def official(cls, folder: Path, masks: dict[str, Path], images: Path | None) -> Pairs:
        """Return the images of the named frames with the label ids that Lost and Found has for them."""
        found = super().official(folder, masks, images)
        pictures = {name: image for name, (image, _) in found.matched.items()}
        labels = {name: path for name, image in pictures.items() if (path := _label_ids(image)).is_file()}
        return pair_files(pictures, labels)

    @classmethod
    def nothing(cls, folder: Path, pairs: Pairs | None) -> str:
        """Return what to say about a folder without a single pair."""
        if pairs is not None and pairs.unlabelled:
            labels = _label_ids(pairs.unlabelled[0])
            return (
                f"no labels of Lost and Found for the images of {cls.name}, such as {labels}; unpack gtCoarse.zip there"
            )
        return super().nothing(folder, pairs)

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return None: the files are those of ``fishyscapes-lost-and-found``."""
        return None


def _label_ids(image: Path) -> Path:
    """Return where the labels of ``leftImg8bit/SPLIT/SCENE/ID_leftImg8bit.png`` lie in Lost and Found."""
    scene = image.parent
    name = f"{image.stem.removesuffix('_leftImg8bit')}{LostAndFound.map_ending}.png"
    return scene.parent.parent.parent / "gtCoarse" / scene.parent.name / scene.name / name
