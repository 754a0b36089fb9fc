"""COCO as it is released: images and one JSON file of annotations for each split."""

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from strays.data.images import read_image
from strays.data.shapes import polygon_mask, run_length_mask
from strays.data.sources import natural_key, walk_files
from strays.errors import InputError
from strays.negatives.sources.base import Instance, InstanceImage, InstanceSource, register_source
from strays.negatives.sources.pairs import training_first

__all__ = ["CocoJson"]

_PREFIX = "instances_"

T = TypeVar("T")


class _Runs(NamedTuple):
    """Run lengths, packed."""

    counts: bytes | str
    size: tuple[int, int]


class _Region(NamedTuple):
    """One annotation; of polygons each is the bytes of its x and y as float32, exact to a ten-thousandth of a pixel."""

    image: int
    category: int
    outline: tuple[bytes, ...] | _Runs


class _Picture(NamedTuple):
    """One image as the file describes it; ``size`` is (H, W)."""

    number: int
    file: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Annotated:
    """An image file with its annotations."""

    path: Path
    size: tuple[int, int]
    regions: tuple[tuple[str, tuple[bytes, ...] | _Runs], ...]


@register_source("coco-json")
class CocoJson(InstanceSource):
    """The images of COCO with the instances that ``annotations/instances_SPLIT.json`` describes.

    Reads polygons (``shapes.polygon_mask``, several of one instance united) and run lengths, plain or packed, without
    pycocotools. Regions of crowds are instances like all others. Images without annotations count, images whose file is
    missing do not, and instances that hold the centre of no pixel are left out. The file is packed while it is parsed,
    into a sixth of the memory that lists of its numbers would take.

    Reference:
        Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.

    Args:
        images: the images.
        names: the classes of the annotations.
    """

    layout = "annotations/instances_train2017.json with images in train2017 or images/train2017, as COCO has them"

    def __init__(self, images: Iterable[_Annotated], names: Iterable[str]) -> None:
        self.images = tuple(images)
        self._names = frozenset(names)

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the images of the training splits, or of all where there are none; None in another layout."""
        found = {path.stem.removeprefix(_PREFIX): path for path in folder.glob(f"annotations/{_PREFIX}*.json")}
        if not found:
            return None
        images: list[_Annotated] = []
        names: set[str] = set()
        for split in training_first(found):
            more, classes = _read_split(folder, split, found[split])
            images += more
            names |= classes
        return cls(images, names)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> frozenset[str]:
        """The classes of the annotations, in these images or not."""
        return self._names

    def classes(self, index: int) -> frozenset[str]:
        """Return the names of the classes in an image, from its annotations."""
        return frozenset(name for name, _ in self.images[index].regions)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image in pixels, from its annotations."""
        return self.images[index].size

    def read(self, index: int) -> InstanceImage:
        """Return the image at ``index`` and its instances."""
        entry = self.images[index]
        image = read_image(entry.path)
        if image.shape[:2] != entry.size:
            found, told = (f"{size[1]}x{size[0]}" for size in (image.shape, entry.size))
            fix = "restore the released image, or remove it"
            raise InputError(f"{entry.path} has {found} pixels, its annotations are for {told}; {fix}")
        return InstanceImage(image, tuple(_instances(entry)))


def _instances(entry: _Annotated) -> Iterator[Instance]:
    for name, outline in entry.regions:
        try:
            mask = _mask(outline, entry.size)
        except InputError as error:
            raise InputError(f"annotations of {entry.path}, {name}: {error}") from error
        if mask.any():
            yield Instance(name, mask)


def _mask(outline: tuple[bytes, ...] | _Runs, size: tuple[int, int]) -> NDArray[np.bool_]:
    if isinstance(outline, _Runs):
        if outline.size != size:
            raise InputError(f"expected run lengths for (H, W) = {size}, got {outline.size}; export them again")
        packed = outline.counts
        return run_length_mask(packed if isinstance(packed, str) else np.frombuffer(packed, np.int64), size)
    united = np.zeros(size, np.bool_)
    for ring in outline:
        united |= polygon_mask(np.frombuffer(ring, np.float32).reshape(-1, 2), size)
    return united


def _read_split(folder: Path, split: str, path: Path) -> tuple[list[_Annotated], set[str]]:
    content = _parsed(path)
    pictures = {one.file: one for one in _entries(content, "images", _Picture, path)}
    categories = _categories(content, path)
    place, present = _located(folder, split, pictures, path)
    regions = _by_image(_entries(content, "annotations", _Region, path), categories, path)
    chosen = (pictures[name] for name in present)
    images = [_Annotated(place / one.file, one.size, tuple(regions.get(one.number, ()))) for one in chosen]
    return images, set(categories.values())


