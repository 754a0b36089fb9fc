"""Detectors x data sets: the numbers, what they rest on, and what happens to a run that is killed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch.nn import functional

from strays.benchmark import Benchmark, Outcome, Protocol
from strays.benchmark.protocol import library_versions
from strays.data import open_scenes
from strays.errors import InputError
from strays.loading import load_model
from strays.metrics import SegmentMetrics
from strays.scoring import Scorer


class KilledError(BaseException):
    """Stands for a kill: nothing in the library catches it."""


@pytest.fixture
def bench(tiny, tmp_path):
    """Make a benchmark of two detectors of the tiny network."""

    def make(*detectors: str, out: str = "out", strict: bool = False, **choices) -> Benchmark:
        protocol = Protocol(**choices)
        scorer = Scorer.build(load_model(tiny.spec), detectors or ("energy", "msp"), protocol.network_size)
        tiny.forget()
        return Benchmark(scorer, protocol, tmp_path / out, strict)

    return make


def reference(tiny, folder: Path, size: tuple[int, int] | None = None, seen: tuple[int, int] | None = None):
    """Scores of ``energy`` and masks of a data set by Pillow and PyTorch alone, frame by frame."""
    network = tiny.module.build()
    for path in sorted((folder / "images").iterdir()):
        image, mask = Image.open(path), Image.open(folder / "masks" / path.name)
        if size is not None:
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            mask = mask.resize(size[::-1], Image.Resampling.NEAREST)
        given = image if seen is None else image.resize(seen[::-1], Image.Resampling.BILINEAR)
        with torch.no_grad():
            logits = network(torch.tensor(np.array(given)).permute(2, 0, 1)[None] / 255)
        logits = functional.interpolate(logits, size=image.size[::-1], mode="bilinear")
        yield -logits.logsumexp(1)[0].numpy(), np.array(mask)


def by_scikit_learn(scores: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    truth, values = mask[mask < 255], scores[mask < 255]
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    return {
        "AP": average_precision_score(truth, values),
        "AUROC": roc_auc_score(truth, values),
        "FPR95": fpr[tpr >= 0.95][0],
    }


def pooled(frames) -> dict[str, float]:
    scores, masks = zip(*frames, strict=True)
    return by_scikit_learn(
        np.concatenate([one.ravel() for one in scores]), np.concatenate([one.ravel() for one in masks])
    )


def numbers(outcome: Outcome) -> dict[str, float]:
    return {name: outcome.row.metrics[name] for name in ("AP", "AUROC", "FPR95")}


def untimed(outcomes: list[Outcome]) -> list[dict]:
    rows = [outcome.row.model_dump(mode="json") for outcome in outcomes]
    for row in rows:
        own, both = row["protocol"].pop("detector_milliseconds"), row["protocol"].pop("milliseconds")
        assert 0 < own < both
    return rows


def test_one_pass_serves_all_detectors(bench, street, tiny) -> None:
    run = bench("energy", "msp", "max-logit", "entropy")
    told = []
    outcomes = run.run(open_scenes(f"road={street(count=9)}"), lambda *done: told.append(done))
    assert [outcome.row.detector for outcome in outcomes] == ["energy", "msp", "max-logit", "entropy"]
    shown = {frame.scene.name for outcome in outcomes for frame in outcome.worst}
    assert len(tiny.seen) == 9 + len(shown), "the few frames that the report shows are seen once more"
    assert told == [("road", done, 9) for done in range(10)]


def test_the_numbers_are_those_of_scikit_learn(bench, street, tiny) -> None:
    folder = street()
    outcome, _ = bench().run(open_scenes(f"road={folder}"))
    expected = pooled(reference(tiny, folder))
    assert 0.05 < expected["AP"] < 0.95, "the test needs a detector that is neither blind nor perfect"
    assert numbers(outcome) == pytest.approx(expected, abs=1e-4)
    for name, (lower, upper) in outcome.row.bounds.items():
        # The reference upsamples in another order, so that last bits of its scores differ.
        assert lower - 1e-6 <= expected[name] <= upper + 1e-6
    exact, _ = bench(exact=True, out="exact").run(open_scenes(f"road={folder}"))
    assert numbers(exact) == pytest.approx(expected, abs=1e-6)
    for name, (lower, upper) in outcome.row.bounds.items():
        assert lower <= exact.row.metrics[name] <= upper


def test_exact_equals_scikit_learn_on_the_same_scores(bench, street) -> None:
    scenes = open_scenes(f"road={street()}")
    run = bench("energy", exact=True)
    (outcome,) = run.run(scenes)
    same = [(run.scorer(scene.image).scores["energy"], scene.mask) for scene in scenes]
    assert numbers(outcome) == pytest.approx(pooled(same), abs=1e-12)


def test_per_image_is_the_mean_over_images_that_have_both(bench, street, tiny) -> None:
    folder = street(count=4, clean=(1,))
    outcome, _ = bench(aggregation="per-image", exact=True).run(open_scenes(f"road={folder}"))
    each = [by_scikit_learn(*frame) for frame in reference(tiny, folder) if (frame[1] == 1).any()]
    expected = {name: np.mean([one[name] for one in each]) for name in each[0]}
    assert numbers(outcome) == pytest.approx(expected, abs=1e-6)
    protocol = outcome.row.protocol
    assert (protocol["images"], protocol["images_left_out"]) == (3, 1)
    assert protocol["pixels"] == {"inlier": 3 * (2400 - 360 - 168), "anomaly": 3 * 168, "ignored": 3 * 360}
    assert outcome.curve is None
    assert "threshold" not in outcome.row.metrics


def test_size_resizes_image_and_mask(bench, street, tiny) -> None:
    folder = street()
    outcome, _ = bench(size=(30, 42)).run(open_scenes(f"road={folder}"))
    assert set(tiny.seen) == {(30, 42)}
    assert numbers(outcome) == pytest.approx(pooled(reference(tiny, folder, size=(30, 42))), abs=1e-4)
    assert outcome.row.protocol["size"] == [30, 42]
    assert sum(outcome.row.protocol["pixels"].values()) == 3 * 30 * 42


def test_network_size_resizes_what_the_network_sees(bench, street, tiny) -> None:
    folder = street()
    outcome, _ = bench(network_size=(30, 42)).run(open_scenes(f"road={folder}"))
    assert set(tiny.seen) == {(30, 42)}
    assert numbers(outcome) == pytest.approx(pooled(reference(tiny, folder, seen=(30, 42))), abs=1e-4)
    assert sum(outcome.row.protocol["pixels"].values()) == 3 * 2400


def test_images_without_anomalies_can_be_skipped(bench, street, tiny) -> None:
    folder = street(count=3, clean=(0,))
    included, _ = bench(out="a").run(open_scenes(f"road={folder}"))
    skipped, _ = bench(out="b", anomaly_free="skip").run(open_scenes(f"road={folder}"))
    frames = list(reference(tiny, folder))
    assert numbers(included) == pytest.approx(pooled(frames), abs=1e-4)
    assert numbers(skipped) == pytest.approx(pooled(frames[1:]), abs=1e-4)
    assert (included.row.protocol["images"], included.row.protocol["images_left_out"]) == (3, 0)
    assert (skipped.row.protocol["images"], skipped.row.protocol["images_left_out"]) == (2, 1)


def test_the_protocol_is_complete(bench, street, tiny) -> None:
    folder = street()
    (folder / "images/02.png").write_bytes(b"")
    run = bench("energy:temperature=2", size=(40, 60), network_size=(20, 30))
    (outcome,) = run.run(open_scenes(f"road={folder}"))
    model = load_model(tiny.spec)
    assert (outcome.row.model, outcome.row.dataset) == (tiny.spec, "road")
    protocol = outcome.row.protocol
    assert 0 < protocol.pop("detector_milliseconds") < protocol.pop("milliseconds")
    assert protocol == {
        "fit": None,
        "protocol": "default",
        "ranking": "scores",
        "instances": False,
        "classes": False,
        "size": [40, 60],
        "network_size": [20, 30],
        "anomaly_free": "include",
        "aggregation": "pooled",
        "fpr_rule": "first",
        "exact": False,
        "components": "none",
        "images": 2,
        "images_left_out": 0,
        "images_unreadable": 1,
        "pixels": {"inlier": 2 * (2400 - 360 - 168), "anomaly": 2 * 168, "ignored": 2 * 360},
        "split": None,
        "data": "Folder",
        "network": model.facts.network,
        "configuration": {},
        "weights_sha256": model.sha256(),
        "detector_settings": {"temperature": 2.0},
        "device": "cpu",
        "versions": library_versions(),
    }


def test_component_metrics(bench, street) -> None:
    scenes = open_scenes(f"road={street()}")
    run = bench("energy", components="obstacle-track")
    (outcome,) = run.run(scenes)
    expected = SegmentMetrics(outcome.row.metrics["threshold"], min_prediction=50, min_truth=10)
    for scene in scenes:
        expected.update(run.scorer(scene.image).scores["energy"], scene.mask)
    assert outcome.row.metrics["components_truth"] == 3
    assert outcome.row.metrics | expected.compute() == outcome.row.metrics


def test_component_metrics_that_cannot_be_had_cost_nothing_else(bench, street) -> None:
    run = bench("energy", components="anomaly-track", size=(20, 30))
    (outcome,) = run.run(open_scenes(f"road={street()}"))
    assert outcome.row.metrics["AP"] > 0
    assert "sIoU" not in outcome.row.metrics
    ((model, dataset, reason),) = [tuple(one.model_dump().values()) for one in run.unmeasured]
    assert (model, dataset) == (run.scorer.model.name, "road")
    assert "no component metrics: " in reason


def test_the_worst_frames_are_shown(bench, street, tiny) -> None:
    folder = street(count=5)
    (outcome,) = bench("energy").run(open_scenes(f"road={folder}"))
    frames = {f"{number:02}": frame for number, frame in enumerate(reference(tiny, folder))}
    medians = {name: float(np.median(scores[mask == 1])) for name, (scores, mask) in frames.items()}
    misses = [frame for frame in outcome.worst if frame.kind == "miss"]
    assert [frame.scene.name for frame in misses] == sorted(medians, key=medians.__getitem__)[:2]
    assert misses[0].typical == pytest.approx(min(medians.values()), abs=1e-4)
    assert [frame.kind for frame in outcome.worst] == ["miss", "miss", "false alarm", "false alarm"]
    for frame in outcome.worst:
        np.testing.assert_allclose(frame.score, frames[frame.scene.name][0], atol=1e-4)


@pytest.mark.parametrize(
    "choices", [{}, {"exact": True}, {"aggregation": "per-image"}, {"components": "obstacle-track"}]
)
def test_a_killed_run_ends_like_one_that_was_not(bench, street, tiny, choices, monkeypatch) -> None:
    scenes = open_scenes(f"road={street(count=6, clean=(2,))}")
    whole = untimed(bench(out="whole", **choices).run(scenes))
    monkeypatch.setattr("strays.scoring.continuing._SAVING", 1.0)  # save after every image
    for kill_at in (1, 4, 8):
        if kill_at > 6 and "components" not in choices:
            continue
        out = f"killed-{kill_at}"
        with pytest.raises(KilledError):
            kill(bench(out=out, **choices), scenes, kill_at)
        run = bench(out=out, **choices)
        again = untimed(run.run(scenes))
        assert again == whole
        done = min(kill_at - 1, 6)
        shown = len(tiny.seen) - (6 - done) - (6 - max(kill_at - 7, 0) if "components" in choices else 0)
        assert 1 <= shown <= 6, "what was counted is not seen again, apart from the frames that are shown"


def kill(run: Benchmark, scenes, at: int) -> None:
    calls = iter(range(1, 100))

    def die(*_: object) -> None:
        if next(calls) == at:
            raise KilledError

    run.scorer.model.network.register_forward_pre_hook(die)
    run.run(scenes)


def test_a_finished_run_is_read_back(bench, street, tiny) -> None:
    scenes = open_scenes(f"road={street(count=6)}")
    whole = untimed(bench("energy").run(scenes))
    run = bench("energy")
    told = []
    assert untimed(run.run(scenes, lambda *done: told.append(done))) == whole
    assert told == [("road", 6, 6)]
    assert len(tiny.seen) <= 4


def test_one_bad_image_costs_only_itself_and_can_be_mended(bench, street, tiny) -> None:
    folder = street(count=4)
    good = (folder / "images/01.png").read_bytes()
    whole = untimed(bench(out="whole").run(open_scenes(f"road={folder}")))
    (folder / "images/01.png").write_bytes(good[:60])
    run = bench()
    outcome, _ = run.run(open_scenes(f"road={folder}"))
    ((dataset, name, reason),) = [tuple(one.model_dump().values()) for one in run.unreadable]
    assert (dataset, name) == ("road", "01")
    assert "01.png" in reason
    frames = [frame for number, frame in enumerate(reference_of(tiny, folder, good)) if number != 1]
    assert numbers(outcome) == pytest.approx(pooled(frames), abs=1e-4)
    mended = bench()
    again = untimed(mended.run(open_scenes(f"road={folder}")))
    assert mended.unreadable == []
    assert again == whole


def reference_of(tiny, folder: Path, good: bytes):
    """The reference once the picture is mended."""
    (folder / "images/01.png").write_bytes(good)
    return list(reference(tiny, folder))


@pytest.mark.parametrize("mark", [(255, 0, 0), (0, 255, 0)], ids=["NaN", "RuntimeError"])
def test_a_frame_that_breaks_the_network_is_named(bench, street, mark) -> None:
    folder = street()
    picture = np.array(Image.open(folder / "images/01.png"))
    picture[0, 0] = mark
    Image.fromarray(picture).save(folder / "images/01.png")
    run = bench("energy")
    run.run(open_scenes(f"road={folder}"))
    assert [one.name for one in run.unreadable] == ["01"]
    with pytest.raises(InputError, match="01: "):
        bench("energy", out="strict", strict=True).run(open_scenes(f"road={folder}"))


def test_no_image_at_all_is_an_error_that_says_why(bench, street) -> None:
    folder = street(count=2)
    scenes = open_scenes(f"road={folder}")
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"road: none of the 2 images could be used; the first, 00: .*00\.png"):
        bench().run(scenes)


@pytest.mark.parametrize("anomaly_free", ["include", "skip"])
def test_a_set_without_anomalies_is_an_error(bench, street, anomaly_free) -> None:
    folder = street(count=2, clean=(0, 1))
    (folder / "strays.json").write_text('{"values": {"ignore": [255]}}')
    with pytest.raises(InputError, match=r"road: .*anomaly"):
        bench(anomaly_free=anomaly_free).run(open_scenes(f"road={folder}"))


def test_a_set_without_masks_is_an_error(bench, drive) -> None:
    with pytest.raises(InputError, match="frames has no anomaly masks"):
        bench().run(open_scenes(f"frames={drive()}"))


def test_names_that_look_alike_as_files_do_not_meet(bench, street) -> None:
    one, other = open_scenes(f"a b={street('x')}"), open_scenes(f"a-b={street('y', seed=1)}")
    first, second = untimed(bench().run(one)), untimed(bench().run(other))
    assert first[0]["metrics"] != second[0]["metrics"]
    assert untimed(bench().run(one)) == first


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"size": (20, 30)}, r"size was None, is \[20, 30\]"),
        ({"aggregation": "per-image"}, "aggregation was pooled, is per-image"),
        ({"exact": True}, "exact was False, is True"),
        ({"fpr_rule": "argmin"}, "fpr rule was first, is argmin"),
    ],
)
def test_other_settings_need_another_folder(bench, street, choices, message) -> None:
    scenes = open_scenes(f"road={street()}")
    bench().run(scenes)
    with pytest.raises(InputError, match=f"other settings .*{message}.*choose another --out"):
        bench(**choices).check(scenes)


def test_other_detectors_weights_classes_and_images_need_another_folder(bench, street, tiny, tmp_path) -> None:
    folder = street()
    scenes = open_scenes(f"road={folder}")
    run = bench()
    run.run(scenes)
    with pytest.raises(InputError, match=r"detectors was \['energy', 'msp'\], is \['jsd'\]"):
        bench("jsd").check(scenes)
    model = load_model(tiny.factory("other"))
    named = replace(model, facts=model.facts.model_copy(update={"name": run.scorer.model.name}))
    with pytest.raises(InputError, match="weights was"):
        Benchmark(Scorer.build(named, run.names), Protocol(), run.out).check(scenes)
    void = run.scorer.model.taxonomy.model_copy(update={"void": 2})
    run.scorer.model.facts = run.scorer.model.facts.model_copy(update={"taxonomy": void})
    with pytest.raises(InputError, match="void was None, is 2"):
        run.check(scenes)
    with pytest.raises(InputError, match=r"images was 3 \(.*\), is 2 \("):
        bench().check(scenes[:2])


def test_masks_that_were_mended_are_not_answered_with_old_numbers(bench, street) -> None:
    folder = street()
    scenes = open_scenes(f"road={folder}")
    bench().run(scenes)
    mask = np.array(Image.open(folder / "masks/01.png"))
    Image.fromarray(np.where(mask == 1, 0, mask)).save(folder / "masks/01.png")
    with pytest.raises(InputError, match="counted the image 01 before the files changed: choose another --out, or del"):
        bench().run(open_scenes(f"road={folder}"))


def test_the_scorer_must_fit_the_protocol(bench, tmp_path) -> None:
    run = bench()
    with pytest.raises(InputError, match="network size"):
        Benchmark(run.scorer, Protocol(network_size=(8, 8)), tmp_path / "other")


def test_the_state_is_plain_data(bench, street) -> None:
    run = bench("energy")
    run.run(open_scenes(f"road={street()}"))
    (state,) = (run.out / ".state").iterdir()
    with np.load(state, allow_pickle=False) as stored:
        facts = json.loads(str(stored["facts"]))
    assert set(facts["counted"]) == {"00", "01", "02"}
