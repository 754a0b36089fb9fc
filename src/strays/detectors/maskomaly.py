"""Maskomaly: what the confident masks of a network leave over, and where its anomaly-prone masks lie."""

import re
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Settings, register_detector, upsampled
from strays.detectors.fitted import FitTarget, FittedDetector, fitted
from strays.detectors.inputs import masks_of
from strays.detectors.masks import QueryMeans, mask_probabilities, query_ious, scored_by_masks, select_queries
from strays.detectors.reported import SMIYC, reported
from strays.detectors.statistics import Statistics
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["Maskomaly", "QueryOverlaps", "maskomaly", "rejection"]

_NAME = "maskomaly"


def rejection(classes: Tensor, masks: Tensor, confidence: float = 0.7, overlap: float = 0.1) -> Tensor:
    """Return how little the confident masks claim a pixel, 0 where two masks overlap.

    With m_q the largest probability of query q over its classes, and the queries whose likeliest class is not "no
    object": R = 1 - max M_q m_q over those with m_q > ``confidence``; then R = 0 wherever two or more of them, however
    confident, have M_q > ``overlap``, because that is the border between two things.

    Args:
        classes: (N, Q, K + 1) probabilities, the last channel means "no object".
        masks: (N, Q, ...) probabilities M.
        confidence: below 1.
        overlap: below 1.

    Returns:
        (N, ...) in [0, 1].

    Source: Ackermann et al., Maskomaly, BMVC 2023, and its code.
    """
    strength, real = _strength(classes)
    claims = masks * _over(strength * (real & (strength > confidence)), masks)
    crowded = ((masks > overlap) & _over(real, masks)).sum(1) >= 2
    return (1 - claims.amax(1)).masked_fill(crowded, 0)


def maskomaly(
    class_logits: Tensor,
    mask_logits: Tensor,
    anomaly: Tensor,
    ground: Tensor,
    confidence: float = 0.7,
    overlap: float = 0.1,
    rejection_weight: float = 0.6,
    anomaly_weight: float = 0.4,
) -> Tensor:
    """Return the weighted sum of the rejection map R and the map A of the anomaly-prone queries.

    R is that of ``rejection``, and at most 1 - M_q m_q of every ground query q; A is the largest M_q m_q of the anomaly
    queries. M_q is the sigmoid of the mask, m_q the largest class probability; for the queries named by their numbers
    that may be the probability of "no object".

    Args:
        class_logits: (N, Q, K + 1), the last channel means "no object".
        mask_logits: (N, Q, ...), at the size at which scores are wanted.
        anomaly: (n,) int64, the queries that tend to find anomalies.
        ground: (m,) int64, the queries that tend to find the road.
        confidence: see ``rejection``.
        overlap: see ``rejection``.
        rejection_weight: of R.
        anomaly_weight: of A.

    Returns:
        (N, ...) in [0, rejection_weight + anomaly_weight], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shapes do not belong together, or there is no query of such a number.

    Source: Ackermann et al., Maskomaly, BMVC 2023, and its code.

    Example:
        >>> import torch
        >>> classes = torch.tensor([[[9.0, 0.0], [0.0, 9.0]]])  # query 0 is sure of class 0, query 1 of "no object"
        >>> masks = torch.tensor([[[9.0, -9.0, -9.0], [-9.0, 9.0, -9.0]]])
        >>> maskomaly(classes, masks, torch.tensor([1]), torch.tensor([0]))
        tensor([[1.9741e-04, 9.9983e-01, 5.9998e-01]])
    """
    classes, masks = mask_probabilities(class_logits, mask_logits)
    _check_queries(torch.cat([anomaly, ground]), masks.shape[1])
    strength, _ = _strength(classes)
    rejected = torch.minimum(
        rejection(classes, masks, confidence, overlap), 1 - _strongest(masks, strength, ground.to(masks.device))
    )
    return rejection_weight * rejected + anomaly_weight * _strongest(masks, strength, anomaly.to(masks.device))


