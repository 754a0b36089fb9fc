"""Fishyscapes: the validation sets of Static and of Lost & Found."""

import re
from pathlib import Path
from typing import ClassVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from strays.cards import Card
from strays.data.base import Facts, Frame, FrameSet, Recognition, register_dataset
from strays.data.declaration import DECLARATION
from strays.data.fishyscapes_files import (
    LOST_AND_FOUND_ID,
    difference_of,
    image_id,
    image_roots,
    images_beside,
    left_images,
    masks_of,
    tools_masks,
)
from strays.data.images import read_image, read_map
from strays.data.layout import PairLayout, Pairs, best_pairs, pair_files
from strays.data.paired import MaskedReader
from strays.errors import InputError, UnreadableImageError
from strays.scene import ANOMALY

__all__ = ["FishyscapesLostAndFound", "FishyscapesReader", "FishyscapesStatic", "StaticFrames"]

_PAPER = "The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation"
_VAL, _ROI = "val", "val-roi"
_REPACKED = (PairLayout("images", "labels_masks"), PairLayout("original", "labels"))
_WITH_ROI = PairLayout("original", "labels_with_ROI")
_COPIES = ("images/N.* with labels_masks/N.png", "original/NAME.png with labels/NAME.png, or labels_with_ROI (val-roi)")
_PROTOCOL = "published are AP, FPR95 and AUROC over all pixels of the set"


class FishyscapesReader(MaskedReader):
    """What the sets share: released as masks alone, with names that say which image of another data set they are for.

    Attributes:
        source: the data set whose images are used.
        image_names: what the ids of its frames look like; names of a copy that all do tell the data set.
    """

    source: ClassVar[str] = ""
    image_names: ClassVar[re.Pattern[str]] = LOST_AND_FOUND_ID
    default_split: ClassVar[str | None] = _VAL

    @classmethod
    def official_masks(cls, folder: Path) -> dict[str, Path]:
        """Return the masks of the official release by the name of their frame; none if this is something else."""
        return {}

    @classmethod
    def known_splits(cls) -> tuple[str | None, ...]:
        """Return the splits: ``val``, and ``val-roi`` where the same frames have labels within a region of interest."""
        return (_VAL, _ROI)

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the frames of a repacked copy, or of the official release with the images that are found nearby."""
        if split == _ROI:
            return _WITH_ROI.find(folder)
        masks = cls.official_masks(folder)
        return cls.official(folder, masks, None) if masks else best_pairs(_REPACKED, folder)

    @classmethod
    def open(cls, folder: Path, split: str | None = None, images: str | Path | None = None) -> FrameSet:
        """Return the validation frames.

        Args:
            folder: an official release, or a copy with ``images`` and ``labels_masks``, or ``original`` and ``labels``.
            split: ``"val"``, or ``"val-roi"`` for the labels of ``labels_with_ROI``.
            images: the data set whose images an official release is made from; without it ``strays.json`` in
                ``folder`` is asked, then ``folder`` itself and the folders beside it are searched.

        Raises:
            InputError: if the folder has another layout, or the images are not found.
        """
        masks = cls.official_masks(folder)
        if not masks or images is None or split not in (None, cls.default_split):
            return super().open(folder, split)
        pairs = cls.official(folder, masks, Path(images))
        if not pairs.matched:
            raise InputError(cls.nothing(folder, pairs))
        return cls.frame_set(pairs, cls.default_split)

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim on the official names, on a copy whose frames are named so, or on one by its content."""
        masks = cls.official_masks(folder)
        if masks:
            return Recognition(cls.name, cls.official_evidence(masks))
        pairs = cls._first_pairs(folder)
        if pairs is None or not all(cls.image_names.fullmatch(image_id(key)) for key in pairs.matched):
            return super().recognise(folder)
        return Recognition(cls.name, f"{len(pairs.matched)} images named after frames of {cls.source}")

    @classmethod
    def official_evidence(cls, masks: dict[str, Path]) -> str:
        """Return by what the official release is recognised, in words."""
        return f"{len(masks)} official masks such as {next(iter(masks.values())).name}"

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
    def official(cls, folder: Path, masks: dict[str, Path], images: Path | None) -> Pairs:
        """Return the masks of the official release with their images: beside the masks, or of the other data set."""
        wanted = {name: image_id(path.stem) for name, path in masks.items()}
        beside = images_beside(masks)
        missing = {one for name, one in wanted.items() if name not in beside}
        known = left_images(image_roots(folder, images), missing) if missing else {}
        found = {name: known[one] for name, one in wanted.items() if one in known}
        return pair_files({**found, **beside}, masks)


