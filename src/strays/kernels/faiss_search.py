"""Nearest neighbours by an index of faiss, for who asks for one."""

from importlib import import_module
from importlib.util import find_spec
from math import isqrt
from types import ModuleType
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.kernels.nearest import checked_search, measured, nearest

__all__ = ["FaissSearch", "Search", "checked_kind"]

Search = Literal["exact", "faiss-flat", "faiss-ivf", "faiss-pq"]
"""How neighbours are found: by ``nearest``, or by a flat, inverted-file or product-quantised index."""

_LIST_SAMPLE = 39  # vectors that k-means wants for each centroid, or else faiss complains
_CODES = 16  # values of 4 bits
_BLOCK = 65536
_SEEDS = 0x7FFFFFFF  # the largest that fits; a negative one would mean the clock


class _Index(Protocol):
    """What is used of an index of faiss."""

    nprobe: int

    def train(self, x: NDArray[np.float32]) -> None: ...
    def add(self, x: NDArray[np.float32]) -> None: ...
    def search(self, x: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


def checked_kind(kind: str) -> Search:
    """Return a way to search.

    Raises:
        InputError: if there is none of that name, or it needs faiss and faiss is not installed.
    """
    known: tuple[Search, ...] = get_args(Search)
    if kind not in known:
        raise InputError(f"search is {kind!r}, expected one of {', '.join(known)}")
    if kind != "exact" and find_spec("faiss") is None:
        raise InputError(f"search={kind!r} needs faiss: pip install 'strays[search]', or take search='exact'")
    return known[known.index(kind)]


class FaissSearch:
    """Finds candidates with an index of faiss on the CPU and measures their distances exactly.

    Flat compares with all, in float32. An inverted file (float32 too) has about 4 sqrt(R) lists, of which a sixteenth,
    at least 8, is looked through; where they hold too few, that query is searched exactly. The product quantiser keeps
    4 bits for 2 numbers and proposes 16 k candidates.

    Args:
        references: (R, C).
        kind: ``faiss-flat``, ``faiss-ivf`` or ``faiss-pq``.
        seed: of the clustering.

    Raises:
        InputError: if faiss is not installed.

    Example:
        >>> search = FaissSearch(torch.eye(4), "faiss-flat")  # doctest: +SKIP
        >>> search(torch.eye(4), k=1)  # doctest: +SKIP
    """

    def __init__(self, references: Tensor, kind: Search, seed: int = 0) -> None:
        checked_kind(kind)
        faiss = import_module("faiss")
        faiss.omp_set_num_threads(torch.get_num_threads())
        self.references = references
        self.proposals = 16 if kind == "faiss-pq" else 1
        self.index = _built(faiss, references, kind, seed)

    def __call__(self, queries: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
        """Return distances (M, k) float32, ascending, and indices (M, k) int64, as ``nearest`` does.

        Raises:
            InputError: as ``nearest`` does.
        """
        checked_search(queries, self.references, k)
        if not torch.isfinite(queries).all():
            raise InputError("some queries hold NaN or infinite values: look for damaged features")
        wanted = min(k * self.proposals, len(self.references))
        _, found = self.index.search(_array(queries), wanted)
        candidates = torch.from_numpy(found).to(self.references.device)
        distances, index = measured(queries, self.references, candidates, k)
        missed = distances[:, -1].isinf().nonzero()[:, 0]
        if len(missed):
            distances[missed], index[missed] = nearest(queries[missed], self.references, k)
        return distances, index


def _array(vectors: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = vectors.detach().float().cpu().contiguous().numpy()
    return array


def _built(faiss: ModuleType, references: Tensor, kind: Search, seed: int) -> _Index:
    makers = {"faiss-flat": _flat, "faiss-ivf": _inverted, "faiss-pq": _quantised}
    index = makers[kind](faiss, len(references), references.shape[1], seed)
    if kind != "faiss-flat":
        index.train(_array(references))
    for some in torch.split(references, _BLOCK):
        index.add(_array(some))
    return index


def _flat(faiss: ModuleType, count: int, channels: int, seed: int) -> _Index:
    index: _Index = faiss.IndexFlatL2(channels)
    return index


def _inverted(faiss: ModuleType, count: int, channels: int, seed: int) -> _Index:
    lists = max(1, min(4 * isqrt(count), count // _LIST_SAMPLE))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(channels), channels, lists)
    index.nprobe = min(lists, max(8, lists // 16))
    index.cp.seed = seed & _SEEDS
    index.cp.min_points_per_centroid = 1
    made: _Index = index
    return made


def _quantised(faiss: ModuleType, count: int, channels: int, seed: int) -> _Index:
    if count < _CODES:  # too few to learn the codes from
        return _flat(faiss, count, channels, seed)
    parts = max(part for part in range(1, max(channels // 2, 1) + 1) if channels % part == 0)
    index = faiss.IndexPQFastScan(channels, parts, 4)
    index.pq.cp.seed = seed & _SEEDS
    index.pq.cp.min_points_per_centroid = 1
    made: _Index = index
    return made
