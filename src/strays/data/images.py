"""Reading pictures and label maps: five formats, told apart by content, with a stated limit and messages that help."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, ExifTags, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from strays.data.signatures import HEAD_BYTES, describe_foreign, image_format
from strays.errors import InputError, UnreadableImageError

__all__ = ["BACKGROUND", "MAX_PIXELS", "ImageHeader", "probe_image", "read_image", "read_map", "rgb_array"]

MAX_PIXELS = 178_000_000
"""Images with more pixels than this are refused from their header, unless the caller raises the limit."""

BACKGROUND = (128, 128, 128)
"""The neutral grey that transparent pixels are composed on."""

_LIMIT_VARIABLE = "STRAYS_MAX_PIXELS"
_EXPECTED = "JPEG, PNG, WebP, BMP or TIFF"
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")

# Called directly because `Image.open` warns and refuses by a limit that only a process-wide variable can move.
_OPENERS: dict[str, Callable[[IO[bytes], str], ImageFile]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow stretches 2- and 4-bit grey to 0..255; a map wants the numbers as they are stored.
_STRETCHED = {"L;2": 85, "L;4": 17}
_MINUS_ONE = (-1, 65535)


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of an image file say, before any pixel is decoded.

    Args:
        format: ``"JPEG"``, ``"PNG"``, ``"WEBP"``, ``"BMP"`` or ``"TIFF"``, by content.
        mode: Pillow's name of the pixel type, such as ``"RGB"``, ``"L"``, ``"P"`` or ``"I;16"``.
        size: (H, W) as stored, before any EXIF orientation.
    """

    format: str
    mode: str
    size: tuple[int, int]


def probe_image(path: str | Path) -> ImageHeader:
    """Return the header of an image file without decoding it; no limit on the size applies.

    Raises:
        UnreadableImageError: if the file is missing, or its header is not that of a readable image.
    """
    with _opened(Path(path)) as (image, kind):
        return ImageHeader(kind, image.mode, (image.height, image.width))


def read_image(path: str | Path, max_pixels: int | None = None, drop_alpha: bool = False) -> NDArray[np.uint8]:
    """Return an image file as uint8 RGB (H, W, 3), turned upright as its EXIF orientation says.

    16-bit grey is divided by 257 and rounded, of 16-bit colour the upper byte is taken; palette, greyscale, CMYK become
    RGB. Transparent pixels are composed on ``BACKGROUND``; an alpha channel that is zero everywhere is ignored. Gamma
    chunks and colour profiles are ignored; of several pages or frames the first is read.

    Args:
        path: a JPEG, PNG, WebP, BMP or TIFF file, whatever its name ends in.
        max_pixels: refuse larger images; by default the environment's ``STRAYS_MAX_PIXELS``, or ``MAX_PIXELS``.
        drop_alpha: take the colours of RGBA as they are stored, whatever their alpha; for data sets whose fourth
            channel means nothing.

    Raises:
        UnreadableImageError: if the file is missing, damaged, too large or no image; it names the file and the fix.
    """
    with _decoded(Path(path), max_pixels) as image:
        return rgb_array(image.convert("RGB") if drop_alpha and image.mode == "RGBA" else image)


