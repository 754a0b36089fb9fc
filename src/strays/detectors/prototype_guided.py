"""Cosine distance to the nearest of several prototypes per class, after PGAN."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import register_detector, upsampled
from strays.detectors.class_labels import ClassCounts, channel_labels
from strays.detectors.fitted import FitTarget, FittedDetector, fitted
from strays.detectors.inputs import tapped, vectors
from strays.detectors.prototypes import cosine_logits
from strays.detectors.reported import reported
from strays.detectors.sampling import PixelSample
from strays.detectors.statistics import Statistics
from strays.detectors.stored import Settings
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["PrototypeGuided", "PrototypeGuidedStatistics", "nearest_prototype_distance", "spherical_centres"]

_LABELS = 256
_STARTS = 4


def nearest_prototype_distance(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return 1 - max_m cos(feature, prototype_m).

    Args:
        features: (N, C, ...).
        prototypes: (M, C), of any length; whichever class they belong to.

    Returns:
        (N, ...) in [0, 2]: 0 in the direction of a prototype, 1 at a right angle to all of them.

    Raises:
        InputError: if the features have another number of channels than the prototypes.

    Example:
        >>> import torch
        >>> nearest_prototype_distance(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        tensor([0.2000])
    """
    return 1 - cosine_logits(features, prototypes, scale=1.0).amax(dim=1)


def spherical_centres(samples: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Return unit vectors around which the directions of samples gather, found by k-means.

    Args:
        samples: (n, C), at least one, of any length.
        clusters: how many are wanted; fewer come back where the samples have fewer directions.
        seed: of the first centres.

    Returns:
        (m, C) float32, m <= clusters.
    """
    directions = functional.normalize(samples.double(), dim=1).cpu().numpy()
    distinct = np.unique(directions, axis=0)
    if len(distinct) <= clusters:
        return torch.from_numpy(distinct).float()
    found = KMeans(clusters, n_init=_STARTS, random_state=seed).fit(directions)
    return functional.normalize(torch.from_numpy(found.cluster_centers_), dim=1).float()


class PrototypeGuidedStatistics(Statistics):
    """As many feature vectors of every class, drawn at random.

    Args:
        tap: the features.
        samples: how many of each class.
        seed: decides which.
    """

    def __init__(self, tap: str, samples: int, seed: int) -> None:
        self.tap = tap
        self.counts = ClassCounts()
        self.sample = PixelSample(samples * _LABELS, seed, _LABELS)

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in the features of a batch of images and their class labels."""
        features = tapped(prediction, self.tap)
        its_labels, _ = channel_labels(prediction, labels, (features.shape[-2], features.shape[-1]))
        self.counts.update(its_labels, prediction)
        self.sample.update(vectors(features), its_labels.flatten(1), index)


@register_detector("prototype-guided")
class PrototypeGuided(FittedDetector[PrototypeGuidedStatistics]):
    """How far a pixel's features point away from every one of several prototypes per class.

    Reference:
        Hao, Jin, An, Prototype Guided Network for Anomaly Segmentation, 2022, https://arxiv.org/abs/2201.05869

    Args:
        tap: the features.
        prototypes: how many per class.
        samples: feature vectors per class that they are made of, at most.
        seed: decides which, and where the search for prototypes starts.
    """

    card = Card(
        title="Several prototypes per class (after PGAN)",
        summary="One minus the cosine between a pixel's features and the nearest of several prototypes per class.",
        paper="Hao, Jin, An, Prototype Guided Network for Anomaly Segmentation, 2022",
        year=2022,
        url="https://arxiv.org/abs/2201.05869",
        needs=Needs(fitting=True, features=True),
        published=reported("StreetHazards", {"mIoU": 0.534}, "PGAN", "as the abstract states it"),
        notes="No reproduction of PGAN, whose code is not public and which trains a second network for its prototypes. "
        "Here they are centres that k-means finds among at most 2000 feature vectors of each class, five per class, "
        "compared by direction alone; both numbers are our choice.",
    )
    prototypes_: Tensor | None

    def __init__(self, tap: str = "decoder", prototypes: int = 5, samples: int = 2000, seed: int = 0) -> None:
        super().__init__()
        if prototypes < 1 or samples < prototypes:
            raise InputError(
                f"expected at least 1 prototype per class and no fewer samples, got {prototypes} and {samples}"
            )
        self.tap, self.prototypes, self.samples, self.seed = tap, prototypes, samples, seed
        self.register_buffer("prototypes_", None)

    def settings(self) -> Settings:
        """Return the tap, the numbers of prototypes and samples, and the seed."""
        return {"tap": self.tap, "prototypes": self.prototypes, "samples": self.samples, "seed": self.seed}

    def taps(self) -> frozenset[str]:
        """Return the features that are compared."""
        return frozenset({self.tap})

    @property
    def target(self) -> FitTarget:
        """Class labels."""
        return "labels"

    def statistics(self) -> PrototypeGuidedStatistics:
        """Return empty statistics."""
        return PrototypeGuidedStatistics(self.tap, self.samples, self.seed)

    def conclude(self, statistics: PrototypeGuidedStatistics) -> None:
        """Find the prototypes of every class; classes without a pixel share those of all samples together.

        Raises:
            InputError: if there was no pixel.
        """
        counts, sample = statistics.counts, statistics.sample
        counts.require()
        groups = [sample.vectors[sample.labels == label] for label in counts.count.nonzero()[:, 0]]
        if counts.absent:
            groups.append(sample.vectors)
        self.absent = counts.absent
        self.prototypes_ = torch.cat([spherical_centres(group, self.prototypes, self.seed) for group in groups])

    def score(self, prediction: Prediction) -> Tensor:
        """Return the distance (N, H, W) in [0, 2] to the nearest prototype, upsampled bilinearly.

        Raises:
            InputError: if it has not been fitted, or the features have another number of channels than then.
        """
        prototypes = fitted(self, self.prototypes_)
        distance = nearest_prototype_distance(tapped(prediction, self.tap), prototypes)
        return upsampled(distance[:, None], prediction.size)[:, 0]
