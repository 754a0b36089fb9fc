"""Distance to the nearest features of inlier scenes (DNP)."""

from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import Settings, register_detector, upsampled
from strays.detectors.fitted import FitTarget, FittedDetector, fitted
from strays.detectors.inputs import checked_choice, tapped, vectors
from strays.detectors.reference_bank import (
    BankSearch,
    Precision,
    ReferenceStatistics,
    Sampling,
    reference_bank,
    sample_size,
)
from strays.errors import InputError
from strays.kernels.faiss_search import Search, checked_kind
from strays.kernels.nearest import nearest
from strays.prediction import Prediction

__all__ = ["PAPER", "URL", "NearestNeighbors", "ReferenceDetector", "Upsampling", "nearest_neighbors"]

PAPER = (
    "Galesso et al., Far Away in the Deep Space: Dense Nearest-Neighbor-Based Out-of-Distribution Detection, ICCV "
    "Workshops 2023"
)
URL = "https://arxiv.org/abs/2211.06660"

Upsampling = Literal["nearest", "bilinear"]
"""How a map of distances is brought to the size of the image."""

R = TypeVar("R", bound=ReferenceStatistics)


def nearest_neighbors(features: Tensor, references: Tensor, k: int = 3) -> Tensor:
    """Return the mean Euclidean distance to the k nearest references.

    Args:
        features: (N, C, ...).
        references: (R, C) features of inlier scenes, R >= k.
        k: how many neighbours.

    Returns:
        (N, ...), at least 0, float32.

    Raises:
        InputError: if there are fewer than k references, C differs, or a value is NaN or infinite.

    Source: Galesso et al., ICCVW 2023 (their code: distances, not their squares, are averaged).

    Example:
        >>> import torch
        >>> nearest_neighbors(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0], [9.0, 9.0]]), k=2)
        tensor([3.])
    """
    moved = features.movedim(1, -1)
    distances, _ = nearest(moved.reshape(-1, features.shape[1]), references, k)
    return distances.mean(dim=1).view(moved.shape[:-1])


class ReferenceDetector(FittedDetector[R]):
    """What detectors by distance to references share: the settings, the bank and the map of distances.

    Args:
        tap: where the features come from.
        references: how many are kept.
        k: how many neighbours are averaged.
        sampling: ``random``, ``class-balanced`` (as many of each class) or ``coreset`` (spread out).
        seed: decides which references are drawn.
        upsampling: ``nearest`` or ``bilinear``.
        search: ``exact``, or by an index of faiss: ``faiss-flat``, ``faiss-ivf``, ``faiss-pq``.
        precision: what references are stored in; ``float16`` halves the file.
    """

    bank_: Tensor | None

    def __init__(
        self,
        tap: str,
        references: int,
        k: int,
        sampling: Sampling,
        seed: int,
        upsampling: Upsampling,
        search: Search,
        precision: Precision,
    ) -> None:
        super().__init__()
        if not 1 <= k <= references:
            raise InputError(f"expected k between 1 and the number of references, {references}, got k = {k}")
        checked_choice("sampling", sampling, get_args(Sampling))
        checked_choice("upsampling", upsampling, get_args(Upsampling))
        checked_choice("precision", precision, get_args(Precision))
        self.tap, self.references, self.k, self.sampling, self.seed = tap, references, k, sampling, seed
        self.upsampling, self.precision = upsampling, precision
        self.search = BankSearch(checked_kind(search), seed)
        self.register_buffer("bank_", None)

    @property
    def target(self) -> FitTarget:
        """Class labels where each class has its share, else only which pixels are ignored."""
        return "labels" if self.sampling == "class-balanced" else "image"

    def taps(self) -> frozenset[str]:
        """Return the one tap."""
        return frozenset({self.tap})

    def settings(self) -> Settings:
        """Return tap, references, k, sampling, seed, upsampling, search and precision."""
        return {
            "tap": self.tap,
            "references": self.references,
            "k": self.k,
            "sampling": self.sampling,
            "seed": self.seed,
            "upsampling": self.upsampling,
            "search": self.search.search,
            "precision": self.precision,
        }

    def conclude(self, statistics: R) -> None:
        """Keep the references.

        Raises:
            InputError: if there are fewer than k.
        """
        self.bank_ = reference_bank(statistics.sample, self.references, self.sampling, self.k, self.precision)
        self.absent = statistics.counts.absent

    @property
    def drawn(self) -> int:
        """How many vectors are drawn while fitting; a core set is chosen from more than it keeps."""
        return sample_size(self.references, self.sampling)

    def distances(self, prediction: Prediction) -> Tensor:
        """Return mean distances (N, H, W) to the k nearest references, at ``prediction.size``."""
        features = tapped(prediction, self.tap)
        bank = fitted(self, self.bank_)
        means = [self.search(one.contiguous(), bank, self.k).mean(dim=1) for one in vectors(features)]
        maps = torch.stack(means).view(len(features), 1, *features.shape[2:])
        if self.upsampling == "nearest":
            return functional.interpolate(maps, size=prediction.size, mode="nearest")[:, 0]
        return upsampled(maps, prediction.size)[:, 0]


@register_detector("nearest-neighbors")
class NearestNeighbors(ReferenceDetector[ReferenceStatistics]):
    """Mean distance of a pixel's features to their nearest neighbours among features of inlier scenes.

    Reference:
        Galesso et al., Far Away in the Deep Space: Dense Nearest-Neighbor-Based Out-of-Distribution Detection, ICCV
        Workshops 2023, https://arxiv.org/abs/2211.06660

    Args:
        tap: where the features come from. Published: the keys of the last block of a vision transformer.
        references: how many are kept.
        k: how many neighbours are averaged.
        sampling: ``random``, ``class-balanced`` (as many of each class) or ``coreset`` (spread out: chosen from up to
            8 times as many, for minutes, when fitting ends).
        seed: decides which references are drawn.
        upsampling: ``nearest`` (published) or ``bilinear``.
        search: ``exact``, or by an index of faiss: ``faiss-flat``, ``faiss-ivf``, ``faiss-pq``.
        precision: what references are stored in: ``float32``, or ``float16`` or ``bfloat16`` for half the size.
    """

    card = Card(
        title="DNP",
        summary="Mean distance of the features to their nearest neighbours among features of inlier scenes.",
        paper=PAPER,
        year=2023,
        url=URL,
        needs=Needs(fitting=True, features=True),
        notes="Published with a random 100,000 of the features of 500 training images, k = 3, Euclidean distances and "
        "nearest-neighbour upsampling, which are the defaults; the encoder as default tap, the other ways to draw, to "
        "store and to search references are ours. A core set costs as many distances as 8 times the references, at "
        "most 200,000, times the references.",
    )

    def __init__(
        self,
        tap: str = "encoder",
        references: int = 100_000,
        k: int = 3,
        sampling: Sampling = "random",
        seed: int = 0,
        upsampling: Upsampling = "nearest",
        search: Search = "exact",
        precision: Precision = "float32",
    ) -> None:
        super().__init__(tap, references, k, sampling, seed, upsampling, search, precision)

    def statistics(self) -> ReferenceStatistics:
        """Return an empty sample of features."""
        return ReferenceStatistics(self.tap, self.drawn, self.seed, self.target == "labels")

    def score(self, prediction: Prediction) -> Tensor:
        """Return mean distances (N, H, W) to the k nearest references.

        Raises:
            InputError: if nothing was fitted, or the features are missing, broken or of another length.
        """
        return self.distances(prediction)
