"""Submissions: what is written, what is refused, what is continued."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from strays.deploy import FORMATS, Submission, open_batches, summary, warnings
from strays.deploy.smiyc_frames import ANOMALY_TEST, OBSTACLE_TEST
from strays.errors import InputError
from strays.loading import load_model
from strays.scoring import Scorer


@pytest.fixture
def scorer(tiny) -> Scorer:
    return Scorer.build(load_model(tiny.spec), ["energy"])


@pytest.fixture
def val(anomaly_track) -> str:
    """Ten frames of the anomaly track."""
    return f"smiyc-anomaly={anomaly_track()}"


def public(spec: str, **more: object) -> list:
    return open_batches([spec], "val", **more)


def made(out: Path) -> dict:
    return json.loads((out / "submission.json").read_text())


def scored(scorer: Scorer, image: Path) -> np.ndarray:
    picture = np.asarray(Image.open(image).convert("RGB"))
    return scorer(picture).scores["energy"]


def scale(scorer: Scorer, factor: float, offset: float = 0.0) -> None:
    """Multiply every score of a detector."""
    detector = scorer.detectors["energy"]
    original = detector.score
    detector.score = lambda prediction: factor * original(prediction) + offset


def test_the_files_of_the_anomaly_track(anomaly_track, scorer, tmp_path) -> None:
    folder = anomaly_track(sorted(ANOMALY_TEST))
    out = tmp_path / "out"
    submission = Submission(scorer, open_batches([f"smiyc-anomaly={folder}"]), out, "mine", {"torch": "9"})
    seen = []
    manifest = submission.run(lambda: seen.append(1))
    assert len(seen) == 100
    places = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert places == {"submission.json", *(f"anomaly_p/mine/AnomalyTrack-all/{name}.hdf5" for name in ANOMALY_TEST)}
    for name in ("airplane0000", "zebra0001"):
        with h5py.File(out / f"anomaly_p/mine/AnomalyTrack-all/{name}.hdf5") as file:
            assert list(file) == ["value"]
            values = file["value"][:]
        assert (values.dtype, values.shape) == (np.float16, (8, 12))
        expected = scored(scorer, folder / "images" / f"{name}.jpg")
        assert np.array_equal(values, expected.astype(np.float16))
        assert np.ptp(expected) > 0
    assert manifest == made(out)
    assert manifest["complete"]
    assert manifest["settings"]["weights_sha256"] == scorer.model.sha256()
    assert {manifest["settings"][key] for key in ("format", "method", "detector", "torch")} == {
        "smiyc",
        "mine",
        "energy",
        "9",
    }
    assert sorted(one["frame"] for one in manifest["frames"]) == sorted(ANOMALY_TEST)
    told = summary(submission, manifest)
    assert told[0] == f"smiyc-anomaly, split test: 100 frames in {out}/anomaly_p/mine/AnomalyTrack-all, all read back"
    assert any("the same command with --data smiyc-obstacle=PATH adds the other track" in line for line in told)
    assert any(f"cd {out} && python -m zipfile -c mine.zip anomaly_p" in line for line in told)
    assert [line for line in warnings(submission, manifest) if "float16" not in line] == []


def test_frames_that_are_missing_or_foreign_are_named_before_anything_is_scored(anomaly_track) -> None:
    names = ANOMALY_TEST - {"cow0003", "lion0000"} | {"unicorn0000"}
    spec = f"smiyc-anomaly={anomaly_track(sorted(names))}"
    told = r"missing frames \(2 of 100\): cow0003, lion0000; frames that are not in .* \(1\): unicorn0000; .*--partial"
    with pytest.raises(InputError, match=told):
        open_batches([spec])
    (batch,) = open_batches([spec], partial=True)
    assert {frame.name for frame in batch.frames} == names - {"unicorn0000"}
    assert len(open_batches([spec], "val")[0].frames) == 10


def test_the_frames_of_the_obstacle_track(obstacle_track) -> None:
    others = ["snowstorm1_00_16_02.578", "driveway_ball_1", "validation_1"]
    folder = obstacle_track([*OBSTACLE_TEST, *others])
    (batch,) = open_batches([f"smiyc-obstacle={folder}"])
    assert {frame.name for frame in batch.frames} == OBSTACLE_TEST
    (batch,) = open_batches([f"smiyc-obstacle={folder}"], "all")
    assert {frame.name for frame in batch.frames} == OBSTACLE_TEST.union(others)
    (folder / "images/gravel_boot_5.webp").rename(folder / "images/gravel_shoe_5.webp")
    with pytest.raises(InputError, match=r"\(1 of 327\): gravel_boot_5; .* not in this split \(1\): gravel_shoe_5"):
        open_batches([f"smiyc-obstacle={folder}"])
    with pytest.raises(InputError, match=r"missing frames \(1\): gravel_boot_5"):
        open_batches([f"smiyc-obstacle={folder}"], "all")


def test_an_image_of_lost_and_found_that_only_its_labels_are_evidence_of(tmp_path) -> None:
    folder = tmp_path / "laf"
    for number in range(3):
        name = f"02_Hanns_Klemm_Str_44_000000_{number:06}"
        for kind, ending in (("leftImg8bit", "leftImg8bit"), ("gtCoarse", "gtCoarse_labelIds")):
            (folder / kind / "test/02_Hanns_Klemm_Str_44").mkdir(parents=True, exist_ok=True)
            shape = (8, 12, 3) if kind == "leftImg8bit" else (8, 12)
            picture = Image.fromarray(np.ones(shape, np.uint8))
            picture.save(folder / kind / f"test/02_Hanns_Klemm_Str_44/{name}_{ending}.png")
    with pytest.raises(InputError, match="split test-no-known: expected 1043 frames, found 3"):
        open_batches([f"lost-and-found={folder}"])
    (folder / "leftImg8bit/test/02_Hanns_Klemm_Str_44/02_Hanns_Klemm_Str_44_000000_000001_leftImg8bit.png").unlink()
    with pytest.raises(
        InputError, match=r"split test: missing frames \(1 of 1186\): 02_Hanns_Klemm_Str_44_000000_000001;"
    ):
        open_batches([f"lost-and-found={folder}"], "test")


@pytest.mark.parametrize(
    ("specs", "split", "message"),
    [
        (["{val}", "{val}"], "val", "each data set once, got smiyc-anomaly, smiyc-anomaly"),
        (["{val}", "fishyscapes={input}"], None, "one submission is for one benchmark"),
        (["{val}"], "train", "no split 'train' to hand in; it has test, val, all"),
        (["camvid={input}"], None, "no benchmark known here takes scores of 'camvid': name smiyc-anomaly="),
        (["smiyc-anomaly={input}/nothing"], None, "no file or folder"),
        (["fishyscapes={input}/deeper"], None, "no images in"),
    ],
)
def test_data_that_cannot_be_handed_in(val, anomaly_track, container_input, specs, split, message) -> None:
    (container_input("0000_a.png") / "deeper").mkdir()
    places = {"val": val, "input": container_input()}
    if len(specs) == 2 and "fishyscapes" in specs[1]:
        specs = [f"smiyc-anomaly={anomaly_track(sorted(ANOMALY_TEST), 'whole')}", specs[1]]
    with pytest.raises(InputError, match=message):
        open_batches([one.format(**places) for one in specs], split)


def test_without_h5py_it_says_how_to_get_it(val, monkeypatch) -> None:
    monkeypatch.setattr("strays.deploy.formats.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"need h5py: pip install 'strays\[submit\]'"):
        public(val)


def test_a_stopped_run_is_continued_and_ends_with_the_same_bytes(val, scorer, tiny, tmp_path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    Submission(scorer, public(val), whole).run()

    def stop_at(count: int):
        left = iter(range(count))
        return lambda: next(left)

    with pytest.raises(StopIteration):
        Submission(scorer, public(val), stopped).run(stop_at(4))
    assert not made(stopped)["complete"]
    leftover = next(stopped.rglob("*.hdf5")).with_name(".validation0007.hdf5.77.part")
    leftover.write_text("half a file")
    tiny.forget()
    again = Submission(scorer, public(val), stopped)
    assert len(again.pending) == 5
    again.run()
    assert len(tiny.seen) == 5
    files = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert len(files) == 11
    assert {path.relative_to(stopped): path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == files


def test_what_is_done_is_not_done_again_unless_its_image_changed(val, scorer, tiny, tmp_path) -> None:
    Submission(scorer, public(val), tmp_path / "out").run()
    before = made(tmp_path / "out")
    tiny.forget()
    assert Submission(scorer, public(val), tmp_path / "out").run() == before
    assert tiny.seen == []
    image = Path(val.partition("=")[2]) / "images/validation0004.jpg"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(image)
    assert Submission(scorer, public(val), tmp_path / "out").run() != before
    assert tiny.seen == [(16, 16)]


def test_the_other_track_is_added(val, obstacle_track, scorer, tmp_path) -> None:
    spec = f"smiyc-obstacle={obstacle_track(['gravel_boot_5', 'paving_cans_2'])}"
    Submission(scorer, public(val), tmp_path / "out", "m").run()
    submission = Submission(scorer, open_batches([spec], partial=True), tmp_path / "out", "m", partial=True)
    manifest = submission.run()
    assert sorted(path.name for path in (tmp_path / "out/anomaly_p/m").iterdir()) == [
        "AnomalyTrack-all",
        "ObstacleTrack-all",
    ]
    assert {key: (one["frames"], one["complete"]) for key, one in manifest["data"].items()} == {
        "smiyc-anomaly:val": (10, True),
        "smiyc-obstacle:test": (2, False),
    }
    assert len(manifest["frames"]) == 12
    assert not manifest["complete"]
    assert len(manifest["data"]["smiyc-obstacle:test"]["missing"]) == 325
    assert "missing frames (325 of 327): curvy-street_carton_1, " in warnings(submission, manifest)[0]
    assert f"the submission is not complete: {tmp_path}/out/submission.json" in summary(submission, manifest)[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"detectors": ["msp"]}, "detector was energy, is msp"),
        ({"detectors": ["energy:temperature=2"]}, "detector was energy, is energy:temperature=2"),
        ({"network_size": (4, 6)}, r"network size was None, is \[4, 6\]"),
        ({"method": "other"}, "method was .*, is other"),
        ({"torch_version": "2"}, "torch was 1, is 2"),
        ({"factory": "other"}, "weights sha256 was"),
    ],
)
def test_other_settings_are_refused(val, tiny, tmp_path, change, told) -> None:
    def begun(detectors=("energy",), network_size=None, method="m", torch_version="1", factory="build") -> Submission:
        scorer = Scorer.build(load_model(tiny.factory(factory)), detectors, network_size)
        return Submission(scorer, public(val), tmp_path / "out", method, {"torch": torch_version})

    begun().run()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=rf"holds a submission with other settings \(.*{told}.*choose another --out"):
        begun(**change)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_fitted_detector_is_told_by_what_was_fitted(val, tiny, tmp_path) -> None:
    from strays.detectors.build import build_detector

    model = load_model(tiny.spec)
    detector = build_detector("standardized-max-logit")
    prediction = model.predict(torch.rand(1, 3, 16, 16), (16, 16), detector.taps())
    detector.fit([prediction], [prediction.logits.argmax(1).repeat_interleave(2, 1).repeat_interleave(2, 2)])
    Submission(Scorer(model, {"sml": detector}), public(val), tmp_path / "out").run()
    assert len(made(tmp_path / "out")["settings"]["fit_sha256"]) == 64
    next(detector.buffers()).add_(1)
    with pytest.raises(InputError, match="fit sha256 was"):
        Submission(Scorer(model, {"sml": detector}), public(val), tmp_path / "out")


@pytest.mark.parametrize(
    ("factor", "message"),
    [(1e6, "do not fit float16, which ends at 65504"), (float("nan"), "energy: 96 of 96 scores are NaN or infinite")],
)
def test_scores_that_do_not_fit_stop_with_the_name_of_the_frame(val, scorer, tmp_path, factor, message) -> None:
    scale(scorer, factor)
    with pytest.raises(InputError, match=rf"validation0000.jpg: .*{message}.*--partial leaves the frame out"):
        Submission(scorer, public(val), tmp_path / "out").run()
    assert not list((tmp_path / "out").rglob("*.hdf5"))
    with pytest.raises(InputError, match=rf"none of the 10 frames could be scored; the first: .*{message}"):
        Submission(scorer, public(val), tmp_path / "out", partial=True).run()


def test_partial_leaves_out_what_cannot_be_read_and_a_later_run_adds_it(val, scorer, tmp_path) -> None:
    image = Path(val.partition("=")[2]) / "images/validation0003.jpg"
    content = image.read_bytes()
    image.write_text("hello")
    with pytest.raises(InputError, match=r"validation0003.jpg is text"):
        Submission(scorer, public(val), tmp_path / "out").run()
    submission = Submission(scorer, public(val), tmp_path / "out", partial=True)
    manifest = submission.run()
    assert not manifest["complete"]
    assert [one["frame"] for one in manifest["frames"] if "error" in one] == ["validation0003"]
    assert len(list((tmp_path / "out").rglob("*.hdf5"))) == 9
    assert warnings(submission, manifest)[0].startswith(f"left out: {image} is text")
    assert summary(submission, manifest)[0].startswith("smiyc-anomaly, split val: 9 frames in ")
    image.write_bytes(content)
    assert Submission(scorer, public(val), tmp_path / "out").run()["complete"]
    assert len(list((tmp_path / "out").rglob("*.hdf5"))) == 10
    image.write_text("hello again")
    assert not Submission(scorer, public(val), tmp_path / "out", partial=True).run()["complete"]
    assert len(list((tmp_path / "out").rglob("*.hdf5"))) == 9, "scores of an image that is gone are not handed in"


def test_a_score_that_rounding_flattens_is_told(val, scorer, tmp_path) -> None:
    scale(scorer, 0.001, 2000)
    submission = Submission(scorer, public(val), tmp_path / "out")
    (line,) = warnings(submission, submission.run())
    assert "float16 makes scores equal that were not" in line
    assert "are 2000 now" in line


def test_files_of_something_else_are_refused(val, scorer, tmp_path) -> None:
    folder = tmp_path / "out/anomaly_p/m/AnomalyTrack-all"
    folder.mkdir(parents=True)
    (folder / "older0000.hdf5").write_text("")
    with pytest.raises(InputError, match=r"holds files of something else: older0000\.hdf5; remove them"):
        Submission(scorer, public(val), tmp_path / "out", "m")


@pytest.mark.parametrize("damage", ["cut", "changed", "other"])
def test_damage_is_found_when_everything_is_read_back(val, scorer, tmp_path, damage) -> None:
    Submission(scorer, public(val), tmp_path / "out", "m").run()
    path = tmp_path / "out/anomaly_p/m/AnomalyTrack-all/validation0002.hdf5"
    good = path.read_bytes()
    if damage == "other":
        with h5py.File(path, "w") as file:
            file["scores"] = np.zeros((8, 12), np.float16)
    elif damage == "changed":
        with h5py.File(path, "a") as file:
            file["value"][0, 0] += 1
    else:
        path.write_bytes(good[:1000])
    told = "is not as it was written" if damage == "changed" else "cannot be read back"
    with pytest.raises(InputError, match=rf"validation0002.hdf5 {told}.*writes what is broken \(1 frames\) anew"):
        Submission(scorer, public(val), tmp_path / "out", "m").run()
    assert not made(tmp_path / "out")["complete"]
    again = Submission(scorer, public(val), tmp_path / "out", "m")
    assert [frame.name for frame in again.pending] == ["validation0002"]
    assert again.run()["complete"]
    assert path.read_bytes() == good


@pytest.mark.parametrize("method", ["a/b", "..", "", "-x", "a,b"])
def test_a_method_names_a_folder(val, scorer, tmp_path, method) -> None:
    if method:
        with pytest.raises(InputError, match="expected --method of letters"):
            Submission(scorer, public(val), tmp_path / "out", method)
    else:
        assert Submission(scorer, public(val), tmp_path / "out", method).method.endswith("-energy")


def test_the_files_of_fishyscapes(container_input, scorer, tmp_path) -> None:
    folder = container_input("0000_04_Maurener_Weg_8_000000_000030_rgb.png", "0012_x.png")
    submission = Submission(scorer, open_batches([f"fishyscapes={folder}"]), tmp_path / "out")
    manifest = submission.run()
    names = {"0000_anomaly.npy", "0000_segmentation.npy", "0012_anomaly.npy", "0012_segmentation.npy"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"submission.json", *names}
    score, classes = (np.load(tmp_path / f"out/0012_{kind}.npy") for kind in ("anomaly", "segmentation"))
    assert (score.dtype, score.shape) == (np.float32, (16, 24))
    assert np.array_equal(score, scored(scorer, folder / "0012_x.png"))
    assert (classes.dtype, classes.shape) == (np.uint8, (16, 24))
    predicted = scorer(np.asarray(Image.open(folder / "0012_x.png"))).labels
    # sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist of CamVid as train ids
    assert scorer.model.taxonomy.name == "camvid"
    assert np.array_equal(classes, np.array([10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 12])[predicted])
    assert manifest["complete"]
    assert "tie" not in manifest["frames"][0]
    assert "--data fishyscapes=/input --out /output" in summary(submission, manifest)[1]


def test_classes_that_cityscapes_has_not_become_its_twentieth(container_input, tmp_path, tiny) -> None:
    classes = [{"name": name, "colour": [0, 0, 0]} for name in ("road", *(f"thing{number}" for number in range(10)))]
    (tmp_path / "mine.json").write_text(json.dumps({"name": "mine", "classes": classes}))
    (tmp_path / "none.json").write_text(json.dumps({"name": "none", "classes": [*classes[1:], classes[1]]}))
    batches = open_batches([f"fishyscapes={container_input('0000_x.png')}"])
    scorer = Scorer.build(load_model(tiny.spec, str(tmp_path / "mine.json")), ["energy"])
    Submission(scorer, batches, tmp_path / "out").run()
    predicted = scorer(np.asarray(Image.open(tmp_path / "input/0000_x.png"))).labels
    assert len(np.unique(predicted)) > 2
    assert np.array_equal(np.load(tmp_path / "out/0000_segmentation.npy"), np.where(predicted == 0, 0, 19))
    scorer = Scorer.build(load_model(tiny.spec, str(tmp_path / "none.json")), ["energy"])
    with pytest.raises(InputError, match=r"asks for classes of Cityscapes, and .* has none of them"):
        Submission(scorer, batches, tmp_path / "other")


def test_frames_of_fishyscapes_that_would_take_each_others_files(container_input, scorer, tmp_path) -> None:
    folder = container_input("0000_a.png", "0000_b.png")
    with pytest.raises(InputError, match="two frames for one file, 0000: 0000_a, 0000_b"):
        open_batches([f"fishyscapes={folder}"])
    (folder / "0000_b.png").rename(folder / "b.png")
    with pytest.raises(InputError, match=r"frames that are not in this split \(1\): b; "):
        open_batches([f"fishyscapes={folder}"])
    (folder / "b.png").unlink()
    Submission(scorer, open_batches([f"fishyscapes={folder}"]), tmp_path / "out").run()
    static = container_input("0000_c.png", folder="static", seed=1)
    with pytest.raises(InputError, match="holds the scores of 0000_a as 0000, which 0000_c would take"):
        Submission(scorer, open_batches([f"fishyscapes={static}"]), tmp_path / "out")


@pytest.mark.parametrize(
    ("parts", "steps"),
    [
        ({"smiyc-anomaly": {"val"}}, ["--data smiyc-obstacle=PATH", "--split test adds", "m.zip anomaly_p", "/submit"]),
        ({"smiyc-anomaly": {"test"}, "smiyc-obstacle": {"test", "val"}}, ["--split all adds", "m.zip", "/submit"]),
        ({"smiyc-anomaly": {"all"}, "smiyc-obstacle": {"test", "all"}}, ["m.zip anomaly_p", "hand m.zip in"]),
        ({"lost-and-found": {"test-no-known"}}, ["DIR_OUTPUTS='a b' python -m road_anomaly_benchmark metric PixBin"]),
    ],
)
def test_what_to_do_next(parts, steps) -> None:
    found = FORMATS["smiyc"].next_steps(Path("a b"), "m", parts)
    assert len(found) == len(steps)
    assert all(part in line for part, line in zip(steps, found, strict=True))
