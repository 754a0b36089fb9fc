"""Random crops of scenes in an order that depends only on the seed and the position in the run."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from strays.data.base import SceneSet
from strays.errors import InputError
from strays.scene import Scene
from strays.taxonomy import IGNORE, Taxonomy
from strays.training.settings import TrainingSettings

__all__ = ["Crops", "SceneMix", "crop_batches", "random_crop"]

_CACHED_BYTES = 2 * 1024**3


class SceneMix(Sequence[Scene]):
    """Labelled scenes of several data sets in one taxonomy; as many as fit into 2 GiB stay in memory.

    Attributes:
        taxonomy: the classes of the labels.
        names: what the data sets are called.

    Raises:
        InputError: if the sets are empty, have no labels, or differ in their taxonomy.
    """

    def __init__(self, sets: Sequence[SceneSet]) -> None:
        first = sets[0].taxonomy if sets else None
        if first is None:
            raise InputError("training needs scenes with class labels: name a data set with labels in --data")
        for one in sets:
            if not one.has_labels:
                raise InputError(f"{one.name} has scenes without class labels, so nothing can be learnt from them")
            if one.taxonomy != first:
                found = one.taxonomy.name if one.taxonomy else "none"
                raise InputError(f"all data of a run share one taxonomy: expected {first.name}, {one.name} has {found}")
        self.taxonomy: Taxonomy = first
        self.names = tuple(one.name for one in sets)
        self._entries = [(one, index) for one in sets for index in range(len(one))]
        self._cache: dict[int, Scene] = {}
        self._room = _CACHED_BYTES

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Scene:  # type: ignore[override]
        scene = self._cache.get(index)
        if scene is None:
            chosen, position = self._entries[index]
            scene = chosen[position]
            if self._room > 0:
                self._cache[index] = scene
                self._room -= scene.image.nbytes * 4 // 3
        return scene


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Crops by (epoch, index): the same pair always gives the same crop.

    Items are an image (3, h, w) uint8 and labels (h, w) uint8.
    """

    def __init__(self, scenes: SceneMix, settings: TrainingSettings) -> None:
        self.scenes = scenes
        self.settings = settings

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key
        random = np.random.default_rng([self.settings.seed, epoch, index])
        image, labels = random_crop(self.scenes[index], self.settings.crop, self.settings.scale, random)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels)


def random_crop(
    scene: Scene, crop: tuple[int, int], scale: tuple[float, float], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a random window of a labelled scene, zoomed and mirrored at random, as image and labels.

    Args:
        scene: a scene with labels.
        crop: (h, w) of the result.
        scale: range of the zoom, drawn log-uniformly; 2 shows things twice as large.
        random: where the chance comes from.

    Beyond the border of the scene the image is mirrored and the labels are 255.
    """
    zoom = float(np.exp(random.uniform(*np.log(scale))))
    image, labels = _padded(scene, [int(np.ceil(side / zoom)) for side in crop])
    window = [side / zoom for side in crop]
    top, left = (random.uniform(0, have - want) for have, want in zip(labels.shape, window, strict=True))
    box = (left, top, left + window[1], top + window[0])
    width_height = (crop[1], crop[0])
    pixels = np.asarray(Image.fromarray(image).resize(width_height, Image.Resampling.BILINEAR, box=box))
    classes = np.asarray(Image.fromarray(labels).resize(width_height, Image.Resampling.NEAREST, box=box))
    step = -1 if random.random() < 0.5 else 1
    return pixels[:, ::step].copy(), classes[:, ::step].copy()


def _padded(scene: Scene, least: Sequence[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if scene.labels is None:
        raise InputError(f"{scene.name} has no class labels, so nothing can be learnt from it")
    gaps = [max(0, want - have) for want, have in zip(least, scene.size, strict=True)]
    if not any(gaps):
        return scene.image, scene.labels
    around = [(gap // 2, gap - gap // 2) for gap in gaps]
    image = np.pad(scene.image, [*around, (0, 0)], mode="symmetric")
    return image, np.pad(scene.labels, around, constant_values=IGNORE)


def crop_batches(crops: Crops, start: int, steps: int, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of steps ``start`` to ``steps`` of a run: images (N, 3, h, w) and labels (N, h, w), uint8.

    Every epoch visits all scenes once in an order of its own; the last incomplete batch of an epoch is dropped.
    """
    settings, count = crops.settings, len(crops.scenes)
    per_epoch = count // settings.batch

    def keys() -> Iterator[list[tuple[int, int]]]:
        for step in range(start, steps):
            epoch, position = divmod(step, per_epoch)
            order = np.random.default_rng([settings.seed, epoch]).permutation(count)
            chosen = order[position * settings.batch :][: settings.batch]
            yield [(epoch, int(index)) for index in chosen]

    yield from DataLoader(crops, batch_sampler=list(keys()), num_workers=workers, persistent_workers=workers > 0)
