"""Distance to the nearest features of inlier scenes combined with a score of the logits (cDNP)."""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Settings, class_logits, register_detector, upsampled
from strays.detectors.energy import energy
from strays.detectors.fitted import fitted
from strays.detectors.inputs import checked_choice
from strays.detectors.max_logit import max_logit
from strays.detectors.msp import msp
from strays.detectors.nearest_neighbors import PAPER, URL, ReferenceDetector, Upsampling
from strays.detectors.reference_bank import Precision, ReferenceStatistics, Sampling, leave_one_out_distance
from strays.detectors.reported import FISHYSCAPES, SMIYC, reported
from strays.detectors.statistics import Extremes
from strays.detectors.tempered import checked_logits
from strays.errors import InputError
from strays.kernels.faiss_search import Search
from strays.prediction import Prediction

__all__ = ["PARAMETRIC", "NearestNeighborsEnergy", "Parametric", "nearest_neighbors_energy"]

Parametric = Literal["energy", "msp", "entropy", "max-logit"]
"""The score of the logits that is added to the distance."""

_SCALED_BY = 30_000
_LISTED = "what others list as the paper's claim; not checked against the paper"


def nearest_neighbors_energy(parametric: Tensor, distance: Tensor, scales: Iterable[float]) -> Tensor:
    """Return (q - q_min) / (q_max - q_min) + d / d_max, not clipped.

    Args:
        parametric: q, (N, ...), a score of the logits.
        distance: d, (N, ...), mean distances to the nearest references.
        scales: q_min, q_max and d_max.

    Returns:
        (N, ...), mostly in [0, 2].

    Source: Galesso et al., ICCV Workshops 2023, cDNP as in their code.

    Example:
        >>> import torch
        >>> nearest_neighbors_energy(torch.tensor([-8.0, 2.0]), torch.tensor([1.0, 6.0]), (-8.0, 0.0, 4.0))
        tensor([0.2500, 2.7500])
    """
    lowest, highest, farthest = scales
    return (parametric - lowest) / (highest - lowest) + distance / farthest


def _one_plus_energy(logits: Tensor) -> Tensor:
    return 1 + energy(logits)


def _entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats, with their 1e-6 inside the logarithm."""
    probabilities = torch.softmax(checked_logits(logits, 1.0), dim=1)
    return -(probabilities * (probabilities + 1e-6).log()).sum(dim=1)


PARAMETRIC: dict[str, Callable[[Tensor], Tensor]] = {
    "energy": _one_plus_energy,
    "msp": msp,
    "entropy": _entropy,
    "max-logit": max_logit,
}
"""The scores of logits (N, K, ...) in the form in which the authors' code takes them."""


