"""Nearest-neighbour search against a float64 brute force in NumPy, and the indexes of faiss against the exact one."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.kernels import faiss_search
from strays.kernels.faiss_search import FaissSearch, checked_kind
from strays.kernels.nearest import nearest, nearest_reference

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")


def points(count: int, channels: int, seed: int = 0, offset: float = 0.0) -> Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed)) + offset


def brute(queries: Tensor, references: Tensor, k: int) -> NDArray[np.float64]:
    """The k smallest distances, by differences in float64."""
    rows = references.double().numpy()
    found = [np.sort(np.sqrt(((rows - one) ** 2).sum(axis=1)))[:k] for one in queries.double().numpy()]
    return np.array(found).reshape(len(queries), k)


def gaps(queries: Tensor, references: Tensor, index: Tensor) -> NDArray[np.float64]:
    return (queries.double()[:, None] - references.double()[index]).norm(dim=2).numpy()


def check(queries: Tensor, references: Tensor, k: int, block: int | None = None) -> None:
    distances, index = nearest(queries, references, k, block)
    assert distances.dtype == torch.float32
    assert index.dtype == torch.int64
    assert distances.shape == index.shape == (len(queries), k)
    assert not distances.requires_grad
    np.testing.assert_allclose(distances.numpy(), brute(queries, references, k), rtol=2e-6, atol=1e-30)
    np.testing.assert_allclose(distances.numpy(), gaps(queries, references, index), rtol=2e-6, atol=1e-30)
    assert all(len(set(row.tolist())) == k for row in index)


@pytest.mark.parametrize(
    ("queries", "references", "channels", "k"),
    [(1, 1, 1, 1), (5, 3, 4, 3), (70, 333, 9, 4), (33, 2100, 16, 3), (9, 4500, 3, 1), (600, 65, 8, 65), (0, 9, 4, 2)],
)
def test_agrees_with_brute_force(queries: int, references: int, channels: int, k: int) -> None:
    check(points(queries, channels, seed=1), points(references, channels), k)


@pytest.mark.parametrize("block", [1, 31, 64, 100, 5000])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_block_size_changes_nothing(block: int, k: int) -> None:
    check(points(40, 12, seed=1), points(301, 12), k, block)


def test_many_queries_are_taken_in_parts() -> None:
    queries, references = points(4100, 4, seed=1), points(70, 4)
    torch.testing.assert_close(nearest(queries, references)[0], nearest_reference(queries, references)[0])


def test_plain_reference_agrees_with_brute_force() -> None:
    queries, references = points(20, 7, seed=1), points(90, 7)
    distances, index = nearest_reference(queries, references, k=5)
    np.testing.assert_allclose(distances.numpy(), brute(queries, references, 5), rtol=1e-6)
    np.testing.assert_allclose(distances.numpy(), gaps(queries, references, index), rtol=1e-6)


@pytest.mark.parametrize("nearer_first", [True, False])
def test_references_in_order_of_distance(nearer_first: bool) -> None:
    queries, references = points(30, 6, seed=1) * 1e-2, points(3000, 6)
    order = references.norm(dim=1).argsort(descending=not nearer_first)
    check(queries, references[order], 3, block=256)


@pytest.mark.parametrize("type_", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("both", [True, False])
def test_half_precision_is_compared_in_float32(type_: torch.dtype, both: bool) -> None:
    queries, references = points(40, 24, seed=1), points(500, 24).to(type_)
    check(queries.to(type_) if both else queries, references, 3)


def test_little_cancels_far_from_the_origin() -> None:
    check(points(40, 32, seed=1, offset=3000.0), points(700, 32, offset=3000.0), 3)


def test_equal_vectors_are_at_distance_zero_and_distinct() -> None:
    references = points(8, 5).repeat_interleave(50, dim=0)
    queries = torch.cat([references[::50], points(8, 5, seed=1)])
    distances, index = nearest(queries, references, k=4)
    assert torch.equal(distances[:8], torch.zeros(8, 4))
    assert all(set((row // 50).tolist()) == {group} for group, row in enumerate(index[:8]))
    assert all(len(set(row.tolist())) == 4 for row in index)


def test_all_references_equal() -> None:
    check(points(600, 6, seed=1), torch.ones(5000, 6), 3)


def test_near_duplicates_do_not_hide_an_equal_vector() -> None:
    query = points(1, 64)
    references = torch.cat([points(500, 64, seed=1), query + 1e-4 * points(3, 64, seed=2), query])
    distances, index = nearest(query, references, k=2)
    assert index[0, 0] == 503
    assert distances[0, 0] == 0


def test_strided_inputs_and_gradients() -> None:
    queries = points(6, 50, seed=1).T.requires_grad_()
    check(queries.detach(), points(6, 80).T, 3)
    assert not nearest(queries, points(6, 80).T)[0].requires_grad


def test_inputs_are_left_as_they_were() -> None:
    queries, references = points(10, 6, seed=1), points(80, 6)
    before = queries.clone(), references.clone()
    nearest(queries, references)
    assert torch.equal(queries, before[0])
    assert torch.equal(references, before[1])


REDUCED = """
import torch
from strays.kernels import nearest as search
{setting}
inside = []
block = search._Search._block
search._Search._block = lambda self, number: inside.append(precision()) or block(self, number)
precision = lambda: [getattr(torch.backends, one).matmul.fp32_precision for one in ("cuda", "mkldnn")]
before = precision()
search.nearest(torch.randn(10, 6), torch.randn(80, 6))
print(before != [["ieee"] * 2], inside == [["ieee"] * 2], precision() == before)
"""


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="before torch 2.9")
@pytest.mark.parametrize(
    "setting", ["torch.set_float32_matmul_precision('medium')", "torch.backends.fp32_precision = 'tf32'"]
)
def test_products_are_in_full_precision_whatever_the_process_allows(setting: str) -> None:
    command = [sys.executable, "-c", REDUCED.format(setting=setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("place", [0, 299])
def test_broken_values_are_refused(bad: float, place: int) -> None:
    good, broken = points(300, 4), points(300, 4)
    broken[place, 2] = bad
    with pytest.raises(InputError, match="references hold NaN, infinite"):
        nearest(good, broken)
    with pytest.raises(InputError, match="queries hold NaN, infinite"):
        nearest(broken, good)


@pytest.mark.parametrize(
    ("queries", "references", "k", "block", "message"),
    [
        (points(4, 3), points(9, 5), 3, None, "vectors of the same length"),
        (points(4, 3), points(2, 3), 3, None, "at least k = 3 references, got 2"),
        (points(4, 3), points(9, 3), 0, None, "k of at least 1"),
        (points(4, 3), points(9, 3), 3, 0, "block of at least 1"),
        (points(4, 3)[0], points(9, 3), 3, None, "one row per vector"),
        (points(4, 3), points(9, 3)[None], 3, None, "one row per vector"),
    ],
)
def test_wrong_input_is_told(queries: Tensor, references: Tensor, k: int, block: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nearest(queries, references, k, block)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("type_", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda_agrees_with_brute_force(type_: torch.dtype) -> None:
    queries, references = points(3000, 24, seed=1), points(5000, 24).to(type_)
    distances, index = nearest(queries.cuda(), references.cuda(), 3)
    np.testing.assert_allclose(distances.cpu().numpy(), brute(queries, references, 3), rtol=2e-6)
    np.testing.assert_allclose(distances.cpu().numpy(), gaps(queries, references, index.cpu()), rtol=2e-6)


def clustered(count: int, channels: int = 16, seed: int = 0) -> Tensor:
    """Points around twenty centres."""
    return points(20, channels, seed=9)[torch.arange(count) % 20] * 4 + points(count, channels, seed)


@needs_faiss
def test_flat_index_agrees_with_exact_search() -> None:
    queries, references = clustered(50, seed=1), clustered(800)
    torch.testing.assert_close(FaissSearch(references, "faiss-flat")(queries), nearest(queries, references))


@needs_faiss
@pytest.mark.parametrize(("kind", "least"), [("faiss-ivf", 0.9), ("faiss-pq", 0.7)])
def test_approximate_indexes_measure_exactly_what_they_find(kind: faiss_search.Search, least: float) -> None:
    queries, references = clustered(100, 64, seed=1), clustered(4000, 64)
    distances, index = FaissSearch(references, kind)(queries, k=3)
    np.testing.assert_allclose(distances.numpy(), gaps(queries, references, index), rtol=2e-6)
    assert (distances.diff(dim=1) >= 0).all()
    exact, right = nearest(queries, references, k=3)
    assert (distances >= exact - 1e-6).all()
    recall = np.mean([len(set(a) & set(b)) / 3 for a, b in zip(index.tolist(), right.tolist(), strict=True)])
    assert recall > least


@needs_faiss
@pytest.mark.parametrize("kind", ["faiss-ivf", "faiss-pq"])
def test_indexes_are_the_same_when_built_again(kind: faiss_search.Search) -> None:
    queries, references = clustered(60, seed=1), clustered(2000)
    first, second = (FaissSearch(references, kind, seed=3)(queries) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@needs_faiss
@pytest.mark.parametrize("kind", ["faiss-flat", "faiss-ivf", "faiss-pq"])
@pytest.mark.parametrize("count", [3, 50])
def test_small_banks_have_indexes_too(kind: faiss_search.Search, count: int) -> None:
    queries, references = points(7, 6, seed=1), points(count, 6).half()
    distances, index = FaissSearch(references, kind)(queries, k=3)
    np.testing.assert_allclose(distances.numpy(), gaps(queries, references, index), rtol=2e-6)


@needs_faiss
def test_lists_that_hold_too_few_are_made_up_for() -> None:
    references = torch.cat([points(3000, 4), points(1, 4) + 1000])
    search = FaissSearch(references, "faiss-ivf")
    search.index.nprobe = 1
    distances, _ = search(points(1, 4) + 1000, k=3)
    np.testing.assert_allclose(distances.numpy(), brute(points(1, 4) + 1000, references, 3), rtol=2e-6)


@needs_faiss
def test_index_refuses_wrong_queries() -> None:
    search = FaissSearch(points(50, 6), "faiss-flat")
    with pytest.raises(InputError, match="same length"):
        search(points(5, 4))
    with pytest.raises(InputError, match="NaN"):
        search(torch.full((5, 6), torch.nan))


def test_unknown_search_lists_those_there_are() -> None:
    with pytest.raises(InputError, match="expected one of exact, faiss-flat, faiss-ivf, faiss-pq"):
        checked_kind("hnsw")


def test_missing_faiss_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_search, "find_spec", lambda name: None)
    assert checked_kind("exact") == "exact"
    with pytest.raises(InputError, match=r"pip install 'strays\[search\]'"):
        FaissSearch(points(9, 4), "faiss-flat")
