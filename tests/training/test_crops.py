"""Crops: what they show, that chance depends on the key alone, and the order of a run."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.cards import Card
from strays.data import open_scenes
from strays.data.base import SceneSet
from strays.data.idd_lite import IDD_LITE
from strays.errors import InputError
from strays.negatives import Negative, PastedNegatives, build_negatives
from strays.negatives.mixing import Mixture
from strays.scene import Scene
from strays.taxonomy import CAMVID, IGNORE, LabelClass, Taxonomy
from strays.training import crops as module
from strays.training.crops import Crops, SceneMix, crop_batches, random_crop
from strays.training.settings import TrainingSettings


class Listed(SceneSet):
    """Scenes that are there already, and how often each was read."""

    def __init__(self, scenes: list[Scene], name: str = "listed", taxonomy: Taxonomy | None = CAMVID) -> None:
        super().__init__(name, Card(title="Listed", summary="Scenes in memory."), taxonomy=taxonomy)
        self.scenes = scenes
        self.reads: Counter[int] = Counter()

    @property
    def names(self) -> list[str]:
        return [scene.name for scene in self.scenes]

    @property
    def has_labels(self) -> bool:
        return bool(self.scenes) and all(scene.labels is not None for scene in self.scenes)

    @property
    def has_masks(self) -> bool:
        return False

    def read(self, index: int) -> Scene:
        self.reads[index] += 1
        return self.scenes[index]

    def subset(self, indices: list[int]) -> "Listed":
        return Listed([self.scenes[index] for index in indices])


def scene(size: tuple[int, int] = (20, 30), seed: int = 0) -> Scene:
    """Pixels that carry their own position: red the row, green the column, blue and labels both."""
    rows, columns = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    image = np.stack([rows, columns, np.full(size, seed)], -1).astype(np.uint8)
    return Scene(image, labels=((rows + 3 * columns) % 11).astype(np.uint8), name=f"scene {seed}")


def settings(**changes: object) -> TrainingSettings:
    given = {"data": ("unused",), "crop": (16, 24), "scale": (0.5, 2.0), "batch": 2, "seed": 3}
    return TrainingSettings.model_validate(given | changes)


def several(scenes: Scene, crop: tuple[int, int], scale: tuple[float, float], count: int = 40) -> list[tuple]:
    random = np.random.default_rng(0)
    patches = [random_crop(scenes, crop, scale, random) for _ in range(count)]
    return [(patch.image, patch.labels) for patch in patches]


def flipped(image: NDArray[np.uint8]) -> bool:
    return bool(image[0, 0, 1] > image[0, -1, 1])


def test_without_zoom_a_crop_is_a_window_of_image_and_labels() -> None:
    whole = scene()
    windows = set()
    for image, labels in several(whole, (8, 12), (1.0, 1.0)):
        rows, columns = image[..., 0].astype(int), image[..., 1].astype(int)
        across = -1 if flipped(image) else 1
        # between two pixels Pillow rounds the colours; labels are those of the nearest pixel, one off at most
        assert (np.diff(rows, axis=0) == 1).all()
        assert (np.diff(columns, axis=1) == across).all()
        assert any(np.array_equal(labels, other) for other in windows_near(whole, rows, columns))
        windows.add((rows[0, 0], columns[0].min()))
    assert len(windows) > 20


def windows_near(whole: Scene, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    height, width = whole.size
    return [whole.labels[(rows + dy).clip(0, height - 1), (columns + dx).clip(0, width - 1)] for dy, dx in shifts]


def test_half_of_them_are_mirrored_and_labels_with_them() -> None:
    whole = scene((8, 12))
    found = several(whole, (8, 12), (1.0, 1.0), 200)
    mirrored = [flipped(image) for image, _ in found]
    assert 70 < sum(mirrored) < 130
    for (image, labels), turned in zip(found, mirrored, strict=True):
        assert np.array_equal(image, whole.image[:, ::-1] if turned else whole.image)
        assert np.array_equal(labels, whole.labels[:, ::-1] if turned else whole.labels)


def test_the_zoom_covers_its_range_evenly_on_a_logarithmic_scale() -> None:
    spans = np.array([np.ptp(image[..., 1]) for image, _ in several(scene((90, 120)), (16, 24), (0.5, 2.0), 300)])
    zooms = 23 / spans
    assert zooms.min() > 0.45
    assert zooms.max() < 2.4
    assert 0.85 < np.median(zooms) < 1.2
    assert 0.4 < np.mean(np.abs(np.log2(zooms)) < 0.5) < 0.6


def test_beyond_the_border_labels_are_ignored_and_the_image_is_mirrored() -> None:
    whole = scene((10, 12))
    seen = 0
    for image, labels in several(whole, (16, 24), (1.0, 1.0)):
        inside = labels != IGNORE
        assert inside.sum() == 10 * 12
        rows, columns = np.nonzero(inside)
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        content = whole.labels[:, ::-1] if image[box][0, 0, 1] > image[box][0, -1, 1] else whole.labels
        assert np.array_equal(labels[box], content)
        top = rows.min()
        assert np.array_equal(image[top - 1], image[top])
        seen += 1
    assert seen == 40


def test_zooming_out_of_a_small_scene_leaves_most_of_it_ignored() -> None:
    shares = [np.mean(labels != IGNORE) for _, labels in several(scene((16, 24)), (16, 24), (0.5, 0.5))]
    assert 0.2 < np.mean(shares) < 0.3


def test_labels_are_never_mixed() -> None:
    labels = np.where(np.arange(400).reshape(20, 20) % 2, 10, 0).astype(np.uint8)
    whole = Scene(np.zeros((20, 20, 3), np.uint8), labels=labels)
    for _, found in several(whole, (16, 24), (0.5, 2.0)):
        assert set(np.unique(found)) <= {0, 10, IGNORE}


def test_a_scene_without_labels_is_named() -> None:
    with pytest.raises(InputError, match="lonely has no class labels"):
        random_crop(Scene(np.zeros((4, 4, 3), np.uint8), name="lonely"), (2, 2), (1, 1), np.random.default_rng(0))


def test_the_same_key_gives_the_same_crop() -> None:
    mix = SceneMix([Listed([scene(seed=0), scene(seed=1)])])
    crops, again = Crops(mix, settings()), Crops(mix, settings())
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]
    first = {key: crops[key] for key in keys}
    for key in reversed(keys):
        for one, other in zip(again[key], first[key], strict=True):
            assert torch.equal(one, other)
    image, labels, mask, index = first[0, 0]
    assert (mask.shape, mask.dtype, int(index)) == ((16, 24), torch.uint8, 0)
    assert (image.shape, image.dtype) == ((3, 16, 24), torch.uint8)
    assert (labels.shape, labels.dtype) == ((16, 24), torch.uint8)
    assert not torch.equal(image, first[1, 0][0])
    assert not torch.equal(image, Crops(mix, settings(seed=4))[0, 0][0])


def batches(count: int, start: int, steps: int, workers: int = 0, **changes: object) -> list[tuple[Tensor, Tensor]]:
    mix = SceneMix([Listed([scene(seed=seed) for seed in range(count)])])
    found = crop_batches(Crops(mix, settings(**changes)), start, steps, workers)
    return [(batch.images, batch.labels) for batch in found]


def shown(found: list[tuple[Tensor, Tensor]]) -> list[list[int]]:
    """Which scenes a batch shows: the blue channel says."""
    return [images[:, 2, 0, 0].tolist() for images, _ in found]


def test_every_epoch_visits_each_scene_once_in_another_order() -> None:
    epochs = shown(batches(6, 0, 9))
    orders = [list(chain(*epochs[start : start + 3])) for start in (0, 3, 6)]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_an_incomplete_batch_is_dropped() -> None:
    orders = [list(chain(*shown(batches(7, start, start + 3)))) for start in (0, 3, 6)]
    assert all(len(set(order)) == 6 for order in orders)
    assert shown(batches(7, 0, 9)) == [*shown(batches(7, 0, 3)), *shown(batches(7, 3, 9))]


def test_a_run_that_starts_in_the_middle_sees_the_same() -> None:
    whole, rest = batches(7, 0, 8), batches(7, 4, 8)
    assert len(whole) == 8
    assert len(rest) == 4
    for (images, labels), (other, others) in zip(whole[4:], rest, strict=True):
        assert torch.equal(images, other)
        assert torch.equal(labels, others)


def test_a_finished_run_sees_nothing_more() -> None:
    assert batches(7, 8, 8) == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_workers_change_nothing() -> None:
    for (images, labels), (other, others) in zip(batches(5, 1, 4), batches(5, 1, 4, workers=1), strict=True):
        assert torch.equal(images, other)
        assert torch.equal(labels, others)


class Stamp(PastedNegatives):
    """A grey square of two pixels."""

    card = Card(title="Stamp", summary="For tests.")

    def __len__(self) -> int:
        return 1

    def sample(self, random: np.random.Generator, size: tuple[int, int]) -> Negative:
        return Negative(np.full((2, 2, 3), 99, np.uint8), np.ones((2, 2), np.uint8))


def test_negatives_are_mixed_in_by_the_same_key() -> None:
    mix = SceneMix([Listed([scene(seed=0), scene(seed=1)])])
    crops = Crops(mix, settings(), Mixture([Stamp()], 1.0))
    plain = Crops(mix, settings())
    for key in ((0, 0), (0, 1), (5, 1)):
        image, labels, mask, _ = crops[key]
        negative = mask == 1
        assert negative.sum() == 4
        assert (labels[negative] == IGNORE).all()
        assert (image[:, negative] == 99).all()
        before = plain[key]
        assert torch.equal(image[:, ~negative], before.images[:, ~negative])
        assert torch.equal(labels[~negative], before.labels[~negative])
        assert torch.equal(crops[key].mask, mask)


def test_labels_are_those_of_the_network() -> None:
    known = Taxonomy(name="some", classes=tuple(CAMVID.classes[index] for index in (3, 0, 8)))
    mix = SceneMix([Listed([scene()])], known)
    expected = np.full(256, IGNORE, np.uint8)
    expected[[3, 0, 8]] = 0, 1, 2
    np.testing.assert_array_equal(mix[0].labels, expected[scene().labels])
    assert mix.space.groups == []
    found, before = Crops(mix, settings())[0, 0].labels, Crops(SceneMix([Listed([scene()])]), settings())[0, 0].labels
    assert torch.equal(found, torch.from_numpy(expected[before.numpy()]))


def test_coarse_classes_are_groups_of_the_first_set() -> None:
    coarse = Scene(
        np.zeros((4, 6, 3), np.uint8), labels=np.arange(24, dtype=np.uint8).reshape(4, 6) % 7, name="far away"
    )
    mix = SceneMix([Listed([scene()]), Listed([coarse], "other", IDD_LITE)])
    np.testing.assert_array_equal(mix[0].labels, scene().labels)
    names = [[CAMVID.names[index] for index in group] for group in mix.space.groups]
    assert names == [["pedestrian", "bicyclist"], ["car", "bicyclist"], ["pole", "sign", "fence"], ["building", "tree"]]
    np.testing.assert_array_equal(mix[1].labels, np.array([3, 4, 11, 12, 13, 14, 0], np.uint8)[coarse.labels])


def test_what_shows_no_scene_is_masked() -> None:
    whole = scene((10, 12))
    outside = np.zeros(whole.size, bool)
    outside[7:] = True
    patch = random_crop(replace(whole, outside=outside), (16, 24), (1.0, 1.0), np.random.default_rng(0))
    rows = np.flatnonzero((patch.labels != IGNORE).any(1))
    assert len(rows) == 10
    inside = (patch.labels != IGNORE) & (np.arange(16)[:, None] < rows[0] + 7)
    assert (patch.mask == np.where(inside, 0, IGNORE)).all()
    assert not random_crop(whole, (10, 12), (1.0, 1.0), np.random.default_rng(0)).mask.any()


def test_processes_share_a_batch() -> None:
    mix = SceneMix([Listed([scene(seed=seed) for seed in range(9)])])
    crops = Crops(mix, settings(batch=4))
    whole = [batch.indices.tolist() for batch in crop_batches(crops, 0, 4)]
    parts = [[batch.indices.tolist() for batch in crop_batches(crops, 0, 4, 0, rank, 2)] for rank in (0, 1)]
    assert [[*one, *other] for one, other in zip(*parts, strict=True)] == whole


def test_parts_of_a_batch() -> None:
    (batch,) = crop_batches(Crops(SceneMix([Listed([scene(seed=seed) for seed in range(4)])]), settings(batch=4)), 0, 1)
    first, second = batch.parts(2)
    assert torch.equal(torch.cat([first.images, second.images]), batch.images)
    assert [*first.indices, *second.indices] == [*batch.indices]


def test_scenes_are_called_by_their_set() -> None:
    mix = SceneMix([Listed([scene(seed=0)], "first"), Listed([scene(seed=1), scene(seed=2)], "second")])
    assert [mix.scene_name(index) for index in range(3)] == ["first/scene 0", "second/scene 1", "second/scene 2"]


def test_a_mix_lists_all_scenes_and_keeps_what_it_read() -> None:
    first, second = Listed([scene(seed=0), scene(seed=1)], "first"), Listed([scene(seed=2)], "second")
    mix = SceneMix([first, second])
    assert len(mix) == 3
    assert mix.names == ("first", "second")
    assert mix.space.target == CAMVID
    for _ in range(2):
        assert [one.name for one in mix] == ["scene 0", "scene 1", "scene 2"]
    assert first.reads == {0: 1, 1: 1}


def test_a_mix_keeps_no_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    one = scene()
    monkeypatch.setattr(module, "_CACHED_BYTES", one.image.nbytes * 4 // 3)
    source = Listed([scene(seed=0), scene(seed=1)])
    mix = SceneMix([source])
    for _ in range(3):
        list(mix)
    assert source.reads == {0: 1, 1: 3}


def test_sets_that_cannot_be_mixed_are_named(camvid: Path) -> None:
    real = open_scenes(f"camvid={camvid}", split="train")
    with pytest.raises(InputError, match="training needs scenes with class labels"):
        SceneMix([])
    with pytest.raises(InputError, match="listed has scenes without class labels"):
        SceneMix([Listed([scene()], taxonomy=None)])
    strange = Taxonomy(name="strange", classes=(LabelClass(name="moon", colour=(0, 0, 0)),))
    with pytest.raises(
        InputError, match="other and what is trained share no class: it has moon; the network knows sky,"
    ):
        SceneMix([real, Listed([scene()], "other", strange)])
    with pytest.raises(InputError, match="bare has scenes without class labels"):
        SceneMix([real, Listed([Scene(np.zeros((4, 4, 3), np.uint8))], "bare")])


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_a_crop_is_told_as_it_is(workers: int) -> None:
    bare = Scene(np.zeros((20, 30, 3), np.uint8), name="bare")
    mix = SceneMix([Listed([scene()])])
    mix._cache[0] = bare
    with pytest.raises(InputError) as told:
        list(crop_batches(Crops(mix, settings(batch=1)), 0, 1, workers))
    assert str(told.value) == "bare has no class labels, so nothing can be learnt from it"


def test_classes_that_the_network_does_not_have_are_no_negatives() -> None:
    """Labelled pixels of another class count nowhere, unlabelled ones may be negatives."""
    one = scene()
    labels = one.labels.copy()
    labels[:5] = IGNORE
    own = np.zeros(one.size, bool)
    own[-2:] = True
    known = Taxonomy(name="some", classes=CAMVID.classes[:6])
    mix = SceneMix([Listed([replace(one, labels=labels, outside=own)])], known)
    expected = own | ((labels >= 6) & (labels != IGNORE))
    np.testing.assert_array_equal(mix[0].outside, expected)
    patch = random_crop(mix[0], one.size, (1.0, 1.0), np.random.default_rng(0))
    mixed = Mixture([build_negatives("void")], 1.0).mix(patch, np.random.default_rng(0))
    assert ((mixed.mask == 1) == ((patch.labels == IGNORE) & (patch.mask == 0))).all()
    assert (mixed.mask == 1).sum() == 5 * 30
    assert SceneMix([Listed([one])])[0].outside is None
