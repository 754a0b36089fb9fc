"""Distance of features to their nearest neighbours in the fit data, and disagreement of the neighbours' classes."""

from collections.abc import Mapping
from typing import Literal, Self, get_args

import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import Settings, register_detector, upsampled
from strays.detectors.class_labels import ClassCounts, channel_labels
from strays.detectors.fitted import FittedDetector, fitted
from strays.detectors.inputs import checked_choice, tapped, vectors
from strays.detectors.reported import FISHYSCAPES, reported
from strays.detectors.sampling import PixelSample
from strays.detectors.statistics import Statistics
from strays.errors import InputError
from strays.kernels.nearest import nearest
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = ["EmbeddingKNN", "mean_neighbour_distance", "neighbour_disagreement"]

Measure = Literal["density", "class-density"]
Disagreement = Literal["entropy", "minority"]
Sampling = Literal["random", "class-balanced"]
Upsampling = Literal["bilinear", "nearest"]


def mean_neighbour_distance(distances: Tensor) -> Tensor:
    """Return the mean distance (...) to the k nearest neighbours from their distances (..., k).

    Source: Blum et al., IJCV 2021, the density of an embedding; its logarithm falls as this distance grows.
    """
    return distances.mean(-1)


def neighbour_disagreement(labels: Tensor, classes: int, by: Disagreement = "entropy") -> Tensor:
    """Return how much the classes of the k nearest neighbours disagree.

    Args:
        labels: (..., k) class indices in [0, classes).
        classes: K.
        by: ``"entropy"``, of their shares, in nats, in [0, ln min(k, K)]; ``"minority"``, the share of neighbours that
            are not of the most frequent class, in [0, 1 - 1 / min(k, K)].

    Returns:
        (...), float32.

    Example:
        >>> neighbour_disagreement(torch.tensor([[0, 0, 0, 0], [0, 0, 1, 2]]), 3, by="minority")
        tensor([0.0000, 0.5000])
    """
    counts = torch.zeros(*labels.shape[:-1], classes, device=labels.device)
    shares = counts.scatter_add_(-1, labels, torch.ones(labels.shape, device=labels.device)) / labels.shape[-1]
    if by == "minority":
        return 1 - shares.amax(-1)
    return -torch.xlogy(shares, shares).sum(-1)


class _Bank(Statistics):
    """Counts of the classes, and a sample of feature vectors that is random or holds as many of each class."""

    def __init__(self, tap: str, references: int, sampling: Sampling, seed: int) -> None:
        self.tap = tap
        self.references = references
        self.balanced = sampling == "class-balanced"
        self.counts = ClassCounts()
        self.sample = PixelSample(references, seed, classes=IGNORE if self.balanced else None)

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in a batch of images."""
        features = tapped(prediction, self.tap)
        labels, _ = channel_labels(prediction, labels, (features.shape[2], features.shape[3]))
        self.counts.update(labels, prediction)
        self._share_out()
        self.sample.update(vectors(features), labels.flatten(1), index)

    def _share_out(self) -> None:
        """Give every class its share of the sample as soon as their number is known."""
        if self.balanced and len(self.counts.count):
            self.sample.quota = -(-self.references // len(self.counts.count))

    def merge(self, other: Self) -> None:
        """Take in what another one has gathered."""
        self.counts.merge(other.counts)
        self._share_out()
        self.sample.merge(other.sample)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up counts and sample."""
        super().restore(state)
        self._share_out()


