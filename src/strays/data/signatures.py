"""What a file really holds, told from its first bytes and never from its name."""

from typing import NamedTuple

__all__ = ["HEAD_BYTES", "Foreign", "describe_foreign", "image_format"]

HEAD_BYTES = 64
"""How many bytes of a file the functions here want to see."""

_IMAGES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)


class Foreign(NamedTuple):
    """Something that is no readable image: what it is, and what to do about it."""

    what: str
    fix: str


_CONVERT = "convert it to PNG or JPEG"
_AGAIN = "the server answered with a web page instead of the file; download it again"
_FOREIGN = (
    (b"version https://git-lfs", Foreign("a Git LFS pointer", "fetch the real file with `git lfs pull`")),
    (b"<!doctype html", Foreign("an HTML page", _AGAIN)),
    (b"<html", Foreign("an HTML page", _AGAIN)),
    (b"gif8", Foreign("a GIF", _CONVERT)),
    (b"%pdf", Foreign("a PDF", _CONVERT)),
    (b"pk\x03\x04", Foreign("a ZIP archive", "unpack it first")),
    (b"\x1f\x8b", Foreign("a gzip archive", "unpack it first")),
    (b"\x93numpy", Foreign("a NumPy array", "save it as PNG")),
    (b"v/1\x01", Foreign("an OpenEXR image", _CONVERT)),
)


def image_format(head: bytes) -> str | None:
    """Return ``"JPEG"``, ``"PNG"``, ``"WEBP"``, ``"BMP"`` or ``"TIFF"`` for the first bytes of such a file, else None.

    Example:
        >>> image_format(b"BM6..."), image_format(b"hello")
        ('BMP', None)
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _IMAGES if head.startswith(start)), None)


def describe_foreign(head: bytes) -> Foreign:
    """Return what a file is that starts with ``head`` and is no readable image.

    Example:
        >>> describe_foreign(b"GIF89a...").what
        'a GIF'
    """
    if not head:
        return Foreign("an empty file (0 bytes)", "copy or download it again")
    if head[4:8] == b"ftyp":
        return Foreign("a HEIF or AVIF image, or an MP4 video", f"{_CONVERT}; take frames out of a video first")
    lowered = head.lstrip().lower()
    known = next((foreign for start, foreign in _FOREIGN if lowered.startswith(start)), None)
    return known or _text(head) or Foreign("of a kind that is not known", "check what wrote it, or " + _CONVERT)


def _text(head: bytes) -> Foreign | None:
    text = head.decode("utf-8", errors="ignore")
    if b"\x00" in head or not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    start = " ".join(text.split())[:24]
    return Foreign(f"text (it starts with {start!r})", "remove it from the images, or put the real image in its place")
