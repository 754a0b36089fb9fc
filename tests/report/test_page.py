import base64
import dataclasses
import hashlib
import io
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from strays.drawing import ColourScale
from strays.errors import InputError
from strays.metrics import PixelHistogram, PixelMetrics
from strays.report import NotMeasured, Panel, Report, ReportRow, Skipped, render_report, write_report
from strays.report.plots import curve_points, draw_histogram
from strays.report.tables import make_protocol, make_table

EVIL = "<script>alert(1)</script>&\"'"
PROTOCOL = {"size": [512, 1024], "aggregation": "pooled", "images": 10, "pixels": {"inlier": 5242880, "anomaly": 12}}
SCORE_SCALE = ColourScale(0.0, 1.0)


class Page(HTMLParser):
    """What a browser would see: every element with its attributes, and the text by kind of element."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.scripts, self.styles, self.text = [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)
        elif inside == "style":
            self.styles.append(data)
        else:
            self.text.append(data)

    def stored(self, name):
        (found,) = [text for attributes, text in self.scripts if attributes.get("id") == name]
        return json.loads(found, parse_constant=lambda what: pytest.fail(f"{what} is no JSON"))

    def having(self, attribute):
        return [attributes for _, attributes in self.elements if attribute in attributes]

    def cells(self):
        """Text and attributes of every cell with a number."""
        return [attributes for tag, attributes in self.elements if tag == "td" and "data-value" in attributes]


def measured(seed=0, separation=2.0):
    rng = np.random.default_rng(seed)
    mask = (rng.random((40, 60)) < 0.1).astype(np.uint8)
    score = (rng.normal(size=mask.shape) + separation * mask).astype(np.float32)
    return PixelMetrics().update(score, mask)


def panel(kind="miss", seed=0, size=(36, 64), **other):
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    mask[10:20, 20:40] = 1
    facts = {"name": "frame 7", "caption": "The box stays dark.", "scale": SCORE_SCALE, "threshold": 0.5}
    image, score = rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.random(size, dtype=np.float32)
    return Panel(kind, image=image, score=score, mask=mask, **facts | other)


def row(model="enet", detector="energy", dataset="road", metrics=None, **other):
    chosen = {"AP": 0.2683, "FPR95": 0.759} if metrics is None else metrics
    return ReportRow(model, detector, dataset, chosen, **{"protocol": PROTOCOL} | other)


def full_row(seed=0, **other):
    found = measured(seed)
    panels = (panel("miss", seed), panel("false alarm", seed + 1))
    facts = {
        "metrics": dict(found.compute()),
        "curve": found.curve(),
        "histogram": found.histogram(50),
        "panels": panels,
    }
    return row(**facts | other)


def report(*rows, **other):
    facts = {"title": "A test", "created": datetime(2026, 3, 4, 15, 6, tzinfo=UTC), "versions": {"torch": "2.13.0"}}
    return Report(rows=rows, **facts | {"command": "strays bench --model enet"} | other)


@pytest.fixture(scope="module")
def whole():
    """The page of two models, two detectors and two data sets, with everything on it."""
    names = [
        (model, detector, dataset) for dataset in ("road", "obstacle") for model in "ab" for detector in ("x", "y")
    ]
    rows = [full_row(seed, model=m, detector=d, dataset=s) for seed, (m, d, s) in enumerate(names)]
    lost = {"skipped": [Skipped("road", "12.jpg", "truncated")], "unmeasured": [NotMeasured("a", "road", "no labels")]}
    return render_report(report(*rows, **lost, weights={"a": "9f" * 32}))


class TestSelfContained:
    def test_nothing_is_loaded_from_anywhere(self, whole):
        page = Page(whole)
        for attribute in ("src", "srcset", "poster", "data", "action", "background", "xlink:href"):
            assert not page.having(attribute), attribute
        assert all(found["href"].startswith("#") for found in page.having("href"))
        assert not [tag for tag, _ in page.elements if tag in {"link", "iframe", "object", "embed", "base"}]
        assert not re.search(r"@import|url\(", "".join(page.styles))

    def test_the_policy_forbids_loading_and_admits_only_its_own_scripts(self, whole):
        page = Page(whole)
        (policy,) = [one["content"] for one in page.having("http-equiv")]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        run = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
        assert re.findall(r"'sha256-([^']+)'", policy) == hashes

    def test_plotly_is_embedded_once_and_only_for_curves(self, whole):
        assert whole.count("plotly.js v") == 1
        assert len(render_report(report(row()))) < 100_000

    def test_a_picture_shown_often_is_embedded_once(self):
        same = [full_row(0, detector=name, panels=(panel(),)) for name in ("x", "y", "z")]
        page = Page(render_report(report(*same)))
        assert len(page.having("data-picture")) == 9
        assert len(page.stored("pictures")) == 3

    def test_pictures_are_small_jpegs(self):
        page = Page(render_report(report(row(panels=(panel(size=(720, 1280)),)))))
        shown = {one["data-picture"] for one in page.having("data-picture")}
        stored = page.stored("pictures")
        assert shown == set(stored)
        for content in stored.values():
            with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
                assert (picture.format, picture.size) == ("JPEG", (640, 360))

    def test_names_are_text_wherever_they_appear(self):
        evil = full_row(model=EVIL, detector=EVIL, dataset=EVIL, protocol={EVIL: EVIL, "n": {EVIL: 1}})
        panels = (panel(name=EVIL, caption=EVIL, metrics={EVIL: 0.5}),)
        evil = dataclasses.replace(evil, panels=panels, metrics={**evil.metrics, EVIL: 0.5})
        other = {"title": EVIL, "command": EVIL, "versions": {EVIL: EVIL}, "weights": {EVIL: EVIL}}
        lost = {"skipped": [Skipped(EVIL, EVIL, EVIL)], "unmeasured": [NotMeasured(EVIL, EVIL, EVIL)]}
        html = render_report(report(evil, **lost, **other))
        page = Page(html)
        harmless = Page(render_report(report(full_row(), skipped=[Skipped("a", "b", "c")], weights={"a": "b"})))
        assert "<script>alert" not in html
        assert len(page.scripts) == len(harmless.scripts)
        assert not [one for _, one in page.elements if any(name.startswith("on") for name in one)]
        assert "".join(page.text).count(EVIL) >= 15
        assert page.stored("plots").popitem()[1][0]["model"] == EVIL


class TestNumbers:
    def test_fractions_are_per_cent_with_two_decimals_and_thresholds_are_not(self):
        table = make_table(
            [row(metrics={"AP": 0.26834, "threshold": -5.26312, "AUROC": 1.0})], ["AP", "threshold", "AUROC"]
        )
        assert [cell.text for cell in table.lines[0].cells] == ["26.83", "-5.263", "100.00"]

    def test_they_stand_on_the_page(self):
        page = Page(render_report(report(row(metrics={"AP": 0.26834, "FPR95": 0.75896}))))
        assert {"26.83", "75.90"} <= set(page.text)
        assert [float(one["data-value"]) for one in page.cells()] == [0.26834, 0.75896]

    def test_the_best_of_each_data_set_is_bold_in_its_own_direction(self):
        rows = [
            row(detector="x", metrics={"AP": 0.3, "FPR95": 0.6, "threshold": 1.0}),
            row(detector="y", metrics={"AP": 0.2, "FPR95": 0.5, "threshold": 2.0}),
            row(detector="x", dataset="obstacle", metrics={"AP": 0.1}),
            row(detector="y", dataset="obstacle", metrics={"AP": 0.2}),
        ]
        table = make_table(rows, ["AP", "FPR95", "threshold"])
        assert [[cell.best for cell in line.cells] for line in table.lines] == [
            [True, False, False, False],
            [False, True, False, True],
        ]

    def test_what_prints_alike_is_equally_good(self):
        rows = [
            row(detector=name, metrics={"AP": value})
            for name, value in zip("xyz", (0.38311, 0.38314, 0.1), strict=True)
        ]
        table = make_table(rows, ["AP"])
        assert [line.cells[0].best for line in table.lines] == [True, True, False]

    def test_rows_measured_differently_do_not_compete(self):
        pooled = [row(detector=name, metrics={"AP": value}) for name, value in (("x", 0.2), ("y", 0.1))]
        other = [
            dataclasses.replace(one, metrics={"AP": 0.9}, protocol={**PROTOCOL, "aggregation": "per-image"})
            for one in pooled
        ]
        table = make_table([*pooled, *other[:1]], ["AP"])
        assert [line.variant for line in table.lines] == ["pooled", "pooled", "per-image"]
        assert [line.cells[0].best for line in table.lines] == [True, False, False]
        assert "per-image" in Page(render_report(report(*pooled, *other))).text

    def test_what_was_not_measured_is_a_dash_and_never_best(self):
        rows = [row(detector="x", metrics={"AP": float("nan")}), row(detector="y", metrics={"AP": 0.1, "F1": 0.5})]
        table = make_table(rows, ["AP", "F1"])
        assert [[cell.text for cell in line.cells] for line in table.lines] == [["–", "–"], ["10.00", "50.00"]]
        assert not any(cell.best for line in table.lines for cell in line.cells)
        render_report(report(*rows))

    def test_counts_are_no_percentages(self):
        page = Page(render_report(report(row(metrics={"AP": 0.5, "pixels_inlier": 5242880, "components_truth": 3}))))
        assert "5\u2009242\u2009880" in page.text
        assert "524288000.00" not in page.text

    def test_every_known_metric_is_explained(self, whole):
        text = "".join(Page(whole).text)
        for words in ("Average precision", "Area under the ROC curve", "False-positive rate at 95 % recall", "Best F1"):
            assert words in text

    def test_two_rows_that_cannot_be_told_apart_are_refused(self):
        with pytest.raises(InputError, match="two rows for enet, energy on road"):
            render_report(report(row(), row()))

    def test_a_report_of_nothing_is_refused(self):
        with pytest.raises(InputError, match="at least one row"):
            render_report(report())


class TestProtocol:
    def test_what_everyone_should_see_is_seen(self):
        page = Page(render_report(report(row())))
        text = re.sub(r"\s+", " ", "".join(page.text))
        for fact in ("resolution 512 × 1024", "aggregation pooled", "images 10", "pixels 5.24 M inlier, 12 anomaly"):
            assert fact in text

    def test_what_differs_is_listed_by_row(self):
        rows = [
            row(detector=name, protocol={**PROTOCOL, "temperature": heat}) for name, heat in (("x", 1.0), ("y", 2.5))
        ]
        protocol = make_protocol(rows)
        assert protocol.differing == ("temperature",)
        assert protocol.rows == (("enet", "x", ("1",)), ("enet", "y", ("2.5",)))
        assert "temperature" not in [fact.name for fact in protocol.common]

    def test_skipped_images_and_weights_are_listed(self, whole):
        text = re.sub(r"\s+", " ", "".join(Page(whole).text))
        assert "1 image could not be used and is in none of the numbers" in text
        assert "truncated" in text
        assert "Not measured" in text
        assert "no labels" in text
        assert "9f" * 32 in text
        assert "strays bench --model enet" in text
        assert "4 March 2026, 15:06 UTC" in text


class TestCurves:
    def test_are_thinned_but_keep_their_ends_and_their_area(self):
        curve = measured().curve()
        points = curve_points(curve)
        recall, precision = np.array(points["recall"]), np.array(points["precision"])
        assert len(curve) > len(recall) > 100
        assert len(recall) <= 400
        assert (recall[-1], points["fpr"][-1]) == (1.0, 1.0)
        assert np.trapezoid(precision, recall) == pytest.approx(np.trapezoid(curve.precision, curve.recall), abs=0.01)

    def test_the_marked_point_is_the_fpr_at_95_per_cent(self):
        found = measured(3)
        assert curve_points(found.curve())["fpr95"] == found.compute()["FPR95"]

    def test_all_rows_of_a_data_set_share_its_plots(self, whole):
        page = Page(whole)
        plots = page.stored("plots")
        assert [len(curves) for curves in plots.values()] == [4, 4]
        styles = [[(one["colour"], one["dash"]) for one in curves] for curves in plots.values()]
        assert styles[0] == styles[1]
        assert len(set(styles[0])) == 4
        assert {one["data-plot"] for one in page.having("data-plot")} == {"pr", "roc"}


class TestHistograms:
    def points(self, path):
        """Heights of the steps of an area, as (y, right edge)."""
        return [tuple(map(float, pair)) for pair in re.findall(r"V([\d.]+)H([\d.]+)", path)]

    def test_heights_are_log_densities(self):
        histogram = PixelHistogram(np.arange(5.0), np.array([900, 90, 10, 0]), np.array([0, 0, 1, 9]))
        drawing = draw_histogram(histogram, size=(400, 100))
        # Five decades from 10^0 down: each is 20 units high.
        expected = [-20 * np.log10(share) for share in (0.9, 0.09, 0.01)]
        found = self.points(drawing.inliers)
        assert [y for y, _ in found[:3]] == pytest.approx(expected, abs=0.06)
        assert found[3][0] == 100
        assert [x for _, x in found] == [100, 200, 300, 400]

    def test_many_bins_are_joined_without_losing_pixels(self):
        rng = np.random.default_rng(0)
        counts, edges = np.histogram(rng.normal(size=100_000), 1000)
        drawing = draw_histogram(PixelHistogram(edges, counts, counts), size=(400, 100))
        steps = self.points(drawing.inliers)
        assert len(steps) <= 96
        top = int(drawing.y_ticks[0].text.translate(str.maketrans("⁻⁰¹²³⁴", "-01234"))[2:])
        widths = np.diff([0, *(x for _, x in steps)]) / 400 * (edges[-1] - edges[0])
        density = 10 ** (top - np.array([y for y, _ in steps]) / 20)
        assert (density * widths)[[y < 99 for y, _ in steps]].sum() == pytest.approx(1, abs=0.02)

    def test_the_threshold_is_drawn_only_where_there_is_an_axis_for_it(self):
        histogram = PixelHistogram(np.linspace(0, 2, 5), np.ones(4, np.int64), np.ones(4, np.int64))
        assert draw_histogram(histogram, 0.5, size=(400, 100)).threshold == 100
        assert draw_histogram(histogram, 3.0).threshold is None
        assert draw_histogram(histogram).threshold is None

    @pytest.mark.parametrize("anomalies", [np.array([0, 0]), np.array([4, 0])])
    def test_constant_scores_and_empty_counts_still_draw(self, anomalies):
        drawing = draw_histogram(PixelHistogram(np.array([3.0, 3.0, 3.0]), np.array([0, 0]), anomalies))
        assert "nan" not in drawing.inliers + drawing.anomalies
        assert "inf" not in drawing.inliers + drawing.anomalies


class TestParts:
    def test_one_bare_row_makes_a_page(self, tmp_path):
        path = tmp_path / "report.html"
        write_report(path, report(row(), command="", versions={}))
        page = Page(path.read_text("utf-8"))
        assert "A test" in page.text
        assert not page.having("data-plot")
        assert not page.having("data-picture")

    def test_a_row_without_metrics_makes_a_page(self):
        render_report(report(row(metrics={}, protocol={})))

    def test_a_row_of_one_kind_of_panel_shows_that_kind(self):
        text = "".join(Page(render_report(report(row(panels=(panel("false alarm"),))))).text)
        assert "Worst false alarms" in text
        assert "Worst misses" not in text

    def test_the_same_report_gives_the_same_page(self, whole):
        one = report(full_row(), full_row(1, detector="x"))
        assert render_report(one) == render_report(one)

    def test_an_overview_needs_more_than_one_data_set(self, whole):
        assert 'id="overview"' in whole
        assert 'id="overview"' not in render_report(report(row()))

    def test_the_share_of_anomalies_is_what_guessing_gets(self):
        found = measured()
        pixels = found.compute()
        share = pixels["pixels_anomaly"] / (pixels["pixels_anomaly"] + pixels["pixels_inlier"])
        assert row(curve=found.curve()).anomaly_share == pytest.approx(share)
        assert row(histogram=found.histogram()).anomaly_share == pytest.approx(share)

    def test_panels_shrink_to_a_width_and_never_grow(self):
        large = panel(size=(90, 160))
        small = large.shrunk(80)
        assert small.image.shape == (45, 80, 3)
        assert small.score.shape == small.mask.shape == (45, 80)
        assert (small.score.dtype, small.mask.dtype) == (np.float32, np.uint8)
        assert set(np.unique(small.mask)) == {0, 1}
        assert large.shrunk(160) is large
