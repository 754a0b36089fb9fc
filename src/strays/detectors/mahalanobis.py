"""Mahalanobis distance of features to the nearest class mean."""

from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import Settings, register_detector, upsampled
from strays.detectors.class_gaussians import ClassGaussians
from strays.detectors.class_labels import ClassCounts, channel_labels
from strays.detectors.fitted import FittedDetector, fitted
from strays.detectors.inputs import checked_choice, tapped, vectors
from strays.detectors.reported import SMIYC, reported
from strays.detectors.statistics import Statistics
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["Mahalanobis", "interpolation_spread", "mahalanobis", "mahalanobis_distances", "whitening_matrix"]

Covariance = Literal["shared", "per-class"]
Resolution = Literal["image", "tap"]

_CHANNELS = 8
"""Channels whose differences are held at a time."""

_NETWORK = "DeepLabV3+ with WideResNet38, second convolution of the decoder"


def whitening_matrix(covariance: Tensor, shrinkage: float) -> Tensor:
    """Return W with W Wᵀ = Σ⁻¹ of a covariance Σ that is shrunk towards a multiple of the identity first.

    Args:
        covariance: (..., C, C), positive semidefinite.
        shrinkage: share of the mean variance that is put in for the covariance, in [0, 1]; above 0 also constant
            channels have an inverse. A covariance of zeros counts as if its mean variance were 1.

    Returns:
        (..., C, C) float64; vectors v W of the distribution have unit covariance.

    Raises:
        InputError: if the shrunk covariance has no inverse.
    """
    covariance = covariance.double()
    identity = torch.eye(covariance.shape[-1], dtype=torch.float64, device=covariance.device)
    level = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    shrunk = (1 - shrinkage) * covariance + shrinkage * torch.where(level > 0, level, 1.0) * identity
    factor, failed = torch.linalg.cholesky_ex(shrunk)
    if failed.any():
        raise InputError(
            f"a covariance of {len(identity)} channels has no inverse: set shrinkage above {shrinkage}, or fit on more"
        )
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.transpose(-2, -1)


def mahalanobis_distances(vectors: Tensor, means: Tensor, whitening: Tensor) -> Tensor:
    """Return the squared Mahalanobis distances (v - μ_c)ᵀ Σ_c⁻¹ (v - μ_c).

    Args:
        vectors: (P, C).
        means: (K, C).
        whitening: (C, C) for one covariance of all classes, or (K, C, C), from ``whitening_matrix``.

    Returns:
        (P, K), at least 0.

    Source: Lee et al., NeurIPS 2018, equation 2, without the sign.
    """
    if whitening.ndim == 3:
        pairs = zip(means, whitening, strict=True)
        return torch.cat([mahalanobis_distances(vectors, mean[None], white) for mean, white in pairs], dim=1)
    centre = means.mean(0)  # the products below lose fewer digits the closer to zero everything is
    white, white_means = (vectors - centre) @ whitening, (means - centre) @ whitening
    return _squared_distances(white, white_means)


def _squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    squares = torch.addmm((centres**2).sum(1), points, centres.T, alpha=-2)
    return squares.add_((points**2).sum(1, keepdim=True)).clamp_min_(0)


