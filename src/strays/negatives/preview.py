"""The contact sheet: training patches with their negatives, each beside the mask that a recipe is given."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strays.drawing import draw_mask
from strays.legend import Colour
from strays.negatives.base import Patch
from strays.scene import resize_image, resize_map
from strays.taxonomy import IGNORE

__all__ = ["MEANINGS", "Meaning", "contact_sheet", "draw_patch"]

Meaning = tuple[str, int, int]
"""Words of the legend, with a label and a mask value that show what they mean."""

_VOID: Colour = (255, 176, 0)
_HATCH: Colour = (168, 168, 174)
_PAPER, _INK = (20, 20, 24), (240, 240, 244)
_TINT, _HATCHED = 0.45, 0.55
_STRIPES, _STRIPE = 12, 2
_EMPTY = 4.0
_LONGEST, _GAP, _ASPECT = 320, 8, 1.6
_SMALLEST_TYPE, _LARGEST_TYPE, _WIDTHS = 11, 22, 90

MEANINGS: tuple[Meaning, ...] = (
    ("negative", 0, 1),
    ("counts nowhere: shows no scene", 0, IGNORE),
    ("scene without a class", IGNORE, 0),
)
"""What is told apart, with a label and a mask value that show it."""


def contact_sheet(patches: Sequence[Patch], meanings: Sequence[Meaning] = MEANINGS) -> Image.Image:
    """Return pairs of a patch and its mask drawn over it, in rows from the left, above a legend.

    Patches longer than 320 pixels are shown smaller.

    Args:
        patches: at least one, all of one size.
        meanings: what the legend explains, at least one.
    """
    pairs = [_pair(_shrunk(patch)) for patch in patches]
    width, height = pairs[0].width + 2 * _GAP, pairs[0].height + _GAP
    columns = _columns(len(pairs), width, height)
    sheet = Image.new("RGB", (columns * width + _GAP, ceil(len(pairs) / columns) * height + _GAP), _PAPER)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, columns)
        sheet.paste(pair, (_GAP + column * width, _GAP + row * height))
    return _explained(sheet, meanings)


def draw_patch(patch: Patch) -> Image.Image:
    """Return the image of a patch with its mask over it.

    Negatives are tinted and outlined, what shows no scene is dark and hatched, scene pixels without a class are yellow.
    """
    void = (patch.labels == IGNORE) & (patch.mask == 0)
    picture = np.array(draw_mask(_blended(patch.image, void, _VOID, _TINT), patch.mask))
    rows, columns = np.indices(patch.size)
    stripes = (rows + columns) % _STRIPES < _STRIPE
    return Image.fromarray(_blended(picture, stripes & (patch.mask == IGNORE), _HATCH, _HATCHED))


def _blended(image: NDArray[np.uint8], where: NDArray[np.bool_], colour: Colour, strength: float) -> NDArray[np.uint8]:
    blended = image.copy()
    blended[where] = ((1 - strength) * image[where] + strength * np.array(colour)).round().astype(np.uint8)
    return blended


def _shrunk(patch: Patch) -> Patch:
    part = min(1.0, _LONGEST / max(patch.size))
    size = max(1, round(patch.size[0] * part)), max(1, round(patch.size[1] * part))
    if size == patch.size:
        return patch
    maps: list[NDArray[np.uint8]] = [resize_map(values, size) for values in (patch.labels, patch.mask)]
    return Patch(resize_image(patch.image, size), *maps)


def _pair(patch: Patch) -> Image.Image:
    height, width = patch.size
    pair = Image.new("RGB", (2 * width + _GAP // 4, height), _PAPER)
    pair.paste(Image.fromarray(patch.image), (0, 0))
    pair.paste(draw_patch(patch), (width + _GAP // 4, 0))
    return pair


def _columns(count: int, width: int, height: int) -> int:
    """Return how many pairs stand side by side for a sheet that is rather wide than high and has few empty places."""

    def misfit(columns: int) -> float:
        rows = ceil(count / columns)
        empty = 1 - count / (rows * columns)
        return abs(float(np.log(columns * width / (rows * height) / _ASPECT))) + _EMPTY * empty

    return min(range(1, count + 1), key=misfit)


def _explained(sheet: Image.Image, meanings: Sequence[Meaning]) -> Image.Image:
    size = min(_LARGEST_TYPE, max(_SMALLEST_TYPE, round(sheet.width / _WIDTHS)))
    font, step = ImageFont.load_default(size), round(1.8 * size)
    places, rows = _places([font.getlength(text) for text, _, _ in meanings], sheet.width, size)
    both = Image.new("RGB", (sheet.width, sheet.height + rows * step + size // 2), _PAPER)
    both.paste(sheet, (0, 0))
    pen = ImageDraw.Draw(both)
    for (text, label, value), (row, x) in zip(meanings, places, strict=True):
        y = sheet.height + row * step + step // 2
        both.paste(_swatch(label, value, size), (x, y - size // 2))
        pen.text((x + 2.6 * size, y), text, fill=_INK, font=font, anchor="lm")
    return both


def _swatch(label: int, value: int, size: int) -> Image.Image:
    """Return how a label and mask value are drawn on grey."""
    shape = size, 2 * size
    labels, mask = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    labels[2:-2, 2:-2], mask[2:-2, 2:-2] = label, value
    return draw_patch(Patch(np.full((*shape, 3), 128, np.uint8), labels, mask))


def _places(lengths: Sequence[float], width: int, size: int) -> tuple[list[tuple[int, int]], int]:
    """Return row and left edge of every entry of the legend, and how many rows there are."""
    places: list[tuple[int, int]] = []
    row, x = 0, size
    for length in lengths:
        needed = round(2.6 * size + length)
        if x > size and x + needed > width - size:
            row, x = row + 1, size
        places.append((row, x))
        x += needed + 2 * size
    return places, row + 1
