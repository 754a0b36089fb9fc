"""From the outcomes of a benchmark to its files, its page and its table."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from strays.benchmark import Benchmark, Outcome, ResultRow, Results, Unmeasured, Unreadable, write_results
from strays.benchmark.protocol import library_versions
from strays.benchmark.runner import WorstFrame
from strays.cli.progress import say, show
from strays.drawing import ColourScale
from strays.errors import InputError
from strays.report import NotMeasured, Panel, Report, ReportRow, Skipped, write_report

__all__ = ["Measured", "present"]

_COLUMNS = ("AP", "FPR95", "AUROC", "F1")
_FURTHER = ("F1_mean", "sIoU", "PPV", "instance AP", "mIoU", "open mIoU")
"""Columns of every table, and those that a table has where some row has them."""


@dataclass
class Measured:
    """What a benchmark has given so far, small enough to keep for any number of models and data sets."""

    rows: list[ResultRow] = field(default_factory=list)
    pages: list[ReportRow] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    unmeasured: list[Unmeasured] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Take in the rows of one model on one data set; their pictures are made small."""
        self.rows += [outcome.row for outcome in outcomes]
        self.pages += [_report_row(outcome) for outcome in outcomes]

    def close(self, run: Benchmark) -> None:
        """Take in what is known about a run when it is over."""
        self.unreadable += run.unreadable
        self.unmeasured += run.unmeasured
        self.weights[run.scorer.model.name] = run.sha256


def present(out: Path, measured: Measured, title: str = "Anomaly benchmark", quiet: bool = False) -> None:
    """Write ``results.json``, ``results.md`` and ``report.html``, and print the table and what is not in it.

    Raises:
        InputError: if nothing was measured.
    """
    rows, lost = tuple(measured.rows), measured.unmeasured
    if not rows:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise InputError(f"nothing could be measured: {lost[0].dataset}: {lost[0].reason}{more}")
    write_results(out, Results(rows=rows, unreadable=tuple(measured.unreadable), unmeasured=tuple(lost)))
    write_report(out / "report.html", _report(title, measured))
    show(_table(rows))
    for image in measured.unreadable:
        say(f"not counted: {image.dataset}/{image.name}: {image.reason}", style="yellow")
    for part in lost:
        say(f"not measured: {part.model} on {part.dataset}: {part.reason}", style="yellow")
    if not quiet:
        say(f"open {out / 'report.html'}; numbers with their protocol: {out / 'results.json'}")


def _table(rows: Sequence[ResultRow]) -> Table:
    extra = [name for name in _FURTHER if any(name in row.metrics for row in rows)]
    table = Table("data set", "model", "detector", header_style="bold")
    for name in (*_COLUMNS, *extra):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = (f"{100 * row.metrics[name]:.2f}" if name in row.metrics else "" for name in (*_COLUMNS, *extra))
        table.add_row(Text(row.dataset), Text(row.model), Text(row.detector), *cells)
    return table


def _report(title: str, measured: Measured) -> Report:
    return Report(
        title=title,
        rows=measured.pages,
        created=datetime.now(UTC),
        versions=library_versions(),
        command=shlex.join(["strays", *sys.argv[1:]]),
        skipped=[Skipped(one.dataset, one.name, one.reason) for one in measured.unreadable],
        unmeasured=[NotMeasured(one.model, one.dataset, one.reason) for one in measured.unmeasured],
        weights=measured.weights,
    )


def _report_row(outcome: Outcome) -> ReportRow:
    row = outcome.row
    scale = ColourScale.of([frame.score for frame in outcome.worst]) if outcome.worst else None
    threshold = row.metrics.get("threshold")
    panels = [_panel(frame, scale, threshold) for frame in outcome.worst] if scale else []
    curves = outcome.curve, outcome.histogram
    return ReportRow(row.model, row.detector, row.dataset, row.metrics, row.protocol, *curves, panels)


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
