"""Anomalies one by one: images with a COCO file in which every annotation is one anomaly."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strays.cards import Card
from strays.data.base import DatasetReader, Frame, FrameSet, Recognition, register_dataset, size_complaint
from strays.data.declaration import DECLARATION
from strays.data.layout import keyed_files
from strays.data.shapes import polygon_mask, run_length_mask
from strays.data.sources import natural_key
from strays.data.values import MaskMap
from strays.errors import InputError
from strays.scene import ANOMALY, INLIER, Scene
from strays.taxonomy import IGNORE

__all__ = ["AnomalyInstances", "InstanceFrames", "Region", "instance_map"]

_MASK_FOLDERS = ("labels_masks", "masks")
_MASK_ENDINGS = ("", "_labels_semantic")
_IMAGE_FOLDERS = ("images", "leftImg8bit", ".")
_LAYOUT = "one COCO file (*.json, or annotations/*.json) with images/NAME.*"


class _Runs(BaseModel):
    model_config = ConfigDict(frozen=True)

    counts: list[int] | str
    size: tuple[int, int]


class _Picture(BaseModel):
    id: int
    file_name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)


class _Annotation(BaseModel):
    id: int = -1
    image_id: int
    segmentation: _Runs | list[list[float]]
    iscrowd: bool = False


class _CocoFile(BaseModel):
    images: list[_Picture]
    annotations: list[_Annotation]


class Region(NamedTuple):
    """One annotation of an image.

    Args:
        mask: bool (H, W), its pixels.
        crowd: whether it holds several anomalies that nobody told apart.
    """

    mask: NDArray[np.bool_]
    crowd: bool = False


def instance_map(regions: Sequence[Region], size: tuple[int, int]) -> NDArray[np.int32]:
    """Return the number of the anomaly that each pixel belongs to, (H, W): 1 for the first region, 0 for none.

    Crowds have no number, and where regions overlap the later one is on top.

    Example:
        >>> left, both = np.array([[True, False, False]]), np.array([[True, True, False]])
        >>> instance_map([Region(both), Region(left)], (1, 3)).tolist()
        [[2, 1, 0]]
    """
    numbers = np.zeros(size, np.int32)
    single = (one for one in regions if not one.crowd)
    for number, region in enumerate(single, start=1):
        numbers[region.mask] = number
    return numbers


class InstanceFrames(FrameSet):
    """Frames whose anomalies are told apart.

    Where a frame has no mask file its mask is made of the regions: 1 in each, 255 in crowds, 0 elsewhere.

    Args:
        frames: the files, under unique names.
        card: the facts about the data set.
        annotations: name of a frame -> its size and its annotations, as the file has them.
        source: the COCO file, for messages.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        card: Card,
        annotations: Mapping[str, tuple[_Picture, tuple[_Annotation, ...]]],
        source: Path,
    ) -> None:
        super().__init__("anomaly-instances", card, frames, mask_map=MaskMap())
        self.annotations = dict(annotations)
        self.source = source

    @property
    def has_masks(self) -> bool:
        """Whether every frame has an anomaly mask: always, of a file or made of the regions."""
        return bool(self.frames)

    @property
    def has_instances(self) -> bool:
        """Whether the anomalies of every frame are told apart: always."""
        return bool(self.frames)

    def regions(self, index: int) -> list[Region]:
        """Return the annotated regions of the frame at 0 <= ``index`` < ``len(self)``.

        Raises:
            InputError: if a polygon or run length is not as COCO writes them.
        """
        picture, annotations = self.annotations[self.frames[index].name]
        size = picture.height, picture.width
        return [Region(self._mask(one, size), one.iscrowd) for one in annotations]

    def read_instances(self, index: int) -> NDArray[np.int32]:
        """Return what ``read`` gives as ``instances``, without the image."""
        picture, _ = self.annotations[self.frames[index].name]
        return instance_map(self.regions(index), (picture.height, picture.width))

    def read(self, index: int) -> Scene:
        """Return the scene at 0 <= ``index`` < ``len(self)``.

        Raises:
            InputError: if a file cannot be read, sizes differ, or a map or region is not as it should be.
        """
        frame = self.frames[index]
        scene = super().read(index)
        picture, _ = self.annotations[frame.name]
        size = picture.height, picture.width
        if scene.size != size:
            raise InputError(f"{self.source}: {size_complaint('annotations', size, frame.image, scene.size)}")
        regions = self.regions(index)
        mask = _mask_of(regions, size) if scene.mask is None else scene.mask
        return Scene(scene.image, mask=mask, name=frame.name, instances=instance_map(regions, size))

    def _mask(self, annotation: _Annotation, size: tuple[int, int]) -> NDArray[np.bool_]:
        try:
            return _decoded(annotation.segmentation, size)
        except InputError as error:
            raise InputError(f"{self.source}, annotation {annotation.id}: {error}") from error


