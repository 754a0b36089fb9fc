"""Which files of Fishyscapes belong together: its masks tell which image of another data set they are for."""

import re
from collections.abc import Sequence
from pathlib import Path

from strays.data.declaration import read_declaration
from strays.data.layout import keyed_files
from strays.data.sources import image_files

__all__ = [
    "LOST_AND_FOUND_ID",
    "difference_of",
    "image_id",
    "image_roots",
    "images_beside",
    "left_images",
    "masks_of",
    "tools_masks",
]

LOST_AND_FOUND_ID = re.compile(r"\d\d_.+_\d{6}_\d{6}")
"""The id of a frame of Lost and Found: scene, sequence, time."""

_NUMBERED = re.compile(r"(?P<number>\d{4})_(?P<id>.+?)(_leftImg8bit)?_labels")
_NUMBER = re.compile(r"\d{4}_")
_TOOLS_ENDING = "_fishy-labels"


def masks_of(folder: Path) -> dict[str, Path]:
    """Return the numbered masks ``DDDD_ID_labels.png`` that lie directly in a folder, by ``DDDD_ID``."""
    direct = image_files(folder, recursive=False) if folder.is_dir() else iter(())
    return {path.stem.removesuffix("_labels"): path for path in direct if _NUMBERED.fullmatch(path.stem)}


def image_id(name: str) -> str:
    """Return the id that names the image of another data set, from the stem of a mask or image.

    Example:
        >>> image_id("0000_04_Maurener_Weg_8_000000_000030_labels"), image_id("frankfurt_000000_000294_leftImg8bit")
        ('04_Maurener_Weg_8_000000_000030', 'frankfurt_000000_000294')
    """
    stem = name.removesuffix("_labels").removesuffix(_TOOLS_ENDING).removesuffix("_leftImg8bit")
    return _NUMBER.sub("", stem, count=1) if _NUMBER.match(stem) else stem


def difference_of(mask: Path) -> Path:
    """Return where the difference image ``DDDD_ID_rgb.npz`` of a mask lies, if it has one."""
    return mask.with_name(mask.stem.removesuffix("_labels") + "_rgb.npz")


def tools_masks(folder: Path) -> dict[str, Path]:
    """Return the masks ``labels/*/ID_fishy-labels.png`` that SegmentMeIfYouCan's tools expect, by their id."""
    labels = folder / "labels"
    found = keyed_files(labels, _TOOLS_ENDING) if labels.is_dir() else {}
    return {key.rpartition("/")[2]: path for key, path in found.items()}


def images_beside(masks: dict[str, Path]) -> dict[str, Path]:
    """Return the images that lie beside numbered masks and are called like them without ``_labels``."""
    folders = {path.parent for path in masks.values()}
    direct = (path for folder in folders for path in image_files(folder, recursive=False))
    return {path.stem: path for path in direct if path.stem in masks}


def image_roots(folder: Path, images: Path | None) -> list[Path]:
    """Return the folders that may hold the images: the one that is named, or the folder itself and those beside it."""
    if images is not None:
        return [images]
    declared = read_declaration(folder)
    if declared is not None and declared.images:
        return [folder / Path(declared.images).expanduser()]
    beside = sorted(one for one in folder.resolve().parent.iterdir() if (one / "leftImg8bit").is_dir())
    return [folder, folder.resolve().parent, *beside]


def left_images(roots: Sequence[Path], wanted: set[str]) -> dict[str, Path]:
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
