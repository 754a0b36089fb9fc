"""Time, accuracy and memory of the pixel metrics beside scikit-learn, torchmetrics and pytorch-ood.

One process sees the same frames through every tool; memory is measured in a process per tool and number of frames.
Run it with nothing else on the machine: ``python benchmarks/metrics.py --frames 30 --size 1024x2048``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import interpolate

from strays.metrics import PixelMetrics

__all__ = ["main"]


class Tool(Protocol):
    """Something that takes frames in and gives AP, AUROC and FPR95 out."""

    def update(self, scores: Tensor, mask: Tensor) -> None:
        """Take in a frame: scores in [0, 1] (H, W), mask uint8 (H, W)."""

    def compute(self) -> dict[str, float]:
        """Return AP, AUROC and FPR95."""


class Strays:
    """This project."""

    def __init__(self, exact: bool = False) -> None:
        self.metrics = PixelMetrics(exact=exact)

    def update(self, scores: Tensor, mask: Tensor) -> None:
        """Take in a frame."""
        self.metrics.update(scores, mask)

    def compute(self) -> dict[str, float]:
        """Return the metrics."""
        return self.metrics.compute()


class ScikitLearn:
    """scikit-learn on all valid pixels at once."""

    def __init__(self) -> None:
        import sklearn.metrics

        self.library = sklearn.metrics
        self.scores: list[NDArray[np.float32]] = []
        self.truth: list[NDArray[np.bool_]] = []

    def update(self, scores: Tensor, mask: Tensor) -> None:
        """Keep the valid pixels of a frame."""
        valid = mask != 255
        self.scores.append(scores[valid].numpy())
        self.truth.append((mask[valid] == 1).numpy())

    def compute(self) -> dict[str, float]:
        """Return the metrics."""
        scores, truth = np.concatenate(self.scores), np.concatenate(self.truth)
        fpr, tpr, _ = self.library.roc_curve(truth, scores)
        return {
            "AP": float(self.library.average_precision_score(truth, scores)),
            "AUROC": float(self.library.roc_auc_score(truth, scores)),
            "FPR95": float(fpr[np.argmax(tpr >= 0.95)]),
        }


class TorchMetrics:
    """torchmetrics, exact (every score kept) or on a fixed number of thresholds in [0, 1]."""

    def __init__(self, thresholds: int | None = None) -> None:
        from torchmetrics import MetricCollection
        from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision, BinaryROC

        # One state serves all three (compute groups).
        kinds = {"AP": BinaryAveragePrecision, "AUROC": BinaryAUROC, "ROC": BinaryROC}
        self.metrics = MetricCollection(
            {name: kind(thresholds=thresholds, ignore_index=255) for name, kind in kinds.items()}
        )

    def update(self, scores: Tensor, mask: Tensor) -> None:
        """Take in a frame."""
        self.metrics.update(scores, mask.long())

    def compute(self) -> dict[str, float]:
        """Return the metrics."""
        result = self.metrics.compute()
        fpr, tpr, _ = result["ROC"]
        first = int(torch.argmax((tpr >= 0.95).int()))
        return {"AP": float(result["AP"]), "AUROC": float(result["AUROC"]), "FPR95": float(fpr[first])}


class PytorchOod:
    """pytorch-ood's pooled metrics; they include the AUTC and the AP of the inliers, which cannot be left out."""

    def __init__(self) -> None:
        from pytorch_ood.metrics import OODSegmentationMetrics

        self.metrics = OODSegmentationMetrics(device="cpu", void_label=255)

    def update(self, scores: Tensor, mask: Tensor) -> None:
        """Take in a frame; anomalies are negative labels there."""
        labels = mask.long()
        labels[mask == 1] = -1
        self.metrics.update(scores[None], labels[None])

    def compute(self) -> dict[str, float]:
        """Return the metrics."""
        result = self.metrics.compute()
        return {"AP": result["AUPR-OUT"], "AUROC": result["AUROC"], "FPR95": result["FPR95TPR"]}


TOOLS: dict[str, Callable[[], Tool]] = {
    "strays": Strays,
    "strays exact": partial(Strays, exact=True),
    "scikit-learn": ScikitLearn,
    "torchmetrics": TorchMetrics,
    "torchmetrics, 200 thresholds": partial(TorchMetrics, thresholds=200),
    "pytorch-ood": PytorchOod,
}


