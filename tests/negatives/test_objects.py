"""Objects: what is cut, how large it becomes, where it lands, and what happens where nothing fits."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from strays.errors import InputError
from strays.negatives.objects import Objects, random_rectangle, two_labels
from strays.negatives.sources import Instance


def box_of(mask):
    """Top, left, height and width of the box around the pixels of a mask, from their list."""
    points = np.argwhere(mask)
    (top, left), (bottom, right) = points.min(0), points.max(0)
    return int(top), int(left), int(bottom - top + 1), int(right - left + 1)


def mixes(kind, patch, count, seed=0):
    random = np.random.default_rng(seed)
    return [kind.mix(patch, random) for _ in range(count)]


def test_one_instance_as_it_is(source, picture, patch, unchanged) -> None:
    given = picture((30, 40), (5, 7, 10, 6), (20, 30, 4, 8), value=9)
    kind, scene = Objects(source(given), side="none", least=1, flip=False), patch((16, 24))
    before = unchanged(scene)
    for mixed in mixes(kind, scene, 20):
        top, left, height, width = box_of(mixed.mask == 1)
        first = (5, 7) if (height, width) == (10, 6) else (20, 30)
        assert (height, width) in {(10, 6), (4, 8)}
        expected = given.image[first[0] : first[0] + height, first[1] : first[1] + width]
        window = np.s_[top : top + height, left : left + width]
        np.testing.assert_array_equal(mixed.image[window], expected)
        assert (mixed.mask[window] == 1).all()
        assert (mixed.labels[window] == 255).all()
        assert (mixed.mask == 1).sum() == (mixed.labels == 255).sum() == height * width
        assert (mixed.image[mixed.mask == 0] == 255).all()
    before.check()


def test_only_masked_pixels_are_pasted(source, picture, patch) -> None:
    given = picture((20, 20), (0, 0, 1, 1))
    given.instances[0].mask[:] = np.eye(20, dtype=bool)
    mixed = Objects(source(given), side="none", flip=False).mix(patch((20, 20)), np.random.default_rng(0))
    np.testing.assert_array_equal(mixed.mask, np.eye(20))
    assert (mixed.image[~np.eye(20, dtype=bool)] == 255).all()


def test_images_and_instances_are_drawn_alike(source, picture, patch) -> None:
    """Two images, one of which has two instances: 1/2, 1/4, 1/4."""
    folder = source(picture((9, 9), (0, 0, 1, 2)), picture((9, 9), (0, 0, 1, 3), (4, 4, 1, 4)), picture((9, 9)))
    kind = Objects(folder, side="none", flip=False)
    assert len(kind) == 3
    found = Counter(int((mixed.mask == 1).sum()) for mixed in mixes(kind, patch((4, 6)), 800))
    assert set(found) == {2, 3, 4}
    assert stats.chisquare([found[2], found[3], found[4]], [400, 200, 200]).pvalue > 1e-3


def test_every_place_is_equally_likely(source, picture, patch) -> None:
    kind = Objects(source(picture((9, 9), (1, 2, 3, 4))), side="none", flip=False)
    found = Counter(box_of(mixed.mask == 1)[:2] for mixed in mixes(kind, patch((6, 8)), 1000))
    assert set(found) == {(top, left) for top in range(4) for left in range(5)}
    assert stats.chisquare(list(found.values())).pvalue > 1e-3


def test_the_longer_side_is_drawn_log_uniformly(source, picture, patch) -> None:
    kind = Objects(source(picture((120, 120), (0, 0, 50, 100))), side="0.1+0.6", flip=False)
    boxes = [box_of(mixed.mask == 1) for mixed in mixes(kind, patch((300, 310)), 100)]
    shares = np.array([max(height, width) / 300 for _, _, height, width in boxes])
    assert shares.min() >= 0.1 - 1 / 600
    assert shares.max() <= 0.6 + 1 / 600
    assert stats.kstest(np.log(shares), stats.uniform(np.log(0.1), np.log(6)).cdf).pvalue > 1e-3
    assert all(abs(2 * height - width) <= 2 for _, _, height, width in boxes)


def test_published_cuts_are_neither_resized_nor_mirrored_by_default(source, picture) -> None:
    folder = source(picture((9, 9), (0, 0, 9, 9)))
    ours, published, labels = (Objects(folder, cut=cut) for cut in ("instance", "union", "rectangle-or-labels"))
    assert (ours.side, ours.flip, ours.least, ours.count) == ((0.1, 0.6), True, 32, (1, 1))
    assert {(one.side, one.flip, one.least, one.count) for one in (published, labels)} == {(None, False, 1, (1, 1))}
    assert Objects(folder, side="none").least == 1
    assert Objects(folder, cut="union", side="0.2").side == (0.2, 0.2)


def test_half_are_mirrored(source, picture, patch) -> None:
    kind = Objects(source(picture((9, 9), (0, 0, 9, 9))), side="none")
    left = [int(mixed.image[0, 0, 1]) for mixed in mixes(kind, patch((9, 9)), 400)]
    assert set(left) == {0, 8}
    assert stats.binomtest(left.count(0), 400).pvalue > 1e-3


@pytest.mark.parametrize("count", [1, 3, "2+4"])
def test_several_objects(source, picture, patch, count) -> None:
    kind = Objects(source(picture((9, 9), (0, 0, 1, 1))), side="none", count=count)
    found = {int((mixed.mask == 1).sum()) for mixed in mixes(kind, patch((300, 300)), 60)}
    assert found == ({2, 3, 4} if count == "2+4" else {count})


def test_small_instances_are_passed_over(source, picture, patch) -> None:
    folder = source(picture((99, 99), (0, 0, 31, 31), (50, 0, 2, 40)), picture((99, 99), (9, 9, 5, 5)))
    for mixed in mixes(Objects(folder, flip=False, side="0.5"), patch((80, 80)), 30):
        assert box_of(mixed.mask == 1)[2:] == (2, 40)
    least = {box_of(mixed.mask == 1)[2:] for mixed in mixes(Objects(folder, least=1, side="0.5"), patch((80, 80)), 60)}
    assert least == {(2, 40), (40, 40)}


def test_an_object_larger_than_the_patch_gives_way_to_one_that_fits(source, picture, patch) -> None:
    folder = source(picture((50, 50), (0, 0, 40, 3), (0, 0, 5, 5)))
    for mixed in mixes(Objects(folder, side="none"), patch((30, 30)), 20):
        assert (mixed.mask == 1).sum() == 25


@pytest.mark.parametrize("cut", ["instance", "union"])
def test_where_nothing_fits_the_patch_stays_as_it_is(source, picture, patch, cut) -> None:
    kind = Objects(source(picture((50, 50), (0, 0, 40, 3), (0, 40, 40, 3))), cut=cut, side="none")
    scene = patch((30, 60))
    assert kind.mix(scene, np.random.default_rng(0)) is scene
    assert kind.sample(np.random.default_rng(0), (40, 60)) is not None


def test_a_patch_of_one_pixel(source, picture, patch) -> None:
    folder = source(picture((50, 50), (0, 0, 40, 3)))
    for cut in ("instance", "rectangle-or-labels"):
        assert Objects(folder, cut=cut).mix(patch((1, 1)), np.random.default_rng(0)).mask.tolist() == [[1]]


def test_union_is_all_instances_and_what_lies_between_is_not_pasted(source, picture, patch) -> None:
    given = picture((30, 40), (5, 7, 4, 6), (12, 20, 3, 3), (6, 8, 9, 1))
    both = np.logical_or.reduce([one.mask for one in given.instances])
    top, left, height, width = box_of(both)
    for mixed in mixes(Objects(source(picture((9, 9)), given), cut="union"), patch((20, 30)), 20):
        row, column = box_of(mixed.mask == 1)[:2]
        np.testing.assert_array_equal(
            mixed.mask[row : row + height, column : column + width], both[top : top + height, left : left + width]
        )
        assert (mixed.mask == 1).sum() == both.sum()
        taken = np.argwhere(mixed.mask == 1)
        np.testing.assert_array_equal(mixed.image[mixed.mask == 1][:, :2], taken + np.array([top - row, left - column]))


def test_a_union_that_does_not_fit_is_not_replaced_by_another(source, picture, patch) -> None:
    folder = source(picture((50, 50), (0, 0, 40, 3)), picture((50, 50), (0, 0, 5, 5)))
    found = Counter(int((mixed.mask == 1).sum()) for mixed in mixes(Objects(folder, cut="union"), patch((30, 30)), 400))
    assert set(found) == {0, 25}
    assert stats.binomtest(found[0], 400).pvalue > 1e-3


def test_sides_of_rectangles_are_drawn_independently() -> None:
    random = np.random.default_rng(0)
    boxes = [box_of(random_rectangle((40, 56), random)) for _ in range(1800)]
    sides = Counter(box[2:] for box in boxes)
    assert set(sides) == {(height, width) for height in (16, 24, 32) for width in (16, 24, 32)}
    assert stats.chisquare(list(sides.values())).pvalue > 1e-3
    tops, lefts = ([box[at] for box in boxes if box[2:] == (32, 32)] for at in (0, 1))
    assert set(tops) == set(range(9))
    assert set(lefts) == set(range(25))
    assert stats.chisquare([tops.count(one) for one in range(9)]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("size", "expected"),
    [((17, 99), {16}), ((24, 24), {16}), ((25, 25), {16, 24}), ((16, 16), {8}), ((5, 90), {2}), ((1, 1), {1})],
)
def test_rectangles_are_smaller_than_the_shorter_side(size, expected) -> None:
    random = np.random.default_rng(0)
    found = {side for _ in range(40) for side in box_of(random_rectangle(size, random))[2:]}
    assert found == expected


def test_two_ids_are_drawn_with_replacement() -> None:
    """Of "a", which two instances share, and "b": one alone 1/4 each, both 1/2."""
    rows = np.indices((4, 4))[0]
    instances = tuple(Instance(name, rows == row) for name, row in (("a", 0), ("b", 1), ("a", 2)))
    random = np.random.default_rng(0)
    found = Counter(
        tuple(np.flatnonzero(two_labels(instances, lambda mask: mask, random).any(1)).tolist()) for _ in range(800)
    )
    assert set(found) == {(0, 2), (1,), (0, 1, 2)}
    assert stats.chisquare([found[0, 2], found[1,], found[0, 1, 2]], [200, 200, 400]).pvalue > 1e-3


def test_ids_that_a_window_does_not_show_are_not_drawn_and_nameless_instances_are_one_each() -> None:
    rows = np.indices((4, 4))[0]
    instances = tuple(Instance("", rows == row) for row in range(3))
    random = np.random.default_rng(0)
    lower = lambda mask: np.ascontiguousarray(mask[1:])  # noqa: E731
    found = {tuple(np.flatnonzero(two_labels(instances, lower, random).any(1)).tolist()) for _ in range(60)}
    assert found == {(0,), (1,), (0, 1)}
    assert two_labels(instances, lambda mask: mask[3:], random) is None
    assert two_labels((), lower, random) is None


def test_rectangles_and_labels_take_turns(source, picture, patch) -> None:
    """A label that covers a cross is told from any rectangle."""
    given = picture((400, 400), (0, 0, 1, 1))
    given.instances[0].mask[:] = (np.indices((400, 400)) // 10 % 2).sum(0) == 1
    kind = Objects(source(given), cut="rectangle-or-labels", window=64)
    filled = [
        (mixed.mask == 1).sum() == np.prod(box_of(mixed.mask == 1)[2:]) for mixed in mixes(kind, patch((70, 70)), 200)
    ]
    assert stats.binomtest(sum(filled), 200).pvalue > 1e-3
    for share, expected in ((1, True), (0, False)):
        kind = Objects(source(given), cut="rectangle-or-labels", window=64, rectangle=share)
        kinds = {
            bool((one.mask == 1).sum() == np.prod(box_of(one.mask == 1)[2:]))
            for one in mixes(kind, patch((70, 70)), 20)
        }
        assert kinds == {expected}


def test_the_window_of_densehybrid(source, picture) -> None:
    """The short side of 200 pixels becomes 384, times 0.5 to 2: a pixel of it is 0.26 to 1.04 of the image's."""
    kind = Objects(source(picture((200, 300))), cut="rectangle-or-labels", rectangle=1)
    random = np.random.default_rng(0)
    steps, tops = [], []
    for _ in range(200):
        negative = kind.sample(random, (512, 512))
        assert negative.size == (192, 192)
        rows = negative.image[10:-10, 0, 0].astype(float)
        steps.append((rows[-1] - rows[0]) / (len(rows) - 1))
        tops.append(negative.image[0, 0, 0] / max(1e-9, 200 - 192 * steps[-1]))
    zooms = 200 / 384 / np.array(steps)
    assert stats.kstest(zooms, stats.uniform(0.5, 1.5).cdf).pvalue > 1e-3
    small = np.array(tops)[zooms > 0.8]
    assert small.min() < 0.1
    assert 0.9 < small.max() < 1.1
    fixed = Objects(source(picture((200, 300))), cut="rectangle-or-labels", rectangle=1, zoom="1", window=384)
    image = fixed.sample(random, (384, 600)).image
    assert image.shape == (384, 384, 3)
    assert (image[0, 0, 0], image[-1, 0, 0]) == (0, 199)


