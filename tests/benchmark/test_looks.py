"""Metrics that need labels, bins or thresholds of the whole set, through the benchmark; against plain arithmetic."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, jaccard_score, roc_curve

from strays.benchmark import Benchmark, Protocol
from strays.benchmark.looks import halves_of
from strays.benchmark.measures import OfInstances, Sight
from strays.data import open_scenes
from strays.data.synthetic import SyntheticScenes
from strays.data.synthetic.dataset import Rendered
from strays.errors import InputError
from strays.loading import load_model
from strays.metrics import InstanceMetrics, SmiycPixelMetrics
from strays.scoring import Scorer

SIZE = (60, 80)


@pytest.fixture(scope="module")
def scorer():
    return Scorer.build(load_model("default"), ("energy", "msp"))


@pytest.fixture(scope="module")
def scenes():
    return open_scenes("synthetic=4")


@pytest.fixture(scope="module")
def seen(scorer, scenes):
    """Scores, mask, labels and predicted classes of every scene."""
    found = []
    for scene in scenes:
        small = scene.resized(SIZE)
        scored = scorer(small.image)
        found.append((scored.scores, small.mask, small.labels, scored.labels))
    return found


@pytest.fixture(scope="module")
def measured(scorer, scenes, tmp_path_factory):
    protocol = Protocol.named(size=SIZE, classes=True, exact=True, components="obstacle-track")
    bench = Benchmark(scorer, protocol, tmp_path_factory.mktemp("classes"))
    return {one.row.detector: one.row.metrics for one in bench.run(scenes)}, bench


def mean_iou(pairs):
    """Mean over the classes that occur, from pairs (true, given); a class given as -1 is refused."""
    true, given = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    scores = []
    for label in np.unique(np.r_[true[true >= 0], given[given >= 0]]):
        both = np.sum((true == label) & (given == label))
        scores.append(both / np.sum((true == label) | (given == label)))
    return float(np.mean(scores))


@pytest.mark.parametrize("detector", ["energy", "msp"])
def test_failure_detection(measured, seen, detector) -> None:
    wrong, scores = [], []
    for by_detector, mask, labels, predicted in seen:
        known = (mask == 0) & (labels != 255)
        wrong.append((predicted != labels)[known])
        scores.append(by_detector[detector][known])
    errors, uncertain = np.concatenate(wrong), np.concatenate(scores)
    metrics = measured[0][detector]
    assert metrics["AP-Error"] == pytest.approx(average_precision_score(errors, uncertain), abs=1e-9)
    assert metrics["AP-Success"] == pytest.approx(average_precision_score(~errors, -uncertain), abs=1e-9)


def test_open_and_closed_miou(measured, seen) -> None:
    halves = {"even": seen[::2], "odd": seen[1::2]}
    found = []
    for half, other in (("even", "odd"), ("odd", "even")):
        ranked = [(scores["energy"][mask != 255], mask[mask != 255]) for scores, mask, *_ in halves[other]]
        values, truth = (np.concatenate(one) for one in zip(*ranked, strict=True))
        _, tpr, thresholds = roc_curve(truth, values)
        threshold = thresholds[np.argmax(tpr > 0.95)]
        pairs = []
        for scores, mask, labels, predicted in halves[half]:
            counted = ((mask == 0) & (labels != 255)) | (mask == 1)
            true = np.where(mask == 1, -2, labels.astype(int))
            given = np.where(scores["energy"] > threshold, -1, predicted.astype(int))
            pairs.append((true[counted], given[counted]))
        found.append(mean_iou(pairs))
    metrics = measured[0]["energy"]
    assert metrics["open mIoU"] == pytest.approx(np.mean(found), abs=1e-9)
    inliers = [(mask == 0) & (labels != 255) for _, mask, labels, _ in seen]
    pairs = zip(seen, inliers, strict=True)
    closed = mean_iou([(one[2][known].astype(int), one[3][known].astype(int)) for one, known in pairs])
    assert metrics["mIoU"] == pytest.approx(closed, abs=1e-9)
    assert metrics["mIoU"] > metrics["open mIoU"]


def test_component_metrics_come_along(measured) -> None:
    assert 0 <= measured[0]["energy"]["sIoU"] <= 1
    assert measured[1].unmeasured == []


def test_a_killed_run_with_classes_goes_on(measured, scorer, scenes) -> None:
    before, bench = measured
    again = Benchmark(scorer, bench.protocol, bench.out)
    assert {one.row.detector: one.row.metrics for one in again.run(scenes)} == before


class Unlabelled(Rendered):
    """Scenes that have masks, and no labels."""

    has_labels = False


def test_a_set_without_labels_is_measured_all_the_same(scorer, scenes, tmp_path) -> None:
    plain = Unlabelled(SyntheticScenes(2, seed=0), scenes.card)
    bench = Benchmark(scorer, Protocol.named(size=SIZE, classes=True), tmp_path)
    metrics = bench.run(plain)[0].row.metrics
    assert "AP" in metrics
    assert "mIoU" not in metrics
    assert [one.reason for one in bench.unmeasured] == ["no metrics of classes: no labels that the model knows"]


class Renamed(Rendered):
    """Scenes whose labels have a name of their own for the road."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        names = {"road": "tarmac"}
        classes = [one.model_copy(update={"name": names.get(one.name, one.name)}) for one in self.taxonomy.classes]
        self.taxonomy = self.taxonomy.model_copy(update={"name": "tarmac", "classes": tuple(classes)})


