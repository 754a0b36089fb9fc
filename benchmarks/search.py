"""Time, memory and agreement of exact nearest-neighbour search beside faiss flat and scikit-learn.

All tools search the same data in one process, in turns, on the same number of threads; memory is measured in a process
per tool. Run it with nothing else on the machine: ``python benchmarks/search.py``. With ``--device cuda`` it compares
with the plain reference, ``torch.cdist`` and ``topk``, since faiss-cpu and scikit-learn know no GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits
from torch import Tensor

from strays.kernels.nearest import nearest

__all__ = ["main"]

Found = tuple[Tensor, Tensor]
Search = Callable[[Tensor, Tensor, int], Found]
CHUNK = 1024


@dataclass(frozen=True)
class Task:
    """What is searched."""

    queries: int
    references: int
    channels: int
    k: int
    device: str
    kind: str

    def data(self) -> tuple[Tensor, Tensor]:
        """Return queries and references."""
        random = torch.Generator().manual_seed(0)
        pair = [torch.randn(n, self.channels, generator=random) for n in (self.queries, self.references)]
        if self.kind == "clustered":
            centres = 3 * torch.randn(64, self.channels, generator=random)
            pair = [one.add_(centres[torch.randint(64, (len(one),), generator=random)]).relu_() for one in pair]
        return pair[0].to(self.device), pair[1].to(self.device)

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return 4 * self.channels * (self.queries + self.references)


@dataclass
class Row:
    """What is known of a tool."""

    seconds: list[float] = field(default_factory=list)
    found: Found | None = None
    problem: str = ""


def by_strays(queries: Tensor, references: Tensor, k: int) -> Found:
    return nearest(queries, references, k)


def by_faiss(queries: Tensor, references: Tensor, k: int) -> Found:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(references.shape[1])
    index.add(references.numpy())
    squared, found = index.search(queries.numpy(), k)
    return torch.from_numpy(squared).sqrt(), torch.from_numpy(found)


def by_scikit_learn(queries: Tensor, references: Tensor, k: int) -> Found:
    from sklearn.neighbors import NearestNeighbors

    with threadpool_limits(torch.get_num_threads()):
        searcher = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references.numpy())
        distances, found = searcher.kneighbors(queries.numpy())
    return torch.from_numpy(distances).float(), torch.from_numpy(found)


def by_torch(queries: Tensor, references: Tensor, k: int) -> Found:
    parts = [torch.cdist(some, references).topk(k, largest=False) for some in torch.split(queries, CHUNK)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


TOOLS: dict[str, Search] = {
    "strays": by_strays,
    "faiss flat": by_faiss,
    "scikit-learn": by_scikit_learn,
    "torch.cdist": by_torch,
}


def finished(device: str) -> float:
    """Return the time when the device has nothing left to do."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(task: Task, names: list[str], repeats: int) -> dict[str, Row]:
    """Let all tools search in turns, once more than counted."""
    queries, references = task.data()
    rows = {name: Row() for name in names}
    for turn in range(repeats + 1):
        for name, row in rows.items():
            if row.problem:
                continue
            begin = finished(task.device)
            try:
                row.found = TOOLS[name](queries, references, task.k)
            except ImportError as error:
                row.problem = str(error)
            if turn:
                row.seconds.append(finished(task.device) - begin)
    return rows


def resident(what: str) -> int:
    """Return this process's resident memory in bytes: ``VmRSS`` now, ``VmHWM`` at its peak (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def peak_memory(task: Task, name: str) -> int:
    """Return how many bytes a search takes at most beyond the data; a small one before loads the libraries."""
    queries, references = task.data()
    TOOLS[name](queries[:64], references[:256], task.k)
    if task.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        TOOLS[name](queries, references, task.k)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    TOOLS[name](queries, references, task.k)
    return resident("VmHWM") - before


def memory_in_process(name: str) -> int | None:
    """Return ``peak_memory`` of a fresh process, with the arguments of this one; None where it failed."""
    wanted = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    done = subprocess.run(wanted, check=False, capture_output=True, text=True)
    return None if done.returncode else int(json.loads(done.stdout.splitlines()[-1]))


def row_of(task: Task, name: str, rows: dict[str, Row], memory: bool) -> list[str]:
    """Return the cells of a tool: time, time of strays by its own in the same turns, agreement, and memory."""
    row, ours = rows[name], rows["strays"]
    ratio = median(one / other for one, other in zip(ours.seconds, row.seconds, strict=True))
    extra = memory_in_process(name) if memory else None
    cells = [name, f"{median(row.seconds):.3f}", f"{min(row.seconds):.3f}", f"{ratio:.3f}", *agreement(row, ours)]
    if extra is None:
        return [*cells, "-", "-"]
    return [*cells, f"{extra / 1e6:.1f}", f"{1 + extra / task.size:.3f}"]


def agreement(row: Row, ours: Row) -> tuple[str, str]:
    """Return the largest relative difference of the distances, and the share of neighbours that are the same."""
    assert row.found is not None
    assert ours.found is not None
    apart = ((row.found[0] - ours.found[0]).abs() / ours.found[0]).max()
    same = (row.found[1][:, :, None] == ours.found[1][:, None]).any(dim=2).double().mean()
    return f"{float(apart):.1e}", f"{100 * float(same):.3f} %"


def show(task: Task, rows: dict[str, Row], memory: bool) -> None:
    """Print the comparison."""
    console = Console(width=150)
    where = torch.cuda.get_device_name() if task.device == "cuda" else f"{torch.get_num_threads()} threads"
    console.print(
        f"{task.queries} queries, {task.references} references, {task.channels} numbers ({task.kind}), k = {task.k}, "
        f"{where}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, data {task.size / 1e6:.1f} MB"
    )
    table = Table(box=MARKDOWN)
    columns = ("tool", "median s", "least s", "strays / it", "distances apart", "same", "extra MB", "memory / data")
    for column in columns:
        table.add_column(column, justify="left" if column == "tool" else "right")
    for name, row in rows.items():
        table.add_row(*([name, row.problem] if row.problem else row_of(task, name, rows, memory)))
    console.print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=8192)
    parser.add_argument("--references", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--data", default="random", choices=["random", "clustered"])
    parser.add_argument("--tools", nargs="*", choices=list(TOOLS))
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", choices=list(TOOLS), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    task = Task(given.queries, given.references, given.channels, given.k, given.device, given.data)
    if given.memory_of:
        print(json.dumps(peak_memory(task, given.memory_of)))
        return
    usual = ["strays", "torch.cdist"] if given.device == "cuda" else ["strays", "faiss flat", "scikit-learn"]
    names = ["strays", *(name for name in given.tools or usual if name != "strays")]
    show(task, compare(task, names, given.repeats), not given.skip_memory)


if __name__ == "__main__":
    main()
