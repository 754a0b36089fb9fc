"""Procedural scenes: exact masks, determinism, plausible streets."""

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import label

from strays.data.synthetic import SyntheticScenes, synthetic_scene
from strays.data.synthetic.anomalies import ANOMALIES
from strays.data.synthetic.plan import make_plan
from strays.data.synthetic.solids import Solid
from strays.errors import InputError
from strays.scene import Scene, resize_map
from strays.taxonomy import CAMVID, IGNORE

SMALL = (75, 100)


@cache
def small_scenes() -> tuple[Scene, ...]:
    return tuple(SyntheticScenes(24, size=SMALL))


def test_the_same_seed_gives_the_same_bytes():
    first, second = synthetic_scene(4, (97, 131)), synthetic_scene(4, (97, 131))
    for one, other in ((first.image, second.image), (first.labels, second.labels), (first.mask, second.mask)):
        assert one.tobytes() == other.tobytes()


def test_seeds_give_different_scenes():
    distinct = {scene.image.tobytes() for scene in small_scenes()}
    assert len(distinct) == len(small_scenes())
    means = np.array([scene.image.mean() for scene in small_scenes()])
    assert means.std() > 12


def test_mask_is_exactly_where_labels_are_ignored():
    for scene in small_scenes():
        np.testing.assert_array_equal(scene.mask == 1, scene.labels == IGNORE)
        assert set(np.unique(scene.mask)) == {0, 1}


def test_without_anomalies_the_scene_is_the_same_street_with_an_empty_mask():
    empty, full = synthetic_scene(2, SMALL, anomalies=0), synthetic_scene(2, SMALL)
    assert not empty.mask.any()
    assert not (empty.labels == IGNORE).any()
    sky = (empty.labels == 0) & (full.labels == 0)
    assert sky.mean() > 0.02
    assert np.abs(empty.image[sky].astype(int) - full.image[sky]).mean() < 3


def test_anomalies_change_the_picture_where_the_mask_is():
    for seed in range(2):
        empty, full = synthetic_scene(seed, SMALL, anomalies=0), synthetic_scene(seed, SMALL)
        change = np.abs(empty.image.astype(int) - full.image).mean(-1)
        assert change[full.mask == 1].mean() > 3 * change[full.labels == 0].mean()


def test_all_classes_and_nothing_else_appear():
    counts = sum(np.bincount(scene.labels.ravel(), minlength=256) for scene in small_scenes())
    assert (counts[: len(CAMVID)] > 0).all()
    assert counts[len(CAMVID) : IGNORE].sum() == 0


def test_shares_are_those_of_a_drive():
    counts = sum(np.bincount(scene.labels.ravel(), minlength=256) for scene in small_scenes())
    share = dict(zip(CAMVID.names, counts / counts.sum(), strict=False))
    assert 0.2 < share["road"] < 0.5
    assert 0.08 < share["sky"] < 0.35
    assert share["building"] > 0.08
    assert share["car"] > 0.01
    for scene in small_scenes():
        assert 0.08 < (scene.labels == 3).mean() < 0.65


def test_anomalies_stand_in_the_lower_half_on_road_or_pavement():
    low, total, below = 0, 0, []
    for scene in small_scenes():
        rows, columns = np.nonzero(scene.mask)
        low, total = low + int((rows >= SMALL[0] * 0.4).sum()), total + len(rows)
        under = np.minimum(rows + 1, SMALL[0] - 1)
        below.append(scene.labels[under, columns][scene.mask[under, columns] == 0])
    assert low / total > 0.8
    assert np.isin(np.concatenate(below), (3, 4)).mean() > 0.7


def test_anomalies_are_visible_but_do_not_fill_the_picture():
    shares = np.array([scene.mask.mean() for scene in small_scenes()])
    assert shares.min() > 0
    assert 0.004 < shares.mean() < 0.08
    assert shares.max() < 0.35


@pytest.mark.parametrize("count", [0, 1, 3])
def test_number_of_anomalies(count):
    for seed in range(6):
        figures = make_plan(seed, count).figures
        assert sum(figure.label == IGNORE for figure in figures) == count
    _, found = label(synthetic_scene(3, (180, 240), anomalies=count).mask, np.ones((3, 3)))
    assert found >= count


def test_one_to_three_anomalies_by_default():
    counts = [sum(figure.label == IGNORE for figure in make_plan(seed, None).figures) for seed in range(14)]
    assert set(counts) == {1, 2, 3}


@pytest.mark.parametrize("size", [(97, 131), (131, 97), (40, 200), (8, 8)])
def test_any_size(size):
    scene = synthetic_scene(1, size)
    assert scene.size == size
    assert scene.labels.shape == scene.mask.shape == size


def test_another_size_shows_the_same_composition():
    large, small = synthetic_scene(6, (240, 320)), synthetic_scene(6, (120, 160))
    assert (resize_map(large.labels, small.size) == small.labels).mean() > 0.93
    assert (resize_map(large.mask, small.size) == small.mask).mean() > 0.99


@pytest.mark.parametrize("kind", sorted(ANOMALIES))
def test_every_kind_of_anomaly_varies(kind):
    one, other = (ANOMALIES[kind](np.random.default_rng(seed)) for seed in (1, 2))
    for solids in (one, other):
        bottom = min(solid.centre[1] - solid.radii.max() for solid in solids)
        assert bottom < 0.3
        assert all(np.isfinite(solid.radii).all() and (solid.radii > 0).all() for solid in solids)
    assert _fingerprint(one) != _fingerprint(other)


def _fingerprint(solids: list[Solid]) -> list[bytes]:
    return [solid.centre.tobytes() + solid.radii.tobytes() + solid.colour.tobytes() for solid in solids]


def test_sequence():
    scenes = SyntheticScenes(3, size=(24, 32), seed=9, anomalies=1)
    assert scenes.taxonomy is CAMVID
    assert len(scenes) == 3
    assert scenes.names == ("synthetic-0009", "synthetic-0010", "synthetic-0011")
    assert [scene.name for scene in scenes] == list(scenes.names)
    assert scenes[-1].name == "synthetic-0011"
    with pytest.raises(IndexError):
        scenes[3]


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"size": (4, 60)}, {"anomalies": 9}, {"count": -1}])
def test_wrong_arguments_say_what_is_expected(arguments):
    with pytest.raises(InputError, match="expected"):
        SyntheticScenes(**arguments)
