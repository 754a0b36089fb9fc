"""Density of features under one Gaussian mixture per class."""

import math
import warnings
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Mixture
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Settings, register_detector, upsampled
from strays.detectors.class_labels import ClassCounts, channel_labels
from strays.detectors.fitted import FittedDetector, fitted
from strays.detectors.inputs import checked_choice, tapped, vectors
from strays.detectors.sampling import PixelSample
from strays.detectors.statistics import Statistics
from strays.errors import InputError
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = ["GaussianMixture", "gaussian_mixture_log_density"]

Kind = Literal["diagonal", "full"]
Over = Literal["largest", "sum"]
Floats = NDArray[np.float64]

_SKLEARN: dict[str, Literal["diag", "full"]] = {"diagonal": "diag", "full": "full"}
_VECTORS = 1 << 14
"""Vectors that are scored at a time."""


def gaussian_mixture_log_density(
    vectors: Tensor, weights: Tensor, means: Tensor, precisions_cholesky: Tensor
) -> Tensor:
    """Return the logarithm of the density of one or several Gaussian mixtures.

    Args:
        vectors: (P, C).
        weights: (..., M), the shares of the M components of each mixture; 0 leaves a component out.
        means: (..., M, C).
        precisions_cholesky: (..., M, C), one over the standard deviations, or (..., M, C, C), matrices W with
            W Wᵀ = Σ⁻¹ and zeros below the diagonal, as scikit-learn keeps them.

    Returns:
        (P, ...), in nats, in the precision of the vectors. Diagonal covariances are computed by products of matrices,
        which in float32 is good to about 1e-6 of the largest squared length in standard deviations: centre vectors.

    Example:
        >>> one = torch.ones(1)
        >>> gaussian_mixture_log_density(torch.tensor([[0.0], [2.0]]), one, torch.zeros(1, 1), torch.ones(1, 1))
        tensor([-0.9189, -2.9189])
    """
    channels = vectors.shape[1]
    centres = means.reshape(-1, channels)
    if precisions_cholesky.ndim == means.ndim:
        scales = precisions_cholesky.reshape(-1, channels)
        distances, log_scales = _diagonal_distances(vectors, centres, scales), scales.log().sum(1)
    else:
        scales = precisions_cholesky.reshape(-1, channels, channels)
        distances = torch.stack([((vectors - m) @ w).square().sum(1) for m, w in zip(centres, scales, strict=True)], 1)
        log_scales = scales.diagonal(dim1=1, dim2=2).log().sum(1)
    constant = weights.log().reshape(-1) + log_scales - channels / 2 * math.log(2 * math.pi)
    return torch.logsumexp((constant - distances / 2).reshape(-1, *weights.shape), dim=-1)


def _diagonal_distances(vectors: Tensor, centres: Tensor, scales: Tensor) -> Tensor:
    """Return squared distances (P, M) in units of the standard deviations, by products of matrices."""
    precision = scales**2
    constant = (centres**2 * precision).sum(1)
    squares = torch.addmm(constant, vectors**2, precision.T)
    return squares.addmm_(vectors, (centres * precision).T, alpha=-2).clamp_min_(0)


class _Parameters(NamedTuple):
    """Weights (M,), means (M, C) and Cholesky factors (M, C) or (M, C, C) of the precisions of one mixture."""

    weights: Floats
    means: Floats
    scales: Floats


def _fit_mixture(points: Floats, components: int, kind: Kind, floor: float, seed: int) -> _Parameters:
    """Return a mixture fitted by expectation-maximisation; one of fewer different points than components has fewer.

    Components that are left over have weight 0.
    """
    count = min(components, len(np.unique(points, axis=0)))
    points = np.repeat(points, 2, axis=0) if len(points) == 1 else points  # scikit-learn asks for two at least
    mixture = Mixture(count, covariance_type=_SKLEARN[kind], reg_covar=floor, random_state=seed)
    with warnings.catch_warnings():
        # A mixture that has not settled after its hundred steps is as good a density as any for a score.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(points)
    spare = np.zeros(components, np.int64)
    spare[:count] = np.arange(count)
    weights = np.where(np.arange(components) < count, mixture.weights_[spare], 0.0)
    return _Parameters(weights, mixture.means_[spare], mixture.precisions_cholesky_[spare])


class _Projection(NamedTuple):
    """A centre (C,) and axes (C, D) that bring vectors to unit variance."""

    centre: Floats
    axes: Floats


def _standardisation(points: Floats) -> _Projection:
    """Return what gives every channel unit variance; constant ones stay as they are."""
    deviation = points.std(0)
    return _Projection(points.mean(0), np.diag(1 / np.where(deviation > 0, deviation, 1.0)))


def _principal_axes(points: Floats, dims: int) -> _Projection:
    """Return the principal axes of largest variance, scaled to unit variance."""
    channels = points.shape[1]
    if dims > channels:
        raise InputError(f"dims is {dims}, but the features have {channels} channels: set it to {channels} or less")
    variance, axes = np.linalg.eigh(np.cov(points.T, bias=True).reshape(channels, channels))
    variance, axes = variance[::-1][:dims], axes[:, ::-1][:, :dims]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(dims)])  # of the two directions always the same
    kept = variance > variance[0] * 1e-10
    return _Projection(points.mean(0), axes / np.sqrt(np.where(kept, variance, 1.0)))


