"""Exact nearest neighbours by blocked matrix products, beside the plain reference."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError

__all__ = ["checked_search", "measured", "nearest", "nearest_reference"]

_GROUP = 16  # references that are reduced to one minimum
_SPARE = 1  # groups beyond k that are looked into, because products are rounded
_CENTRE_SAMPLE = 1024
_SEGMENT = 16  # blocks after which only the best groups are kept
_FAR = 10.0  # distance of the mean from the origin, by that of the references from the mean
_COLUMNS, _COLUMNS_ON_DEVICE = 1024, 4096
_LEAST_KEPT, _MOST_ROWS = 2**22, 8192
_MEASURED, _MEASURED_ON_DEVICE = 2**18, 2**21  # numbers that are gathered at a time


def nearest(queries: Tensor, references: Tensor, k: int = 3, block: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the k nearest references of every query by Euclidean distance, exactly.

    Matrix products over blocks give each query's distances up to rounding, of which only the smallest of every 16 is
    kept. The groups with the k smallest minima hold the k nearest; these, and one group more, are measured by
    differences. So returned distances are exact, and only references whose squared distances differ by less than the
    rounding of the products, some 1e-6 of the squared lengths, may stand for each other. Beyond the data this takes
    less memory than a fifth of it, from 100 MB of data upwards.

    Args:
        queries: (M, C) real vectors.
        references: (R, C) real vectors, R >= k, on the same device. Half precision, of either, is widened to float32
            block by block.
        k: how many, at least 1.
        block: how many references are compared at a time; by default 1,024, and 4,096 on a GPU.

    Returns:
        Distances (M, k) float32, ascending, and indices (M, k) int64 into the references.

    Raises:
        InputError: if the shapes do not fit, there are fewer than k references, or a value is NaN or infinite.

    Example:
        >>> import torch
        >>> distances, indices = nearest(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0]]), k=2)
        >>> distances.tolist(), indices.tolist()
        ([[1.0, 5.0]], [[1, 0]])
    """
    checked_search(queries, references, k)
    distances = torch.empty(len(queries), k, device=queries.device)
    index = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)
    with torch.no_grad(), _full_precision():
        search = _Search(queries, references, k, _columns(references, block))
        for first in range(0, len(queries), search.rows):
            some = slice(first, first + search.rows)
            distances[some], index[some] = search.over(queries[some])
    return distances, index


