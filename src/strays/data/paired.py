"""Readers of data sets in which every image has one label map or one anomaly mask."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from strays.data.base import DatasetReader, Frame, FrameSet, Recognition
from strays.data.images import probe_image, read_map
from strays.data.layout import Pairs
from strays.data.values import LabelMap, MaskMap, ValueMap, histogram
from strays.errors import InputError
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE, Taxonomy

__all__ = ["SHARE_TOLERANCE", "LabelledReader", "MaskedReader", "PairedReader", "mask_shares"]

SHARE_TOLERANCE = 0.001
"""How far the share of a mask value may lie from the known one, in [0, 1]."""


class PairedReader(DatasetReader):
    """A reader whose frames are pairs of an image and a map.

    Attributes:
        layouts: how the layouts are described to a person whose folder has none of them.
    """

    layouts: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the pairs of a split, or None where the folders of every known layout are missing."""

    @classmethod
    @abstractmethod
    def frame_set(cls, pairs: Pairs, split: str | None) -> FrameSet:
        """Return the scenes of pairs that were found."""

    @classmethod
    @abstractmethod
    def declared(cls, pairs: Pairs) -> ValueMap:
        """Return what the raw values of the maps mean."""

    @classmethod
    def open(cls, folder: Path, split: str | None = None) -> FrameSet:
        """Return one split of the data set in ``folder``; images without a map are left out and listed.

        Raises:
            InputError: if the folder has another layout, or there is no such split.
        """
        if split is not None and split not in cls.known_splits():
            raise InputError(f"{cls.name} has no split {split!r}; {_listed(cls.known_splits())}")
        wanted = cls.default_split if split is None else split
        pairs = cls.pairs(folder, wanted)
        if pairs is not None and pairs.matched:
            return cls.frame_set(pairs, wanted)
        present = cls.splits(folder)
        if not present:
            raise InputError(cls.nothing(folder, pairs))
        if split is None and len(present) == 1:
            return cls.open(folder, present[0])
        raise InputError(f"no {wanted} frames of {cls.name} in {folder}; {_listed(present)}")

    @classmethod
    def known_splits(cls) -> tuple[str | None, ...]:
        """Return the names of the splits that the data set has."""
        return tuple(cls.facts.frames) or (cls.default_split,)

    @classmethod
    def splits(cls, folder: Path) -> tuple[str | None, ...]:
        """Return the names of the splits that hold at least one pair."""
        return tuple(split for split in cls.known_splits() if (found := cls.pairs(folder, split)) and found.matched)

    @classmethod
    def fit(cls, folder: Path) -> int:
        """Return 1 for the layout, 1 each for the number and size of the images, 2 for the values of the first map."""
        pairs = cls._first_pairs(folder)
        if pairs is None:
            return 0
        image, first = next(iter(pairs.matched.values()))
        count = len(pairs.matched) in cls.facts.frames.values()
        return 1 + count + _has_size(image, cls.facts.sizes) + 2 * _holds_declared(first, cls.declared(pairs))

    @classmethod
    def _first_pairs(cls, folder: Path) -> Pairs | None:
        found = (cls.pairs(folder, split) for split in cls.known_splits())
        return next((pairs for pairs in found if pairs is not None and pairs.matched), None)

    @classmethod
    def frame_name(cls, key: str) -> str:
        """Return what the frame with a key is called in results."""
        return key.replace("/", "_")

    @classmethod
    def nothing(cls, folder: Path, pairs: Pairs | None) -> str:
        """Return what to say about a folder without a single pair."""
        layouts = " or ".join(cls.layouts)
        if pairs is None:
            there = ", ".join(sorted(one.name for one in folder.iterdir())[:8]) if folder.is_dir() else "a file"
            return f"no {cls.name} data in {folder}: expected {layouts}; found {there or 'an empty folder'}"
        count = f"{len(pairs.unlabelled)} images and {len(pairs.orphans)} maps"
        return f"no {cls.name} frames in {folder}: {count}, but no image shares its name with a map; expected {layouts}"