def read_map(path: str | Path, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Return a label map or mask file as the numbers that it stores, uint8 (H, W).

    A palette image gives its indices, one bit per pixel gives 0 and 1, RGB is accepted where its channels are equal.
    Nothing is rotated, resampled or rescaled.

    Raises:
        UnreadableImageError: if the file cannot be read as for ``read_image``.
        InputError: if it holds colours, transparency or values beyond 255.
    """
    with _decoded(Path(path), max_pixels) as image:
        return _stored_numbers(image, Path(path))


def rgb_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image as uint8 RGB (H, W, 3) under the rules of ``read_image``.

    Raises:
        UnreadableImageError: if its pixels are floats or 32-bit integers, whose range no file states.
    """
    image = _upright(image)
    if image.mode in _DEEP or (image.mode == "I" and image.format == "PNG"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        where = getattr(image, "filename", "") or "image"
        found = "floating-point" if image.mode == "F" else "32-bit integer"
        raise UnreadableImageError(f"{where} holds {found} pixels of unknown range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        return np.array(_composed(image))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _composed(image: Image.Image) -> Image.Image:
    layered = image.convert("RGBA")
    alpha = layered.getchannel("A")
    if alpha.getextrema() == (0, 0):
        return layered.convert("RGB")
    ground = Image.new("RGB", layered.size, BACKGROUND)
    ground.paste(layered, mask=alpha)
    return ground


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block raises anything at all, and the pixels are fine without it
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _stored_numbers(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    if image.mode in ("L", "P", "1"):
        step = np.uint8(image.info.get("strays-step", 1))
        values = np.array(image, np.uint8)
        return values if step == 1 else values // step
    if image.mode in _DEEP or image.mode == "I":
        return _small_numbers(np.asarray(image), path)
    if image.mode in ("LA", "RGB", "RGBA"):
        return _equal_channels(np.asarray(image), image.mode, path)
    raise InputError(f"{path}: expected a map of whole numbers, found pixel type {image.mode}; save it as 8-bit PNG")


def _small_numbers(values: NDArray[np.integer], path: Path) -> NDArray[np.uint8]:
    outside = values[(values < 0) | (values > 255)]
    if outside.size:
        fix = "labels and masks hold 0 to 255; an instance map? name the class labels instead"
        if np.isin(outside, _MINUS_ONE).all():
            fix = "-1 usually marks pixels to ignore (65535 is -1 in 16 bits): save 255 in its place, as 8-bit PNG"
        raise InputError(f"{path}: value {outside[0]} in a map, {outside.size} pixels are outside 0 to 255; {fix}")
    return values.astype(np.uint8)


def _equal_channels(values: NDArray[np.uint8], mode: str, path: Path) -> NDArray[np.uint8]:
    if mode.endswith("A") and (values[..., -1] != 255).any():
        raise InputError(f"{path}: a map with transparent pixels; save the numbers as one 8-bit channel")
    colours = values[..., : len(mode.removesuffix("A"))]
    if (colours != colours[..., :1]).any():
        fix = "name the maps of class numbers instead of the coloured ones, or save one 8-bit channel"
        raise InputError(f"{path}: expected one number per pixel, found colours ({mode}); {fix}")
    return np.ascontiguousarray(colours[..., 0])


@contextmanager
def _decoded(path: Path, max_pixels: int | None) -> Iterator[ImageFile]:
    with _opened(path) as (image, kind):
        _check_size(image, path, _limit() if max_pixels is None else max_pixels)
        if image.tile and image.tile[0][3] in _STRETCHED:
            image.info["strays-step"] = _STRETCHED[str(image.tile[0][3])]
        try:
            image.load()
            yield image
        except InputError:
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
            raise _damaged(path, kind, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ImageFile, str]]:
    with _stream(path) as stream:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        kind = image_format(head)
        if kind is None:
            found = describe_foreign(head)
            raise UnreadableImageError(f"{path} is {found.what}, expected {_EXPECTED}; {found.fix}")
        try:
            image = _OPENERS[kind](stream, str(path))
        except Exception as error:  # as above
            raise _damaged(path, kind, error) from error
        with image:
            yield image, kind


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        fix = "check the path" if isinstance(error, FileNotFoundError | NotADirectoryError) else "make it readable"
        if isinstance(error, IsADirectoryError):
            fix = "name a file inside it"
        raise UnreadableImageError(f"{path}: expected an image file, {error.strerror}; {fix}") from error
    with stream:
        yield stream


def _check_size(image: ImageFile, path: Path, limit: int) -> None:
    pixels = image.width * image.height
    if pixels > limit:
        what = f"{path} has {image.width} x {image.height} pixels, {pixels:,} against a limit of {limit:,}"
        fix = f"make it smaller, or raise the limit with max_pixels={pixels} or {_LIMIT_VARIABLE}={pixels}"
        raise UnreadableImageError(f"{what}; {fix}")


def _limit() -> int:
    stated = os.environ.get(_LIMIT_VARIABLE, "")
    if stated and not stated.isdecimal():
        raise InputError(f"{_LIMIT_VARIABLE} is {stated!r}, expected a number of pixels such as {MAX_PIXELS}")
    return int(stated or MAX_PIXELS)


def _damaged(path: Path, kind: str, error: Exception) -> UnreadableImageError:
    reason = str(error) or type(error).__name__
    return UnreadableImageError(f"{path} is a damaged {kind} image ({reason}); copy or download it again")
