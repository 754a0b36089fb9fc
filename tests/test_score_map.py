import io

import numpy as np
import pytest
from PIL import Image

from strays.drawing import ColourScale
from strays.errors import InputError
from strays.score_map import ScoreMap
from strays.taxonomy import CAMVID


@pytest.fixture
def make():
    rng = np.random.default_rng(3)
    facts = {
        "score": rng.normal(size=(60, 90)).astype(np.float32),
        "labels": rng.integers(0, len(CAMVID), (60, 90), dtype=np.uint8),
        "image": rng.integers(0, 256, (60, 90, 3), dtype=np.uint8),
        "taxonomy": CAMVID,
        "detector": "energy",
        "model": "default",
        "name": "street",
    }
    return lambda **other: ScoreMap(**(facts | other))


def test_pictures_have_the_width_of_the_image(make):
    one = make()
    assert one.size == (60, 90)
    for picture in (one.overlay(), one.overlay(threshold=1.0), one.heatmap()):
        assert picture.width == 90
        assert picture.height > 60
    assert one.classes().size == (90, 60)


def test_the_mask_is_outlined_where_there_is_one(make):
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 30:60] = 1
    plain, outlined = (np.asarray(make(mask=given).overlay())[:60] for given in (None, mask))
    changed = (plain != outlined).any(2)
    assert changed[18, 45]
    assert not changed[22:38, 32:58].any()


def test_one_scale_makes_maps_comparable(make):
    dim, bright = make(score=np.full((60, 90), 1.0, np.float32)), make(score=np.full((60, 90), 3.0, np.float32))
    scale = ColourScale(0.0, 4.0)
    assert not np.array_equal(dim.heatmap(scale), bright.heatmap(scale))


def test_classes_at_full_strength_are_the_palette(make):
    one = make()
    assert np.array_equal(np.asarray(one.classes(1.0)), CAMVID.colourize(one.labels))


def test_save_writes_both_files_and_says_where(make, tmp_path):
    one = make(name="drive/frame.0001")
    paths = one.save(tmp_path / "new", threshold=0.5)
    assert paths.score == tmp_path / "new/scores/drive/frame.0001.npy"
    assert paths.overlay == tmp_path / "new/overlays/drive/frame.0001.jpg"
    stored = np.load(paths.score)
    assert stored.dtype == np.float32
    assert np.array_equal(stored, one.score)
    with Image.open(paths.overlay) as picture:
        assert picture.format == "JPEG"
        assert picture.size == one.overlay(0.5).size
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [".jpg", ".npy"]


def test_saving_twice_gives_the_same_bytes(make, tmp_path):
    first, second = (make().save(tmp_path / name) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "", "a/../../b"])
def test_a_name_that_leaves_the_folder_is_refused(make, tmp_path, name):
    with pytest.raises(InputError, match="relative name"):
        make(name=name).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_quantiles_run_from_the_smallest_to_the_largest_score(make):
    one = make()
    quantiles = one.quantiles()
    assert quantiles["0.0"] == one.score.min()
    assert quantiles["1.0"] == one.score.max()
    assert quantiles["0.5"] == pytest.approx(float(np.median(one.score)), abs=1e-6)
    assert list(quantiles.values()) == sorted(quantiles.values())


def test_segments_are_those_of_the_scores(make):
    one = make()
    assert sum(found.area for found in one.segments(1.0)) == (one.score >= 1).sum()


def test_scores_that_are_not_finite_name_the_frame_and_count_them(make):
    score = np.zeros((60, 90), np.float32)
    score[0, :3], score[1, 0] = np.nan, np.inf
    with pytest.raises(InputError, match=r"frame 7: 4 of 5400 scores of energy .*\(3 NaN, 1 infinite\)"):
        make(score=score, name="frame 7")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"score": np.zeros((60, 91), np.float32)}, r"score float32 \(60, 90\).*got float32 \(60, 91\)"),
        ({"score": np.zeros((60, 90))}, "got float64"),
        ({"labels": np.zeros((60, 90), np.int64)}, "labels uint8"),
        ({"mask": np.zeros((30, 45), np.uint8)}, "mask uint8"),
        ({"image": np.zeros((60, 90), np.uint8)}, "RGB image"),
    ],
)
def test_wrong_shapes_and_types_say_what_was_expected(make, other, message):
    with pytest.raises(InputError, match=message):
        make(**other)


def test_notebooks_get_a_png(make):
    with Image.open(io.BytesIO(make()._repr_png_())) as picture:
        assert (picture.format, picture.width) == ("PNG", 90)