def _by_image(
    regions: Iterable[_Region], categories: Mapping[int, str], path: Path
) -> dict[int, list[tuple[str, tuple[bytes, ...] | _Runs]]]:
    found: dict[int, list[tuple[str, tuple[bytes, ...] | _Runs]]] = {}
    for one in regions:
        if one.category not in categories:
            raise InputError(
                f"{path}: an annotation of category {one.category}, which is not listed; download it again"
            )
        found.setdefault(one.image, []).append((categories[one.category], one.outline))
    return found


def _located(folder: Path, split: str, pictures: Mapping[str, _Picture], path: Path) -> tuple[Path, list[str]]:
    """Return where the images of a split lie, and which of them are there, in natural order."""
    places = [place for place in (folder / split, folder / "images" / split, folder / "images") if place.is_dir()]
    for place in places:
        present = [name for name in walk_files(place) if name in pictures]
        if present:
            return place, sorted(present, key=natural_key)
    looked = f"{folder / split} and {folder / 'images' / split}"
    raise InputError(f"{path} names {len(pictures)} images, none is in {looked}; unpack {split}.zip there")


def _parsed(path: Path) -> dict[str, object]:
    try:
        with path.open(encoding="utf-8") as stream:
            content = json.load(stream, object_hook=_compact)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:  # of which JSON and Unicode errors are kinds
        raise InputError(f"{path}: expected JSON, {error}; download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected images, annotations and categories; download it again")
    return content


def _entries(content: Mapping[str, object], key: str, kind: type[T], path: Path) -> list[T]:
    found = content.get(key)
    if not (isinstance(found, list) and all(isinstance(one, kind) for one in found)):
        raise InputError(f"{path}: expected COCO's {key}; is it a file of instances? download it again")
    return found


def _categories(content: Mapping[str, object], path: Path) -> dict[int, str]:
    found: list[dict[str, object]] = _entries(content, "categories", dict, path)
    try:
        return {_whole(one["id"]): str(one["name"]) for one in found}
    except KeyError as error:
        raise InputError(f"{path}: a category without {error}; download it again") from error


def _compact(entry: dict[str, object]) -> object:
    """Return what is kept of an object in the file, called by the parser on the innermost first."""
    if "counts" in entry:
        return _packed_runs(entry)
    if "image_id" in entry and "category_id" in entry:
        return _Region(_whole(entry["image_id"]), _whole(entry["category_id"]), _outline(entry))
    if "file_name" in entry:
        missing = [key for key in ("id", "height", "width") if key not in entry]
        if missing:
            raise InputError(f"image {entry['file_name']} has no {missing[0]}; download it again")
        size = _whole(entry["height"]), _whole(entry["width"])
        return _Picture(_whole(entry["id"]), str(entry["file_name"]), size)
    return entry


def _packed_runs(entry: Mapping[str, object]) -> _Runs:
    counts, size = entry["counts"], entry.get("size")
    if not (isinstance(size, list) and len(size) == 2):
        raise InputError(f"run lengths without size: expected [H, W], got {size!r}; export them again")
    height, width = (_whole(one) for one in size)
    return _Runs(counts if isinstance(counts, str) else _packed(counts, "q"), (height, width))


def _outline(entry: Mapping[str, object]) -> tuple[bytes, ...] | _Runs:
    segmentation = entry.get("segmentation") or ()
    if isinstance(segmentation, _Runs):
        return segmentation
    if not isinstance(segmentation, list | tuple):
        raise InputError(f"annotation {entry.get('id')}: expected polygons or run lengths; download it again")
    rings = tuple(_packed(ring, "f") for ring in segmentation)
    if any(len(ring) % 8 for ring in rings):
        raise InputError(f"annotation {entry.get('id')}: a polygon needs pairs x y; download it again")
    return rings


def _packed(values: object, kind: str) -> bytes:
    if not isinstance(values, list):
        raise InputError(f"expected a list of numbers, got {values!r:.40}; download it again")
    try:
        packed = array(kind, values)
    except (TypeError, OverflowError) as error:
        raise InputError(f"expected a list of numbers, {error}; download it again") from error
    if kind == "f" and not np.isfinite(packed).all():
        raise InputError("a coordinate that is not finite; download it again")
    return packed.tobytes()


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise InputError(f"expected a whole number, got {value!r:.40}; download it again")
    return value