def nearest_reference(queries: Tensor, references: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """Return what ``nearest`` returns from the whole matrix of float64 distances, (M, R) at once."""
    checked_search(queries, references, k)
    distances = torch.cdist(queries.double(), references.double(), compute_mode="donot_use_mm_for_euclid_dist")
    found, index = distances.topk(k, dim=1, largest=False)
    return found.float(), index


def checked_search(queries: Tensor, references: Tensor, k: int) -> None:
    """Check the shapes of a search.

    Raises:
        InputError: if they do not fit, or there are fewer than k references.
    """
    shapes = f"queries {tuple(queries.shape)} and references {tuple(references.shape)}"
    if queries.ndim != 2 or references.ndim != 2:
        raise InputError(f"expected queries (M, C) and references (R, C), got {shapes}: one row per vector")
    if queries.shape[1] != references.shape[1]:
        raise InputError(f"expected vectors of the same length, got {shapes}: take both from the same tap")
    if queries.device != references.device:
        raise InputError(f"queries are on {queries.device}, references on {references.device}: move one to the other")
    if k < 1:
        raise InputError(f"expected k of at least 1, got {k}")
    if len(references) < k:
        raise InputError(f"expected at least k = {k} references, got {len(references)}: fit on more, or lower k")


def _columns(references: Tensor, block: int | None) -> int:
    """Return how many references are compared at a time, a multiple of the group."""
    if block is not None and block < 1:
        raise InputError(f"expected a block of at least 1 reference, got {block}")
    usual = _COLUMNS if references.device.type == "cpu" else _COLUMNS_ON_DEVICE
    return -(-min(block or usual, len(references)) // _GROUP) * _GROUP


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep matrix products in float32 where the process allows less."""
    if not hasattr(torch.backends.mkldnn, "matmul"):  # before torch 2.9 one setting was for all
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    reduced = [(one, one.fp32_precision) for one in backends if one.fp32_precision in ("tf32", "bf16")]
    try:
        for one, _ in reduced:
            one.fp32_precision = "ieee"
        yield
    finally:
        for one, precision in reduced:
            one.fp32_precision = precision


class _Search:
    """References in blocks, with what is computed of them once, and the memory that queries take in turns.

    Args:
        queries: (M, C), all there will be.
        references: (R, C).
        k: how many are wanted.
        columns: how many references make a block.
    """

    def __init__(self, queries: Tensor, references: Tensor, k: int, columns: int) -> None:
        self.references, self.k, self.columns = references, k, columns
        self.blocks, self.step = -(-len(references) // columns), columns // _GROUP
        self.centre, self.far = _centre(references)
        self.norms = self._norms()
        self.rows = self._rows(queries)
        self.minima = self.norms.new_empty(self.rows, min(self.blocks, _SEGMENT), self.step)
        self.products = self.norms.new_empty(self.rows, columns)

    def _norms(self) -> Tensor:
        """Return squared lengths (blocks, columns), infinite where there is no reference."""
        norms = torch.full((self.blocks, self.columns), torch.inf, device=self.references.device)
        for part, row in zip(torch.split(self.references, self.columns), norms, strict=True):
            torch.linalg.vector_norm(part.float() - self.centre, dim=1, out=row[: len(part)])
        norms = norms.square_()
        _refuse_infinite(norms.flatten()[: len(self.references)], "references")
        return norms

    def _rows(self, queries: Tensor) -> int:
        """Return how many queries to take at a time, so that what is kept of them is a twelfth of the data or 4 MB."""
        data = queries.numel() * queries.element_size() + self.references.numel() * self.references.element_size()
        each = 4 * (min(self.blocks, _SEGMENT) * self.step + self.columns)
        most = min(max(data // 12, _LEAST_KEPT) // each + 1, _MOST_ROWS)
        turns = max(1, -(-len(queries) // most))
        return max(1, -(-len(queries) // turns))

    def over(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return distances and indices (M, k) of the nearest references of some queries (M, C)."""
        groups = self._groups(queries)
        first = groups // self.step * self.columns + groups % self.step
        members = first[:, :, None] + torch.arange(0, self.columns, self.step, device=first.device)
        return measured(queries, self.references, members.flatten(1), self.k)

    def _groups(self, queries: Tensor) -> Tensor:
        """Return the numbers (M, n) of the groups with the smallest minima; below 0 where there are too few."""
        moved = queries.float() - self.centre
        _refuse_infinite(_squared_norms(moved), "queries")
        best = moved.new_full((len(moved), self.k + _SPARE), torch.inf)
        groups = torch.full(best.shape, -1, device=moved.device)
        for start in range(0, self.blocks, _SEGMENT):
            minima = self._segment(moved, start)
            found = _smallest(minima, min(best.shape[1], minima[0].numel()))
            values = torch.cat([best, minima.flatten(1).gather(1, found)], dim=1)
            best, order = values.topk(best.shape[1], dim=1, largest=False)
            groups = torch.cat([groups, found + start * self.step], dim=1).gather(1, order)
        return groups

    def _segment(self, queries: Tensor, start: int) -> Tensor:
        """Return the smallest squared distance of each group of some blocks, less what all of a query share.

        Args:
            queries: (M, C) centred.
            start: the first block.

        Returns:
            (M, blocks, groups of a block), valid until the next call.
        """
        count = min(self.blocks - start, _SEGMENT)
        minima, products = self.minima[: len(queries), :count], self.products[: len(queries)]
        grouped = products.view(len(queries), _GROUP, self.step)
        for number in range(count):
            torch.addmm(self.norms[start + number], queries, self._block(start + number).T, alpha=-2, out=products)
            torch.amin(grouped, dim=1, out=minima[:, number])
        return minima

    def _block(self, number: int) -> Tensor:
        """Return a block (columns, C) in float32; the last one is filled up with zeros."""
        part = self.references[number * self.columns : (number + 1) * self.columns].float()
        part = part - self.centre if self.far else part
        missing = self.columns - len(part)
        return functional.pad(part, (0, 0, 0, missing)) if missing else part


def _centre(references: Tensor) -> tuple[Tensor, bool]:
    """Return about the mean of the references, and whether it is so far from the origin that products cancel.

    Queries are always centred. The product of one with a reference that is not errs by the length of that reference,
    which is harmless as long as it is of the order of the distances.
    """
    sample = references[:: len(references) // _CENTRE_SAMPLE + 1].float()
    centre = sample.mean(dim=0)
    norms = _squared_norms(sample - centre)
    _refuse_infinite(norms, "references")
    return centre, bool(centre.square().sum() > _FAR**2 * norms.mean())


def _smallest(values: Tensor, count: int) -> Tensor:
    """Return the positions (M, count) of the smallest of values (M, B, G), counted through B and G, in no order."""
    per = min(count, values.shape[2])
    best = values.amin(dim=1).topk(per, dim=1, largest=False, sorted=False).indices
    some = values.gather(2, best[:, None].expand(-1, values.shape[1], -1)).flatten(1)
    found = some.topk(count, dim=1, largest=False, sorted=False).indices
    return found // per * values.shape[2] + best.gather(1, found % per)


def _squared_norms(vectors: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return norms.square_()  # takes no memory for the squares


def _refuse_infinite(norms: Tensor, what: str) -> None:
    if not torch.isfinite(norms).all():
        broken = int((~torch.isfinite(norms)).sum())
        raise InputError(
            f"{broken} or more of the {what} hold NaN, infinite or enormous values: look for damaged features, or for "
            "an overflow of the network in half precision"
        )


def measured(queries: Tensor, references: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return exact distances and indices (M, k) of the k nearest among the candidates (M, n) of each query.

    A candidate that is no index of a reference is infinitely far.
    """
    distances = torch.empty(len(queries), k, device=queries.device)
    index = torch.empty(distances.shape, dtype=torch.long, device=queries.device)
    most = _MEASURED if references.device.type == "cpu" else _MEASURED_ON_DEVICE
    step = max(1, most // max(1, candidates.shape[1] * references.shape[1]))
    for first in range(0, len(queries), step):
        some = slice(first, first + step)
        distances[some], index[some] = _measured(queries[some], references, candidates[some], k)
    return distances, index


def _measured(queries: Tensor, references: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    inside = (candidates >= 0) & (candidates < len(references))
    names = torch.where(inside, candidates, 0).flatten()
    found = references.index_select(0, names).float().view(*candidates.shape, -1)  # quicker than references[...]
    gaps = found.sub_(queries[:, None].float())
    lengths = torch.linalg.vector_norm(gaps, dim=2).masked_fill_(~inside, torch.inf)
    distances, order = lengths.topk(k, dim=1, largest=False)
    return distances, candidates.gather(1, order)
