"""Fishyscapes: the validation sets of Static and of Lost & Found."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from strays.cards import Card
from strays.data.base import Facts, Frame, FrameSet, Recognition, register_dataset
from strays.data.declaration import DECLARATION, read_declaration
from strays.data.images import read_image
from strays.data.layout import PairLayout, Pairs, best_pairs, keyed_files, pair_files
from strays.data.paired import MaskedReader
from strays.data.sources import image_files
from strays.errors import InputError, UnreadableImageError

__all__ = ["FishyscapesLostAndFound", "FishyscapesStatic", "StaticFrames"]

_PAPER = "The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation"
_REPACKED = (PairLayout("images", "labels_masks"), PairLayout("original", "labels"))
_NUMBERED = re.compile(r"\d{4}_(?P<id>.+?)(_leftImg8bit)?_labels")
_DIFFERENCE = "_rgb.npz"


class _Fishyscapes(MaskedReader):
    """What both sets share: released as masks alone, with names that say which image of another data set they are for.

    Attributes:
        source: the data set whose images are used.
    """

    source: ClassVar[str] = ""
    default_split: ClassVar[str | None] = "val"

    @classmethod
    def official_masks(cls, folder: Path) -> dict[str, Path]:
        """Return the masks of the official release by the name of their frame; none if this is something else."""
        return {}

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the frames of a repacked copy, or of the official release with the images that are found nearby."""
        masks = cls.official_masks(folder)
        return cls._official(folder, masks, None) if masks else best_pairs(_REPACKED, folder)

    @classmethod
    def open(cls, folder: Path, split: str | None = None, images: str | Path | None = None) -> FrameSet:
        """Return the validation frames.

        Args:
            folder: an official release, or a copy with ``images`` and ``labels_masks``, or ``original`` and ``labels``.
            split: ``"val"``.
            images: the data set whose images an official release is made from; without it ``strays.json`` in
                ``folder`` is asked, then ``folder`` itself and the folders beside it are searched.

        Raises:
            InputError: if the folder has another layout, or the images are not found.
        """
        masks = cls.official_masks(folder)
        if not masks or images is None or split not in (None, cls.default_split):
            return super().open(folder, split)
        pairs = cls._official(folder, masks, Path(images))
        if not pairs.matched:
            raise InputError(cls.nothing(folder, pairs))
        return cls.frame_set(pairs, cls.default_split)

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim on the official names, or on a repacked copy by its content."""
        masks = cls.official_masks(folder)
        if not masks:
            return super().recognise(folder)
        return Recognition(cls.name, f"{len(masks)} official masks such as {next(iter(masks.values())).name}")

    @classmethod
    def nothing(cls, folder: Path, pairs: Pairs | None) -> str:
        """Return what to say about a folder without a single pair."""
        if not cls.official_masks(folder):
            return super().nothing(folder, pairs)
        where = f'{{"images": "PATH"}} in {folder / DECLARATION}'
        return (
            f"{folder} holds masks of {cls.name} without the images, which are those of {cls.source}; name it: {where}"
        )

    @classmethod
    def _official(cls, folder: Path, masks: dict[str, Path], images: Path | None) -> Pairs:
        wanted = {name: _image_id(path) for name, path in masks.items()}
        known = _left_images(_roots(folder, images), set(wanted.values()))
        return pair_files({name: known[one] for name, one in wanted.items() if one in known}, masks)


class StaticFrames(FrameSet):
    """Frames of the official Fishyscapes Static: a Cityscapes image plus a signed difference.
    The difference, an array ``rgb`` (H, W, 3) in ``DDDD_ID_rgb.npz``, lies beside the mask; frames without are plain.
    """

    def read_image(self, frame: Frame) -> NDArray[np.uint8]:
        """Return the picture of a frame: clip(Cityscapes + difference, 0, 255), uint8 RGB (H, W, 3)."""
        image = read_image(frame.image)
        path = _difference(frame.mask) if frame.mask else Path()
        if not path.is_file():
            return image
        try:
            with np.load(path, allow_pickle=False) as archive:
                difference: NDArray[np.integer] = archive["rgb"]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise UnreadableImageError(
                f"{path} holds no difference image ({error}); unpack the release again"
            ) from error
        if difference.shape != image.shape:
            found = f"difference {difference.shape} for an image {image.shape} ({frame.image})"
            raise InputError(f"{path}: {found}; use the full-size Cityscapes images")
        summed = image.astype(np.int32) + difference.astype(np.int32)
        return summed.clip(0, 255).astype(np.uint8)


@register_dataset("fishyscapes-static")
class FishyscapesStatic(_Fishyscapes):
    """Fishyscapes Static, validation: objects pasted into 30 Cityscapes images, 10 of which stay without one.

    Reads copies with ``images/N`` and ``labels_masks/N.png`` (or ``original`` and ``labels``), and the official
    ``DDDD_ID_labels.png`` with ``DDDD_ID_rgb.npz``: the signed difference to a Cityscapes validation image.

    Reference:
        Blum et al., "The Fishyscapes Benchmark", IJCV 2021.
    """

    card: ClassVar[Card] = Card(
        title="Fishyscapes Static",
        summary="Cityscapes validation images with objects blended in; 30 public frames, 1000 more are a hidden test.",
        paper=_PAPER,
        year=2021,
        url="https://fishyscapes.com",
        licence="that of Cityscapes: non-commercial",
        notes="0 inlier, 1 anomaly, 255 ignore; 10 of the 30 frames hold no anomaly",
    )
    facts: ClassVar[Facts] = Facts(
        frames={"val": 30},
        sizes=frozenset({(1024, 2048)}),
        shares={"val": {"inlier": 0.83636, "anomaly": 0.01164, "ignore": 0.15200}},
    )
    source: ClassVar[str] = "Cityscapes"
    scenes: ClassVar[type[FrameSet]] = StaticFrames
    layouts: ClassVar[tuple[str, ...]] = (
        "images/N.* with labels_masks/N.png",
        "DDDD_ID_labels.png with DDDD_ID_rgb.npz beside Cityscapes",
    )

    @classmethod
    def official_masks(cls, folder: Path) -> dict[str, Path]:
        """Return the masks that have a difference image beside them."""
        masks = _numbered_masks(folder)
        return {name: path for name, path in masks.items() if _difference(path).is_file()}


@register_dataset("fishyscapes-lost-and-found")
class FishyscapesLostAndFound(_Fishyscapes):
    """Fishyscapes Lost & Found, validation: 100 frames of Lost and Found, labelled anew over the whole image.

    Reads the official ``DDDD_ID_labels.png`` or ``labels/*/ID_fishy-labels.png`` with the images of Lost and Found, and
    copies with ``images/N`` and ``labels_masks/N.png`` (or ``original`` and ``labels``).

    Reference:
        Blum et al., "The Fishyscapes Benchmark", IJCV 2021.
    """

    card: ClassVar[Card] = Card(
        title="Fishyscapes Lost & Found",
        summary="Frames of Lost and Found relabelled for anomalies; 100 public frames, 275 more are a hidden test.",
        paper=_PAPER,
        year=2021,
        url="https://fishyscapes.com",
        licence="that of Lost and Found: non-commercial",
        notes="0 inlier, 1 anomaly, 255 ignore",
    )
    facts: ClassVar[Facts] = Facts(frames={"val": 100}, sizes=frozenset({(1024, 2048)}))
    source: ClassVar[str] = "Lost and Found"
    layouts: ClassVar[tuple[str, ...]] = (
        "DDDD_ID_labels.png beside Lost and Found",
        "images/N.* with labels_masks/N.png",
    )

    @classmethod
    def official_masks(cls, folder: Path) -> dict[str, Path]:
        """Return the numbered masks without difference images, or those that SegmentMeIfYouCan's tools expect."""
        masks = _numbered_masks(folder)
        if masks:
            return {} if any(_difference(path).is_file() for path in masks.values()) else masks
        labels = folder / "labels"
        found = keyed_files(labels, "_fishy-labels") if labels.is_dir() else {}
        return {key.rpartition("/")[2]: path for key, path in found.items()}


def _numbered_masks(folder: Path) -> dict[str, Path]:
    direct = image_files(folder, recursive=False) if folder.is_dir() else iter(())
    return {path.stem.removesuffix("_labels"): path for path in direct if _NUMBERED.fullmatch(path.stem)}


def _image_id(mask: Path) -> str:
    numbered = _NUMBERED.fullmatch(mask.stem)
    return numbered["id"] if numbered else mask.stem.removesuffix("_fishy-labels")


def _difference(mask: Path) -> Path:
    return mask.with_name(mask.stem.removesuffix("_labels") + _DIFFERENCE)


def _roots(folder: Path, images: Path | None) -> list[Path]:
    """Return the folders that may hold the images: the one that is named, or the folder itself and those beside it."""
    if images is not None:
        return [images]
    declared = read_declaration(folder)
    if declared is not None and declared.images:
        return [folder / Path(declared.images).expanduser()]
    beside = sorted(one for one in folder.resolve().parent.iterdir() if (one / "leftImg8bit").is_dir())
    return [folder, folder.resolve().parent, *beside]


def _left_images(roots: Sequence[Path], wanted: set[str]) -> dict[str, Path]:
    """Return the images by their id, from the first of some folders that has most of the wanted ones."""
    best: dict[str, Path] = {}
    for root in roots:
        tree = next((one for one in (root / "leftImg8bit", root / "images", root) if one.is_dir()), None)
        if tree is None or (tree == root and len(roots) > 1):
            continue
        found = {path.stem.removesuffix("_leftImg8bit"): path for path in image_files(tree)}
        kept = {one: found[one] for one in wanted & found.keys()}
        best = max(best, kept, key=len)
    return best
