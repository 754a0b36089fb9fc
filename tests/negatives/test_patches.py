"""Noisy negatives: the area of boxes, what they show, and whole images."""

from collections import Counter
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from strays.errors import InputError
from strays.negatives.patches import Patches


def samples(kind, size, count, seed=0):
    random = np.random.default_rng(seed)
    return [kind.sample(random, size) for _ in range(count)]


def test_the_area_of_a_box_is_a_whole_number_of_thousandths(source, picture) -> None:
    """Of a square box in a square patch, the side is the root of the area, rounded down."""
    kind = Patches(source(picture((50, 50), (5, 5, 20, 20))), whole=0)
    sides = Counter(negative.size for negative in samples(kind, (1000, 1000), 300))
    expected = [int(20 * sqrt(share / 1000 * 1000 * 1000 / 400)) for share in range(1, 101)]
    assert set(sides) <= {(side, side) for side in expected}
    ranks = [expected.index(side) for (side, _), count in sides.items() for _ in range(count)]
    assert stats.chisquare(np.histogram(ranks, 10, (0, 100))[0]).pvalue > 1e-3
    assert {min(ranks), max(ranks)} <= {*range(4), *range(96, 100)}


def test_the_aspect_is_kept_and_the_box_is_that_of_an_instance(source, picture) -> None:
    given = picture((60, 80), (10, 20, 30, 10), (40, 0, 8, 64))
    kind, seen = Patches(source(given), whole=0, flip=False), set()
    for negative in samples(kind, (400, 500), 60):
        height, width = negative.size
        aspect = 3 if height > width else 1 / 8
        assert abs(height - aspect * width) <= max(1, aspect)
        assert 0.8 * 200 - height - width <= height * width <= 0.1 * 200_000
        top, left, rows, columns = (10, 20, 30, 10) if aspect == 3 else (40, 0, 8, 64)
        assert negative.image[..., 0].min() >= top
        assert negative.image[..., 0].max() <= top + rows - 1
        assert abs(int(negative.image[height // 2, width // 2, 1]) - (left + columns / 2)) <= 2
        assert (negative.mask == 1).all()
        seen.add(aspect)
    assert seen == {3, 1 / 8}


def test_a_box_is_opaque_whatever_the_mask_of_the_instance(source, picture, patch) -> None:
    given = picture((20, 20), (0, 0, 1, 1))
    given.instances[0].mask[:] = np.eye(20, dtype=bool)
    mixed = Patches(source(given), whole=0, area=100).mix(patch((100, 100)), np.random.default_rng(0))
    assert (mixed.mask == 1).sum() == (mixed.labels == 255).sum() == int(sqrt(1000)) ** 2
    assert (mixed.image[mixed.mask == 1] < 20).all()


def test_no_box_is_larger_than_the_patch(source, picture) -> None:
    kind = Patches(source(picture((40, 90), (3, 0, 2, 80))), whole=0, area="900+1000")
    for negative in samples(kind, (50, 60), 10):
        assert negative.size[0] == 1
        assert negative.size[1] in (59, 60)


def test_random_boxes_where_there_are_no_instances(source, picture) -> None:
    kind = Patches(source(picture((100, 200))), whole=0, area=50, flip=False)
    spans = []
    for negative in samples(kind, (1000, 1000), 200):
        rows, columns = negative.image[:, 0, 0].astype(float), negative.image[0, :, 1].astype(float)
        spans.append((np.ptp(rows) + 1, np.ptp(columns) + 1, rows[0], columns[0]))
        assert negative.size[0] / negative.size[1] == pytest.approx(spans[-1][0] / spans[-1][1], rel=0.1)
    heights, widths, tops, lefts = np.array(spans).T
    assert 24 <= heights.min() <= 30
    assert 95 <= heights.max() <= 100
    assert 48 <= widths.min() <= 60
    assert 190 <= widths.max() <= 200
    assert stats.pearsonr(heights, widths).pvalue > 1e-3
    assert tops.max() > 50
    assert lefts.max() > 100


@pytest.mark.parametrize("whole", [0, 0.5, 1])
def test_how_many_are_whole_images(source, picture, whole: float) -> None:
    kind = Patches(source(picture((60, 60))), whole=whole)
    count = sum(negative.size == (40, 50) for negative in samples(kind, (40, 50), 200))
    if whole == 0.5:
        assert stats.binomtest(count, 200).pvalue > 1e-3
    else:
        assert count == 200 * whole


def test_a_whole_image_replaces_the_scene(source, picture, patch) -> None:
    mixed = Patches(source(picture((60, 60), value=7)), whole=1).mix(patch((40, 50)), np.random.default_rng(0))
    assert (mixed.labels == 255).all()
    assert (mixed.mask == 1).all()
    assert (mixed.image[..., 2] == 7).all()


def test_outside_the_boxes_of_a_whole_image_nothing_counts(source, picture) -> None:
    given = picture((60, 90), (0, 0, 45, 80), (30, 70, 30, 20))
    given.instances[0].mask[1:44, 1:79] = False
    boxes = np.zeros((60, 90), bool)
    boxes[:45, :80] = boxes[30:, 70:] = True
    kind = Patches(source(given), whole=1, fit=0, zoom="1", flip=False)
    for negative in samples(kind, (40, 50), 20):
        top, left = (round(float(negative.image[0, 0, at])) for at in (0, 1))
        expected = np.where(boxes[top : top + 40, left : left + 50], 1, 255)
        # Windows lie between pixels, so that edges may be one pixel off.
        assert (negative.mask != expected).mean() < 0.05


@pytest.mark.parametrize(("columns", "least"), [(70, 0.8), (50, 0.5)])
def test_windows_with_much_that_does_not_count_are_drawn_again(source, picture, columns: int, least: float) -> None:
    """Of a patch as wide as 50 of 100 columns, 80 % are in a box of 70 columns for windows up to 30, of 0 to 50."""
    kind = Patches(source(picture((50, 100), (0, 0, 50, columns))), whole=1, fit=0, zoom="1", flip=False)
    shares = [float((negative.mask == 1).mean()) for negative in samples(kind, (50, 50), 60)]
    assert min(shares) >= least
    assert max(shares) == 1


def test_where_no_window_will_do_one_is_taken_all_the_same(source, picture) -> None:
    kind = Patches(source(picture((50, 100), (0, 0, 50, 2))), whole=1)
    shares = [float((negative.mask == 1).mean()) for negative in samples(kind, (50, 50), 60)]
    assert max(shares) < 0.2


def test_zoom_of_whole_images(source, picture) -> None:
    """The width of the window in pixels of the image tells the scale: 0.75 to 1.5, and 0.4 where it just fits."""
    kind = Patches(source(picture((100, 200))), whole=1, flip=False)
    widths = [np.ptp(negative.image[..., 1].astype(float)) + 1 for negative in samples(kind, (40, 60), 400)]
    scales = 60 / np.array(widths)
    fitted = scales < 0.6
    assert scales[fitted] == pytest.approx(0.4, rel=0.02)
    assert stats.binomtest(int(fitted.sum()), 400, 0.3).pvalue > 1e-3
    assert stats.chisquare(np.histogram(scales[~fitted], 5, (0.75, 1.5))[0]).pvalue > 1e-3
    assert scales[~fitted].min() > 0.74
    assert scales.max() < 1.55


def test_images_smaller_than_the_patch_are_enlarged(source, picture) -> None:
    kind = Patches(source(picture((10, 20))), whole=1)
    assert all(negative.size == (64, 48) and (negative.mask == 1).all() for negative in samples(kind, (64, 48), 5))


@pytest.mark.parametrize("whole", [0, 1])
def test_half_are_mirrored(source, picture, whole: int) -> None:
    folder = source(picture((60, 60), (0, 0, 60, 60)))
    falls = [
        bool(one.image[0, 0, 1] > one.image[0, -1, 1]) for one in samples(Patches(folder, whole=whole), (60, 60), 200)
    ]
    assert stats.binomtest(sum(falls), 200).pvalue > 1e-3
    assert not any(
        one.image[0, 0, 1] > one.image[0, -1, 1] for one in samples(Patches(folder, flip=False), (60, 60), 20)
    )


def test_the_ablations_of_the_journal(source, picture) -> None:
    folder = source(picture((50, 50)))
    assert {one.size for one in samples(Patches(folder, whole=0, area=100), (100, 100), 20)} != {(100, 100)}
    square = source(picture((50, 50), (0, 0, 50, 50)))
    assert {one.size for one in samples(Patches(square, whole=0, area=250), (100, 100), 20)} == {(50, 50)}


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (15, 15)])
def test_small_patches(source, picture, patch, size: tuple[int, int]) -> None:
    kind, scene = Patches(source(picture((30, 30), (0, 0, 30, 1)))), patch(size)
    random = np.random.default_rng(0)
    assert all((kind.mix(scene, random).labels == 255).any() for _ in range(10))


def test_the_same_seed_gives_the_same_bytes(source, picture) -> None:
    kind = Patches(source(*(picture((50, 60), (5, 5, 9, 9), value=value) for value in range(4))))
    first, again, other = (samples(kind, (40, 40), 6, seed) for seed in (1, 1, 2))
    assert all(one.image.tobytes() == two.image.tobytes() for one, two in zip(first, again, strict=True))
    assert any(one.image.tobytes() != two.image.tobytes() for one, two in zip(first, other, strict=True))


@pytest.mark.filterwarnings("ignore:no negatives are cut")
def test_a_folder_of_which_nothing_can_be_read(source) -> None:
    kind = Patches(source("a is broken", "b is broken"))
    with pytest.raises(InputError, match=r"in/memory: none of 2 images looked at has pixels that can be read .*again"):
        kind.sample(np.random.default_rng(0), (9, 9))
