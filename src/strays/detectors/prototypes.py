"""Cosine similarity to class prototypes: as PAnS trains them, or as means of the features of each class."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import class_logits, register_detector, upsampled
from strays.detectors.class_labels import ClassCounts, channel_labels
from strays.detectors.fitted import FitTarget, FittedDetector, fitted
from strays.detectors.inputs import passes_of, tapped
from strays.detectors.reported import reported
from strays.detectors.statistics import Accumulator, State, Statistics
from strays.detectors.stored import Settings
from strays.errors import InputError
from strays.prediction import Prediction
from strays.specs import parsed_scales

__all__ = [
    "ClassSums",
    "PrototypeStatistics",
    "Prototypes",
    "cosine_confidence",
    "cosine_logits",
    "prototype_score",
]

Source = Literal["fit", "classifier"]

_SCALE = 10.0
_IGNORE = 255
_GRID = 8
_NAME = "prototypes"


def cosine_logits(features: Tensor, weights: Tensor, scale: float = _SCALE) -> Tensor:
    """Return the logits of a cosine classifier, scale * cos(feature, weight of the class).

    Args:
        features: (N, C, ...) feature maps; the cosine of a vector of zeros is 0.
        weights: (K, C), one vector per class, of any length.
        scale: what the cosines are multiplied by; 10 in PAnS, where it is not learned.

    Returns:
        (N, K, ...) in [-scale, scale], float32.

    Raises:
        InputError: if the features have another number of channels than the weights.

    Source: Fontanel et al., CVPRW 2021.

    Example:
        >>> import torch
        >>> cosine_logits(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -5.0]]))
        tensor([[ 6., -8.]])
    """
    channels = weights.shape[1]
    if features.ndim < 2 or features.shape[1] != channels:
        raise InputError(f"expected features (N, {channels}, ...) for {channels} channels, got {tuple(features.shape)}")
    features = features.float()
    directions = functional.normalize(weights.to(features), dim=1)
    products = torch.einsum("kc,nc...->nk...", directions, features)
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    cosines: Tensor = (products / lengths.clamp_min(1e-12)).clamp_(-1, 1)  # rounding must not leave the range
    return cosines * scale


def cosine_confidence(logits: Tensor, scale: float = _SCALE) -> Tensor:
    """Return the confidence (max_c logit_c + scale) / (2 scale) of a cosine classifier.

    Args:
        logits: (N, K, ...) as ``cosine_logits`` gives them.
        scale: what the cosines were multiplied by.

    Returns:
        (N, ...) in [0, 1].

    Source: Fontanel et al., CVPRW 2021, and their code.

    Example:
        >>> import torch
        >>> cosine_confidence(torch.tensor([[6.0, -8.0]]))
        tensor([0.8000])
    """
    return (logits.amax(dim=1) + scale) / (2 * scale)


def prototype_score(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return 1 - (max_c cos(feature, prototype_c) + 1) / 2.

    Args:
        features: (N, C, ...).
        prototypes: (K, C), of any length.

    Returns:
        (N, ...) in [0, 1]: 0 in the direction of a prototype, 1 opposite to all of them.

    Raises:
        InputError: if the features have another number of channels than the prototypes.

    Example:
        >>> import torch
        >>> prototype_score(torch.tensor([[3.0, 4.0], [-1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([0.2000, 1.0000])
    """
    return 1 - cosine_confidence(cosine_logits(features, prototypes))


class ClassSums(Accumulator):
    """Sum of the feature vectors of each class, for masked average pooling over any number of images.

    Attributes:
        total: (K, C) float64, a row for every class.
    """

    def __init__(self) -> None:
        self.total = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Take in features (N, C, h, w) with labels (N, h, w) that ``channel_labels`` gave, for K = ``classes``."""
        found = torch.zeros(classes, features.shape[1], dtype=torch.float64)
        for one, its_labels in zip(features, labels.to(features.device), strict=True):
            for label in (index for index in its_labels.unique().tolist() if index != _IGNORE):
                found[label] += one[:, its_labels == label].sum(dim=1, dtype=torch.float64).cpu()
        self.total = _sum(self.total, found)

    def means(self, counts: ClassCounts) -> Tensor:
        """Return the means (K, C) of the classes; that of all pixels for a class without any."""
        count = counts.count[:, None]
        pooled = self.total.sum(dim=0) / count.sum()
        return torch.where(count > 0, self.total / count.clamp_min(1), pooled)

    def merge(self, other: Self) -> None:
        """Take in the features of other images."""
        self.total = _sum(self.total, other.total)

    def state(self) -> State:
        """Return the sums."""
        return {"total": self.total}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up the sums."""
        self.total = state["total"]


