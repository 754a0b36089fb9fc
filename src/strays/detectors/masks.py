"""The masks of a mask transformer: scored strip by strip, and compared with regions query by query."""

from collections.abc import Callable, Iterator, Mapping
from typing import Self

import torch
from torch import Tensor

from strays.detectors.inputs import masks_of
from strays.detectors.statistics import Accumulator, State
from strays.errors import InputError
from strays.prediction import MaskPrediction, Prediction, resize_maps

__all__ = [
    "MaskScore",
    "QueryMeans",
    "mask_probabilities",
    "mask_strips",
    "query_ious",
    "scored_by_masks",
    "select_queries",
    "void_as_null",
]

MaskScore = Callable[[Tensor, Tensor], Tensor]
"""Class logits (N, Q, K + 1) and mask logits (N, Q, ...) -> scores (N, ...), each pixel for itself."""

_STRIP = 2**19
"""How many mask logits are held at a time, unless a single row has more: few enough for the caches of a CPU."""

_WIDE_STRIP = 2**23
"""The same where starting a kernel costs more than reading memory does."""

_GRAIN = 2.0**-30


def mask_probabilities(class_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the softmax over the classes and the sigmoid of the masks.

    Args:
        class_logits: (N, Q, K + 1), the last channel means "no object".
        mask_logits: (N, Q, ...).

    Returns:
        (N, Q, K + 1) and (N, Q, ...) in [0, 1], float32, or float64 where the logits are.

    Raises:
        InputError: if the shapes do not belong together.
    """
    classes, masks = tuple(class_logits.shape), tuple(mask_logits.shape)
    if len(classes) != 3 or classes[2] < 2 or classes[:2] != masks[:2]:
        raise InputError(
            f"expected class logits (N, Q, K + 1) and mask logits (N, Q, ...) of the same N images and Q queries, got "
            f"{classes} and {masks}: the last class channel is 'no object', and one image has N = 1"
        )
    return _wide(class_logits).softmax(-1), _wide(mask_logits).sigmoid()


def void_as_null(masks: MaskPrediction, void: int | None) -> MaskPrediction:
    """Return masks without a void class: its probability is counted as "no object", the other classes keep theirs.

    Args:
        masks: what the network gave.
        void: the index of the void class among its K classes, or None.

    Example:
        >>> import torch
        >>> masks = MaskPrediction(torch.zeros(1, 1, 4), torch.zeros(1, 1, 2, 2))
        >>> void_as_null(masks, 1).class_logits.softmax(-1)
        tensor([[[0.2500, 0.2500, 0.5000]]])
    """
    if void is None:
        return masks
    logits = _wide(masks.class_logits)
    kept = [channel for channel in range(logits.shape[-1] - 1) if channel != void]
    null = torch.logaddexp(logits[..., void], logits[..., -1])
    return MaskPrediction(torch.cat([logits[..., kept], null[..., None]], dim=-1), masks.mask_logits)


def mask_strips(mask_logits: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Yield the mask logits of one image at its size, strip by strip, so that they are never held all at once.

    Args:
        mask_logits: (Q, h, w).
        size: (H, W) of the image; resized bilinearly, ``align_corners=False``.

    Yields:
        Which rows of the image, and their logits (Q, rows, W), float32, or float64 where the logits are.
    """
    height, width = size
    held = _STRIP if mask_logits.device.type == "cpu" else _WIDE_STRIP
    step = max(1, held // (len(mask_logits) * width))
    for start in range(0, height, step):
        rows = range(start, min(start + step, height))
        logits = _rows(mask_logits, height, rows)
        if logits.shape[-1] != width:
            logits = resize_maps(logits[None], (len(rows), width))[0]
        yield slice(rows.start, rows.stop), logits


def scored_by_masks(prediction: Prediction, detector: str, score: MaskScore) -> Tensor:
    """Return the scores (N, H, W), float32, that a function gives to the masks at the size of the image.

    The classes that the function sees are the real ones and "no object", see ``void_as_null``.

    Args:
        prediction: what a mask transformer saw.
        detector: the name of the detector, for the error.
        score: reads one strip of one image at a time.

    Raises:
        InputError: if the network gives no masks.
    """
    masks = void_as_null(masks_of(prediction, detector), prediction.void)
    scores = masks.mask_logits.new_empty((len(masks.mask_logits), *prediction.size), dtype=torch.float32)
    for image, (class_logits, mask_logits) in enumerate(zip(masks.class_logits, masks.mask_logits, strict=True)):
        for rows, strip in mask_strips(mask_logits, prediction.size):
            scores[image, rows] = score(class_logits[None], strip[None])[0].float()
    return scores


def query_ious(mask_logits: Tensor, regions: Tensor, domains: Tensor, certain: float = 0.9) -> Tensor:
    """Return the intersection over union of every mask of an image with some regions.

    Args:
        mask_logits: (Q, h, w); resized to (H, W), a pixel belongs to a mask where its sigmoid is above ``certain``.
        regions: (R, H, W) bool.
        domains: (R, H, W) bool, the pixels that count for each region.
        certain: below 1.

    Returns:
        (R, Q) float64 in [0, 1], NaN where neither the region nor the mask has a pixel.
    """
    counted = torch.cat([regions & domains, domains])
    shared = torch.zeros(len(counted), len(mask_logits), dtype=torch.float64, device=mask_logits.device)
    for rows, logits in mask_strips(mask_logits, (regions.shape[1], regions.shape[2])):
        masks = (logits.sigmoid() > certain).flatten(1).float()
        shared += counted[:, rows].flatten(1).float() @ masks.T
    inside, masked = shared.chunk(2)
    return inside / (masked + (regions & domains).flatten(1).sum(1)[:, None] - inside)


def select_queries(ious: Tensor, least_iou: float, least: int) -> Tensor:
    """Return the numbers of the queries whose mean overlap is above a bound, best first, but at least so many.

    Args:
        ious: (Q,) mean overlaps; of equal ones the query with the smaller number goes first.
        least_iou: the bound.
        least: how many are taken anyway, as far as there are.

    Example:
        >>> import torch
        >>> select_queries(torch.tensor([0.1, 0.5, 0.0, 0.3]), 0.25, 1).tolist()
        [1, 3]
    """
    order = ious.argsort(descending=True, stable=True)
    return order[: max(least, int((ious > least_iou).sum()))]


class QueryMeans(Accumulator):
    """The mean over images of one number in [0, 1] per query; merging is exact.

    Raises:
        InputError: by ``update`` and ``merge``, if the number of queries changes.
    """

    def __init__(self) -> None:
        self.total = torch.zeros(0, dtype=torch.float64)
        self.images = 0

    def update(self, values: Tensor) -> None:
        """Take in the numbers (Q,) of one image."""
        # Whole multiples of a power of two add up without rounding, so that shards may come in any order.
        self._add((values.detach().cpu().double() / _GRAIN).round() * _GRAIN, 1)

    def merge(self, other: Self) -> None:
        """Take in what another one has seen."""
        self._add(other.total, other.images)

    def _add(self, total: Tensor, images: int) -> None:
        if not images:
            return
        if self.images and len(total) != len(self.total):
            raise InputError(f"expected {len(self.total)} queries, got {len(total)}: fit on one network only")
        self.total = self.total + total if self.images else total
        self.images += images

    def mean(self) -> Tensor:
        """Return the means (Q,), float64."""
        return self.total / self.images

    def state(self) -> State:
        """Return the sums and the number of images."""
        return {"total": self.total, "images": torch.tensor(self.images)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up the sums and the number of images."""
        self.total, self.images = state["total"], int(state["images"])


def _rows(mask_logits: Tensor, height: int, rows: range) -> Tensor:
    """Return some rows (Q, rows, w) of mask logits (Q, h, w) that are resized to ``height`` rows."""
    extent = mask_logits.shape[-2]
    if extent == height:
        return _wide(mask_logits[:, rows.start : rows.stop])
    place = torch.arange(rows.start, rows.stop, dtype=torch.float64, device=mask_logits.device)
    place = ((place + 0.5) * (extent / height) - 0.5).clamp(0, extent - 1)
    above = place.long()
    below = (above + 1).clamp(max=extent - 1)
    upper, lower = _wide(mask_logits[:, above]), _wide(mask_logits[:, below])
    return torch.lerp(upper, lower, (place - above).to(upper.dtype)[:, None])


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
