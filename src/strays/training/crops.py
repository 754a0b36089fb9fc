"""Random crops of scenes in an order that depends only on the seed and the position in the run."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from strays.data.base import SceneSet
from strays.errors import InputError
from strays.negatives import Patch
from strays.negatives.mixing import Mixture
from strays.scene import Scene
from strays.taxonomy import IGNORE, LabelSpace, Taxonomy
from strays.training.cameras import another_camera
from strays.training.settings import TrainingSettings

__all__ = ["Batch", "Crops", "SceneMix", "crop_batches", "known_classes", "random_crop"]

_CACHED_BYTES = 2 * 1024**3


class SceneMix(Sequence[Scene]):
    """Labelled scenes of several data sets, their labels those of one network; up to 2 GiB of them stay in memory.

    Args:
        sets: the data sets.
        target: the classes of the network; those of the first set by default.

    Attributes:
        space: what the labels mean; coarse classes of some data sets become groups of classes in it.
        names: what the data sets are called.

    Raises:
        InputError: if the sets are empty, have no labels, or share no class with the network.
    """

    def __init__(self, sets: Sequence[SceneSet], target: Taxonomy | None = None) -> None:
        self.space = LabelSpace(known_classes(sets) if target is None else target)
        taxonomies = [_taxonomy_of(one) for one in sets]
        self.names = tuple(one.name for one in sets)
        self._sets = tuple(sets)
        tables = [self._labels_of(one, taxonomy) for one, taxonomy in zip(sets, taxonomies, strict=True)]
        self._entries = [(one, n, table) for one, table in zip(sets, tables, strict=True) for n in range(len(one))]
        self._cache: dict[int, Scene] = {}
        self._room = _CACHED_BYTES

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Scene:  # type: ignore[override]
        scene = self._cache.get(index)
        if scene is None:
            scene = self._read(index)
            if self._room > 0:
                self._cache[index] = scene
                self._room -= scene.image.nbytes * 4 // 3
        return scene

    def _read(self, index: int) -> Scene:
        chosen, position, table = self._entries[index]
        scene = chosen[position]
        if scene.labels is None:
            return scene
        labels = table[scene.labels]
        # Of a class that the network does not have: neither inlier nor, as unlabelled pixels may be, negative.
        unknown = (labels == IGNORE) & (scene.labels != IGNORE)
        outside = unknown if scene.outside is None else scene.outside | unknown
        return replace(scene, labels=labels, outside=outside if outside.any() else None)

    def _labels_of(self, scenes: SceneSet, taxonomy: Taxonomy) -> NDArray[np.uint8]:
        if taxonomy == self.space.target:
            return np.arange(256, dtype=np.uint8)
        table = self.space.labels_of(taxonomy)
        if (table == IGNORE).all():
            raise InputError(
                f"{scenes.name} and what is trained share no class: it has {', '.join(taxonomy.names)}; the network "
                f"knows {', '.join(self.space.target.names)}"
            )
        return table

    def digest(self) -> str:
        """Return eight digits that tell these scenes, by their names and their order, from others."""
        names = json.dumps([(one.name, one.names) for one in self._sets])
        return hashlib.sha256(names.encode()).hexdigest()[:8]

    def scene_name(self, index: int) -> str:
        """Return what a scene is called, its data set first."""
        chosen, position, _ = self._entries[index]
        return f"{chosen.name}/{chosen.names[position]}"


def known_classes(sets: Sequence[SceneSet]) -> Taxonomy:
    """Return the classes of the first data set.

    Raises:
        InputError: if there is none, or it has no labels.
    """
    if not sets:
        raise InputError("training needs scenes with class labels: name a data set with labels in --data")
    return _taxonomy_of(sets[0])


def _taxonomy_of(scenes: SceneSet) -> Taxonomy:
    if not scenes.has_labels or scenes.taxonomy is None:
        raise InputError(f"{scenes.name} has scenes without class labels, so nothing can be learnt from them")
    return scenes.taxonomy


class Batch(NamedTuple):
    """Crops by the channel: images (N, 3, h, w), labels and masks (N, h, w), uint8; and the numbers of their scenes."""

    images: Tensor
    labels: Tensor
    mask: Tensor
    indices: Tensor

    def parts(self, count: int) -> Iterator["Batch"]:
        """Yield the batch in equal parts."""
        yield from map(Batch._make, zip(*(one.chunk(count) for one in self), strict=True))


class Crops(Dataset[Batch]):
    """Crops by (epoch, index): the same pair always gives the same crop, with the same negative in it.

    Args:
        scenes: what is cropped.
        settings: crop, zoom, camera and seed.
        mixture: what negatives are mixed in; none by default.
    """

    def __init__(self, scenes: SceneMix, settings: TrainingSettings, mixture: Mixture | None = None) -> None:
        self.scenes = scenes
        self.settings = settings
        self.mixture = mixture

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        random = np.random.default_rng([self.settings.seed, epoch, index])
        patch = random_crop(self.scenes[index], self.settings.crop, self.settings.scale, random)
        if self.mixture is not None:
            patch = self.mixture.mix(patch, random)
        image = torch.tensor(another_camera(patch.image, self.settings.camera, random)).permute(2, 0, 1)
        return Batch(image, torch.from_numpy(patch.labels), torch.from_numpy(patch.mask), torch.tensor(index))


def random_crop(scene: Scene, crop: tuple[int, int], scale: tuple[float, float], random: np.random.Generator) -> Patch:
    """Return a random window of a labelled scene, zoomed and mirrored at random.

    Args:
        scene: a scene with labels.
        crop: (h, w) of the result.
        scale: range of the zoom, drawn log-uniformly; 2 shows things twice as large.
        random: where the chance comes from.

    Beyond the border of the scene the image is mirrored, the labels are 255, and so is the mask.
    """
    if scene.labels is None:
        raise InputError(f"{scene.name} has no class labels, so nothing can be learnt from it")
    zoom = float(np.exp(random.uniform(*np.log(scale))))
    gaps = [max(0, int(np.ceil(side / zoom)) - have) for side, have in zip(crop, scene.size, strict=True)]
    window = [side / zoom for side in crop]
    whole = (have + gap for have, gap in zip(scene.size, gaps, strict=True))
    top, left = (random.uniform(0, have - want) for have, want in zip(whole, window, strict=True))
    box = (left, top, left + window[1], top + window[0])
    step = -1 if random.random() < 0.5 else 1

    def cut(values: NDArray[np.uint8], beyond: int | None, filter_: Image.Resampling) -> NDArray[np.uint8]:
        padded = Image.fromarray(_padded(values, gaps, beyond))
        pixels = np.asarray(padded.resize((crop[1], crop[0]), filter_, box=box))
        return pixels[:, ::step].copy()

    image = cut(scene.image, None, Image.Resampling.BILINEAR)
    labels = cut(scene.labels, IGNORE, Image.Resampling.NEAREST)
    return Patch(image, labels, cut(_mask(scene), IGNORE, Image.Resampling.NEAREST))


def _mask(scene: Scene) -> NDArray[np.uint8]:
    if scene.outside is None:
        return np.zeros(scene.size, np.uint8)
    return np.where(scene.outside, np.uint8(IGNORE), np.uint8(0))


def _padded(values: NDArray[np.uint8], gaps: Sequence[int], beyond: int | None) -> NDArray[np.uint8]:
    """Return values (H, W, ...) with a border around them, mirrored or of one value."""
    if not any(gaps):
        return values
    around = [(gap // 2, gap - gap // 2) for gap in gaps] + [(0, 0)] * (values.ndim - 2)
    if beyond is None:
        return np.pad(values, around, mode="symmetric")
    return np.pad(values, around, constant_values=beyond)


def crop_batches(
    crops: Crops, start: int, steps: int, workers: int = 0, rank: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """Yield the batches of steps ``start`` to ``steps`` of a run, or of each the part that is one process's.

    Every epoch visits all scenes once in an order of its own; the last incomplete batch of an epoch is dropped.
    """
    keys = _Keys(crops.settings, len(crops.scenes), range(start, steps), rank, processes)
    loader = DataLoader(
        _Told(crops), batch_sampler=keys, num_workers=workers, persistent_workers=workers > 0, collate_fn=_collated
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


class _Keys(Sampler[list[tuple[int, int]]]):
    """The keys of the crops of each step, in the part of one process."""

    def __init__(self, settings: TrainingSettings, scenes: int, steps: range, rank: int, processes: int) -> None:
        self._settings, self._scenes, self._steps = settings, scenes, steps
        self._rank, self._processes = rank, processes

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch = self._settings.batch
        share, per_epoch = batch // self._processes, self._scenes // batch
        order, shuffled = np.arange(0), -1
        for step in self._steps:
            epoch, position = divmod(step, per_epoch)
            if epoch != shuffled:
                order, shuffled = np.random.default_rng([self._settings.seed, epoch]).permutation(self._scenes), epoch
            chosen = order[position * batch + self._rank * share :][:share]
            yield [(epoch, int(index)) for index in chosen]


class _Told(Dataset[Batch | InputError]):
    """Crops that hand on what is wrong with them as a value: a worker would wrap an exception into its traceback."""

    def __init__(self, crops: Crops) -> None:
        self._crops = crops

    def __getitem__(self, key: tuple[int, int]) -> Batch | InputError:
        try:
            return self._crops[key]
        except InputError as error:
            return error


def _collated(crops: list[Batch | InputError]) -> Batch | InputError:
    wrong = [one for one in crops if isinstance(one, InputError)]
    if wrong:
        return wrong[0]
    batch: Batch = default_collate(crops)
    return batch
