"""The files that a benchmark leaves."""

import json

import pytest

from strays.benchmark import ResultRow, Results, Unmeasured, Unreadable, write_results
from strays.benchmark.results import markdown_table

PROTOCOL = {
    "protocol": "half-resolution",
    "size": [512, 1024],
    "network_size": None,
    "anomaly_free": "skip",
    "aggregation": "pooled",
    "fpr_rule": "first",
    "images": 20,
}


def row(detector: str = "energy", dataset: str = "road", **metrics: float) -> ResultRow:
    values = {"AUROC": 0.9, "AP": 1 / 3, "FPR95": 0.25, "threshold": -3.5, "F1": 0.5} | metrics
    return ResultRow(
        model="enet", detector=detector, dataset=dataset, metrics=values, bounds={"AP": (0.33, 0.34)}, protocol=PROTOCOL
    )


def test_the_schema(tmp_path) -> None:
    lost = Unreadable(dataset="road", name="07", reason="07.jpg is a damaged JPEG image")
    part = Unmeasured(model="enet", dataset="sky", reason="no image has an anomaly")
    write_results(tmp_path, Results(rows=(row(), row("msp")), unreadable=(lost,), unmeasured=(part,)))
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found) == {"schema", "rows", "unreadable", "unmeasured"}
    assert found["schema"] == 1
    assert [one["detector"] for one in found["rows"]] == ["energy", "msp"]
    assert set(found["rows"][0]) == {"model", "detector", "dataset", "metrics", "bounds", "protocol"}
    assert found["rows"][0]["metrics"]["AP"] == 1 / 3, "a fraction at full precision"
    assert found["rows"][0]["bounds"]["AP"] == [0.33, 0.34]
    assert found["rows"][0]["protocol"] == PROTOCOL
    assert found["unreadable"] == [lost.model_dump()]
    assert found["unmeasured"] == [part.model_dump()]


def test_the_markdown_for_people(tmp_path) -> None:
    lost = Unreadable(dataset="road", name="07", reason="07.jpg is a damaged JPEG image")
    part = Unmeasured(model="enet", dataset="sky", reason="no image has an anomaly")
    write_results(tmp_path, Results(rows=(row(), row(dataset="town")), unreadable=(lost,), unmeasured=(part,)))
    text = (tmp_path / "results.md").read_text()
    assert "| data set | model | detector | AP | FPR95 | AUROC | F1 |" in text
    assert "| road | enet | energy | 33.33 | 25.00 | 90.00 | 50.00 |" in text
    told = "20 images, resized to 512x1024, anomaly-free images skipped, pooled, FPR rule first"
    assert f"- road: protocol half-resolution, {told}" in text
    assert f"- town: protocol half-resolution, {told}" in text
    assert "- not counted: road/07: 07.jpg is a damaged JPEG image" in text
    assert "- not measured: enet on sky: no image has an anomaly" in text


def test_metrics_that_only_some_rows_have(tmp_path) -> None:
    lines = markdown_table([row(), row("msp", sIoU=0.125, components_truth=3)]).splitlines()
    assert lines[0].endswith("| F1 | sIoU |")
    assert lines[2].endswith("| 50.00 |  |")
    assert lines[3].endswith("| 50.00 | 12.50 |")


def test_numbers_that_are_none_are_never_written(tmp_path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path, Results(rows=(row(AP=float("nan")),)))
    assert list(tmp_path.iterdir()) == []
