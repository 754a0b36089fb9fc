"""What detectors with a model of predicted segments share."""

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.detectors.base import Settings
from strays.detectors.class_labels import channel_labels
from strays.detectors.fitted import FitTarget, FittedDetector, unfitted
from strays.detectors.meta_models import Linear, MetaModel, Trees
from strays.detectors.segment_features import (
    FEATURES,
    SegmentRows,
    SegmentTable,
    adjusted_iou,
    painted,
    predicted_segments,
)
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["BOOSTED", "MetaDetector", "interior"]

BOOSTED = "gradient-boosting"
_INTERIOR = FEATURES.index("S_in")


class MetaDetector(FittedDetector[SegmentRows]):
    """A detector that gives every pixel what a model makes of the features of its predicted segment.

    Args:
        linear: the name of its linear model.
        model: that name, or ``"gradient-boosting"``.
        segments: how many segments are kept for fitting, drawn at random where there are more.

    Raises:
        InputError: if there is no such model.
    """

    def __init__(self, linear: str, model: str, segments: int) -> None:
        super().__init__()
        if model not in (linear, BOOSTED):
            raise InputError(f"no model of segments is called {model!r}: choose {linear!r} or {BOOSTED!r}")
        self.model = model
        self.segments = segments
        self.learnt = MetaModel(Linear if model == linear else Trees)

    @property
    def target(self) -> FitTarget:
        """Class labels."""
        return "labels"

    def settings(self) -> Settings:
        """Return the model and the number of segments."""
        return {"model": self.model, "segments": self.segments}

    def statistics(self) -> SegmentRows:
        """Return an empty sample of segments."""
        return SegmentRows(self.segments, _described)

    @abstractmethod
    def anomaly(self, response: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores (n,) of segments for which the model responds with (n,)."""

    def score(self, prediction: Prediction) -> Tensor:
        """Return the score (N, H, W) of each pixel's segment.

        Raises:
            InputError: if it was not fitted, or for another number of classes.
        """
        if not self.learnt.is_fitted:
            raise InputError(unfitted(self.name))
        tables = predicted_segments(prediction)
        maps = [painted(one, self.anomaly(self.learnt.response(one.features))) for one in tables]
        return torch.stack(maps).to(prediction.logits.device)


def _described(prediction: Prediction, labels: Tensor) -> Iterator[tuple[SegmentTable, NDArray[np.float64]]]:
    """Yield the segments of each image with their adjusted IoU."""
    targets, _ = channel_labels(prediction, labels.cpu())
    for segments, truth in zip(predicted_segments(prediction, targets), targets, strict=True):
        yield segments, adjusted_iou(segments, truth.numpy())


def interior(features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which segments (n,) have a pixel that is not on the boundary."""
    has: NDArray[np.bool_] = features[:, _INTERIOR] > 0
    return has
