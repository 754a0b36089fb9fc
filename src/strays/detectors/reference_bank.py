"""Reference features of inlier scenes: drawn while fitting, thinned, kept and searched."""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from torch import Tensor

from strays.detectors.class_labels import ClassCounts, channel_labels
from strays.detectors.inputs import labels_at, tapped, vectors
from strays.detectors.sampling import PixelSample
from strays.detectors.statistics import Statistics
from strays.errors import InputError
from strays.kernels.faiss_search import FaissSearch, Search
from strays.kernels.nearest import nearest
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = [
    "BankSearch",
    "Precision",
    "ReferenceStatistics",
    "Sampling",
    "coreset",
    "leave_one_out_distance",
    "reference_bank",
    "sample_size",
]

Sampling = Literal["random", "class-balanced", "coreset"]
"""How references are drawn: uniformly, equally many of each class, or spread out."""

Precision = Literal["float32", "float16", "bfloat16"]
"""What references are stored in."""

_CANDIDATES = 200_000
_CANDIDATES_EACH = 8
_FARTHEST = 4096


class ReferenceStatistics(Statistics):
    """Feature vectors of one tap, drawn from all pixels of its resolution that are not ignored.

    Args:
        tap: where the features come from.
        count: how many to keep.
        seed: decides which.
        balanced: whether each class has an equal share, rounded up; labels are then class indices.

    Attributes:
        sample: the vectors.
        counts: how many pixels of each class there were, where classes have shares.
    """

    def __init__(self, tap: str, count: int, seed: int = 0, balanced: bool = False) -> None:
        self.tap, self.size, self.balanced = tap, count, balanced
        self.sample = PixelSample(count, seed, classes=IGNORE if balanced else None)
        self.counts = ClassCounts()

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Draw from a batch."""
        features = tapped(prediction, self.tap)
        here = labels_at(labels, (features.shape[2], features.shape[3]))
        if self.balanced:
            here, classes = channel_labels(prediction, labels, (features.shape[2], features.shape[3]))
            self.counts.update(here, prediction)
            self._share_out(classes)
        self.sample.update(vectors(features), here.flatten(1), index)

    def merge(self, other: Self) -> None:
        """Take in what was drawn from other images."""
        self._share_out(len(other.counts.count))
        super().merge(other)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what was drawn."""
        super().restore(state)
        self._share_out(len(self.counts.count))

    def _share_out(self, classes: int) -> None:
        """Give every class its share as soon as their number is known."""
        if classes:
            self.sample.quota = -(-self.size // classes)


def sample_size(references: int, sampling: Sampling) -> int:
    """Return how many vectors to draw for so many references: for a core set 8 times as many, at most 200,000."""
    if sampling != "coreset":
        return references
    return max(references, min(_CANDIDATES_EACH * references, _CANDIDATES))


def reference_bank(sample: PixelSample, references: int, sampling: Sampling, k: int, precision: Precision) -> Tensor:
    """Return the references (n, C) that a sample gives.

    Raises:
        InputError: if they are fewer than k, or too large for their precision.
    """
    drawn = sample.vectors
    if len(drawn) < k:
        raise InputError(
            f"expected at least k = {k} reference features, got {len(drawn)}: fit on more images, or on some whose "
            "labels are not all ignored"
        )
    if sampling == "coreset":
        drawn = drawn[coreset(drawn, references)]
    bank = drawn.to(getattr(torch, precision))
    if not torch.isfinite(bank).all():
        raise InputError(f"some features are too large for {precision}: store them with precision=bfloat16 or float32")
    return bank


def coreset(candidates: Tensor, count: int) -> Tensor:
    """Return the indices of vectors that cover the others best, by farthest-first traversal from the first one.

    Each next one is the farthest from those already taken. It costs as many distances as candidates times ``count``:
    seconds for 8,000 of 40,000 vectors of 256 numbers, some minutes for 100,000 of 200,000.

    Args:
        candidates: (n, C) float32.
        count: how many; all where there are no more.

    Returns:
        (min(n, count),) int64, in the order in which they were taken.

    Source: Gonzalez, Theoretical Computer Science 1985.

    Example:
        >>> import torch
        >>> coreset(torch.tensor([[0.0], [2.0], [10.0], [11.0]]), 3).tolist()
        [0, 3, 1]
    """
    count = min(count, len(candidates))
    taken = torch.zeros(min(count, 1), dtype=torch.long)
    gaps = torch.full((len(candidates),), torch.inf)
    fresh = taken
    while len(taken) < count:
        gaps = torch.minimum(gaps, nearest(candidates, candidates[fresh], k=1)[0][:, 0])
        gaps[fresh] = -1
        fresh = _farthest(candidates, gaps, count - len(taken))
        taken = torch.cat([taken, fresh])
    return taken


def _farthest(candidates: Tensor, gaps: Tensor, most: int) -> Tensor:
    """Return the next indices of the traversal, as many as the farthest few alone decide.

    Gaps only shrink, so that the largest among the farthest few is the largest of all while it is not below the
    smallest gap with which they came.
    """
    far, names = gaps.topk(min(_FARTHEST, len(gaps)))
    floor = float(far[-1]) if len(far) < len(gaps) else 0.0
    few = candidates[names]
    chosen: list[int] = []
    while len(chosen) < most:
        best = int(far.argmax())
        if chosen and float(far[best]) < floor:
            break
        chosen.append(best)
        far = torch.minimum(far, torch.linalg.vector_norm(few - few[best], dim=1))
        far[best] = -1
    return names[torch.tensor(chosen)]


def leave_one_out_distance(references: Tensor, k: int = 3) -> Tensor:
    """Return each reference's mean distance to its k nearest others.

    A reference is no neighbour of itself; another one that is equal to it is.

    Args:
        references: (R, C), R > k.
        k: how many neighbours.

    Returns:
        (R,) float32.

    Raises:
        InputError: if there are not more than k references.

    Example:
        >>> import torch
        >>> leave_one_out_distance(torch.tensor([[0.0], [0.0], [4.0]]), k=1)
        tensor([0., 0., 4.])
    """
    if len(references) <= k:
        raise InputError(f"expected more than k = {k} reference features, got {len(references)}: fit on more images")
    distances, found = nearest(references, references, k + 1)
    own = found == torch.arange(len(references), device=found.device)[:, None]
    # Where k others are equal to it, it may be missing among k + 1; any of them may then stand for it.
    own[:, -1] |= ~own.any(dim=1)
    return distances[~own].view(len(references), k).mean(dim=1)


class BankSearch:
    """Searches a bank; an index of faiss is built on first use and whenever the bank is another one.

    Args:
        search: how.
        seed: of the clustering of an index.
    """

    def __init__(self, search: Search, seed: int = 0) -> None:
        self.search, self.seed = search, seed
        self._index: FaissSearch | None = None

    def __call__(self, queries: Tensor, bank: Tensor, k: int) -> Tensor:
        """Return distances (M, k) of queries (M, C), computed where the bank is, on the device of the queries."""
        moved = queries.to(bank.device)
        if self.search == "exact":
            return nearest(moved, bank, k)[0].to(queries.device)
        if self._index is None or self._index.references is not bank:
            self._index = FaissSearch(bank, self.search, self.seed)
        return self._index(moved, k)[0].to(queries.device)
