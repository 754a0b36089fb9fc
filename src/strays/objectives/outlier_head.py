"""The loss of networks with an outlier head: classes and outliers, at full size and on coarse auxiliary maps."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.objectives.inputs import (
    checked_outlier_logits,
    checked_targets,
    checked_weights,
    labelled_pixels,
    mean_cross_entropy,
    mean_of,
    negative_pixels,
    pixels,
    summed,
)
from strays.taxonomy import IGNORE

__all__ = ["label_shares", "outlier_head_loss", "outlier_targets", "soft_cross_entropy"]


def outlier_head_loss(
    logits: Tensor,
    outlier_logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    auxiliary_logits: Sequence[Tensor] = (),
    auxiliary_outlier_logits: Sequence[Tensor] = (),
    class_weights: Tensor | None = None,
    outlier_weight: float = 0.2,
    auxiliary_weight: float = 0.4,
) -> Mapping[str, Tensor]:
    """Return the loss of a network with an outlier head under the names of its terms and ``total``.

    With a = ``auxiliary_weight`` and o = ``outlier_weight`` it is (1 - a) CE + a AUX of the classes plus
    o ((1 - a) CE + a AUX) of the outlier head. CE is a mean over pixels, AUX that of ``soft_cross_entropy`` over the
    cells of all auxiliary maps together, so that fine maps weigh more than coarse ones. Classes are learnt where there
    is a label and no negative, outliers as ``outlier_targets`` says. A term without any map is left out, and the others
    keep their weights.

    Args:
        logits: (N, K, h, w) class logits; brought to the size of the labels bilinearly (``align_corners=False``).
        outlier_logits: (N, 2, h', w'), channel 1 = outlier; likewise.
        labels: (N, H, W) integers, class indices or 255.
        mask: (N, H, W) integers: 0 = part of the scene, 1 = negative, 255 = neither.
        auxiliary_logits: class logits (N, K, h_i, w_i) of any sizes, read as they are.
        auxiliary_outlier_logits: outlier logits (N, 2, h_i, w_i) likewise; the released code has them, the paper none.
        class_weights: (K,) weights in the CE of the classes, whose mean is then weighted alike (ours).
        outlier_weight: o, 0 or more.
        auxiliary_weight: a, in [0, 1].

    Returns:
        0-d tensors ``cross_entropy``, ``outlier``, ``auxiliary`` and ``outlier_auxiliary``, weighted, and their
        ``total``. A term for which there are no pixels or cells is 0.

    Raises:
        InputError: if shapes do not fit together, a label is no class, or a weight is out of range.

    Source: Bevandić et al., GCPR 2019; the weights are those of its released code.

    Example:
        >>> labels, mask = torch.tensor([[[0, 3], [255, 255]]]), torch.tensor([[[0, 0], [1, 255]]])
        >>> terms = outlier_head_loss(torch.zeros(1, 4, 1, 1), torch.zeros(1, 2, 1, 1), labels, mask)
        >>> {name: round(float(value), 4) for name, value in terms.items()}  # 0.6 ln 4 and 0.2 * 0.6 ln 2
        {'cross_entropy': 0.8318, 'outlier': 0.0832, 'total': 0.915}
    """
    checked_targets(logits, labels, mask)
    checked_weights(outlier_weight=outlier_weight)
    if not 0 <= auxiliary_weight <= 1:
        raise InputError(f"auxiliary_weight is {auxiliary_weight}, expected 0 to 1: the share of the auxiliary terms")
    classes = torch.where(negative_pixels(mask), IGNORE, labels.long())
    outliers = outlier_targets(labels, mask)
    own = 1 - auxiliary_weight
    terms = {
        "cross_entropy": own * mean_cross_entropy(logits, classes, class_weights),
        "outlier": outlier_weight * own * mean_cross_entropy(checked_outlier_logits(outlier_logits, labels), outliers),
    }
    if auxiliary_logits:
        maps = [_checked_auxiliary(one, logits) for one in auxiliary_logits]
        terms["auxiliary"] = auxiliary_weight * _mean_over_cells(maps, classes)
    if auxiliary_outlier_logits:
        maps = [checked_outlier_logits(one, labels) for one in auxiliary_outlier_logits]
        terms["outlier_auxiliary"] = outlier_weight * auxiliary_weight * _mean_over_cells(maps, outliers)
    return summed(terms)


def outlier_targets(labels: Tensor, mask: Tensor) -> Tensor:
    """Return what an outlier head learns (N, H, W), int64: 0 inlier, 1 outlier, 255 ignore.

    Args:
        labels: (N, H, W) integers, class indices or 255.
        mask: (N, H, W) integers: 0 = part of the scene, 1 = negative, 255 = neither.

    Outliers are the negatives, inliers the pixels of the scene with a class; void is ignored.

    Example:
        >>> outlier_targets(torch.tensor([[[7, 255, 255, 255]]]), torch.tensor([[[0, 0, 1, 255]]]))
        tensor([[[  0, 255,   1, 255]]])
    """
    inlier = labelled_pixels(labels) & (mask == 0)
    ignored = torch.full_like(labels, IGNORE, dtype=torch.long)
    return ignored.masked_fill(inlier, 0).masked_fill(negative_pixels(mask), 1)


def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy between the cells of a coarse map and the shares of the classes in them.

    Args:
        logits: (N, K, h, w) of any size, one cell for every H / h x W / w pixels.
        labels: (N, H, W) integers; whatever is no class below K is ignored, see ``label_shares``.

    Returns:
        The mean over all cells of the batch that count, 0-d; 0 where none does.

    Raises:
        InputError: if the shapes do not fit together.

    Source: the released code of Bevandić et al., GCPR 2019.

    Example:
        >>> logits = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
        >>> soft_cross_entropy(logits, torch.tensor([[[1, 1], [0, 255]]]))  # -(ln p_0 + 2 ln p_1) / 3
        tensor(0.7936)
    """
    if logits.ndim != 4 or labels.ndim != 3 or len(logits) != len(labels):
        found = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise InputError(f"expected auxiliary logits (N, K, h, w) and labels (N, H, W), got {found}")
    return mean_of(_cell_surprise(logits, labels))