@dataclass
class Row:
    """What was measured of a tool."""

    tool: Tool | None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    result: dict[str, float] = field(default_factory=dict)
    problem: str = ""

    def timed(self, work: Callable[[], None]) -> None:
        """Do some work and add the time that it takes."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu


def frames(count: int, size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scores like those of a network (smooth, finely textured, in [0, 1]) and masks: 1 % anomaly, 10 % ignore."""
    height, width = size
    for index in range(count):
        random = torch.Generator().manual_seed(index)
        coarse = torch.randn(1, 1, height // 16 + 1, width // 16 + 1, generator=random)
        latent = 2 * interpolate(coarse, size, mode="bilinear")[0, 0]
        latent += 0.2 * torch.randn(height, width, generator=random)
        mask = torch.zeros(height, width, dtype=torch.uint8)
        for _ in range(4):
            top = int(torch.randint(int(0.8 * height), (), generator=random))
            left = int(torch.randint(int(0.9 * width), (), generator=random))
            mask[top : top + height // 20, left : left + width // 20] = 1
        latent[mask == 1] += 4
        mask[-height // 10 :] = 255
        yield torch.sigmoid(1.5 * latent - 4), mask


def start(name: str) -> Row:
    """Return a fresh tool, or why there is none."""
    try:
        return Row(TOOLS[name]())
    except (ImportError, RuntimeError) as error:  # a torchvision that does not fit torch raises RuntimeError
        return Row(None, problem=f"does not import here: {str(error).splitlines()[0]}")


def compare(names: list[str], count: int, size: tuple[int, int]) -> dict[str, Row]:
    """Run all tools over the same frames in this process."""
    rows = {name: start(name) for name in names}
    running = [(row, row.tool) for row in rows.values() if row.tool is not None]
    for scores, mask in frames(count, size):
        for row, tool in running:
            row.timed(partial(tool.update, scores, mask))
    for row, tool in running:
        row.timed(lambda row=row, tool=tool: row.result.update(tool.compute()))  # type: ignore[misc]
        row.tool = None
    return rows


def peak_memory(name: str, count: int, size: tuple[int, int]) -> int:
    """Return how many bytes this process needed at most beyond what making the frames takes."""
    tool = TOOLS[name]()
    resident_peak(reset=True)
    for _ in frames(3, size):
        pass
    before = resident_peak(reset=True)
    for scores, mask in frames(count, size):
        tool.update(scores, mask)
    tool.compute()
    return resident_peak() - before


def resident_peak(reset: bool = False) -> int:
    """Return the peak of this process's resident memory in bytes, and on request start to measure it anew (Linux)."""
    # Not getrusage: its peak is handed down from the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return 1024 * peak


def memory_in_process(name: str, count: int, size: tuple[int, int]) -> str:
    """Return ``peak_memory`` of a fresh process in MB, or the last line of its complaint."""
    wanted = ["--memory-of", name, "--frames", str(count), "--size", f"{size[0]}x{size[1]}"]
    done = subprocess.run([sys.executable, __file__, *wanted], check=False, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.splitlines() or [f"ended with {done.returncode}"])[-1]
    return f"{json.loads(done.stdout.splitlines()[-1]) / 1e6:.0f}"


def show(rows: dict[str, Row], count: int, size: tuple[int, int]) -> None:
    """Print the comparison."""
    console = Console(width=150)
    console.print(f"{count} frames of {size[0]}x{size[1]}, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}")
    table = Table(box=MARKDOWN)
    columns = ("tool", "seconds", "CPU seconds", "times faster", "AP", "AP error", "AUROC error", "FPR95 error")
    for column in columns:
        table.add_column(column, justify="left" if column == "tool" else "right")
    truth = rows.get("scikit-learn", Row(None))
    for name, row in rows.items():
        table.add_row(name, *(cells(row, truth) if row.result else "-" * 7))
    console.print(table)
    for name, row in rows.items():
        if row.problem:
            console.print(f"{name} {row.problem}")


def cells(row: Row, truth: Row) -> list[str]:
    """Return what the table says of a tool after its name; scikit-learn's numbers are the truth."""
    timing = [f"{row.seconds:.2f}", f"{row.cpu_seconds:.2f}"]
    faster = f"{truth.seconds / row.seconds:.1f}" if truth.result else "-"
    errors = [f"{row.result[name] - truth.result[name]:+.1e}" if truth.result else "-" for name in truth.result]
    return [*timing, faster, f"{row.result['AP']:.6f}", *errors]


def show_memory(names: list[str], count: int, long: int, size: tuple[int, int]) -> None:
    """Print peak memory, for this project at two lengths."""
    table = Table("tool", "frames", "peak MB beyond start", box=MARKDOWN)
    for name, number in [(name, count) for name in names] + [("strays", long)]:
        table.add_row(name, str(number), memory_in_process(name, number, size))
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--long", type=int, default=300, help="frames of the second memory measurement")
    parser.add_argument("--size", default="1024x2048", help="HxW")
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", choices=list(TOOLS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    height, width = (int(side) for side in given.size.split("x"))
    if given.memory_of:
        print(json.dumps(peak_memory(given.memory_of, given.frames, (height, width))))
        return
    rows = compare(given.tools, given.frames, (height, width))
    show(rows, given.frames, (height, width))
    if not given.skip_memory:
        runnable = [name for name, row in rows.items() if row.result]
        show_memory(runnable, given.frames, given.long, (height, width))


if __name__ == "__main__":
    main()
