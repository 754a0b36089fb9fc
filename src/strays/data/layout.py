"""Layouts on disk: which image belongs to which label map or mask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from strays.data.sources import is_image_name, natural_key, walk_files
from strays.errors import InputError

__all__ = ["PairLayout", "Pairs", "best_pairs", "keyed_files", "pair_files"]


@dataclass(frozen=True)
class Pairs:
    """Images and the maps that belong to them.

    Args:
        matched: key of a frame -> (image, map), in natural order of the keys.
        unlabelled: images without a map.
        orphans: maps without an image.
    """

    matched: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    unlabelled: tuple[Path, ...] = ()
    orphans: tuple[Path, ...] = ()

    def where(self, wanted: Callable[[str], bool]) -> "Pairs":
        """Return the pairs whose key is wanted; images without a map and maps without an image stay as they are."""
        matched = {key: files for key, files in self.matched.items() if wanted(key)}
        return Pairs(matched, self.unlabelled, self.orphans)


@dataclass(frozen=True)
class PairLayout:
    """A folder of images and a folder of maps whose files share a key.

    The key of ``images/a/7_rgb.png`` under ``images`` with the ending ``_rgb`` is ``a/7``.

    Args:
        images: the folder of images, relative to the data set.
        maps: the folder of label maps or masks.
        image_ending: what the stems of image files end in.
        map_ending: what the stems of map files end in; other files there are not looked at.
    """

    images: str
    maps: str
    image_ending: str = ""
    map_ending: str = ""

    def find(self, folder: Path) -> Pairs | None:
        """Return the pairs in ``folder``, or None if it lacks one of the two folders."""
        images, maps = folder / self.images, folder / self.maps
        if not (images.is_dir() and maps.is_dir()):
            return None
        return pair_files(keyed_files(images, self.image_ending), keyed_files(maps, self.map_ending))

    def __str__(self) -> str:
        return f"{self.images}/*{self.image_ending}.* with {self.maps}/*{self.map_ending}.*"


def keyed_files(folder: Path, ending: str = "", recursive: bool = True) -> dict[str, Path]:
    """Return the image files below a folder whose stem ends in ``ending``, by their path without ending and suffix.

    Raises:
        InputError: if two files that differ in their suffix alone share a key.
    """
    found: dict[str, Path] = {}
    for name in walk_files(folder, recursive):
        stem = name.rpartition(".")[0]
        if not (is_image_name(name) and stem.endswith(ending)):
            continue
        key = stem.removesuffix(ending)
        if key in found:
            raise InputError(f"two files for one frame: {found[key]} and {folder / name}; keep one of them")
        found[key] = folder / name
    return found


def pair_files(images: dict[str, Path], maps: dict[str, Path]) -> Pairs:
    """Return images and maps matched by key."""
    both = sorted(images.keys() & maps.keys(), key=natural_key)
    return Pairs(
        {key: (images[key], maps[key]) for key in both},
        tuple(path for key, path in images.items() if key not in maps),
        tuple(path for key, path in maps.items() if key not in images),
    )


def best_pairs(layouts: Sequence[PairLayout], folder: Path) -> Pairs | None:
    """Return what the layout with the most pairs finds in ``folder``; None if no layout has its folders there."""
    found = [pairs for layout in layouts if (pairs := layout.find(folder)) is not None]
    return max(found, key=lambda pairs: len(pairs.matched), default=None)
