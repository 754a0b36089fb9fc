"""Standardized max logits: how far the largest logit falls below what is usual for the predicted class."""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import Settings, class_logits, register_detector
from strays.detectors.boundary_suppression import (
    checked_dilation,
    dilated_smoothing,
    suppressed_boundaries,
    suppression_radii,
)
from strays.detectors.fitted import FittedDetector, fitted
from strays.detectors.reported import FISHYSCAPES, reported
from strays.detectors.statistics import ClassMoments, Extremes, Statistics
from strays.detectors.tempered import checked_logits
from strays.errors import InputError
from strays.kernels.gaussian import gaussian_window
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = ["MaxLogitStatistics", "StandardizedMaxLogit", "largest_logits", "standardized_max_logit"]

_STRIP = 2**20
"""How many upsampled logits are held at a time: 4 MiB in float32, or one row of the image where that is more."""


def standardized_max_logit(logits: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return by how many standard deviations the largest logit falls below the mean of the predicted class.

    Args:
        logits: (N, K, ...) class logits.
        mean: (K,) mean of the largest logit over pixels that are predicted as each class.
        variance: (K,) its variance, above 0.

    Returns:
        (N, ...), unbounded, larger = more anomalous, float32, or float64 for float64 logits.

    Raises:
        InputError: if a shape is wrong or a variance is not above 0.

    Source: Jung et al., ICCV 2021, their standardized max logit, negated. It is divided by the square root of the
    variance, as their code does.

    Example:
        >>> logits = torch.tensor([[9.0, 1.0], [1.0, 9.0]])
        >>> standardized_max_logit(logits, mean=torch.tensor([9.0, 11.0]), variance=torch.tensor([1.0, 4.0]))
        tensor([0., 1.])
    """
    logits = checked_logits(logits, temperature=1)
    _check_moments(logits.shape[1], mean, variance)
    best, labels = _largest(logits)
    return _standardized(best, labels, mean, variance)


def _check_moments(classes: int, mean: Tensor, variance: Tensor) -> None:
    for name, value in (("mean", mean), ("variance", variance)):
        if tuple(value.shape) != (classes,):
            raise InputError(f"expected one {name} for each of the {classes} classes, got {tuple(value.shape)}")
    if not (variance > 0).all():
        wrong = (~(variance > 0)).nonzero()[:, 0].tolist()
        raise InputError(f"expected variances above 0, those of the classes {wrong} are not: pool them over classes")


def _largest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``logits.max(dim=1)`` does, several times as fast on a CPU, where its search is not vectorised."""
    classes = logits.shape[1]
    best = logits.amax(dim=1, keepdim=True)
    ranks = torch.arange(classes, 0, -1, dtype=torch.uint8 if classes <= IGNORE else torch.int32, device=logits.device)
    first = ((logits == best) * ranks.view(-1, *[1] * (logits.ndim - 2))).amax(dim=1)
    return best.squeeze(1), (classes - first).clamp(max=classes - 1)  # nothing equals NaN, whose rank is 0


def _standardized(best: Tensor, labels: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    labels = labels.long()
    return (mean.to(best)[labels] - best) / variance.to(best).sqrt()[labels]


def largest_logits(logits: Tensor, size: tuple[int, int], align_corners: bool = False) -> tuple[Tensor, Tensor]:
    """Return the largest class logit of every pixel of the image, and its class.

    The logits are upsampled bilinearly a few rows at a time, so that they are never there at full size.

    Args:
        logits: (N, K, h, w) class logits.
        size: (H, W) of the image.
        align_corners: whether the centres of the corner pixels, instead of their outer corners, fall together.

    Returns:
        The logits (N, H, W), float32, or float64 for float64 logits; and the classes (N, H, W), uint8, or int32 where
        there are more than 255.

    Raises:
        InputError: if the logits are not (N, K, h, w).
    """
    if logits.ndim != 4:
        raise InputError(f"expected logits (N, K, h, w), got {tuple(logits.shape)}")
    logits = checked_logits(logits, temperature=1)
    best, labels = zip(*map(_largest, _strips(logits, size, align_corners)), strict=True)
    return torch.cat(best, dim=1), torch.cat(labels, dim=1)


def _strips(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Iterator[Tensor]:
    """Yield the upsampled logits (N, K, rows, W), from the top down."""
    height, width = size
    upper, lower, share = _rows_between(logits, height, align_corners)
    step = max(1, _STRIP // (logits.shape[0] * logits.shape[1] * width))
    for rows in (slice(start, start + step) for start in range(0, height, step)):
        strip = torch.lerp(logits[..., upper[rows], :], logits[..., lower[rows], :], share[rows, None])
        its_size = (strip.shape[-2], width)  # rows are as they shall be, columns are still to be interpolated
        yield functional.interpolate(strip, size=its_size, mode="bilinear", align_corners=align_corners)


def _rows_between(logits: Tensor, height: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return for every row of the image the two rows of the logits around it, and the share of the second one."""
    rows = logits.shape[-2]
    target = torch.arange(height, dtype=torch.float64)
    if align_corners:
        source = target * ((rows - 1) / max(height - 1, 1))
    else:
        source = ((target + 0.5) * (rows / height) - 0.5).clamp(min=0)
    upper = source.long().clamp(max=rows - 1)
    lower = (upper + 1).clamp(max=rows - 1)
    share = (source - upper).to(logits.dtype)
    return upper.to(logits.device), lower.to(logits.device), share.to(logits.device)


class MaxLogitStatistics(Statistics):
    """Moments of the largest logit by predicted class, at the size of the image.

    Args:
        with_ignored: whether pixels that are labelled 255 count too.
        max_images: how many images of the fit count, None for all.
        align_corners: how the logits are upsampled.

    Attributes:
        moments: of K classes, the void class not among them; of none until the first image.
        void: both extremes are the index of the void channel, -1 where the network has none.
    """

    def __init__(self, with_ignored: bool = True, max_images: int | None = None, align_corners: bool = False) -> None:
        self.with_ignored = with_ignored
        self.max_images = max_images
        self.align_corners = align_corners
        self.moments = ClassMoments(0)
        self.void = Extremes()

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in a batch of images.

        Raises:
            InputError: if logits are NaN or infinite, or of another number of classes than before.
        """
        logits = _finite(class_logits(prediction))
        self._expect(logits.shape[1])
        self.void.update(torch.tensor(-1 if prediction.void is None else prediction.void))
        wanted = len(logits) if self.max_images is None else min(len(logits), max(0, self.max_images - index))
        for one in range(wanted):
            best, predicted = largest_logits(logits[one : one + 1], prediction.size, self.align_corners)
            best, predicted = best[0].cpu(), predicted[0].cpu()
            if not self.with_ignored:
                kept = labels[one].cpu() != IGNORE
                best, predicted = best[kept], predicted[kept]
            self.moments.update(best, predicted)

    def merge(self, other: Self) -> None:
        """Take in what another one has gathered.

        Raises:
            InputError: if it is of another number of classes.
        """
        if len(other.moments.count):
            self._expect(len(other.moments.count))
            super().merge(other)

    def _expect(self, classes: int) -> None:
        """Make room for K classes, or check that there is room for as many."""
        known = len(self.moments.count)
        if known == 0:
            self.moments = ClassMoments(classes)
        elif known != classes:
            raise InputError(
                f"expected logits of {known} classes as in the images before, got {classes}: fit on one network only"
            )


def _finite(logits: Tensor) -> Tensor:
    broken = int((~torch.isfinite(logits)).sum())
    if broken:
        raise InputError(
            f"{broken} of {logits.numel()} logits are NaN or infinite: look for damaged weights, or for an overflow of "
            "the network in half precision"
        )
    return logits


@register_detector("standardized-max-logit")
class StandardizedMaxLogit(FittedDetector[MaxLogitStatistics]):
    """Largest class logit, standardized by the statistics of the predicted class, cleaned up where classes meet.

    Reference:
        Jung et al., Standardized Max Logits: A Simple yet Effective Approach for Identifying Unexpected Road Obstacles
        in Urban-Scene Segmentation, ICCV 2021, https://arxiv.org/abs/2107.11264

    Args:
        suppression: whether values near class boundaries are replaced, see ``suppressed_boundaries``.
        smoothing: whether the map is smoothed, see ``dilated_smoothing``.
        iterations: of the suppression, at least 1.
        width: of the suppression, a multiple of the iterations.
        sigma: of the smoothing, in steps of ``dilation`` pixels, above 0.
        kernel: number of weights of the smoothing in each direction, odd.
        dilation: pixels between them, at least 1.
        with_ignored: whether pixels that are labelled 255 count in the statistics, as they do in the authors' code.
        max_images: how many images of the fit count, None for all; the authors' code stops after 200.
        align_corners: how logits are upsampled; the authors' network does it with True.

    Attributes:
        mean_, variance_: (K,) float32, of the largest logit by predicted class.

    Example:
        >>> detector = StandardizedMaxLogit(suppression=False, smoothing=False)
        >>> fit_on = Prediction(logits=torch.tensor([[[[4.0, 6.0, 1.0, 1.0]], [[1.0, 1.0, 7.0, 9.0]]]]), size=(1, 4))
        >>> detector = detector.fit([fit_on], [torch.zeros(1, 1, 4)])
        >>> detector.mean_, detector.variance_
        (tensor([5., 8.]), tensor([2., 2.]))
    """

    card = Card(
        title="Standardized max logit",
        summary="Minus the largest logit, standardized by predicted class, with boundary suppression and smoothing.",
        paper="Jung et al., Standardized Max Logits: A Simple yet Effective Approach for Identifying Unexpected Road "
        "Obstacles in Urban-Scene Segmentation, ICCV 2021",
        year=2021,
        url="https://arxiv.org/abs/2107.11264",
        needs=Needs(fitting=True),
        published=(
            *reported(
                "Fishyscapes Lost & Found test",
                {"AP": 0.3105, "FPR95": 0.2152},
                "DeepLabV3+ ResNet-101",
                FISHYSCAPES,
            ),
            *reported(
                "Fishyscapes Static test",
                {"AP": 0.5311, "FPR95": 0.1964},
                "DeepLabV3+ ResNet-101",
                FISHYSCAPES,
            ),
        ),
        notes="Statistics are those of all images of the fit, whole and not augmented; the authors' are of 200 "
        "augmented crops. Logits are upsampled without aligned corners, the authors' with. A class that is never "
        "predicted gets the statistics of all classes together; one whose largest logit does not vary, their variance.",
    )

    def __init__(
        self,
        suppression: bool = True,
        smoothing: bool = True,
        iterations: int = 4,
        width: int = 4,
        sigma: float = 1.0,
        kernel: int = 7,
        dilation: int = 6,
        with_ignored: bool = True,
        max_images: int | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        suppression_radii(iterations, width)
        gaussian_window(sigma, kernel)
        self.suppression, self.iterations, self.width = suppression, iterations, width
        self.smoothing, self.sigma, self.kernel = smoothing, float(sigma), kernel
        self.dilation = checked_dilation(dilation)
        if max_images is not None and max_images < 1:
            raise InputError(f"expected max_images of at least 1, got {max_images}: None takes all")
        self.with_ignored, self.max_images, self.align_corners = with_ignored, max_images, align_corners
        self.mean_: Tensor | None
        self.variance_: Tensor | None
        self.register_buffer("mean_", None)
        self.register_buffer("variance_", None)

    def settings(self) -> Settings:
        """Return what is switched on, and the numbers of each step."""
        return {
            "suppression": self.suppression,
            "smoothing": self.smoothing,
            "iterations": self.iterations,
            "width": self.width,
            "sigma": self.sigma,
            "kernel": self.kernel,
            "dilation": self.dilation,
            "with_ignored": self.with_ignored,
            "max_images": self.max_images,
            "align_corners": self.align_corners,
        }

    def statistics(self) -> MaxLogitStatistics:
        """Return empty moments of the largest logit."""
        return MaxLogitStatistics(self.with_ignored, self.max_images, self.align_corners)

    def conclude(self, statistics: MaxLogitStatistics) -> None:
        """Take mean and unbiased variance of every class; those of all classes together where a class never occurred.

        Raises:
            InputError: if there was no pixel, or the largest logit was the same everywhere.
        """
        moments, pooled = statistics.moments, statistics.moments.pooled()
        if not pooled.count:
            raise InputError("no pixel to fit on: give at least one image, and not only ignored pixels")
        if not _varies(pooled):
            raise InputError(
                f"the largest logit is {float(pooled.mean):g} at all {int(pooled.count)} pixels of the fit: give "
                "images that differ, and check the network"
            )
        seen = moments.count > 0
        mean = torch.where(seen, moments.mean, pooled.mean)
        variance = torch.where(_varies(moments), moments.variance(), pooled.variance())
        device = next((one.device for one in self.buffers()), torch.device("cpu"))
        self.mean_, self.variance_ = mean.float().to(device), variance.float().to(device)
        void = int(statistics.void.range()[0])
        self.absent = tuple(one + (0 <= void <= one) for one in (~seen).nonzero()[:, 0].tolist())

    def score(self, prediction: Prediction) -> Tensor:
        """Return anomaly scores (N, H, W): standard deviations below the mean, after suppression and smoothing.

        Raises:
            InputError: if nothing was fitted yet, or on another number of classes.
        """
        mean, variance = fitted(self, self.mean_), fitted(self, self.variance_)
        logits = class_logits(prediction).float()
        if logits.shape[1] != len(mean):
            raise InputError(
                f"{self.name} was fitted on {len(mean)} classes, this network has {logits.shape[1]}: fit it again"
            )
        best, labels = largest_logits(logits, prediction.size, self.align_corners)
        # Both steps take means, so that the anomaly score gives minus what the authors' confidence gives.
        score = _standardized(best, labels, mean, variance)
        if self.suppression:
            score = suppressed_boundaries(score, labels, self.iterations, self.width)
        return dilated_smoothing(score, self.sigma, self.kernel, self.dilation) if self.smoothing else score


def _varies(moments: ClassMoments) -> Tensor:
    """Return (K,) whether there is a variance beyond what rounding to float32 makes."""
    return moments.variance() > (torch.finfo(torch.float32).eps * moments.mean) ** 2
