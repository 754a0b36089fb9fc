import time

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from strays.drawing import (
    ColourScale,
    draw_heatmap,
    draw_labels,
    draw_mask,
    draw_mask_outline,
    draw_overlay,
    score_quantiles,
)
from strays.errors import InputError
from strays.legend import GROUND_TRUTH, THRESHOLD
from strays.taxonomy import CAMVID

SCALE = ColourScale(0.0, 1.0)


def street(height=90, width=160, seed=0):
    return np.random.default_rng(seed).integers(40, 200, (height, width, 3), dtype=np.uint8)


def square(height=90, width=160, value=1.0):
    score = np.zeros((height, width), np.float32)
    score[30:60, 50:100] = value
    return score


def coloured(picture, colour):
    return (np.asarray(picture) == colour).all(2)


class TestColourScale:
    def test_spans_the_robust_quantiles_of_one_map(self):
        score = np.random.default_rng(1).gumbel(size=(70, 80)).astype(np.float32)
        scale = ColourScale.of(score)
        assert (scale.low, scale.high) == pytest.approx(np.quantile(score, (0.01, 0.999)), rel=1e-5)

    def test_one_outlier_does_not_flatten_the_rest(self):
        score = np.random.default_rng(2).random((100, 100), dtype=np.float32)
        score[0, 0] = 1e9
        assert ColourScale.of(score).high < 1.1

    def test_several_maps_are_pooled(self):
        rng = np.random.default_rng(3)
        maps = [rng.normal(mean, 1, (100, 100)).astype(np.float32) for mean in (0, 0, 4)]
        pooled = np.quantile(np.concatenate([one.ravel() for one in maps]), (0.01, 0.999))
        scale = ColourScale.of(maps)
        assert (scale.low, scale.high) == pytest.approx(pooled, abs=0.35)
        assert ColourScale.of(iter(maps)) == scale

    def test_stored_quantiles_give_the_same_scale_as_the_maps(self):
        maps = [np.random.default_rng(seed).normal(size=(20, 30)) for seed in range(4)]
        assert ColourScale.of_quantiles(map(score_quantiles, maps)) == ColourScale.of(maps)

    @pytest.mark.parametrize("value", [0.0, -7.5, 1e6])
    def test_a_constant_map_is_not_unusual(self, value):
        score = np.full((8, 9), value, np.float32)
        assert (ColourScale.of(score).index(score) == 0).all()

    def test_differences_below_float32_are_none(self):
        score = np.linspace(0, 1e-44, 100, dtype=np.float32)[None]
        assert (ColourScale.of(score).overlay.index(score) == 0).all()

    def test_rare_peaks_on_a_constant_ground_span_the_range(self):
        score = np.zeros((100, 100), np.float32)
        score[0, 0] = 5
        assert ColourScale.of(score) == ColourScale(0.0, 5.0, clear=0.0)

    @pytest.mark.parametrize("power", [0.1, 1.0, 8.0])
    def test_most_of_a_run_stays_clear_whatever_its_distribution(self, power):
        image, score = street(), np.random.default_rng(0).random((90, 160), dtype=np.float32) ** np.float32(power)
        drawn = np.asarray(draw_overlay(image, score, ColourScale.of(score), legend=False))
        assert 0.74 < (drawn == image).all(2).mean() < 0.9
        assert (drawn != image).any(2)[score > np.quantile(score, 0.97)].all()

    def test_half_of_the_pixels_at_the_top_are_still_drawn(self):
        score = np.float32([[0, 1]]).repeat(50, 0)
        drawn = np.asarray(draw_overlay(street(50, 2), score, ColourScale.of(score), legend=False))
        assert np.array_equal(drawn[:, 0], street(50, 2)[:, 0])
        assert (drawn[:, 1] != street(50, 2)[:, 1]).any(1).all()

    @pytest.mark.parametrize("clear", [-0.1, 1.0, np.nan])
    def test_a_clear_score_off_the_scale_is_refused(self, clear):
        with pytest.raises(InputError, match="clear score"):
            ColourScale(0.0, 1.0, clear)

    def test_index_is_linear_rounded_and_clipped(self):
        score = np.linspace(-3, 5, 401, dtype=np.float32)
        expected = np.clip((score.astype(np.float64) + 1) / 4, 0, 1) * 255
        assert np.abs(ColourScale(-1, 3).index(score) - expected).max() <= 0.5001

    def test_extreme_scores_do_not_overflow(self):
        score = np.float32([-3e38, 0, 3e38])
        assert ColourScale(-1e-30, 1e-30).index(score).tolist() == [0, 128, 255]

    @pytest.mark.parametrize("ends", [(1, 1), (2, 1), (np.nan, 1), (0, np.inf), (0, 1e-60), (-3e38, 3e38)])
    def test_ends_that_make_no_scale_are_refused(self, ends):
        with pytest.raises(InputError, match="low < high"):
            ColourScale(*ends)

    @pytest.mark.parametrize("maps", [[], np.zeros((0, 4)), np.float32([[np.nan]]), [np.float32([np.inf, 1])]])
    def test_maps_that_make_no_scale_are_refused(self, maps):
        with pytest.raises(InputError, match="colour scale"):
            ColourScale.of(maps)