class _Sample(Statistics):
    """Counts of the classes and, of each, at most ``samples`` feature vectors."""

    def __init__(self, tap: str, samples: int, seed: int) -> None:
        self.tap = tap
        self.counts = ClassCounts()
        # One place for every label there can be, because the number of classes is not known before the first image.
        self.sample = PixelSample(samples * IGNORE, seed, classes=IGNORE)

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in a batch of images."""
        features = tapped(prediction, self.tap)
        labels, _ = channel_labels(prediction, labels, (features.shape[2], features.shape[3]))
        self.counts.update(labels, prediction)
        self.sample.update(vectors(features), labels.flatten(1), index)


@register_detector("gaussian-mixture")
class GaussianMixture(FittedDetector[_Sample]):
    """Minus the log-density of a pixel's features under one Gaussian mixture per class.

    Reference:
        Liang et al., GMMSeg: Gaussian Mixture based Generative Semantic Segmentation Models, NeurIPS 2022,
        https://arxiv.org/abs/2210.02025

    Args:
        tap: the features.
        components: Gaussians per class, at least 1.
        covariance: ``"diagonal"`` or ``"full"``.
        over: ``"largest"``: the density of the class under which it is largest; ``"sum"``: that of all classes,
            weighted by how often they occur.
        dims: principal axes that are kept, scaled to unit variance; None keeps all channels, each scaled.
        samples: vectors per class that are fitted to.
        floor: what is added to every variance of the scaled features, above 0.
        seed: decides the sample and where the mixtures start.
    """

    card = Card(
        title="Gaussian mixture per class",
        summary="Minus the log-density of the features under one Gaussian mixture per class.",
        paper="Liang et al., GMMSeg: Gaussian Mixture based Generative Semantic Segmentation Models, NeurIPS 2022",
        year=2022,
        url="https://arxiv.org/abs/2210.02025",
        needs=Needs(fitting=True, features=True),
        notes="The paper trains a network together with its mixtures; here they are fitted to the features of a "
        "finished network, by scikit-learn on a class-balanced sample, so that none of its numbers applies. Our "
        "choices: three components, diagonal covariances, channels scaled to unit variance, the class of the largest "
        "density. A class that never occurs in the fit data takes a mixture of the vectors of all classes.",
    )
    target = "labels"
    centre_: Tensor | None
    axes_: Tensor | None
    weights_: Tensor | None
    means_: Tensor | None
    scales_: Tensor | None
    priors_: Tensor | None

    def __init__(
        self,
        tap: str = "decoder",
        components: int = 3,
        covariance: Kind = "diagonal",
        over: Over = "largest",
        dims: int | None = None,
        samples: int = 5000,
        floor: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_counts(components=components, samples=samples, dims=1 if dims is None else dims)
        if not 0 < floor < math.inf:
            raise InputError(f"expected a floor above 0, got {floor}: it keeps the variances of the mixtures positive")
        self.tap = tap
        self.components, self.samples, self.dims, self.seed = components, samples, dims, seed
        self.covariance = checked_choice("covariance", covariance, get_args(Kind))
        self.over = checked_choice("over", over, get_args(Over))
        self.floor = float(floor)
        for name in ("centre_", "axes_", "weights_", "means_", "scales_", "priors_"):
            self.register_buffer(name, None)

    def settings(self) -> Settings:
        """Return all arguments."""
        return {
            "tap": self.tap,
            "components": self.components,
            "covariance": self.covariance,
            "over": self.over,
            "dims": self.dims,
            "samples": self.samples,
            "floor": self.floor,
            "seed": self.seed,
        }

    def taps(self) -> frozenset[str]:
        """Return the one tap."""
        return frozenset({self.tap})

    def statistics(self) -> _Sample:
        """Return an empty sample."""
        return _Sample(self.tap, self.samples, self.seed)

    def conclude(self, statistics: _Sample) -> None:
        """Fit the mixtures.

        Raises:
            InputError: if there was no labelled pixel, or more dims are wanted than there are channels.
        """
        counts, sample = statistics.counts, statistics.sample
        counts.require()
        points = sample.vectors.double().numpy()
        projection = _standardisation(points) if self.dims is None else _principal_axes(points, self.dims)
        self._keep_mixtures((points - projection.centre) @ projection.axes, sample.labels, len(counts.count))
        self.centre_, self.axes_ = _single(projection.centre), _single(projection.axes)
        self.priors_ = (counts.count / counts.count.sum()).float()
        self.absent = counts.absent

    def _keep_mixtures(self, points: Floats, labels: Tensor, classes: int) -> None:
        members = [points[(labels == label).numpy()] for label in range(classes)]
        # The sample is in random order, so that its beginning is one of all classes.
        members = [one if len(one) else points[: self.samples] for one in members]
        fits = [_fit_mixture(one, self.components, self.covariance, self.floor, self.seed) for one in members]
        self.weights_, self.means_, self.scales_ = (_single(np.stack(part)) for part in zip(*fits, strict=True))

    def score(self, prediction: Prediction) -> Tensor:
        """Return minus the log-density (N, H, W) of the scaled features, upsampled from the resolution of the tap."""
        features = tapped(prediction, self.tap)
        maps = [self._surprise(vectors(one[None])[0]).reshape(one.shape[-2:]) for one in features]
        return upsampled(torch.stack(maps)[:, None], prediction.size)[:, 0]

    def _surprise(self, points: Tensor) -> Tensor:
        """Return minus the log-densities (P,) of vectors (P, C)."""
        return torch.cat([-self._density(part) for part in torch.split(points, _VECTORS)])

    def _density(self, points: Tensor) -> Tensor:
        kept = (self.centre_, self.axes_, self.priors_, self.weights_, self.means_, self.scales_)
        centre, axes, priors, *mixtures = (fitted(self, one).to(points) for one in kept)
        densities = gaussian_mixture_log_density((points - centre) @ axes, *mixtures)
        return densities.amax(1) if self.over == "largest" else torch.logsumexp(densities + priors.log(), dim=1)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"expected {name} of at least 1, got {count}")


def _single(values: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()
