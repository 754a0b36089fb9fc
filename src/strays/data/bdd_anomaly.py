"""BDD-Anomaly: frames of BDD100K in which rare classes are held out as anomalies."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import ClassVar

import numpy as np

from strays.cards import Card
from strays.data.base import Facts, Recognition, register_dataset
from strays.data.images import read_map
from strays.data.layout import PairLayout, Pairs, best_pairs
from strays.data.paired import LabelledReader
from strays.data.values import LabelMap, MaskMap, histogram
from strays.errors import InputError
from strays.taxonomy import CITYSCAPES, IGNORE, Taxonomy

__all__ = ["BDD_ANOMALY", "BDD_ANOMALY_2", "BddAnomaly", "BddAnomaly2"]

_TRAIN, _MOTORCYCLE, _BICYCLE = (CITYSCAPES.names.index(name) for name in ("train", "motorcycle", "bicycle"))
_SPLITS = ("train", "val", "test")
_LAYOUTS = tuple(
    PairLayout(images, maps, map_ending=ending)
    for images, (maps, ending) in product(
        ("seg/images", "images/10k", "images"),
        (("seg/train_labels", "_train_id"), ("seg/labels", "_train_id"), ("labels/sem_seg/masks", "")),
    )
)
_SAMPLE = 20
_THREADS = 4

# Raw value -> train id of Cityscapes, IGNORE for pixels that nobody labelled. The scripts of the authors rewrite the
# label maps in place, in one of two ways, so that copies hold any of the three.
_TRAIN_IDS = {**{index: index for index in range(19)}, IGNORE: IGNORE}
_SHIFTED = {1: IGNORE, **{index + 2: index for index in range(19)}}
_REORDERED = {0: IGNORE, **{index + 1: index for index in range(16)}, 17: _BICYCLE, 18: _MOTORCYCLE, 19: _TRAIN}


def _without(name: str, held_out: Iterable[int]) -> Taxonomy:
    kept = (one for index, one in enumerate(CITYSCAPES.classes) if index not in held_out)
    return Taxonomy(name=name, classes=tuple(kept))


BDD_ANOMALY = _without("bdd-anomaly", (_TRAIN, _MOTORCYCLE, _BICYCLE))
"""The 16 classes of Cityscapes that are left without train, motorcycle and bicycle."""

BDD_ANOMALY_2 = _without("bdd-anomaly-2", (_TRAIN, _MOTORCYCLE))
"""The 17 classes of Cityscapes that are left without train and motorcycle; bicycle is the last."""


@register_dataset("bdd-anomaly")
class BddAnomaly(LabelledReader):
    """BDD-Anomaly with three anomalous classes: train, motorcycle and bicycle.

    Reads the images of BDD100K-10k (``seg/images``, ``images/10k`` or ``images``) with the label maps of the authors
    (``seg/train_labels/SPLIT/ID_train_id.png``) or of BDD100K (``seg/labels`` or ``labels/sem_seg/masks``); what the
    raw values mean is told from the values themselves. Frames with any anomalous pixel are the split ``test``,
    whichever folder they lie in; the others are ``train`` and ``val``. To tell them apart every label map is read once
    per process, which takes up to a minute. Pixels that nobody labelled have no class, and count as inliers of the
    anomaly mask, as they do in the evaluation of the authors.

    Reference:
        Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022; three classes as
        in ``create_bdd_dataset.py`` of its code.
    """

    card: ClassVar[Card] = Card(
        title="BDD-Anomaly, three classes",
        summary="Frames of BDD100K with trains, motorcycles and bicycles held out as anomalies.",
        paper="Scaling Out-of-Distribution Detection for Real-World Settings",
        year=2022,
        url="https://github.com/hendrycks/anomaly-seg",
        status="read from miniatures of the official layout",
        licence="that of BDD100K: education, research and not-for-profit use",
        notes="Copy seg/train_labels from the code of the authors beside the 10K images of BDD100K. Unlabelled pixels "
        "are inliers of the masks. AP, AUROC and FPR95 are published as means over the test images: --aggregation "
        "per-image. Say which classes are held out: the paper holds out two, as bdd-anomaly-2 does.",
    )
    facts: ClassVar[Facts] = Facts(sizes=frozenset({(720, 1280)}))
    default_split: ClassVar[str | None] = "test"
    taxonomy: ClassVar[Taxonomy] = BDD_ANOMALY
    held_out: ClassVar[tuple[int, ...]] = (_TRAIN, _MOTORCYCLE, _BICYCLE)
    layouts: ClassVar[tuple[str, ...]] = (
        "seg/images/SPLIT/ID.jpg with seg/train_labels/SPLIT/ID_train_id.png",
        "images/10k/SPLIT/ID.jpg with labels/sem_seg/masks/SPLIT/ID.png",
    )

    @classmethod
    def known_splits(cls) -> tuple[str | None, ...]:
        """Return the three splits."""
        return _SPLITS

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the frames of a split, by what the label maps hold; without a split all labelled frames."""
        found = best_pairs(_LAYOUTS, folder)
        if found is None or split is None:
            return found
        raws = cls._mask_map(found).anomaly
        values = _values_by_path(labels for _, labels in found.matched.values())
        anomalous = {key for key, (_, labels) in found.matched.items() if values[labels] & raws}
        parts = {
            key: files
            for key, files in found.matched.items()
            if (key in anomalous if split == "test" else key not in anomalous and key.startswith(f"{split}/"))
        }
        return Pairs(parts, _lying_in(split, found.unlabelled), _lying_in(split, found.orphans))

    @classmethod
    def _first_pairs(cls, folder: Path) -> Pairs | None:
        """Return all labelled frames: to recognise them no label map but the first has to be read."""
        found = cls.pairs(folder, None)
        return found if found is not None and found.matched else None

    @classmethod
    def declared(cls, pairs: Pairs) -> LabelMap:
        """Return what the raw values mean, in the encoding that the first label maps have."""
        kept = [index for index in range(len(CITYSCAPES)) if index not in cls.held_out]
        encoding = _encoding(pairs)
        return LabelMap({raw: kept.index(index) if index in kept else IGNORE for raw, index in encoding.items()})

    @classmethod
    def anomalies(cls, pairs: Pairs, split: str | None) -> MaskMap | None:
        """Return the anomaly reading of the label maps of the test split."""
        return cls._mask_map(pairs) if split == "test" else None

    @classmethod
    def _mask_map(cls, pairs: Pairs) -> MaskMap:
        encoding = _encoding(pairs)
        anomaly = [raw for raw, index in encoding.items() if index in cls.held_out]
        return MaskMap(encoding.keys() - anomaly, anomaly, ())

    @classmethod
    def frame_name(cls, key: str) -> str:
        """Return the id of a frame in BDD100K."""
        return key.rpartition("/")[2]


