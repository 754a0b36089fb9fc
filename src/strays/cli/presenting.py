"""From the outcomes of a benchmark to its files, its page and its table."""

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from strays.benchmark import Benchmark, Outcome, ResultRow, Results, write_results
from strays.benchmark.protocol import library_versions
from strays.benchmark.runner import WorstFrame
from strays.cli.progress import console
from strays.drawing import ColourScale
from strays.report import Panel, Report, ReportRow, Skipped, write_report

__all__ = ["present"]

_COLUMNS = ("AP", "FPR95", "AUROC", "F1")


def present(
    out: Path,
    outcomes: Sequence[Outcome],
    runs: Sequence[Benchmark],
    title: str = "Anomaly benchmark",
    quiet: bool = False,
) -> None:
    """Write ``results.json``, ``results.md`` and ``report.html`` and print the table."""
    rows = tuple(outcome.row for outcome in outcomes)
    unreadable = tuple(one for run in runs for one in run.unreadable)
    write_results(out, Results(rows=rows, unreadable=unreadable))
    write_report(out / "report.html", _report(title, outcomes, runs))
    Console().print(_table(rows))
    for one in unreadable:
        console.print(f"not counted: {one.dataset}/{one.name}: {one.reason}", style="yellow", highlight=False)
    if not quiet:
        console.print(
            f"open {out / 'report.html'}; numbers with their protocol: {out / 'results.json'}", highlight=False
        )


def _table(rows: Sequence[ResultRow]) -> Table:
    extra = [name for name in ("F1_mean", "sIoU", "PPV") if any(name in row.metrics for row in rows)]
    table = Table("data set", "model", "detector", header_style="bold")
    for name in (*_COLUMNS, *extra):
        table.add_column(name, justify="right")
    for row in rows:
        cells = (f"{100 * row.metrics[name]:.2f}" if name in row.metrics else "" for name in (*_COLUMNS, *extra))
        table.add_row(row.dataset, row.model, row.detector, *cells)
    return table


def _report(title: str, outcomes: Sequence[Outcome], runs: Sequence[Benchmark]) -> Report:
    return Report(
        title=title,
        rows=[_report_row(outcome) for outcome in outcomes],
        created=datetime.now(UTC),
        versions=library_versions(),
        command=shlex.join(["strays", *sys.argv[1:]]),
        skipped=[Skipped(one.dataset, one.name, one.reason) for run in runs for one in run.unreadable],
        weights={run.scorer.model.name: run.sha256 for run in runs},
    )


def _report_row(outcome: Outcome) -> ReportRow:
    row = outcome.row
    scale = ColourScale.of([frame.score for frame in outcome.worst]) if outcome.worst else None
    threshold = row.metrics.get("threshold")
    panels = [_panel(frame, scale, threshold) for frame in outcome.worst] if scale else []
    return ReportRow(row.model, row.detector, row.dataset, row.metrics, row.protocol, outcome.curve, outcome.histogram, panels)


def _panel(frame: WorstFrame, scale: ColourScale, threshold: float | None) -> Panel:
    miss = frame.kind == "miss"
    told = "the anomaly's median score" if miss else "the highest scores of normal pixels reach"
    against = "" if threshold is None else f", the threshold is {threshold:.3g}"
    panel = Panel(
        kind="miss" if miss else "false alarm",
        name=frame.scene.name,
        caption=f"{told} {'is ' if miss else ''}{frame.typical:.3g}{against}",
        image=frame.scene.image,
        score=frame.score,
        mask=frame.scene.mask if frame.scene.mask is not None else frame.scene.image[..., 0] * 0,
        scale=scale,
        threshold=threshold,
    )
    return panel.shrunk()