class StaticFrames(FrameSet):
    """Frames of the official Fishyscapes Static: a Cityscapes image plus a signed difference.

    The difference, an array ``rgb`` (H, W, 3) in ``DDDD_ID_rgb.npz``, lies beside the mask; frames without are plain.
    """

    def read_image(self, frame: Frame) -> NDArray[np.uint8]:
        """Return the picture of a frame: clip(Cityscapes + difference, 0, 255), uint8 RGB (H, W, 3)."""
        image = read_image(frame.image)
        path = difference_of(frame.mask) if frame.mask else Path()
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
class FishyscapesStatic(FishyscapesReader):
    """Fishyscapes Static, validation: objects pasted into 30 Cityscapes images, 10 of which stay without one.

    Reads copies with ``images/N`` and ``labels_masks/N.png`` (or ``original`` and ``labels``, with ``labels_with_ROI``
    as the split ``val-roi``), and the official ``DDDD_ID_labels.png`` with ``DDDD_ID_rgb.npz``: the signed difference
    to a Cityscapes validation image. All three versions are read; the facts are those of the third.

    Reference:
        Blum et al., "The Fishyscapes Benchmark", IJCV 2021.
    """

    card: ClassVar[Card] = Card(
        title="Fishyscapes Static",
        summary="Cityscapes validation images with objects blended in; 30 public frames, 1000 more are a hidden test.",
        paper=_PAPER,
        year=2021,
        url="https://fishyscapes.com",
        status="read from real files, re-packed; the official layout from miniatures",
        licence="that of Cityscapes: non-commercial",
        notes="0 inlier, 1 anomaly, 255 ignore; 10 of the 30 frames hold no anomaly. Unpack fs_val_v3.zip beside "
        "Cityscapes: version 3 added objects of Cityscapes as a negative test, 2 improved the blending of 1, and their "
        f"numbers do not compare; {_PROTOCOL}",
    )
    facts: ClassVar[Facts] = Facts(
        frames={_VAL: 30},
        sizes=frozenset({(1024, 2048)}),
        shares={_VAL: {"inlier": 0.83636, "anomaly": 0.01164, "ignore": 0.15200}},
        without_anomaly={_VAL: 10},
        version="version 3 (fs_val_v3.zip), where objects of Cityscapes are all that 10 frames hold",
    )
    source: ClassVar[str] = "Cityscapes"
    image_names: ClassVar[re.Pattern[str]] = re.compile(r"(frankfurt|lindau|munster)_\d{6}_\d{6}")
    scenes: ClassVar[type[FrameSet]] = StaticFrames
    layouts: ClassVar[tuple[str, ...]] = ("DDDD_ID_labels.png with DDDD_ID_rgb.npz beside Cityscapes", *_COPIES)

    @classmethod
    def official_masks(cls, folder: Path) -> dict[str, Path]:
        """Return the masks that have a difference image beside them."""
        return {name: path for name, path in masks_of(folder).items() if difference_of(path).is_file()}

    @classmethod
    def official_evidence(cls, masks: dict[str, Path]) -> str:
        """Return by what the release is recognised, and which version it is, as far as the masks tell."""
        try:
            clean = sum(not (read_map(path) == ANOMALY).any() for path in masks.values())
        except InputError:  # reported by name when the frame is read
            return super().official_evidence(masks)
        version = "version 3" if clean else "version 1 or 2"
        return f"{super().official_evidence(masks)}, {clean} without anomaly: {version}"


@register_dataset("fishyscapes-lost-and-found")
class FishyscapesLostAndFound(FishyscapesReader):
    """Fishyscapes Lost & Found, validation: 100 frames of Lost and Found, labelled anew over the whole image.

    Reads the official ``DDDD_ID_labels.png`` or ``labels/*/ID_fishy-labels.png`` with the images of Lost and Found, and
    copies with ``images/N`` and ``labels_masks/N.png`` (or ``original`` and ``labels``, with ``labels_with_ROI`` as the
    split ``val-roi``, as SynBoost packs it).

    Reference:
        Blum et al., "The Fishyscapes Benchmark", IJCV 2021.
    """

    card: ClassVar[Card] = Card(
        title="Fishyscapes Lost & Found",
        summary="Frames of Lost and Found relabelled for anomalies; 100 public frames, 275 more are a hidden test.",
        paper=_PAPER,
        year=2021,
        url="https://fishyscapes.com",
        status="read from miniatures of the official layout",
        licence="that of Lost and Found: non-commercial",
        notes="0 inlier, 1 anomaly, 255 ignore; unpack fishyscapes_lostandfound.zip beside Lost and Found; "
        f"{_PROTOCOL}",
    )
    facts: ClassVar[Facts] = Facts(frames={_VAL: 100}, sizes=frozenset({(1024, 2048)}))
    source: ClassVar[str] = "Lost and Found"
    image_names: ClassVar[re.Pattern[str]] = re.compile(
        r"(01_Hanns_Klemm_Str_45|04_Maurener_Weg_8|13_Elly_Beinhorn_Str)_\d{6}_\d{6}"
    )
    layouts: ClassVar[tuple[str, ...]] = ("DDDD_ID_labels.png beside Lost and Found", *_COPIES)

    @classmethod
    def official_masks(cls, folder: Path) -> dict[str, Path]:
        """Return the numbered masks of frames of Lost and Found, or those that SegmentMeIfYouCan's tools expect."""
        masks = masks_of(folder)
        if not masks:
            return tools_masks(folder)
        return masks if all(LOST_AND_FOUND_ID.fullmatch(image_id(path.stem)) for path in masks.values()) else {}
