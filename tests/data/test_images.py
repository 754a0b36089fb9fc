"""Pictures and maps of every kind, against NumPy and PNG files written byte by byte."""

import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from strays.data.images import BACKGROUND, MAX_PIXELS, probe_image, read_image, read_map, rgb_array
from strays.errors import InputError, UnreadableImageError

GREY, RGB, PALETTE = 0, 2, 3


def picture(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path: Path, size: tuple[int, int], depth: int, colour: int, rows: list[bytes]) -> Path:
    """Write a PNG by its specification, so that nothing of Pillow's writer is trusted."""
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, colour, 0, 0, 0)
    data = b"".join(b"\x00" + row for row in rows)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(data)) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x"])
def test_formats_are_told_by_content_not_by_name(
    tmp_path: Path, kind: str, options: dict[str, bool], name: str
) -> None:
    Image.fromarray(picture()).save(tmp_path / name, format=kind, **options)
    image = read_image(tmp_path / name)
    assert (image == picture()).all()
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert probe_image(tmp_path / name).format == kind


def test_jpeg_under_a_png_name(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (48, 1, 3))
    Image.fromarray(smooth).save(tmp_path / "0.png", format="JPEG", quality=95)
    assert np.abs(read_image(tmp_path / "0.png").astype(int) - smooth).max() <= 4


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    blocks = np.kron(picture(3, 4), np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(blocks).save(tmp_path / "x", format=kind, exif=exif, **options)
    expected = UPRIGHT[orientation](blocks)
    image = read_image(tmp_path / "x")
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= (4 if kind == "JPEG" else 0)


def test_sixteen_bit_grey_is_scaled_by_257(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 30000, 65534, 65535]], ">u2")
    path = write_png(tmp_path / "x.png", (1, 7), 16, GREY, [values.tobytes()])
    assert read_image(path)[0, :, 1].tolist() == np.round(values[0] / 257).astype(int).tolist()
    Image.fromarray(values.astype("<u2")).save(tmp_path / "x.tif")
    assert (read_image(tmp_path / "x.tif") == read_image(path)).all()


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    eight = picture(3, 5)
    wide = (eight.astype(">u2") * 257).astype(">u2")
    path = write_png(tmp_path / "x.png", (3, 5), 16, RGB, [row.tobytes() for row in wide])
    assert (read_image(path) == eight).all()


def test_palette_grey_one_bit_and_cmyk(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    indexed.putpalette([10, 20, 30, 200, 100, 50, 7, 8, 9])
    indexed.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").tolist() == [
        [[10, 20, 30], [200, 100, 50]],
        [[7, 8, 9], [200, 100, 50]],
    ]
    Image.fromarray(np.array([[3, 250]], np.uint8)).save(tmp_path / "l.png")
    assert read_image(tmp_path / "l.png").tolist() == [[[3] * 3, [250] * 3]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    assert read_image(tmp_path / "1.png").tolist() == [[[255] * 3, [0] * 3]]
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    red, green, blue = read_image(tmp_path / "c.jpg")[4, 4].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_transparency_is_composed_on_grey(tmp_path: Path) -> None:
    layered = np.zeros((1, 3, 4), np.uint8)
    layered[0, :, :3] = (200, 100, 0)
    layered[0, :, 3] = (255, 0, 128)
    Image.fromarray(layered).save(tmp_path / "x.png")
    opaque, clear, half = read_image(tmp_path / "x.png")[0].astype(int)
    assert opaque.tolist() == [200, 100, 0]
    assert clear.tolist() == list(BACKGROUND)
    blend = np.array((200, 100, 0)) * (128 / 255) + np.array(BACKGROUND) * (127 / 255)
    assert np.abs(half - blend).max() <= 1


def test_an_alpha_channel_of_zeros_is_ignored(tmp_path: Path) -> None:
    layered = np.dstack([picture(), np.zeros((24, 32), np.uint8)])
    Image.fromarray(layered).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png") == picture()).all()


def test_grey_with_alpha_and_palette_with_transparency(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), mode="LA").save(tmp_path / "la.png")
    assert read_image(tmp_path / "la.png").tolist() == [[[9, 9, 9], list(BACKGROUND)]]
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    indexed.putpalette([10, 20, 30, 200, 100, 50])
    indexed.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png").tolist() == [[list(BACKGROUND), [200, 100, 50]]]


def test_floats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableImageError, match=r"x\.tif holds floating-point pixels of unknown range; save it"):
        read_image(tmp_path / "x.tif")


def test_a_pillow_image_converts_by_the_same_rules() -> None:
    assert (rgb_array(Image.fromarray(picture())) == picture()).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.5, 0.1])