class ScaledStatistics(ReferenceStatistics):
    """Features, and the extremes of a score of the logits over all pixels, ignored ones too.

    Args:
        tap: where the features come from.
        count: how many to keep.
        seed: decides which.
        balanced: whether each class has an equal share.
        parametric: the score.
    """

    def __init__(self, tap: str, count: int, seed: int, balanced: bool, parametric: str) -> None:
        super().__init__(tap, count, seed, balanced)
        self.extremes = Extremes()
        self.parametric = parametric

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Draw from a batch and look at its scores."""
        super().update(prediction, labels, index)
        for one in torch.split(class_logits(prediction), 1):
            self.extremes.update(PARAMETRIC[self.parametric](upsampled(one, prediction.size)))


@register_detector("nearest-neighbors-energy")
class NearestNeighborsEnergy(ReferenceDetector[ScaledStatistics]):
    """Free energy of the logits plus the distance to the nearest features of inlier scenes, each scaled on these.

    Reference:
        Galesso et al., Far Away in the Deep Space: Dense Nearest-Neighbor-Based Out-of-Distribution Detection, ICCV
        Workshops 2023, https://arxiv.org/abs/2211.06660

    Args:
        tap: where the features come from. Published: the keys of the last block of a vision transformer.
        references: how many are kept.
        k: how many neighbours are averaged.
        parametric: the score of the logits: ``energy`` (published), ``msp``, ``entropy`` or ``max-logit``.
        sampling: ``random``, ``class-balanced`` (as many of each class) or ``coreset`` (spread out: chosen from up to
            8 times as many, for minutes, when fitting ends).
        seed: decides which references are drawn.
        upsampling: of the distances, ``nearest`` (published) or ``bilinear``.
        search: ``exact``, or by an index of faiss: ``faiss-flat``, ``faiss-ivf``, ``faiss-pq``.
        precision: what references are stored in: ``float32``, or ``float16`` or ``bfloat16`` for half the size.
    """

    card = Card(
        title="cDNP",
        summary="Free energy plus distance to the nearest features of inlier scenes, scaled by their ranges there.",
        paper=PAPER,
        year=2023,
        url=URL,
        needs=Needs(fitting=True, features=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.622, "FPR95": 0.089}, protocol=FISHYSCAPES),
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.8890, "FPR95": 0.1142, "sIoU": 0.5044, "PPV": 0.2904, "F1*": 0.2812},
                protocol=SMIYC,
            ),
            *reported("RoadAnomaly", {"AP": 0.856, "FPR95": 0.098}, protocol=_LISTED),
            *reported("StreetHazards test", {"AP": 0.462}, protocol=_LISTED),
        ),
        notes="Published with a random 100,000 of the features of 500 training images, k = 3, Euclidean distances, "
        "nearest-neighbour upsampling, extremes of 1 - log-sum-exp over all pixels of these images, and for the "
        "largest distance at most 30,000 of the references among themselves; all of these are the defaults. The "
        "encoder as default tap, the other ways to draw, to store and to search references are ours.",
    )
    scales_: Tensor | None

    def __init__(
        self,
        tap: str = "encoder",
        references: int = 100_000,
        k: int = 3,
        parametric: Parametric = "energy",
        sampling: Sampling = "random",
        seed: int = 0,
        upsampling: Upsampling = "nearest",
        search: Search = "exact",
        precision: Precision = "float32",
    ) -> None:
        super().__init__(tap, references, k, sampling, seed, upsampling, search, precision)
        self.parametric = checked_choice("parametric", parametric, tuple(PARAMETRIC))
        self.register_buffer("scales_", None)

    def settings(self) -> Settings:
        """Return those of every detector by references, and the score of the logits."""
        return {**super().settings(), "parametric": self.parametric}

    def statistics(self) -> ScaledStatistics:
        """Return an empty sample of features and no extremes."""
        return ScaledStatistics(self.tap, self.drawn, self.seed, self.target == "labels", self.parametric)

    def conclude(self, statistics: ScaledStatistics) -> None:
        """Keep the references, q_min, q_max and d_max.

        Raises:
            InputError: if there are not more than k references, or nothing varies.
        """
        super().conclude(statistics)
        lowest, highest = statistics.extremes.range()
        farthest = float(leave_one_out_distance(self._some_references(), self.k).max())
        if not (lowest < highest and farthest > 0):
            raise InputError(
                f"the score of the logits lies in [{lowest}, {highest}] and no reference is farther than {farthest} "
                "from the others: give scenes that differ"
            )
        self.scales_ = torch.tensor([lowest, highest, farthest])

    def _some_references(self) -> Tensor:
        bank = fitted(self, self.bank_)
        order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(self.seed))
        return bank[order[:_SCALED_BY]]

    def score(self, prediction: Prediction) -> Tensor:
        """Return scaled scores of the logits plus scaled distances, (N, H, W).

        Raises:
            InputError: if nothing was fitted, or the features are missing, broken or of another length.
        """
        scales = fitted(self, self.scales_).tolist()
        pairs = zip(torch.split(class_logits(prediction), 1), self.distances(prediction), strict=True)
        maps = [nearest_neighbors_energy(self._parametric(one, prediction), far, scales) for one, far in pairs]
        return torch.cat(maps)

    def _parametric(self, logits: Tensor, prediction: Prediction) -> Tensor:
        return PARAMETRIC[self.parametric](upsampled(logits, prediction.size))