class QueryOverlaps(Statistics):
    """How well every query's mask overlaps with anomalies, and with the ground, on average over the images with any.

    Args:
        certain: from which probability on a pixel belongs to a mask.
        ground_class: the class of the ground.
    """

    def __init__(self, certain: float = 0.9, ground_class: int = 0) -> None:
        self.certain, self.ground_class = certain, ground_class
        self.anomaly, self.ground = QueryMeans(), QueryMeans()

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in a batch of images; labels (N, H, W): 0 inlier, 1 anomaly, 255 = ignore.

        Raises:
            InputError: if the network gives no masks, or has no class of the ground's index.
        """
        classes = prediction.logits.shape[1]
        if self.ground_class >= classes:
            raise InputError(f"ground_class is {self.ground_class}, and the network has {classes} classes: 0 is first")
        masks = masks_of(prediction, _NAME).mask_logits
        for image, (mask_logits, mask) in enumerate(zip(masks, labels.to(masks.device), strict=True)):
            self._take(mask_logits, mask, _predicted(prediction, image).to(masks.device))

    def _take(self, mask_logits: Tensor, mask: Tensor, predicted: Tensor) -> None:
        inlier, valid = mask == 0, mask != 255
        regions = torch.stack([mask == 1, (predicted == self.ground_class) & inlier])
        ious = query_ious(mask_logits, regions, torch.stack([valid, inlier]), self.certain)
        for means, region, values in zip((self.anomaly, self.ground), regions, ious, strict=True):
            if region.any():
                means.update(values)


@register_detector(_NAME)
class Maskomaly(FittedDetector[QueryOverlaps]):
    """What the confident masks of a mask network leave over, plus where its anomaly-prone masks lie.

    Fitting reads anomaly masks and finds out which queries tend to find anomalies, and which the road. The numbers
    hold for one checkpoint only. Those given as settings are taken as they are; where both are, nothing is to be
    fitted. ``49+31+83+32`` and ``19+24`` are the published ones of Mask2Former Swin-L, Cityscapes semantic.

    Reference:
        Ackermann, Sakaridis, Yu, Maskomaly: Zero-Shot Mask Anomaly Segmentation, BMVC 2023,
        https://arxiv.org/abs/2305.16972

    Args:
        confidence: how sure of its class a query must be to reject an anomaly, in [0, 1).
        overlap: from which probability on two masks meet, in [0, 1).
        rejection_weight: of the rejection map, not negative.
        anomaly_weight: of the map of the anomaly-prone queries, not negative.
        anomaly_queries: their numbers with + between them; empty: found by fitting.
        ground_queries: the same for the road.
        ground_class: the index of the class road among those of the network; read by fitting.
        certain: from which probability on a pixel belongs to a mask when overlaps are measured, in [0, 1).
        least_iou: the mean overlap above which a query is kept.
        least_queries: how many anomaly queries are kept anyway, at least 1; of the ground it is always 1.

    Example:
        >>> Maskomaly(anomaly_queries="49+31+83+32", ground_queries="19+24").is_fitted
        True
    """

    card = Card(
        title="Maskomaly",
        summary="What no confident mask claims, mixed with the masks of the queries that tend to find anomalies.",
        paper="Ackermann, Sakaridis, Yu, Maskomaly: Zero-Shot Mask Anomaly Segmentation, BMVC 2023",
        year=2023,
        url="https://arxiv.org/abs/2305.16972",
        needs=Needs(fitting=True, anomalies=True, masks=True),
        published=reported(
            "RoadAnomaly21 test",
            {"AP": 0.9335, "FPR95": 0.0687, "sIoU": 0.5543, "PPV": 0.5146, "F1*": 0.4990},
            network="Mask2Former Swin-L, Cityscapes semantic",
            protocol=SMIYC,
        ),
        notes="The published query numbers (anomaly 49+31+83+32, ground 19+24) belong to one checkpoint, and were "
        "chosen on the validation images of RoadAnomaly21 with their anomaly masks; whether its conversion for "
        "transformers keeps the order of the queries has not been checked. Fitting ranks queries by the mean IoU of "
        "their mask with the anomalies, over the images that have any and without ignored pixels, and keeps those "
        "above 0.25, but at least 4. Our choice, because fitting reads anomaly masks and no class labels: ground "
        "queries are ranked by the IoU with the pixels that the network itself predicts as road among those that the "
        "mask calls inlier, and at least 1 is kept. Masks are resized to the image before the sigmoid. A void class "
        "of the network counts as no object.",
    )

    def __init__(
        self,
        confidence: float = 0.7,
        overlap: float = 0.1,
        rejection_weight: float = 0.6,
        anomaly_weight: float = 0.4,
        anomaly_queries: str = "",
        ground_queries: str = "",
        ground_class: int = 0,
        certain: float = 0.9,
        least_iou: float = 0.25,
        least_queries: int = 4,
    ) -> None:
        super().__init__()
        _check_settings(
            {"confidence": confidence, "overlap": overlap, "certain": certain, "least_iou": least_iou},
            {"rejection_weight": rejection_weight, "anomaly_weight": anomaly_weight, "ground_class": ground_class},
        )
        if least_queries < 1:
            raise InputError(f"least_queries is {least_queries}, expected at least 1")
        self.confidence, self.overlap = float(confidence), float(overlap)
        self.rejection_weight, self.anomaly_weight = float(rejection_weight), float(anomaly_weight)
        self.anomaly_queries, self.ground_queries, self.ground_class = anomaly_queries, ground_queries, ground_class
        self.certain, self.least_iou, self.least_queries = float(certain), float(least_iou), least_queries
        self.anomaly_queries_: Tensor | None
        self.ground_queries_: Tensor | None
        self.register_buffer("anomaly_queries_", _numbers(anomaly_queries))
        self.register_buffer("ground_queries_", _numbers(ground_queries))

    def settings(self) -> Settings:
        """Return thresholds, weights, the queries that were given, and how the others are found."""
        return {
            "confidence": self.confidence,
            "overlap": self.overlap,
            "rejection_weight": self.rejection_weight,
            "anomaly_weight": self.anomaly_weight,
            "anomaly_queries": self.anomaly_queries,
            "ground_queries": self.ground_queries,
            "ground_class": self.ground_class,
            "certain": self.certain,
            "least_iou": self.least_iou,
            "least_queries": self.least_queries,
        }

    @property
    def target(self) -> FitTarget:
        """The anomaly mask."""
        return "mask"

    @property
    def is_fitted(self) -> bool:
        """Whether both kinds of queries are known."""
        return self.anomaly_queries_ is not None and self.ground_queries_ is not None

    def statistics(self) -> QueryOverlaps:
        """Return empty overlaps."""
        return QueryOverlaps(self.certain, self.ground_class)

    def conclude(self, statistics: QueryOverlaps) -> None:
        """Choose the queries that were not given as settings.

        Raises:
            InputError: if no image had an anomaly, or none had ground.
        """
        if not self.anomaly_queries:
            mend = "give scenes with anomalies, or set anomaly_queries"
            self.anomaly_queries_ = self._chosen(statistics.anomaly, self.least_queries, "anomalies", mend)
        if not self.ground_queries:
            what = f"inlier pixels that the network predicts as class {self.ground_class}"
            mend = "set ground_class to the index of the class road, or set ground_queries"
            self.ground_queries_ = self._chosen(statistics.ground, 1, what, mend)

    def _chosen(self, means: QueryMeans, least: int, what: str, mend: str) -> Tensor:
        if not means.images:
            raise InputError(f"maskomaly was fitted on no image with {what}: {mend}")
        best = float(means.mean().max())
        if best <= self.least_iou:
            told = f"no query overlaps {what} with a mean IoU above {self.least_iou:g} (best: {best:.3g})"
            warnings.warn(f"maskomaly: {told}; the best queries are taken anyway", stacklevel=3)
        return select_queries(means.mean(), self.least_iou, least)

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``maskomaly`` of the masks at the size of the image, (N, H, W)."""
        anomaly, ground = fitted(self, self.anomaly_queries_), fitted(self, self.ground_queries_)

        def score(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
            thresholds = self.confidence, self.overlap, self.rejection_weight, self.anomaly_weight
            return maskomaly(class_logits, mask_logits, anomaly, ground, *thresholds)

        return scored_by_masks(prediction, _NAME, score)


def _strength(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest probability (N, Q) of each query, and whether it is that of a class, not of "no object"."""
    best = classes[..., :-1].amax(-1)
    return torch.maximum(best, classes[..., -1]), best >= classes[..., -1]


def _over(values: Tensor, masks: Tensor) -> Tensor:
    """Return values (N, Q) in a shape that multiplies masks (N, Q, ...)."""
    return values.reshape(*values.shape, *[1] * (masks.ndim - 2))


def _strongest(masks: Tensor, strength: Tensor, queries: Tensor) -> Tensor:
    """Return the largest M_q m_q (N, ...) of some queries, 0 where there are none."""
    if not len(queries):
        return masks.new_zeros(len(masks), *masks.shape[2:])
    return (masks[:, queries] * _over(strength[:, queries], masks)).amax(1)


def _predicted(prediction: Prediction, image: int) -> Tensor:
    """Return the class (H, W) that the network predicts in one image of a batch."""
    return upsampled(prediction.logits[image : image + 1], prediction.size)[0].argmax(0)


def _check_queries(queries: Tensor, count: int) -> None:
    wrong = [number for number in queries.tolist() if not 0 <= number < count]
    if wrong:
        raise InputError(
            f"there is no query {wrong[0]}, the network has {count}: query numbers belong to one checkpoint, so fit "
            "maskomaly on this network, or give it its own anomaly_queries and ground_queries"
        )


def _check_settings(fractions: Mapping[str, float], others: Mapping[str, float]) -> None:
    for name, value in fractions.items():
        if not 0 <= value < 1:
            raise InputError(f"{name} is {value}, expected a number in [0, 1)")
    for name, value in others.items():
        if not 0 <= value < torch.inf:
            raise InputError(f"{name} is {value}, expected a number that is not negative")


def _numbers(queries: str) -> Tensor | None:
    """Return the numbers in a setting such as ``"49+31"``, None where it is empty."""
    if not queries:
        return None
    if not re.fullmatch(r"\s*\d+\s*(\+\s*\d+\s*)*", queries, re.ASCII):
        raise InputError(f"expected numbers of queries with + between them, such as 49+31+83+32, got {queries!r}")
    return torch.tensor([int(number) for number in queries.split("+")])
