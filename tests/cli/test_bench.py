"""``strays bench``: files, tables, and what it refuses."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from strays.detectors.build import split_specs


@pytest.fixture
def bench(strays, tiny, tmp_path):
    def run(*words: object, out: str = "out", model: str | None = None):
        return strays("bench", "--model", model or tiny.spec, "--out", tmp_path / out, *words)

    return run


def results(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def rows(out: Path) -> list[tuple[str, str, str]]:
    return [(one["model"], one["dataset"], one["detector"]) for one in results(out)["rows"]]


def test_detectors_by_data_sets(bench, street, tiny, tmp_path) -> None:
    near, far = street("near"), street("far", count=2, seed=5)
    answer = bench("--data", f"near={near}", "--data", f"far={far}", "--detectors", "energy,msp:temperature=2")
    assert answer.code == 0
    out = tmp_path / "out"
    expected = [(tiny.spec, name, detector) for name in ("near", "far") for detector in ("energy", "msp:temperature=2")]
    assert rows(out) == expected
    found = results(out)
    assert found["schema"] == 1
    assert found["unreadable"] == found["unmeasured"] == []
    row = found["rows"][0]
    assert {"AP", "FPR95", "AUROC", "F1", "threshold"} <= set(row["metrics"])
    assert row["protocol"]["images"] == 3
    line = next(line for line in answer.out.splitlines() if "near" in line and "energy" in line)
    assert f"{100 * row['metrics']['AP']:.2f}" in line
    assert tiny.spec in line, "names are whole, also where no terminal shows them"
    assert f"open {out / 'report.html'}" in answer.err
    assert f"{100 * row['metrics']['FPR95']:.2f}" in (out / "results.md").read_text()


class Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"src", "srcset", "data"} | ({"href"} if tag == "link" else set())
        self.found += [value or "" for name, value in attrs if name in wanted]


def test_the_page_needs_nothing_else(bench, street, tmp_path) -> None:
    bench("--data", f"near={street()}", "--detectors", "energy")
    page = (tmp_path / "out/report.html").read_text()
    parser = Links()
    parser.feed(page)
    assert all(link.startswith(("data:", "#")) for link in parser.found)
    assert "near" in page
    assert "Worst misses" in page
    assert "Worst false alarms" in page
    ap = results(tmp_path / "out")["rows"][0]["metrics"]["AP"]
    assert f"{100 * ap:.2f}" in page
    assert "strays bench --model" in page, "the command that measures it again"


def test_options_reach_the_protocol(bench, street, tiny, tmp_path) -> None:
    words = ["--size", "30x42", "--network-size", "16x24", "--anomaly-free", "skip", "--aggregation", "per-image"]
    answer = bench("--data", f"near={street(clean=(0,))}", *words, "--fpr-rule", "argmin", "--exact", "--quiet")
    assert answer.code == 0
    assert answer.err == ""
    assert set(tiny.seen) == {(16, 24)}
    protocol = results(tmp_path / "out")["rows"][0]["protocol"]
    assert (protocol["size"], protocol["network_size"], protocol["images"]) == ([30, 42], [16, 24], 2)
    assert (protocol["aggregation"], protocol["fpr_rule"], protocol["exact"]) == ("per-image", "argmin", True)


def test_component_metrics(bench, street, tmp_path) -> None:
    answer = bench("--data", f"near={street()}", "--detectors", "energy", "--components", "obstacle-track")
    metrics = results(tmp_path / "out")["rows"][0]["metrics"]
    assert {"sIoU", "PPV", "F1_mean"} <= set(metrics)
    assert "sIoU" in answer.out
    assert f"{100 * metrics['sIoU']:.2f}" in answer.out


def test_the_model_names_the_detector(bench, street, tiny, tmp_path) -> None:
    from strays.loading import load_model

    bench("--data", f"near={street()}", "--quiet")
    assert [detector for *_, detector in rows(tmp_path / "out")] == [load_model(tiny.spec).facts.detector]


def test_two_models(bench, street, tiny, tmp_path) -> None:
    other = tiny.factory("other")
    bench("--model", other, "--data", f"near={street()}", "--detectors", "energy", "--quiet")
    assert rows(tmp_path / "out") == [(tiny.spec, "near", "energy"), (other, "near", "energy")]
    one, two = results(tmp_path / "out")["rows"]
    assert one["metrics"] != two["metrics"]
    assert one["protocol"]["weights_sha256"] != two["protocol"]["weights_sha256"]


def test_two_models_of_one_name_are_called_as_they_were_given(bench, street, tmp_path) -> None:
    from strays.loading import load_model

    model = load_model("default")
    for name in ("mon", "tue"):
        with_bias = next(iter(model.network.parameters()))
        with_bias.data.mul_(1.1)
        model.save(tmp_path / name)
    answer = bench("--model", tmp_path / "tue", "--data", f"near={street(count=1)}", model=tmp_path / "mon")
    assert answer.code == 0
    assert [model for model, *_ in rows(tmp_path / "out")] == [str(tmp_path / "mon"), str(tmp_path / "tue")]


def test_two_data_sets_of_one_name_are_refused(bench, street, tmp_path) -> None:
    near, far = street("near"), street("far")
    answer = bench("--data", f"road={near}", "--data", f"road={far}")
    assert f"2 data sets are called 'road' (road={near} and road={far}): give each a name" in answer.error
    assert not (tmp_path / "out").exists()


def test_the_same_name_for_another_folder_later_is_refused(bench, street) -> None:
    near, far = street("near"), street("far", seed=5)
    assert bench("--data", f"road={near}").code == 0
    answer = bench("--data", f"road={far}")
    assert "before the files changed" in answer.error
    assert "choose another --out" in answer.error


def test_other_options_in_the_same_folder_are_refused_before_any_work(bench, street, tiny, tmp_path) -> None:
    near, far = street("near"), street("far", seed=5)
    bench("--data", f"far={far}", "--detectors", "energy")
    before = (tmp_path / "out/results.json").read_bytes()
    tiny.forget()
    answer = bench("--data", f"near={near}", "--data", f"far={far}", "--detectors", "energy", "--size", "20x30")
    assert "size was None, is [20, 30]" in answer.error
    assert tiny.seen == []
    assert (tmp_path / "out/results.json").read_bytes() == before


def test_a_set_without_masks_is_refused_before_any_work(bench, street, drive, tiny) -> None:
    answer = bench("--data", f"near={street()}", "--data", f"frames={drive()}")
    assert "frames has no anomaly masks" in answer.error
    assert tiny.seen == []


def all_clean(folder: Path) -> Path:
    (folder / "strays.json").write_text('{"values": {"ignore": [255]}}')
    return folder


def test_a_set_that_cannot_be_measured_costs_no_other(bench, street, tmp_path) -> None:
    clean = all_clean(street("clean", clean=(0, 1, 2)))
    answer = bench("--data", f"clean={clean}", "--data", f"near={street('near')}", "--quiet")
    assert answer.code == 0
    assert [dataset for _, dataset, _ in rows(tmp_path / "out")] == ["near"]
    (lost,) = results(tmp_path / "out")["unmeasured"]
    assert lost["dataset"] == "clean"
    assert "anomaly" in lost["reason"]
    assert "on clean: " in answer.err
    assert "not measured: " in (tmp_path / "out/results.md").read_text()


def test_nothing_measured_is_an_error(bench, street, tmp_path) -> None:
    clean = all_clean(street("clean", clean=(0, 1, 2)))
    answer = bench("--data", f"clean={clean}", "--anomaly-free", "skip", "--quiet")
    assert "nothing could be measured: clean: no image has an anomaly" in answer.error
    assert not (tmp_path / "out/results.json").exists()


def test_one_bad_image_is_listed_and_costs_nothing_else(bench, street, tmp_path) -> None:
    folder = street()
    (folder / "images/01.png").write_text("hello")
    answer = bench("--data", f"near={folder}", "--quiet")
    assert answer.code == 0
    (lost,) = results(tmp_path / "out")["unreadable"]
    assert (lost["dataset"], lost["name"]) == ("near", "01")
    assert f"not counted: near/01: {lost['reason']}\n" in answer.err
    assert "not counted: near/01" in (tmp_path / "out/results.md").read_text()
    assert "01.png is text" in (tmp_path / "out/report.html").read_text()
    assert results(tmp_path / "out")["rows"][0]["protocol"]["images_unreadable"] == 1


def test_strict_stops(bench, street, tmp_path) -> None:
    folder = street()
    (folder / "images/01.png").write_text("hello")
    answer = bench("--data", f"near={folder}", "--data", f"far={street('far', seed=1)}", "--strict")
    assert answer.error.startswith("error: 01: ")
    assert not (tmp_path / "out/results.json").exists()


def test_pooled_numbers_from_the_scores_of_strays_score(bench, strays, street, tiny, tmp_path) -> None:
    """The two commands and scikit-learn agree."""
    from PIL import Image
    from sklearn.metrics import average_precision_score

    folder = street(count=4)
    strays("score", folder / "images", "--model", tiny.spec, "--detector", "jsd", "--out", tmp_path / "scored")
    bench("--data", f"near={folder}", "--detectors", "jsd", "--quiet")
    names = [f"{number:02}" for number in range(4)]
    masks = np.stack([np.array(Image.open(folder / f"masks/{name}.png")) for name in names])
    scores = np.stack([np.load(tmp_path / f"scored/scores/{name}.npy") for name in names])
    expected = average_precision_score(masks[masks < 255], scores[masks < 255])
    assert results(tmp_path / "out")["rows"][0]["metrics"]["AP"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "big"], "HEIGHTxWIDTH"),
        (["--anomaly-free", "drop"], "--anomaly-free: Input should be 'include' or 'skip', got 'drop'"),
        (["--aggregation", "mean"], "--aggregation: Input should be 'pooled' or 'per-image', got 'mean'"),
        (["--fpr-rule", "last"], "--fpr-rule: "),
        (["--components", "all"], "--components: "),
        (["--components", "anomaly-track", "--aggregation", "per-image"], "error: --components needs one threshold"),
        (["--detectors", "energy,void"], "reads a void class"),
        (["--detectors", "nothing"], "no detector is called 'nothing'"),
        (["--split", "val"], "no splits"),
    ],
)
def test_wrong_options_are_answered_in_one_line(bench, street, words, message) -> None:
    answer = bench("--data", f"near={street(count=1)}", *words)
    assert message in answer.error
    assert answer.err.count("\n") == 1


def test_a_path_that_is_not_there(bench, street, tmp_path) -> None:
    street()
    assert f"did you mean {tmp_path / 'street'}?" in bench("--data", f"near={tmp_path / 'streets'}").error


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        (",", []),
        ("energy, msp", ["energy", "msp"]),
        ("a,b:key=1,key=2,c", ["a", "b:key=1,key=2", "c"]),
        ("a:x=1,b:y=2", ["a:x=1", "b:y=2"]),
    ],
)
def test_detectors_are_told_from_their_settings(text, names) -> None:
    assert split_specs(text) == names
