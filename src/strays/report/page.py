"""The report as one HTML file that needs nothing else: no network, no second file."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from strays.errors import InputError
from strays.files import write_text
from strays.metrics import Curve, PixelHistogram
from strays.report.contents import Panel, Report, ReportRow
from strays.report.plots import (
    HistogramDrawing,
    Pictures,
    Style,
    colour_ramp,
    curve_points,
    draw_histogram,
    make_styles,
)
from strays.report.tables import Cell, Protocol, Table, make_protocol, make_table, metrics_of
from strays.report.words import explain

__all__ = ["render_report", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
KINDS = {
    "miss": ("Worst misses", "Inside the ground truth's outline the score should glow: what stays dark was not seen."),
    "false alarm": (
        "Worst false alarms",
        "Outside the ground truth's outline nothing should glow: what does is a false alarm.",
    ),
}


def write_report(path: str | Path, report: Report) -> None:
    """Write the report to ``path`` as one self-contained HTML file, whole or not at all.

    Raises:
        InputError: if the report has no rows, or two that cannot be told apart.
    """
    write_text(Path(path), render_report(report))


def render_report(report: Report) -> str:
    """Return the report as one self-contained HTML page; the same report gives the same page.

    Raises:
        InputError: if the report has no rows, or two that cannot be told apart.
    """
    if not report.rows:
        raise InputError("expected a report with at least one row, got none: was every data set skipped?")
    pictures, styles = Pictures(), make_styles(report.rows)
    sections = [_section(rows, pictures, styles) for rows in _by_dataset(report.rows)]
    scripts = [Markup((TEMPLATES / "report.js").read_text("utf-8"))]
    if any(section.curves for section in sections):
        scripts.insert(0, _plotly())
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            sections=sections,
            styles=styles,
            overview=_overview(report.rows) if len(sections) > 1 else None,
            glossary=[one for one in map(explain, metrics_of(report.rows)) if one.words and not one.detail],
            scripts=scripts,
            hashes=[_hash(script) for script in scripts],
            plots={section.id: section.curves for section in sections if section.curves},
            pictures=pictures.by_name,
        )
    )


class _Picture(NamedTuple):
    """A panel and the names of its three embedded pictures."""

    panel: Panel
    image: str
    score: str
    truth: str

    @property
    def ramp(self) -> str:
        """The colours of the score as a CSS colour list."""
        return colour_ramp(self.panel.scale)


class _Group(NamedTuple):
    """The panels of one kind, and what to look for in them."""

    title: str
    words: str
    pictures: tuple[_Picture, ...]


class _Gallery(NamedTuple):
    """The panels of one row, by what they show."""

    model: str
    detector: str
    groups: tuple[_Group, ...]


class _Small(NamedTuple):
    """One histogram among many."""

    model: str
    detector: str
    style: Style
    drawing: HistogramDrawing
    threshold: str


@dataclass(frozen=True)
class _Section:
    """All that is shown of one data set."""

    id: str
    dataset: str
    table: Table
    details: Table
    protocol: Protocol
    share: float | None
    best: ReportRow | None
    curves: tuple[dict[str, object], ...]
    histograms: tuple[_Small, ...]
    galleries: tuple[_Gallery, ...]


def _by_dataset(rows: Sequence[ReportRow]) -> list[list[ReportRow]]:
    found: dict[str, list[ReportRow]] = {}
    for row in rows:
        found.setdefault(row.dataset, []).append(row)
    return list(found.values())


def _overview(rows: Sequence[ReportRow]) -> Table:
    metrics = metrics_of(rows)
    rates = [name for name in metrics if name.startswith("FPR")]
    headline = [name for name in ("AP", *rates[:1]) if name in metrics]
    return make_table(rows, headline or metrics[:1])


def _section(rows: Sequence[ReportRow], pictures: Pictures, styles: Mapping[tuple[str, str], Style]) -> _Section:
    names, shares = metrics_of(rows), (row.anomaly_share for row in rows)
    table = make_table(rows, [name for name in names if not explain(name).detail])
    return _Section(
        id="set-" + hashlib.sha256(rows[0].dataset.encode()).hexdigest()[:8],
        dataset=rows[0].dataset,
        table=table,
        details=make_table(rows, [name for name in names if explain(name).detail]),
        protocol=make_protocol(rows),
        share=next((share for share in shares if share is not None), None),
        best=_best(rows) if not table.variants else None,
        curves=tuple(_curve(row, row.curve, styles) for row in rows if row.curve),
        histograms=tuple(_small(row, row.histogram, styles) for row in rows if row.histogram),
        galleries=tuple(_gallery(row, pictures) for row in rows if row.panels),
    )


def _best(rows: Sequence[ReportRow]) -> ReportRow | None:
    ranked = [row for row in rows if not math.isnan(row.metrics.get("AP", math.nan))]
    return max(ranked, key=lambda row: row.metrics["AP"], default=None)


def _curve(row: ReportRow, curve: Curve, styles: Mapping[tuple[str, str], Style]) -> dict[str, object]:
    style = styles[row.model, row.detector]
    return {"model": row.model, "detector": row.detector, **style._asdict(), **curve_points(curve)}


def _small(row: ReportRow, histogram: PixelHistogram, styles: Mapping[tuple[str, str], Style]) -> _Small:
    threshold = row.metrics.get("threshold")
    text = "" if threshold is None else f"{threshold:.4g}"
    drawing = draw_histogram(histogram, threshold)
    return _Small(row.model, row.detector, styles[row.model, row.detector], drawing, text)


def _gallery(row: ReportRow, pictures: Pictures) -> _Gallery:
    groups = []
    for kind, (title, words) in KINDS.items():
        shown = tuple(_Picture(panel, *pictures.add_panel(panel)) for panel in row.panels if panel.kind == kind)
        groups.append(_Group(title, words, shown))
    return _Gallery(row.model, row.detector, tuple(group for group in groups if group.pictures))


@cache
def _plotly() -> Markup:
    # Plotly takes a while to import: only a report with curves pays for it.
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def _hash(script: str) -> str:
    """The source expression that lets a browser run this very script, and no other."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _counted(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}" if len(things) == 1 else f"{len(things)} {noun}s"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _moment(moment: datetime) -> str:
    zone = moment.strftime(" %Z") if moment.tzinfo else ""
    return f"{moment.day} {moment.strftime('%B %Y, %H:%M')}{zone}"


def _sort_key(cell: Cell) -> str:
    return "" if cell.value is None else repr(cell.value)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, sort_key=_sort_key, counted=_counted, sentence=_sentence, moment=_moment
    )
    return environment
