"""A score without the false alarms that a model of their segments recognises."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, Settings, class_logits, register_detector, upsampled
from strays.detectors.fitted import FitTarget, FittedDetector, unfitted
from strays.detectors.meta_models import Linear, MetaModel, fit_logistic, scaling_of
from strays.detectors.segment_features import SegmentRows, SegmentTable, segment_features
from strays.detectors.wrapper import Wrapper
from strays.errors import InputError
from strays.prediction import Prediction
from strays.scene import ANOMALY
from strays.taxonomy import IGNORE

__all__ = ["Suppressed", "lowered"]


def lowered(score: Tensor, threshold: float, numbers: Tensor, false: Tensor) -> Tensor:
    """Return a score in which the pixels of false components are at most just below the threshold.

    All other scores stay, so that the components at the threshold are exactly those that are not false, and every pixel
    that was below the threshold keeps its place among the others that were.

    Args:
        score: (H, W) float32.
        threshold: finite.
        numbers: (H, W) the component of each pixel, from 1, 0 = none.
        false: (n,) bool, which components are false.

    Example:
        >>> numbers = torch.tensor([[0, 1, 0, 2]])
        >>> lowered(torch.tensor([[0.1, 0.9, 0.2, 0.8]]), 0.5, numbers, torch.tensor([True, False]))
        tensor([[0.1000, 0.5000, 0.2000, 0.8000]])
    """
    below = torch.nextafter(score.new_tensor(threshold), score.new_tensor(-torch.inf))
    killed = torch.cat([false.new_zeros(1), false])[numbers.long()]
    return torch.where(killed, score.minimum(below), score)


@register_detector("suppressed")
class Suppressed(Wrapper, FittedDetector[SegmentRows]):
    """The score of another detector, lowered where a component above a threshold looks like a false alarm.

    The components of ``score >= threshold`` are described by the dispersion features of MetaSeg, and a logistic
    regression tells those that overlap anomalies from those that do not; it is fitted on images with anomaly masks.
    Pixels of a component that is more probably false are lowered to just below the threshold; see ``lowered``.

    Reference:
        Chan et al., Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic
        Segmentation, ICCV 2021, https://arxiv.org/abs/2012.06575

    Args:
        detector: the other one, or a string that describes it; one that needs fitting comes fitted.
        threshold: in the unit of its score.
        segments: how many components are kept for fitting, drawn at random where there are more.

    Raises:
        InputError: if the threshold is not finite.

    Example:
        >>> Suppressed("entropy", threshold=0.6).settings()
        {'detector': 'entropy(temperature=1.0)', 'threshold': 0.6, 'segments': 200000}
    """

    card = Card(
        title="False-positive suppression",
        summary="The score of another detector, lowered where a meta-classifier takes a component for a false alarm.",
        paper="Chan et al., Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic "
        "Segmentation, ICCV 2021",
        year=2021,
        url="https://arxiv.org/abs/2012.06575",
        needs=Needs(fitting=True, anomalies=True),
        notes="A wrapper: suppressed(DETECTOR,threshold=T). The released code describes components by further features "
        "too, such as their place, and deletes what it takes for false; here those pixels go just below the threshold.",
    )

    def __init__(self, detector: str | Detector = "entropy", threshold: float = 0.7, segments: int = 200_000) -> None:
        super().__init__(detector)
        if not math.isfinite(threshold):
            raise InputError(f"expected a finite threshold in the unit of the score, got {threshold}")
        self.threshold = float(threshold)
        self.segments = segments
        self.learnt = MetaModel(Linear)

    @property
    def target(self) -> FitTarget:
        """Anomaly masks."""
        return "mask"

    @property
    def is_fitted(self) -> bool:
        """Whether it can score: what the other detector holds does not count."""
        return self.learnt.is_fitted

    def settings(self) -> Settings:
        """Return the other detector in words, the threshold and the number of components."""
        return {**super().settings(), "threshold": self.threshold, "segments": self.segments}

    def statistics(self) -> SegmentRows:
        """Return an empty sample of components."""
        return SegmentRows(self.segments, self._described)

    def _described(self, prediction: Prediction, masks: Tensor) -> Iterator[tuple[SegmentTable, NDArray[np.float64]]]:
        """Yield the components of each image, and 1 for those that overlap an anomaly, 0 for the others."""
        above = (self.inner(prediction) >= self.threshold).cpu() & (masks.cpu() != IGNORE)
        for components, mask in zip(_components(prediction, above), masks.cpu().numpy(), strict=True):
            found = components.numbers[mask == ANOMALY]
            yield components, (np.bincount(found, minlength=len(components) + 1)[1:] > 0).astype(np.float64)

    def conclude(self, statistics: SegmentRows) -> None:
        """Fit the model to the components.

        Raises:
            InputError: if there was no component, or none that is false, or none that is true.
        """
        advice = f"no pixel has {self.inner.name} >= {self.threshold}, set a lower threshold, or give images"
        features, overlaps = statistics.table(advice)
        true = overlaps > 0
        if true.all() or not true.any():
            which = "every one overlaps" if true.all() else "none overlaps"
            raise InputError(
                f"of {len(true)} components with {self.inner.name} >= {self.threshold} in the fit images {which} an "
                "anomaly, and suppression learns from both kinds: set another threshold, or give more images"
            )
        self.learnt.take(fit_logistic(features, ~true, scaling_of(features)))

    def score(self, prediction: Prediction) -> Tensor:
        """Return the score (N, H, W) of the other detector with false components lowered.

        Raises:
            InputError: if it was not fitted, or for another number of classes.
        """
        if not self.learnt.is_fitted:
            raise InputError(unfitted(self.name))
        scores = self.inner.score(prediction)
        tables = _components(prediction, (scores >= self.threshold).cpu())
        maps = [self._suppressed(one, components) for one, components in zip(scores, tables, strict=True)]
        return torch.stack(maps)

    def _suppressed(self, score: Tensor, components: SegmentTable) -> Tensor:
        false = torch.from_numpy(self.learnt.response(components.features) > 0).to(score.device)
        return lowered(score, self.threshold, torch.from_numpy(components.numbers).to(score.device), false)


def _components(prediction: Prediction, above: Tensor) -> Iterator[SegmentTable]:
    """Yield the 8-connected components of masks (N, H, W) with their features; one image is upsampled at a time."""
    for logits, mask in zip(class_logits(prediction), above, strict=True):
        labels = np.where(mask.numpy(), 0, IGNORE)
        yield segment_features(upsampled(logits[None], prediction.size)[0], labels)