@register_detector("embedding-knn")
class EmbeddingKNN(FittedDetector[_Bank]):
    """Mean distance of a pixel's features to their nearest neighbours in the fit data, or those neighbours' classes.

    Reference:
        Blum et al., The Fishyscapes Benchmark, IJCV 2021, https://arxiv.org/abs/1904.03215

    Args:
        tap: the features.
        measure: ``"density"``: the mean Euclidean distance to the k nearest neighbours; ``"class-density"``: how much
            their classes disagree.
        disagreement: what class-density is: ``"entropy"`` or ``"minority"``, see ``neighbour_disagreement``.
        k: neighbours, at least 1.
        references: how many vectors of the fit data are kept at most.
        sampling: ``"random"``: every labelled pixel is as likely; ``"class-balanced"``: as many of each class, of those
            there are.
        seed: decides the sample.
        upsampling: of the scores, ``"bilinear"`` or ``"nearest"``.
    """

    card = Card(
        title="kNN embedding density",
        summary="Mean distance of the features to their nearest neighbours in the fit data, or disagreement of their "
        "classes.",
        paper="Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        needs=Needs(fitting=True, features=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.0355, "FPR95": 0.3002}, "DeepLabV3+", FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.4403, "FPR95": 0.2025}, "DeepLabV3+", FISHYSCAPES),
        ),
        notes="The numbers are those of the leaderboard's line for the density; our source has none for that of the "
        "relative class density, and tables that list one embedding density merge the best of these and of the learned "
        "ones. The code is not public: k, the number of references, the layer and how the classes of neighbours are "
        "compared are our choices. A class that never occurs in the fit data is in no neighbourhood.",
    )
    target = "labels"
    references_: Tensor | None
    labels_: Tensor | None

    def __init__(
        self,
        tap: str = "encoder",
        measure: Measure = "density",
        disagreement: Disagreement = "entropy",
        k: int = 20,
        references: int = 100_000,
        sampling: Sampling = "random",
        seed: int = 0,
        upsampling: Upsampling = "bilinear",
    ) -> None:
        super().__init__()
        if not 1 <= k <= references:
            raise InputError(f"expected k between 1 and the number of references, {references}, got {k}")
        self.tap = tap
        self.measure = checked_choice("measure", measure, get_args(Measure))
        self.disagreement = checked_choice("disagreement", disagreement, get_args(Disagreement))
        self.k, self.references, self.seed = k, references, seed
        self.sampling = checked_choice("sampling", sampling, get_args(Sampling))
        self.upsampling = checked_choice("upsampling", upsampling, get_args(Upsampling))
        self.register_buffer("references_", None)
        self.register_buffer("labels_", None)

    def settings(self) -> Settings:
        """Return all arguments."""
        return {
            "tap": self.tap,
            "measure": self.measure,
            "disagreement": self.disagreement,
            "k": self.k,
            "references": self.references,
            "sampling": self.sampling,
            "seed": self.seed,
            "upsampling": self.upsampling,
        }

    def taps(self) -> frozenset[str]:
        """Return the one tap."""
        return frozenset({self.tap})

    def statistics(self) -> _Bank:
        """Return an empty sample."""
        return _Bank(self.tap, self.references, self.sampling, self.seed)

    def conclude(self, statistics: _Bank) -> None:
        """Keep the sample.

        Raises:
            InputError: if there are fewer than k vectors.
        """
        statistics.counts.require()
        found = len(statistics.sample.vectors)
        if found < self.k:
            raise InputError(
                f"expected at least k = {self.k} labelled feature vectors to fit on, got {found}: give more images, or "
                "set a smaller k"
            )
        self.references_ = statistics.sample.vectors
        self.labels_ = statistics.sample.labels.to(torch.uint8)
        self.absent = statistics.counts.absent

    def score(self, prediction: Prediction) -> Tensor:
        """Return the measure (N, H, W) of the features, upsampled from the resolution of the tap."""
        features = tapped(prediction, self.tap)
        maps = torch.stack([self._measured(vectors(one[None])[0]).reshape(one.shape[-2:]) for one in features])
        if self.upsampling == "nearest":
            return functional.interpolate(maps[:, None], prediction.size, mode="nearest")[:, 0]
        return upsampled(maps[:, None], prediction.size)[:, 0]

    def _measured(self, points: Tensor) -> Tensor:
        """Return the measure (P,) of vectors (P, C)."""
        distances, indices = nearest(points, fitted(self, self.references_).to(points), self.k)
        if self.measure == "density":
            return mean_neighbour_distance(distances)
        labels = fitted(self, self.labels_).to(points.device).long()
        return neighbour_disagreement(labels[indices], int(labels.max()) + 1, self.disagreement)