@register_dataset("bdd-anomaly-2")
class BddAnomaly2(BddAnomaly):
    """BDD-Anomaly with two anomalous classes: train and motorcycle.

    It has the same files as ``bdd-anomaly`` and other numbers, so it is never recognised and must be named.

    Reference:
        Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022.
    """

    card: ClassVar[Card] = BddAnomaly.card.model_copy(
        update={
            "title": "BDD-Anomaly, two classes",
            "summary": "Frames of BDD100K with trains and motorcycles held out as anomalies, as in the paper.",
            "notes": "The files of bdd-anomaly; bicycles are a known class, the last of 17. Unlabelled pixels are "
            "inliers of the masks. Published as means over the test images: --aggregation per-image.",
        }
    )
    facts: ClassVar[Facts] = Facts(frames={"train": 6688, "val": 951, "test": 361}, sizes=frozenset({(720, 1280)}))
    taxonomy: ClassVar[Taxonomy] = BDD_ANOMALY_2
    held_out: ClassVar[tuple[int, ...]] = (_TRAIN, _MOTORCYCLE)

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return None: the files are those of ``bdd-anomaly``."""
        return None


def _lying_in(split: str, paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files in the folder of a split; the test images of BDD100K have no labels that they could miss."""
    return tuple(path for path in paths if path.parent.name == split != "test")


def _encoding(pairs: Pairs) -> Mapping[int, int]:
    """Return what the raw values mean: unlabelled pixels, which are in nearly every frame, are 255, 0 or 1."""
    values = _values_by_path(islice((labels for _, labels in pairs.matched.values()), _SAMPLE))
    seen: frozenset[int] = frozenset().union(*values.values())
    if IGNORE in seen or not seen:
        return _TRAIN_IDS
    return _REORDERED if 0 in seen else _SHIFTED


def _values_by_path(paths: Iterable[Path]) -> dict[Path, frozenset[int]]:
    """Return the raw values in label maps; none of one that cannot be read, which is reported when it is needed."""
    listed = list(paths)
    with ThreadPoolExecutor(_THREADS) as pool:  # decoders release the interpreter's lock
        return dict(zip(listed, pool.map(_values, listed), strict=True))


def _values(path: Path) -> frozenset[int]:
    try:
        return _values_of(path, path.stat().st_mtime_ns)
    except (InputError, OSError):
        return frozenset()


@cache
def _values_of(path: Path, changed: int) -> frozenset[int]:
    return frozenset(np.flatnonzero(histogram(read_map(path))).tolist())