def _sum(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of two tensors of one shape, either of which may be empty instead."""
    if not one.numel() or not other.numel():
        return one if one.numel() else other
    return one + other


class PrototypeStatistics(Statistics):
    """Number and sum of the feature vectors of each class.

    Args:
        tap: the features.
    """

    def __init__(self, tap: str) -> None:
        self.tap = tap
        self.counts = ClassCounts()
        self.sums = ClassSums()

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in the features of a batch of images and their class labels."""
        features = tapped(prediction, self.tap)
        its_labels, classes = channel_labels(prediction, labels, (features.shape[-2], features.shape[-1]))
        self.counts.update(its_labels, prediction)
        self.sums.update(features, its_labels, classes)


@register_detector(_NAME)
class Prototypes(FittedDetector[PrototypeStatistics]):
    """How far a pixel's features point away from every class prototype.

    Reference:
        Fontanel et al., Detecting Anomalies in Semantic Segmentation with Prototypes, CVPRW 2021,
        https://arxiv.org/abs/2106.00472

    Args:
        tap: the features that are compared with their means over the pixels of each class.
        source: ``fit`` estimates the prototypes as means; ``classifier`` reads those of a network that was trained as
            PAnS trains it, whose logits are 10 times the cosines, and is not fitted.
        scales: at which sizes the network looks at the image, with + between them, such as ``1`` or ``300/720+1``; the
            confidences are averaged. Other sizes than 1 are rounded as published: down to a pixel, then up to 8 pixels.

    Example:
        >>> Prototypes(source="classifier", scales="1/2+1").is_fitted
        True
    """

    card = Card(
        title="Prototypes (PAnS)",
        summary="One minus the rescaled cosine between a pixel's features and the nearest class prototype.",
        paper="Fontanel et al., Detecting Anomalies in Semantic Segmentation with Prototypes, CVPRW 2021",
        year=2021,
        url="https://arxiv.org/abs/2106.00472",
        needs=Needs(fitting=True, features=True),
        published=reported(
            "StreetHazards test",
            {"AP": 0.088, "FPR95": 0.232, "AUROC": 0.911},
            "PAnS ResNet-50, trained cosine classifier",
            "mean over images, five scales",
        ),
        notes="PAnS trains its prototypes as the weights of a cosine classifier: for such a network take "
        "source=classifier, which is not fitted; the published numbers are of that form, with "
        "scales=300/720+375/720+450/720+525/720+1000/1280 of images of 1280x720. The default, for any network, takes "
        "the normalised means of the features of each class (masked average pooling) as prototypes, at one scale.",
    )
    prototypes_: Tensor | None

    def __init__(self, tap: str = "decoder", source: Source = "fit", scales: str = "1") -> None:
        super().__init__()
        if source not in ("fit", "classifier"):
            raise InputError(f"expected source fit or classifier, got {source!r}")
        self.tap, self.source, self.scales = tap, source, scales
        self._scales = parsed_scales(scales)
        self.register_buffer("prototypes_", None)

    def settings(self) -> Settings:
        """Return the tap, where prototypes come from, and the scales."""
        return {"tap": self.tap, "source": self.source, "scales": self.scales}

    def taps(self) -> frozenset[str]:
        """Return the tap, or none where the classifier itself is read."""
        return frozenset({self.tap} if self.source == "fit" else ())

    @property
    def target(self) -> FitTarget:
        """Class labels."""
        return "labels"

    @property
    def is_fitted(self) -> bool:
        """Whether it can score."""
        return self.source == "classifier" or self.prototypes_ is not None

    def statistics(self) -> PrototypeStatistics:
        """Return empty statistics.

        Raises:
            InputError: if the classifier of the network is read, where there is nothing to fit.
        """
        if self.source == "classifier":
            raise InputError(f"{self.name} with source=classifier is not fitted: score with it as it is")
        return PrototypeStatistics(self.tap)

    def conclude(self, statistics: PrototypeStatistics) -> None:
        """Keep the normalised means of the classes; those without a pixel get the mean of all pixels.

        Raises:
            InputError: if there was no pixel.
        """
        statistics.counts.require()
        self.absent = statistics.counts.absent
        self.prototypes_ = functional.normalize(statistics.sums.means(statistics.counts), dim=1).float()

    def score(self, prediction: Prediction) -> Tensor:
        """Return 1 - confidence (N, H, W) in [0, 1], averaged over scales; each is upsampled after the maximum.

        Raises:
            InputError: if it has not been fitted, the network's logits are no cosines times 10 where those are read,
                or another scale than 1 is asked of a prediction that cannot look again.
        """
        maps = [
            upsampled(self._confidence(one)[:, None], prediction.size)[:, 0] for one in _looks(prediction, self._scales)
        ]
        return 1 - torch.stack(maps).mean(dim=0)

    def _confidence(self, prediction: Prediction) -> Tensor:
        if self.source == "classifier":
            return cosine_confidence(_checked_cosines(class_logits(prediction)))
        prototypes = fitted(self, self.prototypes_)
        return cosine_confidence(cosine_logits(tapped(prediction, self.tap), prototypes))


def _checked_cosines(logits: Tensor) -> Tensor:
    """Return logits that may be cosines times 10, or say why they cannot."""
    logits = logits.float()
    largest = float(logits.abs().amax())
    if not largest <= _SCALE * 1.01:  # half precision may round 10 up
        raise InputError(
            f"source=classifier reads logits of 10 times a cosine, and one here is {largest:.4g}: this network has no "
            "cosine classifier, so fit prototypes with source=fit"
        )
    return logits.clamp(-_SCALE, _SCALE)


def _looks(prediction: Prediction, scales: tuple[Fraction, ...]) -> Iterator[Prediction]:
    """Yield what the network sees at each scale, one after another."""
    for scale in scales:
        if scale == 1:
            yield prediction
            continue
        passes = passes_of(prediction, _NAME)
        height, width = (_rounded_up(side, scale) for side in passes.image.shape[-2:])
        yield passes.again(functional.interpolate(passes.image, (height, width), mode="bilinear", antialias=True))


def _rounded_up(side: int, scale: Fraction) -> int:
    return -(-max(1, int(side * scale)) // _GRID) * _GRID
