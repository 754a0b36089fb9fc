"""Tables of a report: what stands in each cell, which is best, and what the protocol says."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from strays.errors import InputError
from strays.report.contents import ReportRow
from strays.report.words import Metric, explain

__all__ = ["Cell", "Column", "Fact", "Line", "Protocol", "Table", "make_protocol", "make_table", "metrics_of", "show"]

FIRST_SIGHT = ("protocol", "size", "resolution", "network_size", "aggregation", "images", "anomaly_free", "pixels")
PLAIN = {"size": "resolution", "network_size": "network sees", "anomaly_free": "images without anomaly"}
NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """One metric on one data set."""

    dataset: str
    metric: Metric


@dataclass(frozen=True)
class Cell:
    """One number as it is printed, as it is sorted, and whether it is the best of its column."""

    text: str
    value: float | None
    best: bool


class Line(NamedTuple):
    """One line of a table; ``variant`` tells apart rows that differ in their protocol only."""

    model: str
    detector: str
    variant: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Columns and lines; ``datasets`` has the number of columns of each data set."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    datasets: tuple[tuple[str, int], ...]

    @property
    def variants(self) -> bool:
        """Whether any line needs its variant to be told apart."""
        return any(line.variant for line in self.lines)


class Fact(NamedTuple):
    """One entry of a protocol, ready to print."""

    name: str
    text: str


@dataclass(frozen=True)
class Protocol:
    """How the numbers of one data set were measured.

    Args:
        first_sight: what all rows share and everyone should see.
        common: the rest of what all rows share.
        differing: names of what differs.
        rows: per row its model, its detector and its values of ``differing``.
    """

    first_sight: tuple[Fact, ...]
    common: tuple[Fact, ...]
    differing: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]


def metrics_of(rows: Iterable[ReportRow]) -> list[str]:
    """Return the names of all metrics in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def make_table(rows: Sequence[ReportRow], metrics: Sequence[str]) -> Table:
    """Return the table of models and detectors by data sets and metrics.

    Raises:
        InputError: if two rows agree in model, detector, data set and everything that is shown of their protocol.
    """
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    variants = {name: _variants([row for row in rows if row.dataset == name]) for name in datasets}
    lines: dict[tuple[str, str, str], dict[str, ReportRow]] = {}
    for row in rows:
        key = (row.model, row.detector, variants[row.dataset][id(row)])
        if lines.setdefault(key, {}).setdefault(row.dataset, row) is not row:
            raise InputError(f"two rows for {', '.join(filter(None, key))} on {row.dataset}: leave one of them out")
    present = {name: set(metrics_of(row for row in rows if row.dataset == name)) for name in datasets}
    columns = [Column(name, explain(metric)) for name in datasets for metric in metrics if metric in present[name]]
    cells = zip(*(_cells(column, lines) for column in columns), strict=True) if columns else [()] * len(lines)
    spans = tuple((name, sum(column.dataset == name for column in columns)) for name in datasets)
    return Table(tuple(columns), tuple(Line(*key, one) for key, one in zip(lines, cells, strict=True)), spans)


def _cells(column: Column, lines: Mapping[tuple[str, str, str], Mapping[str, ReportRow]]) -> list[Cell]:
    values = [_value(line.get(column.dataset), column.metric.name) for line in lines.values()]
    variants = [variant for _, _, variant in lines]
    best = {name: _best(column.metric, values, variants, name) for name in set(variants)}
    texts = [_number(value, column.metric) for value in values]
    return [Cell(text, value, text == best[name]) for text, value, name in zip(texts, values, variants, strict=True)]


def _best(metric: Metric, values: Sequence[float | None], variants: Sequence[str], variant: str) -> str | None:
    """The best value of the rows measured alike, as printed: what prints alike is equally good."""
    alike = [one for one, name in zip(values, variants, strict=True) if name == variant and one is not None]
    choose = {"higher": max, "lower": min}.get(metric.better or "")
    return _number(choose(alike), metric) if choose and len(alike) > 1 else None


def _value(row: ReportRow | None, metric: str) -> float | None:
    value = None if row is None else row.metrics.get(metric)
    return None if value is None or math.isnan(value) else float(value)


def _number(value: float | None, metric: Metric) -> str:
    if value is None:
        return NOTHING
    if metric.unit == "count":
        return show(round(value))
    return f"{100 * value:.2f}" if metric.unit == "fraction" else f"{value:.4g}"


def _variants(rows: Sequence[ReportRow]) -> dict[int, str]:
    """What of the protocol at first sight sets each row of one data set apart, by the row's identity."""
    differing = [name for name in FIRST_SIGHT if len({show(row.protocol.get(name)) for row in rows}) > 1]
    return {id(row): ", ".join(show(row.protocol.get(name)) for name in differing) for row in rows}


def make_protocol(rows: Sequence[ReportRow]) -> Protocol:
    """Return what the rows of one data set share of their protocols, and where they differ."""
    names = list(dict.fromkeys(name for row in rows for name in row.protocol))
    shown = {name: [show(row.protocol.get(name)) for row in rows] for name in names}
    shared = [name for name in names if len(set(shown[name])) == 1]
    differing = [name for name in names if name not in shared]
    first = [name for name in FIRST_SIGHT if name in shared and rows[0].protocol.get(name) is not None]
    return Protocol(
        first_sight=tuple(Fact(_plain(name), show(rows[0].protocol[name], short=True)) for name in first),
        common=tuple(Fact(_plain(name), shown[name][0]) for name in shared),
        differing=tuple(map(_plain, differing)),
        rows=tuple(
            (row.model, row.detector, tuple(shown[name][number] for name in differing))
            for number, row in enumerate(rows)
        ),
    )


def _plain(name: str) -> str:
    return PLAIN.get(name, name.replace("_", " "))


def show(value: object, short: bool = False) -> str:
    """Return a protocol value in words; ``short`` rounds large counts.

    Example:
        >>> show([512, 1024]), show({"inlier": 5242880, "anomaly": 12}, short=True), show(None), show(True)
        ('512 × 1024', '5.24 M inlier, 12 anomaly', '–', 'yes')
    """
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case int():
            return _count(value) if short else f"{value:,}".replace(",", "\N{THIN SPACE}")
        case float():
            return f"{value:.6g}"
        case Mapping():
            return ", ".join(_entry(name, one, short) for name, one in value.items()) or NOTHING
        case list() | tuple():
            return (" × " if all(isinstance(one, int) for one in value) else ", ").join(map(str, value)) or NOTHING
        case _:
            return str(value)


def _entry(name: object, value: object, short: bool) -> str:
    counted = isinstance(value, int) and not isinstance(value, bool)
    return f"{show(value, short)} {_plain(str(name))}" if counted else f"{_plain(str(name))} {show(value, short)}"


def _count(value: int) -> str:
    for power, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= power:
            return f"{value / (1e3 if unit == 'k' else power):.3g} {unit}"
    return str(value)
