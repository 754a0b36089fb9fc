"""One image in, one score map out."""

import numpy as np
import pytest
import torch
from PIL import Image

import strays
from strays.errors import InputError, UnreadableImageError


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (24, 36, 3), dtype=np.uint8)


@pytest.fixture
def score(tiny):
    return lambda source, **options: strays.score(source, model=tiny.spec, **options)


def test_every_kind_of_source_gives_the_same_scores(score, image, tmp_path) -> None:
    Image.fromarray(image).save(tmp_path / "street.png")
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    sources = [
        str(tmp_path / "street.png"),
        tmp_path / "street.png",
        Image.fromarray(image),
        image,
        image / 255,
        (image / 255).astype(np.float32),
        tensor,
        tensor[None],
        tensor / 255,
        (tensor / 255).requires_grad_(),
    ]
    found = [score(source) for source in sources]
    assert all(np.array_equal(one.score, found[0].score) for one in found)
    assert all(np.array_equal(one.image, image) for one in found)
    assert [one.name for one in found[:4]] == ["street", "street", "image", "image"]


def test_half_precision_is_read(score, image) -> None:
    tensor = torch.from_numpy(image).permute(2, 0, 1) / 255
    for dtype in (torch.float16, torch.bfloat16):
        found = score(tensor.to(dtype)).image
        assert np.abs(found.astype(int) - image).max() <= 1


def test_what_comes_out(score, tiny, image) -> None:
    found = score(image, detector="energy:temperature=2")
    assert isinstance(found, strays.ScoreMap)
    assert (found.score.dtype, found.score.shape) == (np.float32, (24, 36))
    assert (found.labels.dtype, found.labels.shape) == (np.uint8, (24, 36))
    assert (found.detector, found.model, found.taxonomy.name) == ("energy:temperature=2", tiny.spec, "camvid")
    assert found.overlay().width == 36


def test_the_model_is_loaded_once(score, tiny, image) -> None:
    score(image)
    loaded = len(tiny.module.SEEN)
    score(image)
    assert len(tiny.module.SEEN) == loaded + 1


def test_the_network_may_see_another_size(score, tiny, image) -> None:
    assert score(image, network_size=[12, 16]).score.shape == (24, 36)
    assert tiny.seen == [(12, 16)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(score, image, tmp_path, orientation) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.kron(image[:3, :4], np.ones((8, 8, 1), np.uint8)))
    picture.save(tmp_path / "photo.jpg", exif=exif, quality=95, subsampling=0)
    stored = np.asarray(Image.open(tmp_path / "photo.jpg"))
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).swapaxes(0, 1),
        8: np.rot90(stored),
    }[orientation]
    for source in (tmp_path / "photo.jpg", Image.open(tmp_path / "photo.jpg")):
        found = score(source)
        assert np.array_equal(found.image, turned)
        assert found.score.shape == turned.shape[:2]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((24, 36), np.uint8), r"\(H, W, 3\) .* got shape \(24, 36\)"),
        (np.zeros((3, 24, 36), np.uint8), r"got shape \(3, 24, 36\)"),
        (np.zeros((24, 36, 4), np.uint8), r"got shape \(24, 36, 4\)"),
        (np.zeros((0, 36, 3), np.uint8), r"got shape \(0, 36, 3\)"),
        (torch.zeros(1, 24, 36), r"got shape \(1, 24, 36\)"),
        (torch.zeros(2, 3, 24, 36), r"got shape \(2, 3, 24, 36\)"),
        (torch.zeros(24, 36, requires_grad=True), r"got shape \(24, 36\)"),
        (np.zeros((24, 36, 3), np.int32), "uint8 or floating point .* got int32"),
        (np.full((24, 36, 3), 255.0), r"values in \[0, 1\], got 255 to 255: divide by 255"),
        (np.full((24, 36, 3), np.nan), r"values in \[0, 1\]"),
        ([[1, 2], [3, 4]], "a path, a PIL image, an array or a tensor, got list"),
        (None, "got NoneType"),
    ],
)
def test_anything_else_is_refused(score, source, message) -> None:
    with pytest.raises(InputError, match=message):
        score(source)


def test_a_missing_file_is_named(score, tmp_path) -> None:
    with pytest.raises(UnreadableImageError, match=r"nothing\.jpg"):
        score(tmp_path / "nothing.jpg")


def test_broken_scores_name_the_image(score, image, tmp_path) -> None:
    image[0, 0] = 255, 0, 0
    Image.fromarray(image).save(tmp_path / "frame_0042.png")
    with pytest.raises(InputError, match=r"frame_0042\.png: .* NaN"):
        score(tmp_path / "frame_0042.png")


def test_the_map_can_be_saved(score, image, tmp_path) -> None:
    saved = score(image).save(tmp_path / "out")
    assert np.array_equal(np.load(saved.score), score(image).score)
    assert Image.open(saved.overlay).format == "JPEG"


def test_the_front_door_names_what_there_is() -> None:
    assert set(strays.__all__) <= set(dir(strays))
    assert all(getattr(strays, name) is not None for name in strays.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scoer'"):
        strays.scoer  # noqa: B018


def test_a_model_in_memory_scores_like_the_string_it_came_from() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    given = strays.score(image, model=strays.load_model("default"), detector="energy")
    assert np.array_equal(given.score, strays.score(image, detector="energy").score)
