"""Meta-classification: how probable it is that a predicted segment covers nothing of its class."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from strays.cards import Card, Needs
from strays.detectors.base import register_detector
from strays.detectors.meta_detector import BOOSTED, MetaDetector, interior
from strays.detectors.meta_models import fit_boosted_classifier, fit_selected_logistic, scaling_of
from strays.detectors.segment_features import SegmentRows
from strays.errors import InputError

__all__ = ["MetaClassifier"]


@register_detector("meta-classifier")
class MetaClassifier(MetaDetector):
    """Predicted probability that the IoU of a pixel's segment with the labels is 0.

    It is fitted on the predicted segments of labelled inlier images: which of them cover no pixel of their class. Those
    without an interior are left out, unless fewer than two of either kind remain; when scoring they count.

    Reference:
        Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation: Detection via Aggregated
        Dispersion Measures of Softmax Probabilities, IJCNN 2020, https://arxiv.org/abs/1811.00648

    Args:
        model: ``"logistic"``, a logistic regression on features that an L1 penalty selects, or
            ``"gradient-boosting"``, 100 trees of depth 3.
        segments: how many segments are kept for fitting, drawn at random where there are more.

    Raises:
        InputError: if there is no such model.
    """

    card = Card(
        title="MetaSeg meta-classification",
        summary="Predicted probability that a pixel's segment covers nothing of its class, from its dispersion.",
        paper="Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation: Detection via "
        "Aggregated Dispersion Measures of Softmax Probabilities, IJCNN 2020",
        year=2020,
        url="https://arxiv.org/abs/1811.00648",
        needs=Needs(fitting=True),
        notes="The penalty is chosen by the AUROC over 10 random halves of the segments, where the released code takes "
        "the accuracy. Features are standardised over all segments. Painting the probability onto the pixels of the "
        "segment is our reading: the paper rates segments.",
    )

    def __init__(self, model: Literal["logistic", "gradient-boosting"] = "logistic", segments: int = 200_000) -> None:
        super().__init__("logistic", model, segments)

    def conclude(self, statistics: SegmentRows) -> None:
        """Fit the model to the segments.

        Raises:
            InputError: if there was no segment, or none with IoU = 0, or none with IoU > 0.
        """
        features, overlap = statistics.table()
        missed = overlap == 0
        if missed.all() or not missed.any():
            which = "no" if missed.all() else "every one"
            raise InputError(
                f"of {len(missed)} predicted segments {which} overlaps labels of its class, and meta-classification "
                "learns from both kinds: give more images, labelled in the taxonomy of the network, that it was not "
                "trained on"
            )
        kept = _worth_learning(features, missed)
        if self.model == BOOSTED:
            self.learnt.take(fit_boosted_classifier(features[kept], missed[kept]))
        else:
            self.learnt.take(fit_selected_logistic(features[kept], missed[kept], scaling_of(features)))

    def anomaly(self, response: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities (n,) of log-odds (n,)."""
        probability: NDArray[np.float64] = expit(response)
        return probability


def _worth_learning(features: NDArray[np.float64], missed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which segments have an interior; all where fewer than two of either kind have."""
    inside = interior(features)
    rarer = min(np.count_nonzero(inside & missed), np.count_nonzero(inside & ~missed))
    return inside if rarer >= 2 else np.ones_like(inside)
