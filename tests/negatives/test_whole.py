"""Whole images with objects: what counts, what is shown, and which images are passed over."""

import numpy as np
import pytest
from scipy import stats

from strays.errors import InputError
from strays.negatives.objects import Objects
from strays.negatives.sources import Instance, InstanceImage
from strays.negatives.whole import Whole


def whole(folder, **settings):
    return Whole(folder, **{"exclude": "none", **settings})


def test_objects_count_and_nothing_else(source, picture, patch, unchanged) -> None:
    given = picture((60, 90), (10, 20, 30, 40), (45, 70, 10, 15), value=8)
    objects = np.logical_or.reduce([one.mask for one in given.instances])
    kind, scene, random = whole(source(given), flip=False), patch((40, 50)), np.random.default_rng(0)
    before = unchanged(scene)
    for _ in range(20):
        mixed = kind.mix(scene, random)
        top, left = mixed.image[0, 0, :2].astype(int)
        expected = np.where(objects[top : top + 40, left : left + 50], 1, 255)
        assert (mixed.mask != expected).mean() < 0.06
        assert set(np.unique(mixed.mask)) <= {1, 255}
        assert (mixed.labels == 255).all()
        assert (mixed.image[..., 2] == 8).all()
    before.check()


def test_an_image_of_the_size_of_the_patch_is_shown_as_it_is(source, picture, patch) -> None:
    given = picture((40, 50), (10, 20, 30, 5))
    mixed = whole(source(given), flip=False).mix(patch((40, 50)), np.random.default_rng(0))
    np.testing.assert_array_equal(mixed.image, given.image)
    np.testing.assert_array_equal(mixed.mask, np.where(given.instances[0].mask, 1, 255))


@pytest.mark.parametrize(("zoom", "width"), [("1", 60), ("0", 150), ("0.1", 150), ("2", 30)])
def test_the_zoom_is_at_least_what_covers_the_patch(source, picture, zoom: str, width: int) -> None:
    kind = whole(source(picture((100, 200), (0, 0, 100, 200))), zoom=zoom, flip=False)
    columns = kind.sample(np.random.default_rng(0), (40, 60)).image[0, :, 1].astype(float)
    assert np.ptp(columns) + width / 60 == pytest.approx(width, abs=1.5)


def test_small_images_are_enlarged(source, picture) -> None:
    kind = whole(source(picture((10, 20), (0, 0, 10, 20))))
    negative = kind.sample(np.random.default_rng(0), (64, 48))
    assert negative.size == (64, 48)
    assert (negative.mask == 1).all()


def test_half_are_mirrored_with_their_masks(source, picture) -> None:
    kind, random = whole(source(picture((20, 20), (0, 0, 20, 5)))), np.random.default_rng(0)
    found = [kind.sample(random, (20, 20)) for _ in range(200)]
    turned = [bool(one.image[0, 0, 1] > one.image[0, -1, 1]) for one in found]
    assert stats.binomtest(sum(turned), 200).pvalue > 1e-3
    for one in found:
        np.testing.assert_array_equal(one.mask == 1, one.image[..., 1] < 5)


def test_classes_of_the_road_are_excluded_unless_said_otherwise(source, picture) -> None:
    names = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "traffic light", "stop sign", "dog", "train")
    folder = source(*(picture((480, 480), (0, 0, 9, 9, name)) for name in names))
    assert len(Whole(folder)) == 2
    assert len(whole(folder)) == 10


def test_images_without_instances_are_passed_over(source, picture) -> None:
    random = np.random.default_rng(0)
    kind = whole(source(*[picture((30, 30))] * 20, picture((30, 30), (0, 0, 30, 30))))
    assert all((kind.sample(random, (20, 20)).mask == 1).all() for _ in range(5))
    kind = whole(source(picture((30, 30))))
    with pytest.raises(InputError, match=r"in/memory: none of 1 images looked at has an instance .*patches=DIR"):
        kind.sample(random, (20, 20))


def test_the_same_seed_gives_the_same_bytes(source, picture) -> None:
    kind = whole(source(*(picture((50, 60), (5, 5, 9, 9), value=value) for value in range(4))))
    first, again, other = (kind.sample(np.random.default_rng(seed), (30, 30)) for seed in (1, 1, 2))
    assert first.image.tobytes() == again.image.tobytes() != other.image.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()


def test_stuff_is_no_object(source, picture, patch) -> None:
    """Sky and road around a dog: only the dog is a negative, of a whole image and where things are cut out."""
    seen = picture((20, 20), (2, 3, 4, 5, "dog"))
    sky = Instance("sky-other", np.ones((20, 20), bool), stuff=True)
    folder = source(InstanceImage(seen.image, (sky, *seen.instances)), InstanceImage(seen.image, (sky,)))
    cuts = (
        Whole(folder, exclude="none", flip=False),
        *(Objects(folder, cut=cut, side="none") for cut in ("union", "instance")),
    )
    for kind in cuts:
        for seed in range(5):
            mixed = kind.mix(patch((20, 20)), np.random.default_rng(seed))
            assert (mixed.mask == 1).sum() == 20