def test_truncated_files_are_named(tmp_path: Path, kind: str, part: float) -> None:
    path = tmp_path / "street.jpg"
    Image.fromarray(picture(64, 64)).save(path, format=kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UnreadableImageError, match=rf"street\.jpg is a damaged {kind} image \(.+\); copy or download"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is an empty file \(0 bytes\), expected JPEG, PNG, WebP, BMP or TIFF; copy or download"),
        (b"not a picture\nat all", r"is text \(it starts with 'not a picture at all'\).*; remove it"),
        (b"<!DOCTYPE html><html>", "is an HTML page.*; .*download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer.*; .*git lfs pull"),
        (b"GIF89a\x01\x00\x01\x00", "is a GIF.*; convert it"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00", "is a HEIF or AVIF image"),
        (b"\x00\x01\x02\x03\xfe\xff", "is of a kind that is not known"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (read_image, read_map, probe_image):
        with pytest.raises(UnreadableImageError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"no\.png: expected an image file, No such file.*; check the path"):
        read_image(tmp_path / "no.png")
    with pytest.raises(UnreadableImageError, match="Is a directory; name a file inside it"):
        read_image(tmp_path)


def test_huge_images_are_refused_from_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_png(tmp_path / "huge.png", (30_000, 30_000), 8, RGB, [])
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe_image(path).size == (30_000, 30_000)
        with pytest.raises(UnreadableImageError, match=r"huge\.png has 30000 x 30000 pixels, 900,000,000") as caught:
            read_image(path)
    assert time.perf_counter() - started < 1
    assert f"limit of {MAX_PIXELS:,}" in str(caught.value)
    assert "max_pixels=900000000 or STRAYS_MAX_PIXELS=900000000" in str(caught.value)
    with pytest.raises(UnreadableImageError, match="limit"):
        read_map(path)
    monkeypatch.setenv("STRAYS_MAX_PIXELS", "0x10")
    with pytest.raises(InputError, match="STRAYS_MAX_PIXELS is '0x10', expected a number of pixels"):
        read_image(path)


def test_the_limit_moves_in_both_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture()).save(tmp_path / "x.png")
    with pytest.raises(UnreadableImageError, match="768 against a limit of 767"):
        read_image(tmp_path / "x.png", max_pixels=767)
    monkeypatch.setenv("STRAYS_MAX_PIXELS", "700")
    with pytest.raises(UnreadableImageError, match="limit of 700"):
        read_image(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", max_pixels=768).shape == (24, 32, 3)


def test_the_limit_of_pillow_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture()).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow itself would refuse the file now
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (read_image(tmp_path / "x.png") == picture()).all()


def test_maps_are_the_stored_numbers(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [11, 254, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / "l.png")
    indexed = Image.fromarray(values, mode="P")
    indexed.putpalette(list(range(255, -1, -1)) * 3)
    indexed.save(tmp_path / "p.png")
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "16.png")
    Image.fromarray(np.repeat(values[..., None], 3, axis=2)).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([values] * 3 + [np.full_like(values, 255)])).save(tmp_path / "rgba.png")
    for name in ("l.png", "p.png", "16.png", "rgb.png", "rgba.png"):
        assert (read_map(tmp_path / name) == values).all(), name
        assert read_map(tmp_path / name).dtype == np.uint8
        assert read_map(tmp_path / name).flags.writeable


@pytest.mark.parametrize(
    ("depth", "row", "expected"),
    [(1, b"\xa0", [1, 0, 1]), (2, b"\x1b", [0, 1, 2, 3]), (4, b"\x0b\x20", [0, 11, 2])],
)
def test_maps_of_few_bits_are_not_stretched(tmp_path: Path, depth: int, row: bytes, expected: list[int]) -> None:
    path = write_png(tmp_path / "x.png", (1, len(expected)), depth, GREY, [row])
    assert read_map(path).tolist() == [expected]


def test_maps_are_never_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[1, 2, 3]], np.uint8)).save(tmp_path / "x.png", exif=exif)
    assert read_map(tmp_path / "x.png").tolist() == [[1, 2, 3]]
    assert read_image(tmp_path / "x.png").shape == (3, 1, 3)


def test_maps_with_other_content_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[7, 26001]], np.uint16)).save(tmp_path / "ids.png")
    with pytest.raises(
        InputError, match=r"ids\.png: value 26001 in a map, 1 pixels .*; .*name the class labels instead"
    ):
        read_map(tmp_path / "ids.png")
    Image.fromarray(picture()).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"colour\.png: expected one number per pixel, found colours \(RGB\); name"):
        read_map(tmp_path / "colour.png")
    Image.fromarray(np.zeros((2, 2, 4), np.uint8)).save(tmp_path / "clear.png")
    with pytest.raises(InputError, match=r"clear\.png: a map with transparent pixels; save"):
        read_map(tmp_path / "clear.png")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(InputError, match=r"f\.tif: expected a map of whole numbers, found pixel type F; save"):
        read_map(tmp_path / "f.tif")