def test_a_class_that_the_labels_cannot_name_is_not_averaged(scorer, scenes, tmp_path) -> None:
    renamed = Renamed(SyntheticScenes(2, seed=0), scenes.card)
    metrics = Benchmark(scorer, Protocol.named(size=SIZE, classes=True), tmp_path).run(renamed)[0].row.metrics
    road = scorer.model.taxonomy.names.index("road")
    true, given = [], []
    for scene in renamed:
        small = scene.resized(SIZE)
        known = (small.mask == 0) & (small.labels != 255) & (small.labels != road)
        true.append(small.labels[known])
        given.append(scorer(small.image).labels[known])
    true, given = np.concatenate(true), np.concatenate(given)
    assert road in given
    occurring = sorted({*np.unique(true), *np.unique(given)} - {road})
    expected = jaccard_score(true, given, labels=occurring, average="macro", zero_division=0)
    assert metrics["mIoU"] == pytest.approx(expected, abs=1e-9)


def test_smiyc_bins(scorer, scenes, seen, tmp_path) -> None:
    bench = Benchmark(scorer, Protocol.named("smiyc", size=SIZE), tmp_path)
    metrics = SmiycPixelMetrics()
    for scores, mask, *_ in seen:
        metrics.update(scores["energy"], mask)
    row = bench.run(scenes)[0].row
    expected = metrics.compute()
    assert {key: row.metrics[key] for key in ("AP", "FPR95", "F1")} == {
        key: expected[key] for key in ("AP", "FPR95", "F1")
    }
    assert "AUROC" not in row.metrics
    assert row.protocol["protocol"] == "smiyc with size=60x80"


def test_regions_of_high_scores_are_instances() -> None:
    scores = np.zeros((12, 20), np.float32)
    scores[1:5, 1:5], scores[5, 5] = 2, 8  # one region of 17 pixels, as diagonals connect: mean 40 / 17
    scores[8:11, 8:18] = 1.5
    scores[0, 10:19] = 9  # nine pixels: too few for an instance
    truth = np.zeros(scores.shape, np.int32)
    truth[1:5, 1:5], truth[6:11, 8:18] = 1, 2  # IoU 16 / 17 and 30 / 50
    mask = (truth > 0).astype(np.uint8)
    measure = OfInstances(InstanceMetrics(), "any", threshold=1.5)
    measure.take(Sight({"any": scores}, mask, instances=truth))
    found = measure.accumulator.compute()
    assert (found["AP50"], found["AP60"], found["AP95"]) == (1, 0.5 * (1 + 1) / 2, 0)
    assert found["instances_predicted"] == 2
    mask[8:11, 8:18] = 255
    again = OfInstances(InstanceMetrics(), "any", threshold=1.5)
    again.take(Sight({"any": scores}, mask, instances=truth))
    assert again.accumulator.compute()["instances_predicted"] == 1
    with pytest.raises(InputError, match="are not told apart"):
        again.take(Sight({"any": scores}, mask))


class ToldApart(Rendered):
    """Scenes with instances: the connected parts of their masks."""

    has_instances = True

    def read(self, index):
        scene = super().read(index)
        return replace(scene, instances=ndimage.label(scene.mask == 1)[0])


def test_instances_through_the_benchmark(scorer, scenes, tmp_path) -> None:
    apart = ToldApart(SyntheticScenes(4, seed=0), scenes.card)
    protocol = Protocol.named("oodis", size=SIZE)
    bench = Benchmark(scorer, protocol, tmp_path)
    metrics = bench.run(apart)[0].row.metrics
    expected = InstanceMetrics()
    for scene in apart:
        small = scene.resized(SIZE)
        sight = Sight(scorer(small.image).scores, small.mask, instances=small.instances)
        OfInstances(expected, "energy", metrics["threshold"]).take(sight)
    assert metrics["instance AP"] == expected.compute()["AP"]
    assert metrics["instance AP50"] == expected.compute()["AP50"]
    assert Benchmark(scorer, protocol, tmp_path).run(apart)[0].row.metrics == metrics
    whole = Benchmark(scorer, protocol, tmp_path / "whole")
    assert "instance AP" not in whole.run(scenes)[0].row.metrics
    assert [one.reason for one in whole.unmeasured] == [
        "no metrics of instances: its anomalies are not told apart, as those of anomaly-instances are"
    ]


def test_halves() -> None:
    assert halves_of(["b", "a", "c"]) == {"b": "even", "a": "odd", "c": "even"}
    assert set(halves_of(["t5_000", "t6_000", "t5_001"]).values()) == {"t5", "t6"}


@pytest.mark.parametrize(("track", "present"), [("obstacle-track", True), ("", False)])
def test_component_metrics_by_data_set(scorer, scenes, tmp_path, track, present) -> None:
    tracked = copy(scenes)
    tracked.card = scenes.card.model_copy(update={"track": track})
    bench = Benchmark(scorer, Protocol.named(size=SIZE, components="by-data-set"), tmp_path)
    assert ("F1_mean" in bench.run(tracked)[0].row.metrics) == present
