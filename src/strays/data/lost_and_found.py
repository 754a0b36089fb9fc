"""Lost and Found: small obstacles lost on the road, in drives around Stuttgart."""

import re
from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import Facts, Recognition, register_dataset
from strays.data.layout import PairLayout, Pairs
from strays.data.paired import MaskedReader
from strays.data.values import MaskMap

__all__ = ["LostAndFound", "LostAndFoundTrainIds"]

_SCENE = re.compile(r"\d\d_.+")
_REPACKED = PairLayout("images", "labels_masks")
_TRAIN, _TEST, _NO_KNOWN = "train", "test", "test-no-known"
# Positions, in the sorted complete splits, of the frames whose labels are zero everywhere.
_UNLABELLED_FRAMES = {
    _TRAIN: (1036, frozenset({44, 67, 88, 109, 131, 614})),
    _TEST: (
        1203,
        frozenset({17, 37, 55, 72, 91, 110, 129, 153, 174, 197, 218, 353, 490, 618, 686, 792, 793}),
    ),
}
# Sequences whose obstacles are children and bicycles, classes that networks trained on Cityscapes know.
_KNOWN = (
    "15_Rechbergstr_Deckenpfronn",
    "01_Hanns_Klemm_Str_45_000006",
    "01_Hanns_Klemm_Str_45_000007",
    "10_Schlossberg_9_000004",
)


@register_dataset("lost-and-found")
class LostAndFound(MaskedReader):
    """Lost and Found in the obstacle reading: every labelled object is an anomaly, the free road is inlier.

    Reads the official ``leftImg8bit`` with ``gtCoarse/*_labelIds.png`` (0 ignored, 1 road, 2 and more obstacles, things
    that can be driven over among them), and copies with ``images/N`` and ``labels_masks/N.png`` (0 / 1 / 255). Of the
    complete official splits the frames that nobody labelled are left out: 1030 and 1186 remain. The split
    ``test-no-known`` also leaves out the sequences with children and bicycles, as SegmentMeIfYouCan does: 1043 remain.

    Reference:
        Pinggera et al., "Lost and Found: Detecting Small Road Hazards for Self-Driving Vehicles", IROS 2016.
    """

    card: ClassVar[Card] = Card(
        title="Lost and Found",
        track="obstacle-track",
        summary="Small obstacles on roads around Stuttgart; every labelled object is an anomaly.",
        paper="Lost and Found: Detecting Small Road Hazards for Self-Driving Vehicles",
        year=2016,
        url="http://www.6d-vision.com/lostandfounddataset",
        status="read from miniatures of the official layout",
        licence="research and non-commercial use",
        notes="labelIds: 0 ignored, 1 road, 2 and more obstacles; frames without any label are left out",
    )
    facts: ClassVar[Facts] = Facts(frames={_TRAIN: 1030, _TEST: 1186, _NO_KNOWN: 1043}, sizes=frozenset({(1024, 2048)}))
    default_split: ClassVar[str | None] = _TEST
    map_ending: ClassVar[str] = "_gtCoarse_labelIds"
    official_map: ClassVar[MaskMap] = MaskMap(inlier=(1,), anomaly=range(2, 201), ignore=(0,))
    layouts: ClassVar[tuple[str, ...]] = (
        "leftImg8bit/SPLIT/SCENE with gtCoarse/SPLIT/SCENE",
        "images/N.* with labels_masks/N.png",
    )

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the labelled frames of a split; a repacked copy is the test split."""
        part = _TEST if split in (None, _NO_KNOWN) else split
        layout = PairLayout(f"leftImg8bit/{part}", f"gtCoarse/{part}", "_leftImg8bit", cls.map_ending)
        official = layout.find(folder)
        if official is None:
            return _REPACKED.find(folder) if split in (None, _TEST) else None
        official = _labelled(official, str(part)).where(lambda key: _SCENE.fullmatch(key.split("/")[0]) is not None)
        return official.where(lambda key: not _official_id(key).startswith(_KNOWN)) if split == _NO_KNOWN else official

    @classmethod
    def declared(cls, pairs: Pairs) -> MaskMap:
        """Return what the raw values mean: those of the official maps, or 0 / 1 / 255 in a repacked copy."""
        mask = next((mask for _, mask in pairs.matched.values()), Path())
        return cls.official_map if mask.stem.endswith(cls.map_ending) else cls.mask_map

    @classmethod
    def frame_name(cls, key: str) -> str:
        """Return the official id of a frame, which starts with its scene."""
        return _official_id(key)

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim on the official layout, or a possible one on a repacked copy of the right number and size."""
        if not (folder / "gtCoarse").is_dir():
            return super().recognise(folder)
        pairs = cls._first_pairs(folder)
        if pairs is None:
            return None
        return Recognition(cls.name, f"{cls.layouts[0]}, {len(pairs.matched)} frames of numbered scenes")


@register_dataset("lost-and-found-train-ids")
class LostAndFoundTrainIds(LostAndFound):
    """Lost and Found in the train-id reading: hazards alone are anomalies, harmless objects are ignored.

    Reads ``gtCoarse/*_labelTrainIds.png``: 1 road, 2 hazard, 0 and 255 ignored. It has the same files as
    ``lost-and-found`` and other numbers, so it is never recognised and must be named.

    Reference:
        Pinggera et al., IROS 2016; evaluated so by Chan, Rottmann and Gottschalk, ICCV 2021.
    """

    card: ClassVar[Card] = LostAndFound.card.model_copy(
        update={
            "title": "Lost and Found, train ids",
            "summary": "Small obstacles on roads around Stuttgart; only hazards are anomalies.",
            "notes": "labelTrainIds: 1 road, 2 hazard, 0 (harmless objects) and 255 ignored",
        }
    )
    map_ending: ClassVar[str] = "_gtCoarse_labelTrainIds"
    official_map: ClassVar[MaskMap] = MaskMap(inlier=(1,), anomaly=(2,), ignore=(0, 255))

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the labelled frames of a split of the official release; repacked copies have no train ids."""
        return super().pairs(folder, split) if (folder / "gtCoarse").is_dir() else None

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return None: the files are those of ``lost-and-found``."""
        return None


def _official_id(key: str) -> str:
    return key.rpartition("/")[2]


def _labelled(pairs: Pairs, part: str) -> Pairs:
    """Return the pairs of a complete split without the frames that nobody labelled; of others all."""
    complete, blank = _UNLABELLED_FRAMES[part]
    if len(pairs.matched) != complete:
        return pairs
    kept = {key for position, key in enumerate(sorted(pairs.matched, key=_official_id)) if position not in blank}
    return pairs.where(kept.__contains__)
