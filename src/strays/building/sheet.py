"""The contact sheet of a folder of frames: each beside its mask and its controls."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from strays.data.images import probe_image, read_image, read_map
from strays.negatives import Patch
from strays.negatives.preview import contact_sheet
from strays.scene import ANOMALY
from strays.taxonomy import IGNORE

__all__ = ["frames_sheet", "spread"]

_SHOWN = 16
_MEANINGS = (("anomaly", 0, ANOMALY), ("counts nowhere", 0, IGNORE))
_CONTROLS = ("control object: of a class of the inlier data", IGNORE, 0)


def frames_sheet(images: Sequence[Path], masks: Sequence[Path], controls: Sequence[Path] = ()) -> Image.Image:
    """Return at most 16 of some frames, spread evenly, each beside its mask: drawn as ``strays negatives`` draws them.

    Frames of another size than the first are passed over.

    Args:
        images: at least one.
        masks: as many anomaly masks.
        controls: as many maps of pasted things of the inlier classes, or none.
    """
    size = probe_image(images[0]).size
    alike = [index for index, path in enumerate(images) if probe_image(path).size == size]
    chosen = [alike[index] for index in spread(len(alike), _SHOWN)]
    patches = [_patch(images[at], masks[at], controls[at] if controls else None) for at in chosen]
    return contact_sheet(patches, (*_MEANINGS, _CONTROLS) if controls else _MEANINGS)


def spread(total: int, count: int) -> list[int]:
    """Return ``count`` of the numbers below ``total`` that lie evenly in it, all where there are fewer.

    Example:
        >>> spread(10, 4), spread(3, 4)
        ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(count, total)
    return [index * total // count for index in range(count)]


def _patch(image: Path, mask: Path, control: Path | None) -> Patch:
    values = read_map(mask)
    labels = np.zeros_like(values)
    if control is not None:
        labels[read_map(control) == 1] = IGNORE
    return Patch(read_image(image), labels, values)