class TestOverlay:
    @pytest.mark.parametrize(("height", "width"), [(20, 30), (360, 480), (1024, 2048)])
    def test_adds_only_a_legend_below(self, height, width):
        image, score = street(height, width), np.zeros((height, width), np.float32)
        picture = draw_overlay(image, score, SCALE, threshold=0.5, mask=np.zeros_like(image[..., 0]), label="energy")
        assert picture.mode == "RGB"
        assert picture.width == width
        assert height < picture.height < 1.2 * height + 120
        strip = np.asarray(picture)[height:]
        assert strip.std() > 5

    def test_low_scores_leave_the_image_as_it_is(self):
        image, score = street(), square()
        drawn = np.asarray(draw_overlay(image, score, SCALE, legend=False))
        assert np.array_equal(drawn[score == 0], image[score == 0])
        assert (drawn[score == 1] != image[score == 1]).any(1).all()

    def test_opacity_grows_with_the_score(self):
        image = np.zeros((1, 256, 3), np.uint8)
        score = np.linspace(0, 1, 256, dtype=np.float32)[None]
        white, black = (
            np.asarray(draw_overlay(image + ground, score, SCALE, legend=False)).astype(int)[0]
            for ground in (np.uint8(255), np.uint8(0))
        )
        through = (white - black).mean(1)
        assert (np.diff(through) <= 1).all()
        assert through[0] == 255
        assert 0 < through[-1] < 64

    def test_brightness_grows_with_the_score(self):
        drawn = np.asarray(draw_heatmap(np.linspace(0, 1, 256, dtype=np.float32)[None], SCALE, legend=False))
        assert (np.diff(np.asarray(Image.fromarray(drawn).convert("L")).astype(int)[0]) >= -1).all()

    def test_threshold_is_a_contour_just_outside_the_region(self):
        score = square()
        drawn = draw_overlay(street(), score, SCALE, threshold=0.5, legend=False)
        line = coloured(drawn, THRESHOLD)
        assert line[29, 50:100].all()
        assert line[60, 50:100].all()
        assert line[30:60, 49].all()
        assert line[30:60, 100].all()
        assert not line[30:60, 50:100].any()
        assert line.sum() == 2 * (30 + 50)

    def test_specks_and_pinholes_get_no_line_around_them(self):
        score = square()
        plain = draw_overlay(street(), score, SCALE, threshold=0.5, legend=False)
        score[5, 5] = score[10:12, 150] = 1
        score[45, 70] = 0
        noisy = draw_overlay(street(), score, SCALE, threshold=0.5, legend=False)
        assert np.array_equal(coloured(noisy, THRESHOLD), coloured(plain, THRESHOLD))
        score[5:7, 5:7] = 1
        again = draw_overlay(street(), score, SCALE, threshold=0.5, legend=False)
        assert coloured(again, THRESHOLD).sum() == coloured(plain, THRESHOLD).sum() + 8

    def test_no_pixel_above_the_threshold_draws_no_contour(self):
        assert not coloured(draw_overlay(street(), square(), SCALE, threshold=2.0, legend=False), THRESHOLD).any()

    def test_perfect_detection_shows_both_lines(self):
        mask = square().astype(np.uint8)
        drawn = draw_overlay(street(), square(), SCALE, threshold=0.5, mask=mask, legend=False)
        assert coloured(drawn, THRESHOLD).any()
        assert coloured(drawn, GROUND_TRUTH).any()

    def test_ignored_pixels_are_no_ground_truth(self):
        mask = np.where(square() > 0, 255, 0).astype(np.uint8)
        assert not coloured(draw_overlay(street(), square(), SCALE, mask=mask, legend=False), GROUND_TRUTH).any()

    def test_labels_are_blended_below_the_scores(self):
        image, labels = street(), np.full((90, 160), 3, np.uint8)
        drawn = draw_overlay(image, square(value=0), SCALE, labels=labels, palette=CAMVID.palette, legend=False)
        assert np.array_equal(drawn, draw_labels(image, labels, CAMVID.palette))

    def test_is_deterministic_and_leaves_its_arguments_alone(self):
        image, score, mask = street(), square(), square().astype(np.uint8)
        before = [one.copy() for one in (image, score, mask)]
        first, second = (draw_overlay(image, score, SCALE, 0.5, mask, label="energy") for _ in range(2))
        assert np.array_equal(first, second)
        assert all(map(np.array_equal, before, (image, score, mask)))

    def test_is_fast_enough_for_video(self):
        image, score = street(720, 1280), np.random.default_rng(0).random((720, 1280), dtype=np.float32)
        mask = square(720, 1280).astype(np.uint8)
        spent = []
        for _ in range(5):
            start = time.process_time()
            draw_overlay(image, score, SCALE, 0.999, mask, label="energy")
            spent.append(time.process_time() - start)
        assert min(spent) < 0.06

    def test_arrays_of_several_sizes_are_refused(self):
        with pytest.raises(InputError, match="one size"):
            draw_overlay(street(), square(45, 80), SCALE)
        with pytest.raises(InputError, match="one size"):
            draw_overlay(street(), square(), SCALE, mask=np.zeros((9, 16), np.uint8))

    def test_nan_is_refused_and_counted(self):
        score = square()
        score[0, :4] = np.nan
        with pytest.raises(InputError, match="with 4 NaN"):
            draw_overlay(street(), score, SCALE)

    def test_an_image_that_is_not_rgb_is_refused(self):
        with pytest.raises(InputError, match="RGB"):
            draw_overlay(street()[..., 0], square(), SCALE)