class LabelledReader(PairedReader):
    """A reader of class labels, and of anomaly masks where the label maps mark anomalies as well.

    Attributes:
        taxonomy: the classes that converted labels index.
        label_map: what the raw values mean.
        scenes: what reads the frames.
    """

    taxonomy: ClassVar[Taxonomy]
    label_map: ClassVar[LabelMap]
    scenes: ClassVar[type[FrameSet]] = FrameSet

    @classmethod
    def declared(cls, pairs: Pairs) -> LabelMap:
        """Return what the raw values of the label maps mean."""
        return cls.label_map

    @classmethod
    def anomalies(cls, pairs: Pairs, split: str | None) -> MaskMap | None:
        """Return what the raw values mean as an anomaly mask, where the label maps of a split mark anomalies."""
        return None

    @classmethod
    def frame_set(cls, pairs: Pairs, split: str | None) -> FrameSet:
        """Return the scenes of pairs that were found; where label maps mark anomalies they are the masks too."""
        mask_map = cls.anomalies(pairs, split)
        return cls.scenes(
            cls.name,
            cls.card,
            [
                Frame(cls.frame_name(key), image, labels, None if mask_map is None else labels)
                for key, (image, labels) in pairs.matched.items()
            ],
            split=split,
            taxonomy=cls.taxonomy,
            label_map=cls.declared(pairs),
            mask_map=mask_map,
            unlabelled=pairs.unlabelled,
            orphans=pairs.orphans,
        )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim if the layout fits and the first label map holds declared values only."""
        pairs = cls._first_pairs(folder)
        if pairs is None:
            return None
        image, labels = next(iter(pairs.matched.values()))
        if not _holds_declared(labels, cls.declared(pairs)):
            return None
        evidence = f"{cls.layouts[0]}, {cls.declared(pairs).expected()}"
        return Recognition(cls.name, evidence, certain=_has_size(image, cls.facts.sizes))


class MaskedReader(PairedReader):
    """A reader of anomaly masks.

    Attributes:
        mask_map: what the raw values mean.
        scenes: what reads the frames.
    """

    mask_map: ClassVar[MaskMap] = MaskMap()
    scenes: ClassVar[type[FrameSet]] = FrameSet

    @classmethod
    def declared(cls, pairs: Pairs) -> MaskMap:
        """Return what the raw values of the masks mean."""
        return cls.mask_map

    @classmethod
    def frame_set(cls, pairs: Pairs, split: str | None) -> FrameSet:
        """Return the scenes of pairs that were found."""
        return cls.scenes(
            cls.name,
            cls.card,
            [Frame(cls.frame_name(key), image, mask=mask) for key, (image, mask) in pairs.matched.items()],
            split=split,
            mask_map=cls.declared(pairs),
            unlabelled=pairs.unlabelled,
            orphans=pairs.orphans,
        )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim if number, size and format of the images and the shares of the mask values are the known ones.

        Several repacked sets share one layout, and anybody's images may lie in it, so nothing less will do.
        """
        pairs = cls.pairs(folder, cls.default_split)
        if pairs is None or len(pairs.matched) != cls.facts.frames.get(cls.default_split):
            return None
        try:
            header = probe_image(next(iter(pairs.matched.values()))[0])
            if header.size not in cls.facts.sizes or (cls.facts.formats and header.format not in cls.facts.formats):
                return None
            shares = mask_shares([mask for _, mask in pairs.matched.values()], cls.declared(pairs))
        except InputError:
            return None
        return cls._claim(shares, f"{len(pairs.matched)} {header.format} images of {header.size[1]}x{header.size[0]}")

    @classmethod
    def _claim(cls, shares: dict[str, float], seen: str) -> Recognition | None:
        known = cls.facts.shares.get(cls.default_split)
        evidence = f"{seen}; masks: " + ", ".join(f"{100 * share:.3g} % {kind}" for kind, share in shares.items())
        if known is None:
            return Recognition(cls.name, evidence, certain=False)
        close = all(abs(shares[kind] - known[kind]) <= SHARE_TOLERANCE for kind in known)
        return Recognition(cls.name, evidence) if close else None


def mask_shares(masks: Sequence[Path], declared: MaskMap) -> dict[str, float]:
    """Return the share of ``inlier``, ``anomaly`` and ``ignore`` among all pixels of masks, each in [0, 1].

    Raises:
        InputError: if a mask cannot be read or holds an undeclared value.
    """
    counts = np.zeros(256, np.int64)
    for path in masks:
        found = histogram(read_map(path))
        declared.check(found, path)
        counts += declared.converted(found)
    total = max(int(counts.sum()), 1)
    kinds = {"inlier": INLIER, "anomaly": ANOMALY, "ignore": IGNORE}
    return {kind: float(counts[value]) / total for kind, value in kinds.items()}


def _listed(splits: Sequence[str | None]) -> str:
    names = [split for split in splits if split is not None]
    return f"splits there are: {', '.join(names)}" if names else "it has no splits: leave the split out"


def _holds_declared(path: Path, declared: ValueMap) -> bool:
    try:
        return not declared.unknown(histogram(read_map(path)))
    except InputError:
        return False


def _has_size(image: Path, sizes: frozenset[tuple[int, int]]) -> bool:
    try:
        return probe_image(image).size in sizes
    except InputError:
        return False
