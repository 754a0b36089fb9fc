"""Meta-regression: the predicted IoU of a predicted segment."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from strays.cards import Card, Needs
from strays.detectors.base import register_detector
from strays.detectors.meta_detector import BOOSTED, MetaDetector, interior
from strays.detectors.meta_models import fit_boosted_regressor, fit_linear, scaling_of
from strays.detectors.segment_features import SegmentRows

__all__ = ["MetaRegressor"]


@register_detector("meta-regressor")
class MetaRegressor(MetaDetector):
    """One minus the predicted adjusted IoU of a pixel's segment with the labels.

    It is fitted on the predicted segments of labelled inlier images. Those without an interior are left out, unless
    fewer than two remain; when scoring they count.

    Reference:
        Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation: Detection via Aggregated
        Dispersion Measures of Softmax Probabilities, IJCNN 2020, https://arxiv.org/abs/1811.00648

    Args:
        model: ``"linear"``, a linear regression, or ``"gradient-boosting"``, 100 trees of depth 3.
        segments: how many segments are kept for fitting, drawn at random where there are more.

    Raises:
        InputError: if there is no such model.
    """

    card = Card(
        title="MetaSeg meta-regression",
        summary="One minus the predicted IoU of a pixel's segment, from its dispersion.",
        paper="Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation: Detection via "
        "Aggregated Dispersion Measures of Softmax Probabilities, IJCNN 2020",
        year=2020,
        url="https://arxiv.org/abs/1811.00648",
        needs=Needs(fitting=True),
        notes="Painting the value onto the pixels of the segment is our reading: the paper rates segments.",
    )

    def __init__(self, model: Literal["linear", "gradient-boosting"] = "linear", segments: int = 200_000) -> None:
        super().__init__("linear", model, segments)

    def conclude(self, statistics: SegmentRows) -> None:
        """Fit the model to the segments.

        Raises:
            InputError: if there was no segment.
        """
        features, overlap = statistics.table()
        kept = interior(features)
        if np.count_nonzero(kept) < 2:
            kept = np.ones_like(kept)
        if self.model == BOOSTED:
            self.learnt.take(fit_boosted_regressor(features[kept], overlap[kept]))
        else:
            self.learnt.take(fit_linear(features[kept], overlap[kept], scaling_of(features)))

    def anomaly(self, response: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one minus the predictions (n,), which are clipped to [0, 1] first."""
        return 1 - np.clip(response, 0, 1)
