"""The files that a benchmark leaves: ``results.json`` for programs, ``results.md`` for people."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from strays.files import write_json, write_text

__all__ = ["ResultRow", "Results", "Unmeasured", "Unreadable", "markdown_table", "write_results"]

_COUNTS = ("pixels_inlier", "pixels_anomaly", "pixels_ignored", "images", "images_skipped")
_FIRST = ("AP", "FPR95", "AUROC", "F1")
_NOT_FRACTIONS = ("threshold", "components_truth", "components_predicted")


class ResultRow(BaseModel):
    """The result of one detector with one model on one data set: fractions in [0, 1] and the protocol.

    ``bounds`` holds for AP, AUROC and FPR the interval in which the exact value certainly lies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    detector: str
    dataset: str
    metrics: dict[str, float]
    bounds: dict[str, tuple[float, float]]
    protocol: dict[str, object]


class Unreadable(BaseModel):
    """An image that is in no number, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    name: str
    reason: str


class Unmeasured(BaseModel):
    """What a model could not be measured in on a data set, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    dataset: str
    reason: str


class Results(BaseModel):
    """Everything that ``results.json`` holds."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    rows: tuple[ResultRow, ...]
    unreadable: tuple[Unreadable, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()


def write_results(out: Path, results: Results) -> None:
    """Write ``results.json`` (schema 1) and ``results.md`` into a folder, each whole or not at all."""
    write_json(out / "results.json", {"schema": 1, **results.model_dump(mode="json")})
    lines = [markdown_table(results.rows), "", *_protocol_lines(results.rows)]
    lines += [f"- not counted: {one.dataset}/{one.name}: {one.reason}" for one in results.unreadable]
    lines += [f"- not measured: {one.model} on {one.dataset}: {one.reason}" for one in results.unmeasured]
    write_text(out / "results.md", "\n".join(lines) + "\n")


def markdown_table(rows: Sequence[ResultRow]) -> str:
    """Return the rows as a Markdown table in per cent with two decimals, metrics as columns."""
    names = [name for row in rows for name in row.metrics if name not in (*_COUNTS, *_NOT_FRACTIONS)]
    metrics = sorted(dict.fromkeys(names), key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    header = ["data set", "model", "detector", *metrics]
    lines = [header, ["---"] * 3 + ["---:"] * len(metrics)]
    lines += [[row.dataset, row.model, row.detector, *(_cell(row, name) for name in metrics)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: ResultRow, name: str) -> str:
    return f"{100 * row.metrics[name]:.2f}" if name in row.metrics else ""


def _protocol_lines(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line per data set that says how its numbers were measured."""
    by_set = {row.dataset: row for row in rows}
    return [f"- {name}: {_in_words(row)}" for name, row in by_set.items()]


def _in_words(row: ResultRow) -> str:
    protocol = row.protocol
    size = protocol["size"]
    seen = protocol["network_size"]
    words = [
        f"protocol {protocol['protocol']}",
        f"{protocol['images']} images",
        "at their own size" if size is None else f"resized to {_by(size)}",
        f"network sees {_by(seen)}" if seen is not None else "",
        f"anomaly-free images {'counted' if protocol['anomaly_free'] == 'include' else 'skipped'}",
        str(protocol["aggregation"]),
        f"FPR rule {protocol['fpr_rule']}",
    ]
    return ", ".join(word for word in words if word)


def _by(size: object) -> str:
    return "x".join(str(side) for side in size) if isinstance(size, (list, tuple)) else str(size)
