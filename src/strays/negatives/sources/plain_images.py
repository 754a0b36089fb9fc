"""Images alone."""

from pathlib import Path
from typing import Self

from strays.data.images import probe_image, read_image
from strays.data.sources import is_image_name, walk_files
from strays.errors import InputError
from strays.negatives.sources.base import InstanceImage, InstanceSource, register_source

__all__ = ["PlainImages"]

_MAP_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B"})


@register_source("images")
class PlainImages(InstanceSource):
    """The images in a folder and below it, without instances: for negatives that are patches or whole images.

    A folder in which, at any depth, the images start with what looks like a label map (one channel, and no JPEG) holds
    another layout.

    Args:
        folder: where the images lie.
        files: their paths relative to it.
    """

    layout = "images alone, with subfolders; for patches, as they hold no objects"
    order = 3

    def __init__(self, folder: Path, files: list[str]) -> None:
        self.folder = folder
        self.files = files  # as text: a million paths would take several times the memory

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the images of a folder, or None if some of them are label maps, or there are none."""
        files = [name for name in walk_files(folder) if is_image_name(name)]
        first = {name.rpartition("/")[0]: name for name in reversed(files)}
        if not files or any(_looks_like_map(folder / name) for name in first.values()):
            return None
        return cls(folder, files)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> InstanceImage:
        """Return the image at ``index``."""
        return InstanceImage(read_image(self.folder / self.files[index]), ())

    def classes(self, index: int) -> frozenset[str]:
        """Return no name, as images alone have none."""
        return frozenset()

    @property
    def names(self) -> frozenset[str]:
        """No name, as images alone have none."""
        return frozenset()

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image in pixels, before any EXIF orientation, from its header."""
        return probe_image(self.folder / self.files[index]).size


def _looks_like_map(path: Path) -> bool:
    try:
        header = probe_image(path)
    except InputError:
        return False
    return header.format != "JPEG" and header.mode in _MAP_MODES