@register_dataset("anomaly-instances")
class AnomalyInstances(DatasetReader):
    """Images whose anomalies are told apart in a COCO file, as benchmarks of anomaly instances need them.

    Every annotation, a polygon or run lengths (plain or packed; pycocotools is not needed), is one anomaly whatever its
    category; crowds are ignored. The file lies beside the images of RoadAnomaly21, RoadObstacle21, Fishyscapes or of a
    set of one's own; images are found by the stems of their names. Masks in ``labels_masks`` or ``masks`` are kept,
    so that what the file does not tell, such as ignored pixels, stays as it is. It is never recognised and must be
    named, since COCO's own files look alike; a path may also be that of the file, beside its images.

    Reference:
        Nekrasov et al., "OoDIS: Anomaly Instance Segmentation and Detection Benchmark", 2024.
    """

    card: ClassVar[Card] = Card(
        title="Anomaly instances",
        summary="Images with a COCO file in which every annotation is one anomaly, such as those of OoDIS.",
        paper="OoDIS: Anomaly Instance Segmentation and Detection Benchmark",
        year=2024,
        url="https://vision.rwth-aachen.de/oodis",
        status="read from files that tests write",
        licence="that of the images",
        notes="Put the COCO file beside the images that it describes. Published is the average precision of instances, "
        "AP and AP50: strays bench --protocol oodis takes the connected components of a score for instances",
    )
    generic: ClassVar[bool] = True
    layouts: ClassVar[tuple[str, ...]] = (_LAYOUT,)

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return None: files of objects that are no anomalies look alike."""
        return None

    @classmethod
    def open(cls, folder: Path, split: str | None = None) -> InstanceFrames:
        """Return the images that the COCO file describes.

        Raises:
            InputError: if there is not one such file, it is not as COCO writes them, an image is missing, or a split is
                asked for.
        """
        if split is not None:
            raise InputError(f"anomaly-instances has no splits, got {split!r}: leave it out")
        path = _coco_file(folder)
        root = path.parent if folder.is_file() else folder
        images, masks = _images(root), _masks(root)
        told: dict[str, tuple[_Picture, tuple[_Annotation, ...]]] = {}
        for picture, annotations in _by_picture(_parsed(path), path):
            name = Path(picture.file_name).stem
            if name not in images:
                fix = f"put it under {root / 'images'}, or remove it from the file"
                raise InputError(f"{path} names {picture.file_name}, which is not there; {fix}")
            if name in told:
                raise InputError(f"{path} names two images {name}; give each image a name of its own")
            told[name] = picture, annotations
        frames = [Frame(name, images[name], mask=masks.get(name)) for name in told]
        return InstanceFrames(frames, cls.card, told, path)


def _by_picture(content: _CocoFile, path: Path) -> list[tuple[_Picture, tuple[_Annotation, ...]]]:
    """Return the images of a file with their annotations, in natural order of their names."""
    annotations: dict[int, list[_Annotation]] = {one.id: [] for one in content.images}
    for one in content.annotations:
        if one.image_id not in annotations:
            raise InputError(f"{path}: an annotation of image {one.image_id}, which is not listed; export it again")
        annotations[one.image_id].append(one)
    ordered = sorted(content.images, key=lambda one: natural_key(one.file_name))
    return [(one, tuple(annotations[one.id])) for one in ordered]


def _coco_file(folder: Path) -> Path:
    if folder.is_file():
        return folder
    found = [path for path in (*folder.glob("*.json"), *folder.glob("annotations/*.json")) if path.name != DECLARATION]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"no anomaly-instances data in {folder}: expected {_LAYOUT}; put the COCO file there")
    named = ", ".join(sorted(path.name for path in found))
    raise InputError(f"{folder} holds {len(found)} JSON files ({named}); say which: anomaly-instances=FILE.json")


def _parsed(path: Path) -> _CocoFile:
    try:
        content = json.loads(path.read_bytes())
        return _CocoFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path}: {where}: {first['msg']}; expected COCO's images and annotations") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected JSON, {error}; download or export it again") from error


def _images(root: Path) -> dict[str, Path]:
    """Return the images by the stem of their names, from the first usual folder."""
    folder = next(root / name for name in _IMAGE_FOLDERS if (root / name).is_dir())
    if folder == root:
        return keyed_files(folder, recursive=False)
    found = keyed_files(folder)
    return {key.rpartition("/")[2]: path for key, path in found.items()}


def _masks(root: Path) -> dict[str, Path]:
    folder = next((root / name for name in _MASK_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        return {}
    endings = {ending: keyed_files(folder, ending) for ending in _MASK_ENDINGS}
    return {name: path for keyed in endings.values() for name, path in keyed.items()}


def _decoded(segmentation: _Runs | list[list[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    if isinstance(segmentation, _Runs):
        if segmentation.size != size:
            raise InputError(f"expected run lengths for (H, W) = {size}, got {segmentation.size}; export them again")
        return run_length_mask(segmentation.counts, size)
    united = np.zeros(size, np.bool_)
    for ring in segmentation:
        if len(ring) < 6 or len(ring) % 2 or not np.isfinite(ring).all():
            raise InputError(f"expected a polygon of three or more pairs x y, got {len(ring)} numbers; export it again")
        united |= polygon_mask(np.reshape(np.array(ring, np.float64), (-1, 2)), size)
    return united


def _mask_of(regions: Sequence[Region], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the anomaly mask that regions make: single anomalies lie on top of crowds, which are ignored."""
    mask = np.full(size, INLIER, np.uint8)
    for region in sorted(regions, key=lambda one: not one.crowd):
        mask[region.mask] = IGNORE if region.crowd else ANOMALY
    return mask