def test_a_window_is_no_larger_than_the_patch_or_the_image(source, picture) -> None:
    kind = Objects(source(picture((200, 300))), cut="rectangle-or-labels", rectangle=1)
    assert kind.sample(np.random.default_rng(0), (100, 500)).size == (100, 192)
    assert kind.sample(np.random.default_rng(0), (10, 12)).mask.sum() == 25
    kind = Objects(source(picture((40, 30))), cut="rectangle-or-labels", short=30, zoom="0.5", rectangle=1)
    assert kind.sample(np.random.default_rng(0), (100, 100)).size == (20, 15)


def test_the_window_may_lie_anywhere_in_the_patch(source, picture, patch) -> None:
    kind = Objects(
        source(picture((30, 30), (0, 0, 30, 30))), cut="rectangle-or-labels", rectangle=0, short=30, zoom="1"
    )
    found = Counter(box_of(mixed.mask == 1)[:2] for mixed in mixes(kind, patch((33, 34)), 700))
    assert set(found) == {(top, left) for top in range(4) for left in range(5)}
    assert stats.chisquare(list(found.values())).pvalue > 1e-3


def test_feathering_grows_opaque_from_the_edge_inwards(source, picture) -> None:
    kind = Objects(source(picture((20, 20), (3, 4, 9, 9))), side="none", feather=2)
    negative = kind.sample(np.random.default_rng(0), (20, 20))
    np.testing.assert_allclose(negative.opacity[4], [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 2 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_array_equal(negative.mask, 1)
    kind = Objects(source(picture((20, 20), (3, 4, 9, 9))), side="none")
    assert kind.sample(np.random.default_rng(0), (20, 20)).opacity is None


@pytest.mark.parametrize("cut", ["instance", "union", "rectangle-or-labels"])
def test_the_same_seed_gives_the_same_bytes(source, picture, patch, cut) -> None:
    folder = source(*(picture((60, 70), (3, 4, 40, 35), (20, 20, 36, 36), value=value) for value in range(5)))
    kind, scene = Objects(folder, cut=cut, count="1+3", feather=1), patch((64, 80))
    first, again, other = (mixes(kind, scene, 5, seed) for seed in (7, 7, 8))
    assert all(one.image.tobytes() == two.image.tobytes() for one, two in zip(first, again, strict=True))
    assert all(one.mask.tobytes() == two.mask.tobytes() for one, two in zip(first, again, strict=True))
    assert any(one.image.tobytes() != two.image.tobytes() for one, two in zip(first, other, strict=True))


def test_images_without_instances_are_passed_over(source, picture, patch) -> None:
    empty = [picture((40, 40))] * 60
    folder = source(*empty, picture((40, 40), (0, 0, 33, 33)))
    for cut in ("instance", "union", "rectangle-or-labels"):
        kind = Objects(folder, cut=cut, rectangle=0, zoom="1")
        assert all((mixed.mask == 1).any() for mixed in mixes(kind, patch((40, 40)), 5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {},
            r"in/memory: none of 2 images looked at has an object of at least 32 pixels .*set objects:least=1=in",
        ),
        (
            {"least": 1},
            r"none of 2 images looked at has an object to cut out \(exclude=none\); name a folder with masks",
        ),
        ({"cut": "union"}, "none of 2 images looked at has an object to cut out"),
        ({"cut": "rectangle-or-labels", "rectangle": 0}, "none of 2 images looked at has an object to cut out"),
    ],
)
def test_no_instance_at_all(source, picture, patch, settings, message) -> None:
    kind = Objects(source(picture((40, 40)), picture((40, 40))), **settings)
    with pytest.raises(InputError, match=message):
        kind.mix(patch((20, 20)), np.random.default_rng(0))


def test_the_search_for_an_instance_ends(source, picture, patch) -> None:
    kind = Objects(source(*[picture((4, 4))] * 300), cut="union")
    with pytest.raises(InputError, match="none of 100 images looked at"):
        kind.mix(patch((20, 20)), np.random.default_rng(0))


def test_rectangles_need_no_instances(source, picture, patch) -> None:
    kind = Objects(source(picture((40, 40))), cut="rectangle-or-labels", rectangle=1)
    assert (kind.mix(patch((50, 50)), np.random.default_rng(0)).mask == 1).any()


def test_an_unreadable_image_is_a_warning_that_names_it(source, picture, patch) -> None:
    kind = Objects(source("broken.jpg is a damaged JPEG image", picture((9, 9), (0, 0, 5, 5))), side="none")
    with pytest.warns(UserWarning, match="no negatives are cut from it: broken.jpg is a damaged JPEG image"):
        assert all((mixed.mask == 1).sum() == 25 for mixed in mixes(kind, patch((9, 9)), 10))


def test_exclusion(source, picture, patch) -> None:
    folder = source(picture((50, 50), (0, 0, 5, 5, "person")), picture((50, 50), (0, 0, 3, 3, "dog")))
    kind = Objects(folder, exclude="person", side="none")
    assert len(kind) == 1
    assert all((mixed.mask == 1).sum() == 9 for mixed in mixes(kind, patch((9, 9)), 10))
    assert len(Objects(folder, min_size=50)) == 2


def test_folds_share_the_images(source, picture, patch) -> None:
    """Image number n holds an object of n + 1 pixels; the second one is excluded before they are counted."""
    pictures = [picture((50, 50), (0, 0, 1, number + 1, "person" if number == 1 else "dog")) for number in range(20)]
    folder = source(*pictures)
    found = {}
    for fold in ("train", "val", "all"):
        kind = Objects(folder, exclude="person", side="none", fold=fold)
        found[fold] = {int((mixed.mask == 1).sum()) for mixed in mixes(kind, patch((30, 30)), 300)}
        assert len(kind) == len(found[fold])
    assert found["val"] == {1, 10, 18}
    assert found["train"] == set(range(3, 21)) - found["val"]
    assert found["all"] == found["train"] | found["val"]
    with pytest.raises(InputError, match="objects: fold is 'test', expected one of all, train, val"):
        Objects(folder, fold="test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exclude": "person", "fold": "train"}, "exclude=person, fold=train leaves none of its 2 images"),
        ({"exclude": "person+dog"}, "exclude=person.dog leaves none of its 2 images; .*objects:exclude=none=in/memory"),
        ({"min_size": 51}, "exclude=none leaves none of its 2 images; .* or lower min_size"),
        ({"exclude": "unicorn"}, "unicorn"),
        ({"min_size": -1}, "got -1"),
    ],
)
def test_exclusion_that_leaves_nothing_or_is_unknown(source, picture, settings, message) -> None:
    folder = source(picture((50, 50), (0, 0, 5, 5, "person")), picture((50, 50), (0, 0, 3, 3, "dog")))
    with pytest.raises(InputError, match=f"in/memory: .*{message}"):
        Objects(folder, **settings)
