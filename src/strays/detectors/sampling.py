"""Random samples of pixels that come out the same in one stream, in shards, and after a restart."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.detectors.statistics import Accumulator, State
from strays.errors import InputError

__all__ = ["PixelSample", "pixel_keys"]

_GOLDEN, _FIRST, _SECOND = (np.uint64(one) for one in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def pixel_keys(seed: int, index: int, pixels: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a random 64-bit key for each pixel of an image; equal arguments give equal keys.

    Args:
        seed: tells one sample from another.
        index: number of the image.
        pixels: numbers of pixels of that image, of any shape.

    Source: SplitMix64 (Steele et al., OOPSLA 2014), its output function over a counter.
    """
    start = _mixed(_mixed(np.array([seed], np.uint64)) ^ np.uint64(index))
    return _mixed(start + pixels.astype(np.uint64))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # wrapping around is what is wanted, and arrays do it without a warning
    values = values * _GOLDEN + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


class PixelSample(Accumulator):
    """At most ``count`` feature vectors, each as likely as any other, with their labels.

    Every pixel of every image has a random key of its own, and the pixels with the smallest keys are the sample. So it
    does not depend on the order of the images or on how they were split into shards, and merging is exact.

    Args:
        count: size of the sample, at least 1.
        seed: decides the keys.
        classes: with a number K, each label in [0, K) may fill at most 1/K of the sample, rounded up.

    Raises:
        InputError: if the count is below 1.

    Example:
        >>> sample = PixelSample(3)
        >>> sample.update(torch.arange(20.0).view(1, 10, 2), torch.zeros(1, 10), index=0)
        >>> sample.vectors.shape, sample.seen
        (torch.Size([3, 2]), 10)
    """

    def __init__(self, count: int, seed: int = 0, classes: int | None = None) -> None:
        if count < 1:
            raise InputError(f"expected a sample of at least 1 vector, got {count}")
        self.quota = count if classes is None else -(-count // classes)
        self.classes = classes
        self.seed = seed
        self.seen = 0
        self._keys = np.zeros(0, np.uint64)
        self._labels = torch.zeros(0, dtype=torch.uint8)
        self._vectors = torch.zeros(0, 0)

    @property
    def vectors(self) -> Tensor:
        """The vectors (n, C) float32, in the order of their keys."""
        return self._vectors

    @property
    def labels(self) -> Tensor:
        """The labels (n,) of the vectors, int64."""
        return self._labels.long()

    def update(self, vectors: Tensor, labels: Tensor, index: int, valid: Tensor | None = None) -> None:
        """Take in the vectors of a batch of images.

        Args:
            vectors: (N, P, C), the P pixels of each image in a fixed order.
            labels: (N, P) class indices in [0, 255].
            index: number of the first image among all images of the fit.
            valid: (N, P) bool, which pixels may be drawn; by default those whose label is not 255.
        """
        labels = labels.cpu()
        allowed = labels != 255 if valid is None else valid.cpu()
        for offset, (one, its_labels, its_allowed) in enumerate(zip(vectors, labels, allowed, strict=True)):
            self._take(one, its_labels, its_allowed, index + offset)

    def _take(self, vectors: Tensor, labels: Tensor, allowed: Tensor, index: int) -> None:
        pixels = allowed.nonzero()[:, 0]
        self.seen += len(pixels)
        keys = pixel_keys(self.seed, index, pixels.numpy())
        chosen = self._smallest(keys, labels[pixels])  # a pixel that loses in its own image loses in the sample
        pixels = pixels[chosen]
        kept = vectors[pixels.to(vectors.device)].detach().float().cpu()
        self._add(keys[chosen], labels[pixels].to(torch.uint8), kept)

    def _add(self, keys: NDArray[np.uint64], labels: Tensor, vectors: Tensor) -> None:
        if not len(keys):
            return
        all_keys = np.concatenate([self._keys, keys])
        all_labels = torch.cat([self._labels, labels])
        all_vectors = torch.cat([self._vectors.reshape(-1, vectors.shape[1]), vectors])
        kept = self._smallest(all_keys, all_labels)
        self._keys, self._labels, self._vectors = all_keys[kept], all_labels[kept], all_vectors[kept]

    def _smallest(self, keys: NDArray[np.uint64], labels: Tensor) -> NDArray[np.int64]:
        """Return the positions of the smallest keys, as many as each group may have, in the order of the keys."""
        order = np.argsort(keys, kind="stable")
        if self.classes is None:
            return order[: self.quota]
        sorted_labels = labels.numpy()[order]
        rank = np.empty(len(order), np.int64)
        for label in np.unique(sorted_labels):
            members = sorted_labels == label
            rank[members] = np.arange(np.count_nonzero(members))
        return order[rank < self.quota]

    def merge(self, other: Self) -> None:
        """Take in the sample of other images."""
        self.seen += other.seen
        self._add(other._keys, other._labels, other._vectors)

    def state(self) -> State:
        """Return keys, labels, vectors and the number of pixels seen."""
        return {
            "keys": torch.from_numpy(self._keys.view(np.int64)),
            "labels": self._labels,
            "vectors": self._vectors,
            "seen": torch.tensor(self.seen),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what was gathered."""
        self._keys = state["keys"].numpy().view(np.uint64).copy()
        self._labels, self._vectors, self.seen = state["labels"], state["vectors"], int(state["seen"])
