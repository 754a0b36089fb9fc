"""Predicted segments, the features MetaSeg gives them, and how well they cover the labels."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from strays.detectors.base import class_logits, upsampled
from strays.detectors.sampling import PixelSample
from strays.detectors.statistics import Statistics
from strays.errors import InputError
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = [
    "FEATURES",
    "SegmentRows",
    "SegmentTable",
    "adjusted_iou",
    "boundary_pixels",
    "dispersion_maps",
    "label_segments",
    "painted",
    "predicted_segments",
    "segment_features",
]

Labels = NDArray[np.int64]
Slices = tuple[slice, slice]

_PARTS = ("", "_in", "_bd", "_rel", "_rel_in")
FEATURES = tuple(f"{of}{part}" for of in ("S", "E", "D") for part in _PARTS)
"""The geometric and dispersion features in the order of their columns; ``cprob_0`` to ``cprob_{K-1}`` follow them."""

_EIGHT = np.ones((3, 3), np.bool_)
_ALL, _HEAD, _TAIL = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS: tuple[tuple[Slices, Slices], ...] = (
    ((_ALL, _HEAD), (_ALL, _TAIL)),
    ((_HEAD, _ALL), (_TAIL, _ALL)),
    ((_HEAD, _HEAD), (_TAIL, _TAIL)),
    ((_HEAD, _TAIL), (_TAIL, _HEAD)),
)
"""Two views of a map whose equal places are 8-neighbours; together they name every pair of neighbours once."""


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """The n segments of one image.

    Args:
        labels: (H, W) what the segments were cut from, 255 where there is none.
        numbers: (H, W) number of the segment of each pixel, from 1 in the order of their first pixels, 0 where none.
        classes: (n,) the label of each segment.
        features: (n, 15 + K) float64, the columns ``FEATURES`` and then the mean probability of each class.
    """

    labels: Labels
    numbers: NDArray[np.int32]
    classes: NDArray[np.int64]
    features: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.classes)


def label_segments(labels: Labels) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the 8-connected components of equal label.

    Args:
        labels: (H, W) integers in [0, 255], 255 = no segment.

    Returns:
        numbers (H, W) from 1 in raster order of their first pixels, 0 where there is none; the label (n,) of each.

    Example:
        >>> label_segments(np.array([[5, 3, 255], [3, 5, 5]]))
        (array([[1, 2, 0],
               [2, 1, 1]], dtype=int32), array([5, 3]))
    """
    numbers = np.zeros(labels.shape, np.int32)
    classes: list[int] = []
    for label, box in enumerate(ndimage.find_objects(labels + 1)):
        if box is None or label == IGNORE:
            continue
        members = labels[box] == label
        found, count = ndimage.label(members, _EIGHT)
        numbers[box][members] = found[members] + len(classes)
        classes += [label] * count
    return _in_raster_order(numbers, np.array(classes, np.int64))