def test_heatmap_has_the_colours_of_the_map():
    drawn = np.asarray(draw_heatmap(np.float32([[0, 0.5, 1]]), SCALE, legend=False))[0]
    expected = colormaps["inferno"]([0, 128, 255])[:, :3] * 255
    assert np.abs(drawn - expected).max() <= 0.5001


def test_heatmap_has_a_legend_on_request():
    assert draw_heatmap(square(), SCALE, "energy").height > 90
    assert draw_heatmap(square(), SCALE, legend=False).size == (160, 90)


def test_labels_are_blended_by_strength():
    image, labels = street(), np.random.default_rng(0).integers(0, 11, (90, 160), dtype=np.uint8)
    assert np.array_equal(draw_labels(image, labels, CAMVID.palette, 0.0), image)
    half = np.asarray(draw_labels(image, labels, CAMVID.palette)).astype(float)
    assert np.abs(half - (image / 2 + CAMVID.palette[labels] / 2)).max() <= 1


def test_a_palette_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"palette \(256, 3\)"):
        draw_labels(street(), np.zeros((90, 160), np.uint8), np.zeros((11, 3), np.uint8))


def test_mask_outline_surrounds_the_anomaly():
    image, mask = street(), square().astype(np.uint8)
    drawn = np.asarray(draw_mask_outline(image, mask))
    line = coloured(drawn, GROUND_TRUTH)
    assert line[29, 50:100].all()
    assert np.array_equal(drawn[mask == 1], image[mask == 1])


def test_mask_tints_anomalies_and_darkens_ignored_pixels():
    image, mask = street(), square().astype(np.uint8)
    mask[70:, :] = 255
    drawn = np.asarray(draw_mask(image, mask)).astype(int)
    assert drawn[70:].mean() < 0.4 * image[70:].mean()
    tinted = drawn[mask == 1].mean(0) - image[mask == 1].mean(0)
    assert tinted[0] < 0 < tinted[2]
    assert np.array_equal(drawn[:25], image[:25])
