"""Finding the images that a person names: files, folders and globs, in a natural order, under unique names."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from glob import glob, has_magic
from pathlib import Path
from typing import NoReturn

from strays.errors import InputError

__all__ = [
    "IMAGE_SUFFIXES",
    "Source",
    "find_images",
    "image_files",
    "is_image_name",
    "missing_path",
    "natural_key",
    "summarize_files",
    "walk_files",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""What the files end in that folders and globs are searched for; a file named directly may end in anything."""


@dataclass(frozen=True)
class Source:
    """An image to be read, and what its results are called.

    Args:
        path: the image file.
        name: unique among the sources found together, also where the file system ignores case.
    """

    path: Path
    name: str


def find_images(sources: Sequence[str | Path]) -> list[Source]:
    """Return the images that files, folders and globs stand for, each once, in the order given.

    A folder is searched with all its subfolders (hidden ones aside), its own files first; files follow each other
    naturally, 2 before 10. An image is called by the stem of its file; where two stems are equal the folders above are
    put in front, and at last the suffix behind: ``day/1.png`` and ``night/1.png`` become ``day_1`` and ``night_1``.

    Raises:
        InputError: if a path does not exist, or a source holds no image.
    """
    if not sources:
        raise InputError("expected image files, folders or globs, got none: name at least one")
    found: dict[str, Path] = {}
    for source in sources:
        for path in _expand(source):
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - resolving links would rename what was named
    names = _unique_names([Path(one) for one in found])
    return [Source(path, name) for path, name in zip(found.values(), names, strict=True)]


def image_files(folder: Path, recursive: bool = True) -> Iterator[Path]:
    """Yield the files of a folder whose suffix is that of an image, direct children first, in natural order."""
    return (folder / name for name in walk_files(folder, recursive) if is_image_name(name))


def is_image_name(name: str) -> bool:
    """Return whether a file's name ends like that of an image."""
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts ``img2`` before ``img10``.

    Example:
        >>> sorted(["img10", "img2", "Img1"], key=natural_key)
        ['Img1', 'img2', 'img10']
    """
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def missing_path(path: Path) -> InputError:
    """Return the error for a path that does not exist, with the nearest name that does."""
    parent = next((one for one in path.parents if one.is_dir()), Path())
    wanted = path.relative_to(parent).parts[0] if path.is_relative_to(parent) else path.name
    close = get_close_matches(wanted, [one.name for one in parent.iterdir()], n=1, cutoff=0.6)
    hint = f"did you mean {parent / close[0]}?" if close else f"{parent} exists, {wanted} in it does not"
    return InputError(f"no file or folder {path}; {hint}")


def summarize_files(paths: Iterable[Path]) -> str:
    """Return what kinds of files there are, most frequent first: ``"12 .txt, 3 .avi"``."""
    kinds = Counter(path.suffix.lower() or "without suffix" for path in paths)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "no files at all"


def _expand(source: str | Path) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        images = list(image_files(path))
        return images or _none(source, (Path(name) for name in walk_files(path)))
    if not has_magic(str(path)):
        raise missing_path(path)
    matches = [Path(one) for one in sorted(glob(str(path), recursive=True), key=natural_key)]  # noqa: PTH207
    images = [image for match in matches for image in _of_match(match)]
    return images or _none(source, (match for match in matches if match.is_file()))


def _of_match(match: Path) -> Iterable[Path]:
    if match.is_dir():
        return image_files(match)
    return [match] if match.suffix.lower() in IMAGE_SUFFIXES else []


def _none(source: str | Path, present: Iterable[Path]) -> NoReturn:
    wanted = ", ".join(sorted(IMAGE_SUFFIXES))
    raise InputError(f"no images in {source}: looked for files ending in {wanted}, found {summarize_files(present)}")


def walk_files(folder: Path, recursive: bool = True) -> Iterator[str]:
    """Yield the paths of all files of a folder that are not hidden, relative to it, direct children first."""
    return _walk(str(folder), "", recursive, set())


def _walk(folder: str, prefix: str, recursive: bool, entered: set[tuple[int, int]]) -> Iterator[str]:
    status = os.stat(folder)  # noqa: PTH116 - strings: this runs over millions of files
    identity = (status.st_dev, status.st_ino)
    if identity in entered:  # a link back to a folder above, or a second link to the same one
        return
    entered.add(identity)
    children = _children(folder)
    yield from (prefix + name for name, is_folder in children if not is_folder)
    if recursive:
        for name, is_folder in children:
            if is_folder:
                yield from _walk(f"{folder}/{name}", f"{prefix}{name}/", recursive, entered)


def _children(folder: str) -> list[tuple[str, bool]]:
    """Return name and whether it is a folder of all that lies in a folder and is not hidden, in natural order."""
    try:
        with os.scandir(folder) as entries:  # knows files from folders without asking the file system for each
            children = [(one.name, one.is_dir()) for one in entries if not one.name.startswith(".")]
    except OSError as error:
        raise InputError(f"cannot look into folder {folder}: {error.strerror}; make it readable") from error
    return sorted(children, key=lambda child: natural_key(child[0]))


def _unique_names(paths: Sequence[Path]) -> list[str]:
    names = [path.stem for path in paths]
    level = 0
    while clashes := _clashing(names):
        level += 1
        for index in clashes:
            names[index] = _longer_name(paths[index], level, index)
    return names


def _clashing(names: Sequence[str]) -> list[int]:
    counts = Counter(name.casefold() for name in names)
    return [index for index, name in enumerate(names) if counts[name.casefold()] > 1]


def _longer_name(path: Path, level: int, index: int) -> str:
    parents = path.parts[1:-1]
    if level <= len(parents):
        return "_".join((*parents[-level:], path.stem))
    beyond = "" if level == len(parents) + 1 else f"_{index}"
    return "_".join((*parents, path.stem, path.suffix.removeprefix("."))) + beyond