def _in_raster_order(
    numbers: NDArray[np.int32], classes: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    first = np.empty(len(classes) + 1, np.int64)
    # Written backwards, so that the first pixel of each segment is the last to be written.
    first[numbers.ravel()[::-1]] = np.arange(numbers.size)[::-1]
    order = np.argsort(first[1:])
    rank = np.zeros(len(first), np.int32)
    rank[order + 1] = np.arange(1, len(first))
    return rank[numbers], classes[order]


def boundary_pixels(labels: Labels) -> NDArray[np.bool_]:
    """Return which pixels (H, W) have an 8-neighbour inside the image with another label; 255 is one like any other."""
    edge = np.zeros(labels.shape, np.bool_)
    for here, there in _NEIGHBOURS:
        differs = labels[here] != labels[there]
        edge[here] |= differs
        edge[there] |= differs
    return edge


def dispersion_maps(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return entropy E and probability margin D.

    Args:
        probabilities: (K, ...) of K >= 2 classes.

    Returns:
        E = -sum_c p_c ln(p_c + eps) / ln K with the machine epsilon of float32, and D = 1 - p_(1) + p_(2) with the two
        largest probabilities; both (...), in [0, 1] up to eps.

    Raises:
        InputError: if there is only one class.

    Source: Rottmann et al., IJCNN 2020, and its released code.

    Example:
        >>> entropy, margin = dispersion_maps(torch.tensor([[0.5, 1.0], [0.5, 0.0]]))
        >>> margin.tolist()
        [1.0, 0.0]
    """
    classes = len(probabilities)
    if classes < 2:
        raise InputError(f"dispersion needs the probabilities of 2 classes or more, got {classes}")
    epsilon = torch.finfo(torch.float32).eps
    entropy = (probabilities + epsilon).log_().mul_(probabilities).sum(0) / -math.log(classes)
    first, second = _two_largest(probabilities)
    return entropy, 1 - first + second


def _two_largest(values: Tensor) -> tuple[Tensor, Tensor]:
    # topk over the first dimension takes five times as long
    first, second = torch.maximum(values[0], values[1]), torch.minimum(values[0], values[1])
    for one in values[2:]:
        second = torch.maximum(second, torch.minimum(first, one))
        first = torch.maximum(first, one)
    return first, second


def segment_features(logits: Tensor, labels: Labels | None = None) -> SegmentTable:
    """Return the segments of one image with their features.

    For S pixels, S_in of them interior and S_bd on the boundary, and each map h of E and D: ``S``, ``S_in``, ``S_bd``,
    ``S_rel`` = S / S_bd, ``S_rel_in`` = S_in / S_bd; ``h``, ``h_in``, ``h_bd`` the means over all pixels, interior and
    boundary, ``h_rel`` = h S_rel, ``h_rel_in`` = h_in S_rel_in. A quotient by 0 pixels is 0.

    Args:
        logits: (K, H, W) class logits.
        labels: (H, W) what the segments are cut from, 255 = no segment; by default the predicted classes.

    Raises:
        InputError: if there is only one class.

    Source: Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation, IJCNN 2020.
    """
    logits = logits.detach() if logits.dtype == torch.float64 else logits.detach().float()
    if labels is None:
        labels = logits.argmax(0).cpu().numpy()
    numbers, classes = label_segments(labels)
    inside = numbers > 0
    # Which segment a pixel belongs to, and whether it is on its boundary, in one number.
    places = (2 * numbers.astype(np.intp) + boundary_pixels(labels))[inside]
    within = logits.flatten(1) if inside.all() else logits[:, torch.from_numpy(inside).to(logits.device)]
    probabilities = torch.softmax(within, dim=0)
    maps = [one.cpu().numpy() for one in (*dispersion_maps(probabilities), *probabilities)]
    return SegmentTable(labels, numbers, classes, _features(places, len(classes), maps))


def _features(places: NDArray[np.intp], count: int, maps: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the features (count, 15 + K) of the pixels' places and the maps E, D and p_0 to p_{K-1}."""

    def total(values: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
        sums = np.bincount(places, values, minlength=2 * count + 2)
        return sums.reshape(-1, 2)[1:].astype(np.float64)

    entropy, margin, *probabilities = maps
    size = total()
    whole = size.sum(1)
    columns = [*_sizes(size), *_means(total(entropy), size), *_means(total(margin), size)]
    columns += [_ratio(total(one).sum(1), whole) for one in probabilities]
    return np.stack(columns, axis=1)


def _sizes(size: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    inner, edge = size.T
    return [inner + edge, inner, edge, _ratio(inner + edge, edge), _ratio(inner, edge)]


def _means(sums: NDArray[np.float64], size: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    whole, _, _, relative, relative_in = _sizes(size)
    mean, (inner, edge) = _ratio(sums.sum(1), whole), _ratio(sums, size).T
    return [mean, inner, edge, mean * relative, inner * relative_in]


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


def adjusted_iou(segments: SegmentTable, truth: Labels) -> NDArray[np.float64]:
    """Return for each segment the intersection over union with the labels of its class; 0 exactly where they miss.

    The union of a segment is itself and the pixels of its class that were predicted otherwise and that 8-connected
    steps over such pixels reach from it; so labels that other segments cover do not count against it.

    Args:
        segments: n segments of predicted classes.
        truth: (H, W) class labels, 255 = ignore.

    Returns:
        (n,) in [0, 1].

    Source: Rottmann et al., IJCNN 2020, equation of IoU_adj, as its released code counts it.
    """
    numbers, count = segments.numbers, len(segments)
    hit = (segments.labels == truth) & (numbers > 0)
    intersection = np.bincount(numbers[hit], minlength=count + 1)[1:]
    size = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    missed, _ = label_segments(np.where(segments.labels == truth, IGNORE, truth))
    return intersection / (size + _reached(segments, missed, truth))


def _reached(segments: SegmentTable, missed: NDArray[np.int32], truth: Labels) -> NDArray[np.float64]:
    """Return per segment the pixels of the components of missed labels of its class that touch it."""
    sizes = np.bincount(missed.ravel())
    pairs: list[NDArray[np.int64]] = []
    for one, other in _NEIGHBOURS:
        for here, there in ((one, other), (other, one)):
            meets = (missed[there] > 0) & (segments.labels[here] == truth[there])
            pairs.append(segments.numbers[here][meets].astype(np.int64) * len(sizes) + missed[there][meets])
    owner, component = np.divmod(np.unique(np.concatenate(pairs)), len(sizes))
    return np.bincount(owner, sizes[component], minlength=len(segments) + 1)[1:].astype(np.float64)


def predicted_segments(prediction: Prediction, labels: Tensor | None = None) -> Iterator[SegmentTable]:
    """Yield the segments of each image: components of the predicted class, the void channel left out.

    Args:
        prediction: of N images.
        labels: (N, H, W) with 255 for pixels that belong to no segment; by default all belong to one.
    """
    for number, logits in enumerate(class_logits(prediction)):
        full = upsampled(logits[None], prediction.size)[0]
        predicted = full.argmax(0).cpu().numpy()
        if labels is not None:
            predicted[labels[number].cpu().numpy() == IGNORE] = IGNORE
        yield segment_features(full, predicted)


def painted(segments: SegmentTable, values: NDArray[np.float64]) -> Tensor:
    """Return the map (H, W) float32 in which each pixel has the value of its segment, and 0 where there is none."""
    return torch.from_numpy(np.concatenate([[0.0], values]).astype(np.float32)[segments.numbers])


Described = Iterable[tuple[SegmentTable, NDArray[np.float64]]]


class SegmentRows(Statistics):
    """A sample of segments, each with its features and its target; shards merge to what one pass gives.

    Args:
        count: how many segments are kept.
        describe: gives for a prediction and its labels the segments of each image and their targets (n,).
    """

    def __init__(self, count: int, describe: Callable[[Prediction, Tensor], Described]) -> None:
        self.sample = PixelSample(count)
        self._describe = describe

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in the segments of a batch of images."""
        for offset, (segments, targets) in enumerate(self._describe(prediction, labels)):
            rows = torch.from_numpy(np.column_stack([segments.features, targets]))
            self.sample.update(rows[None], torch.zeros(1, len(rows)), index + offset)

    def table(
        self, advice: str = "give images whose labels are not all ignored"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return features (n, 15 + K) and targets (n,) in an order that no shard or stream decides.

        Raises:
            InputError: if there was no segment; it ends with the advice.
        """
        rows = self.sample.vectors.double().numpy()
        if not len(rows):
            raise InputError(f"no segment to fit on: {advice}")
        return rows[:, :-1], rows[:, -1]