def label_shares(labels: Tensor, classes: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the share of every class among the labelled pixels of every cell, and which cells count.

    Args:
        labels: (N, H, W) integers; whatever is no class below ``classes`` is ignored.
        classes: K.
        size: (h, w), the number of cells. Row i of them covers the pixel rows from floor(i H / h) up to, but without,
            ceil((i + 1) H / h): blocks of H / h rows where h divides H, else neighbours share a row. Columns likewise.

    Returns:
        Shares (N, K, h, w) in float64, adding up to 1 where any pixel is labelled; and bool (N, h, w), true where
        strictly fewer than half of the pixels are ignored.

    Source: the released code of Bevandić et al., GCPR 2019. Cells that no block size fits are our choice.

    Example:
        >>> shares, counts = label_shares(torch.tensor([[[0, 1, 1, 255], [0, 0, 255, 1]]]), 2, (1, 2))
        >>> shares[0, :, 0], counts[0, 0]
        (tensor([[0.7500, 0.0000], [0.2500, 1.0000]], dtype=torch.float64), tensor([ True, False]))
    """
    rows, columns = (_cells(have, want).to(labels.device) for have, want in zip(labels.shape[1:], size, strict=True))
    known = torch.where((labels >= 0) & (labels < classes), labels.long(), classes)
    padded = functional.pad(known, (0, 1, 0, 1), value=classes + 1)  # index -1 meets what is counted nowhere
    cells = padded[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3)
    counts = _histograms(cells, classes + 2)
    labelled = counts[..., :classes].sum(dim=-1)
    shares = counts[..., :classes].double() / labelled.clamp(min=1)[..., None]
    return shares.permute(0, 3, 1, 2), counts[..., classes] < labelled


def _cells(side: int, count: int) -> Tensor:
    """Return the pixels (count, b) of every cell along one axis, -1 behind those of a cell with fewer than b."""
    number = torch.arange(count)
    first, end = number * side // count, ((number + 1) * side + count - 1) // count
    pixels = first[:, None] + torch.arange(int((end - first).max()))
    return torch.where(pixels < end[:, None], pixels, -1)


def _histograms(values: Tensor, bins: int) -> Tensor:
    """Return how often each of 0 ... bins - 1 occurs (..., bins) among values (..., b); exact, as counts are."""
    flat = values.flatten(0, -2)
    offsets = bins * torch.arange(len(flat), device=values.device)[:, None]
    counts = torch.bincount((flat + offsets).flatten(), minlength=bins * len(flat))
    return counts.view(*values.shape[:-1], bins)


def _mean_over_cells(maps: Sequence[Tensor], targets: Tensor) -> Tensor:
    """Return the mean over the cells of all maps together: a map counts as much as it has cells."""
    return mean_of(torch.cat([_cell_surprise(one, targets) for one in maps]))


def _cell_surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (M,) of the M cells of a map that count."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    height, width = logits.shape[-2:]
    shares, counts = label_shares(labels, logits.shape[1], (height, width))
    chosen = pixels(shares, counts).to(logits.dtype)
    # A class that no pixel of a cell has may be impossible there: 0 times infinity is 0.
    surprise = -pixels(logits, counts).log_softmax(dim=1).where(chosen > 0, 0)
    return (chosen * surprise).sum(dim=1)


def _checked_auxiliary(auxiliary: Tensor, logits: Tensor) -> Tensor:
    shape = tuple(auxiliary.shape)
    if len(shape) != 4 or shape[:2] != logits.shape[:2]:
        raise InputError(f"expected auxiliary logits ({len(logits)}, {logits.shape[1]}, h, w), got {shape}")
    return auxiliary