def interpolation_spread(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return how much smaller squared norms are after bilinear upsampling than upsampled squared norms.

    Where weights w_i sum to 1, |Σ w_i z_i|² = Σ w_i |z_i|² - Σ_{i<j} w_i w_j |z_i - z_j|². This is the last sum, over
    the four neighbours of a pixel; it needs the vectors at their own resolution only, and is the same around any
    origin.

    Args:
        maps: (C, h, w) feature maps.
        size: (H, W) of the result.

    Returns:
        (H, W), at least 0.
    """
    along_row, along_column, diagonals = _gaps(maps)
    top, bottom, down = _neighbours(maps.shape[1], size[0], maps)
    left, right, across = _neighbours(maps.shape[2], size[1], maps)
    up, down, before, across = 1 - down[:, None], down[:, None], 1 - across, across
    # Rows before columns, so that as little as possible is done at the size of the result.
    rows = along_row[top] * up.square() + along_row[bottom] * down.square() + diagonals[top] * (up * down)
    columns = along_column[:, left] * before.square() + along_column[:, right] * across.square()
    spread: Tensor = rows[:, left].mul_(before * across)
    return spread.add_(columns[top].mul_(up * down))


def _gaps(maps: Tensor) -> Tensor:
    """Return squared distances (3, h, w) to the next vector of the row, of the column, and across, both ways summed."""
    gaps = maps.new_zeros(3, *maps.shape[1:])
    for part in torch.split(maps, _CHANNELS):
        corners = functional.pad(part[None], (0, 1, 0, 1), mode="replicate")[0]
        here, right, below = corners[:, :-1, :-1], corners[:, :-1, 1:], corners[:, 1:, :-1]
        gaps[0] += (right - here).square_().sum(0)
        gaps[1] += (below - here).square_().sum(0)
        gaps[2] += (corners[:, 1:, 1:] - here).square_().sum(0) + (below - right).square_().sum(0)
    return gaps


def _neighbours(length: int, wanted: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each place of an upsampled line its two neighbours and the weight of the second."""
    places = torch.arange(wanted, dtype=torch.float64, device="cpu")
    source = ((places + 0.5) * (length / wanted) - 0.5).clamp(0, length - 1)
    first = source.long()
    second = (first + 1).clamp(max=length - 1)
    weight = (source - first).to(like)
    return first.to(like.device), second.to(like.device), weight


def mahalanobis(
    features: Tensor, means: Tensor, whitening: Tensor, size: tuple[int, int], resolution: Resolution = "image"
) -> Tensor:
    """Return the smallest squared Mahalanobis distance to a class mean.

    Args:
        features: (N, C, h, w).
        means: (K, C) class means.
        whitening: (C, C) for one covariance of all classes, or (K, C, C), from ``whitening_matrix``.
        size: (H, W) of the result.
        resolution: ``"image"``: distances of the features as upsampled (bilinear) to the image, exactly, but never
            holding them; ``"tap"``: distances at the resolution of the features, upsampled.

    Returns:
        (N, H, W), at least 0.

    Source: the Mahalanobis baseline of SegmentMeIfYouCan (Chan et al. 2021) after Lee et al., NeurIPS 2018, equation 2.
    """
    means, whitening = means.to(features), whitening.to(features)
    return torch.stack([_image_score(one, means, whitening, size, resolution) for one in features])


def _image_score(
    features: Tensor, means: Tensor, whitening: Tensor, size: tuple[int, int], resolution: Resolution
) -> Tensor:
    """Return the scores (H, W) of one image: the minimum over the covariances, and for each over its means."""
    centre = means.mean(0)
    centred, its_means = features - centre[:, None, None], means - centre
    groups = [(whitening, its_means)] if whitening.ndim == 2 else zip(whitening, its_means[:, None], strict=True)
    distances = (_whitened_distances(centred, means, matrix) for matrix, means in groups)
    if resolution == "tap":
        best = reduce(torch.minimum, (of_means.amin(0) for of_means, _ in distances))
        return upsampled(best[None, None], size)[0, 0]
    # |z - m|² of an upsampled z is the upsampled |z - m|² less a spread that does not depend on m.
    scores = (_upsampled_minimum(of_means, size) - interpolation_spread(white, size) for of_means, white in distances)
    return reduce(torch.minimum, scores).clamp_min_(0)


def _whitened_distances(features: Tensor, means: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distances (K, h, w) of features (C, h, w) to the means, and the whitened features."""
    white = vectors(features[None])[0] @ matrix
    height, width = features.shape[-2:]
    distances = _squared_distances(white, means @ matrix).T
    return distances.reshape(-1, height, width), white.T.reshape(-1, height, width)


def _upsampled_minimum(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the minimum (H, W) over upsampled maps (K, h, w), one of which is held at a time."""
    best = upsampled(maps[None, :1], size)[0, 0]
    for one in maps[1:]:
        best = torch.minimum(best, upsampled(one[None, None], size)[0, 0])
    return best


class _Moments(Statistics):
    """Counts and Gaussians of the features of a tap."""

    def __init__(self, tap: str, shared: bool) -> None:
        self.tap = tap
        self.counts = ClassCounts()
        self.gaussians = ClassGaussians(shared)

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in a batch, one image at a time."""
        features = tapped(prediction, self.tap)
        labels, classes = channel_labels(prediction, labels, (features.shape[2], features.shape[3]))
        self.counts.update(labels, prediction)
        for one, its_labels in zip(features, labels, strict=True):
            self.gaussians.update(vectors(one[None])[0], its_labels.flatten(), classes)


@register_detector("mahalanobis")
class Mahalanobis(FittedDetector[_Moments]):
    """Squared Mahalanobis distance of a pixel's features to the nearest class mean.

    Reference:
        Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks,
        NeurIPS 2018, https://arxiv.org/abs/1807.03888; for pixels the baseline of Chan et al., SegmentMeIfYouCan, 2021

    Args:
        tap: the features.
        covariance: ``"shared"``: one for all classes, around their means; ``"per-class"``: one for each.
        shrinkage: share of the mean variance that is put in for the covariance, in [0, 1].
        resolution: ``"image"``: distances of the upsampled features; ``"tap"``: distances, upsampled.
    """

    card = Card(
        title="Mahalanobis distance",
        summary="Squared Mahalanobis distance of the features to the nearest class mean.",
        paper="Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial "
        "Attacks, NeurIPS 2018",
        year=2018,
        url="https://arxiv.org/abs/1807.03888",
        needs=Needs(fitting=True, features=True),
        published=(
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.2004, "FPR95": 0.8699, "sIoU": 0.1482, "PPV": 0.1022, "F1*": 0.0268},
                _NETWORK,
                SMIYC,
            ),
            *reported(
                "RoadObstacle21 test",
                {"AP": 0.2090, "FPR95": 0.1308, "sIoU": 0.1352, "PPV": 0.2179, "F1*": 0.0470},
                _NETWORK,
                SMIYC,
            ),
            *reported(
                "LostAndFound-NoKnown test",
                {"AP": 0.5497, "FPR95": 0.1289, "sIoU": 0.3383, "PPV": 0.3171, "F1*": 0.2209},
                _NETWORK,
                SMIYC,
            ),
        ),
        notes="The covariance is taken around the class means and divided by the number of vectors; a shrinkage of our "
        "own keeps its inverse finite. A class that never occurs in the fit data takes the mean of all vectors and the "
        "pooled covariance. With a covariance per class, one with no more vectors than channels takes the pooled one "
        "too.",
    )
    target = "labels"
    means_: Tensor | None
    whitening_: Tensor | None

    def __init__(
        self,
        tap: str = "decoder",
        covariance: Covariance = "shared",
        shrinkage: float = 1e-4,
        resolution: Resolution = "image",
    ) -> None:
        super().__init__()
        self.tap = tap
        self.covariance = checked_choice("covariance", covariance, get_args(Covariance))
        self.resolution = checked_choice("resolution", resolution, get_args(Resolution))
        if not 0 <= shrinkage <= 1:
            raise InputError(f"expected a shrinkage in [0, 1], got {shrinkage}: 0 leaves the covariance as it is")
        self.shrinkage = float(shrinkage)
        self.register_buffer("means_", None)
        self.register_buffer("whitening_", None)

    def settings(self) -> Settings:
        """Return tap, covariance, shrinkage and resolution."""
        return {
            "tap": self.tap,
            "covariance": self.covariance,
            "shrinkage": self.shrinkage,
            "resolution": self.resolution,
        }

    def taps(self) -> frozenset[str]:
        """Return the one tap."""
        return frozenset({self.tap})

    def statistics(self) -> _Moments:
        """Return empty class statistics."""
        return _Moments(self.tap, shared=self.covariance == "shared")

    def conclude(self, statistics: _Moments) -> None:
        """Keep the class means and the whitening matrices."""
        statistics.counts.require()
        gaussians = statistics.gaussians
        shared = self.covariance == "shared"
        covariance = gaussians.pooled_covariance() if shared else gaussians.covariances()
        self.absent = statistics.counts.absent
        self.means_ = gaussians.means().float()
        self.whitening_ = whitening_matrix(covariance, self.shrinkage).float()

    def score(self, prediction: Prediction) -> Tensor:
        """Return the smallest squared distance (N, H, W), at least 0."""
        means, whitening = fitted(self, self.means_), fitted(self, self.whitening_)
        return mahalanobis(tapped(prediction, self.tap), means, whitening, prediction.size, self.resolution)
