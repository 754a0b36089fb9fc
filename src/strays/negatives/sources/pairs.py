"""What sources have in common in which every image lies beside one file that describes it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strays.data.images import probe_image, read_image, read_map
from strays.data.sources import natural_key, walk_files
from strays.errors import InputError
from strays.negatives.sources.base import InstanceSource

__all__ = ["PairedSource", "checked_size", "files_ending", "paired", "read_lines", "training_first"]


class PairedSource(InstanceSource):
    """Images with one file each that tells what is in them.

    Args:
        pairs: image and the file that belongs to it.
    """

    def __init__(self, pairs: Iterable[tuple[Path, Path]]) -> None:
        self.pairs = tuple(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image in pixels, before any EXIF orientation, from its header."""
        return probe_image(self.pairs[index][0]).size

    def image_and_map(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an image, uint8 (H, W, 3), and its map, uint8 (H, W).

        Raises:
            InputError: if one of them cannot be read, or their sizes differ.
        """
        image_path, map_path = self.pairs[index]
        image = read_image(image_path)
        return image, checked_size(read_map(map_path), map_path, image, image_path)


def checked_size(
    values: NDArray[np.uint8], path: Path, image: NDArray[np.uint8], image_path: Path
) -> NDArray[np.uint8]:
    """Return a map whose size is that of its image.

    Raises:
        InputError: if it is not; both files and sizes are named.
    """
    if values.shape != image.shape[:2]:
        ours, other = (f"{array.shape[1]}x{array.shape[0]}" for array in (values, image))
        raise InputError(
            f"{path} has {ours} pixels and {image_path} {other}; they must be of one size, remove the pair"
        )
    return values


def files_ending(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    """Return the files below a folder that end in one of some suffixes, by their path without it.

    Raises:
        InputError: if two files differ in their suffix alone.
    """
    wanted = frozenset(suffixes)
    found: dict[str, Path] = {}
    for name in walk_files(folder):
        stem, dot, suffix = name.rpartition(".")
        if f"{dot}{suffix}".lower() not in wanted:
            continue
        if stem in found:
            raise InputError(f"two files for one image: {found[stem]} and {folder / name}; keep one of them")
        found[stem] = folder / name
    return found


def paired(images: dict[str, Path], others: dict[str, Path]) -> dict[str, tuple[Path, Path]]:
    """Return the files that share a key by that key, those of training splits alone if there are any, naturally sorted.

    Raises:
        InputError: if none do.
    """
    both = images.keys() & others.keys()
    if not both:
        example = next(iter((images or others).values()), "no file at all")
        counts = f"{len(images)} images and {len(others)} files that describe images"
        raise InputError(f"{counts}, but no two share a name (first: {example}); name both alike up to the suffix")
    training = [key for key in both if "/" in key and key.startswith("train")]
    return {key: (images[key], others[key]) for key in sorted(training or both, key=natural_key)}


def training_first(splits: Iterable[str]) -> list[str]:
    """Return the splits that are called training, or all of them where none is, in natural order.

    Example:
        >>> training_first(["val2017", "train2017"]), training_first(["val"])
        (['train2017'], ['val'])
    """
    ordered = sorted(splits, key=natural_key)
    return [name for name in ordered if name.startswith("train")] or ordered


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        InputError: if it cannot be read as text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a text file, {error}; copy or download it again") from error
