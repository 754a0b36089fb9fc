"""The strip below a picture that says what its colours mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

__all__ = ["GROUND_TRUTH", "THRESHOLD", "Colour", "Key", "add_legend"]

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, each in [0, 255]."""

THRESHOLD: Colour = (255, 255, 255)
GROUND_TRUTH: Colour = (0, 230, 255)
PAPER, INK, QUIET = (20, 20, 24), (240, 240, 244), (176, 176, 186)
SMALLEST, LARGEST, WIDTHS = 11, 30, 72


@dataclass(frozen=True)
class Key:
    """One line in the picture: what it stands for and its colour."""

    text: str
    colour: Colour


@dataclass(frozen=True)
class _Item:
    """Something of a known width that draws itself on a strip at (x, y), where y is the middle of its row."""

    width: int
    draw: Callable[[Image.Image, int, int], None]


def add_legend(
    picture: Image.Image, title: str, bar: Image.Image, ends: tuple[str, str], keys: Sequence[Key] = ()
) -> Image.Image:
    """Return the picture with a strip below it: a title, a colour bar between its ends, and what each line means.

    Args:
        picture: RGB of any size; the type grows with its width, the strip by as many rows as that takes.
        title: what the colours show, with its unit.
        bar: a picture one pixel high, from the first colour to the last.
        ends: what the first and the last colour stand for.
        keys: the lines in the picture.
    """
    size = min(LARGEST, max(SMALLEST, round(picture.width / WIDTHS)))
    items = [_text(title, size, INK), _bar(bar, ends, size), *(_key(key, size) for key in keys)]
    strip = _strip(_rows(items, picture.width - 2 * size, 2 * size), picture.width, size)
    both = Image.new("RGB", (picture.width, picture.height + strip.height))
    both.paste(picture, (0, 0))
    both.paste(strip, (0, picture.height))
    return both


def _strip(rows: Sequence[Sequence[_Item]], width: int, size: int) -> Image.Image:
    step = round(1.7 * size)
    strip = Image.new("RGB", (width, len(rows) * step + size // 2), PAPER)
    for number, row in enumerate(rows):
        x, y = size, size // 4 + number * step + step // 2
        for item in row:
            item.draw(strip, x, y)
            x += item.width + 2 * size
    return strip


def _rows(items: Sequence[_Item], width: int, gap: int) -> list[list[_Item]]:
    """Fill rows from left to right; what finds no room begins the next."""
    rows: list[list[_Item]] = [[]]
    left = width
    for item in items:
        if rows[-1] and item.width > left:
            rows.append([])
            left = width
        rows[-1].append(item)
        left -= item.width + gap
    return rows


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _text(text: str, size: int, colour: Colour) -> _Item:
    font = _font(size)

    def draw(strip: Image.Image, x: int, y: int) -> None:
        ImageDraw.Draw(strip).text((x, y), text, fill=colour, font=font, anchor="lm")

    return _Item(round(font.getlength(text)), draw)


def _key(key: Key, size: int) -> _Item:
    text, stroke = _text(key.text, size, INK), 2 * size

    def draw(strip: Image.Image, x: int, y: int) -> None:
        ImageDraw.Draw(strip).line((x, y, x + stroke, y), fill=key.colour, width=max(2, size // 6))
        text.draw(strip, x + stroke + size // 2, y)

    return _Item(stroke + size // 2 + text.width, draw)


def _bar(bar: Image.Image, ends: tuple[str, str], size: int) -> _Item:
    low, high = (_text(end, size, QUIET) for end in ends)
    drawn = bar.resize((13 * size, size), Image.Resampling.BILINEAR)

    def draw(strip: Image.Image, x: int, y: int) -> None:
        low.draw(strip, x, y)
        strip.paste(drawn, (x + low.width + size // 2, y - size // 2))
        high.draw(strip, x + low.width + drawn.width + size, y)

    return _Item(low.width + drawn.width + high.width + size, draw)
