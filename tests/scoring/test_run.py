"""A run over many images, that may be killed, continued, added to."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strays.data import find_images
from strays.drawing import ColourScale
from strays.errors import InputError
from strays.loading import load_model
from strays.scoring import Scorer, ScoreRun


class KilledError(BaseException):
    """Stands for a kill: nothing in the library catches it."""


@pytest.fixture
def start(tiny, tmp_path):
    """Start a run over what lies in folders."""

    def make(*folders: Path | str, out: str = "out", detector: str = "energy", **options) -> ScoreRun:
        scorer = Scorer.build(load_model(tiny.spec), [detector])
        tiny.forget()
        return ScoreRun(scorer, find_images(folders), tmp_path / out, **options)

    return make


def index(out: Path) -> dict:
    """What ``index.json`` says, without times."""
    found = json.loads((out / "index.json").read_text())
    for one in found["images"]:
        one.pop("milliseconds", None)
    return found


def files(out: Path) -> dict[str, bytes]:
    """Every file of a run but the index, which holds times."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.*") if path.name != "index.json"}


def scale(run: ScoreRun) -> list[float]:
    return json.loads((run.out / "run.json").read_text())["chosen_scale"]


def test_every_image_gets_scores_a_picture_and_a_record(start, drive, tiny) -> None:
    run = start(drive(count=3))
    told = []
    records = run.run(told.append)
    assert told == records
    assert tiny.seen == [(40, 60)] * 3, "one pass per image, those that decide the colours among them"
    assert [one["name"] for one in records] == ["00", "01", "02"]
    found = json.loads((run.out / "index.json").read_text())
    assert found["schema"] == 1
    assert found["images"] == records
    assert found["run"]["detector"] == "energy"
    for one in records:
        scores = np.load(run.out / one["score"])
        assert (scores.dtype, list(scores.shape)) == (np.float32, one["size"])
        assert one["quantiles"]["1.0"] == scores.max()
        assert one["milliseconds"] > 0
        assert Image.open(run.out / one["overlay"]).width == 60
    assert not list(run.out.glob(".*")), "nothing is left of the journal"


def test_progress_counts_each_image_once_when_it_was_seen(start, drive) -> None:
    folder = drive(count=10)
    (folder / "09.png").write_bytes(b"")
    told, advanced = [], []
    start(folder).run(told.append, lambda: advanced.append(len(told)))
    assert advanced == [0] * 8 + [8, 9], "eight decide the colours before any of them is done"


def test_a_killed_run_ends_like_one_that_was_not(start, drive, tiny, monkeypatch) -> None:
    folder = drive(count=12)
    whole = start(folder, out="whole")
    whole.run()
    for kill_at in (3, 9, 11):
        run = start(folder, out=f"killed-{kill_at}")
        with pytest.raises(KilledError):
            killed(run, kill_at)
        again = start(folder, out=f"killed-{kill_at}")
        assert len(again.pending) == (12 if kill_at < 9 else 13 - kill_at)
        again.run()
        assert len(tiny.seen) == (12 if kill_at < 9 else 13 - kill_at), "what was done is not done again"
        assert files(again.out) == files(whole.out)
        assert index(again.out) == index(whole.out)


def killed(run: ScoreRun, at: int) -> None:
    """Let a run die when the network sees its image number ``at``; eight decide the colours before any is recorded."""
    calls = iter(range(1, 100))
    network = run.scorer.model.network

    def die(*_: object) -> None:
        if next(calls) == at:
            raise KilledError

    network.register_forward_pre_hook(die)
    run.run()


def test_a_finished_run_does_nothing_and_changes_nothing(start, drive, tiny) -> None:
    folder = drive(count=2)
    run = start(folder)
    first = run.run()
    assert start(folder).run() == first
    assert tiny.seen == []


def test_one_colour_scale_for_the_run_and_for_what_is_added_later(start, drive) -> None:
    folder = drive(count=10)
    run = start(folder)
    run.run()
    chosen, overlay = scale(run), (run.out / "overlays/03.jpg").read_bytes()
    maps = [np.load(run.out / f"scores/{number:02}.npy") for number in range(8)]
    expected = ColourScale.of(maps)
    assert chosen == pytest.approx([expected.low, expected.high, expected.clear])
    for number in (20, 21):
        Image.fromarray(np.full((40, 60, 3), 12 * number, np.uint8)).save(folder / f"{number}.png")
    again = start(folder)
    assert [one.name for one in again.pending] == ["20", "21"]
    assert len(again.run()) == 12
    assert scale(again) == chosen
    assert (again.out / "overlays/03.jpg").read_bytes() == overlay


def test_later_images_alone_do_not_drive_out_the_record_of_the_first(start, drive, tiny) -> None:
    first, second = drive("a", count=2), drive("b", count=1, seed=1)
    os.rename(second / "00.png", second / "10.png")  # noqa: PTH104
    start(first).run()
    run = start(second)
    assert [one["name"] for one in run.run()] == ["10"]
    assert [one["name"] for one in index(run.out)["images"]] == ["10", "00", "01"]
    both = start(first, second)
    assert both.pending == []


def test_other_images_of_the_same_name_are_never_taken_for_the_first(start, drive) -> None:
    first, second = drive("monday"), drive("tuesday", seed=1)
    start(first).run()
    with pytest.raises(InputError, match=r"scores of .*monday/00\.png under the name 00, .*tuesday/00\.png .*--out"):
        start(second)


def test_a_picture_that_was_replaced_is_scored_again(start, drive, tiny) -> None:
    folder = drive(count=3)
    start(folder).run()
    drive(count=1, seed=7)
    os.utime(folder / "00.png", ns=(1, 1))
    run = start(folder)
    assert [one.name for one in run.pending] == ["00"]
    run.run()
    picture = np.asarray(Image.open(folder / "00.png"))
    assert np.array_equal(np.load(run.out / "scores/00.npy"), run.scorer(picture).scores["energy"])


def test_a_result_that_was_deleted_is_made_again(start, drive) -> None:
    folder = drive(count=2)
    run = start(folder)
    run.run()
    (run.out / "overlays/01.jpg").unlink()
    start(folder).run()
    assert (run.out / "overlays/01.jpg").is_file()


def test_what_cannot_be_read_is_listed_and_tried_again(start, drive) -> None:
    folder = drive(count=3)
    (folder / "01.png").write_bytes(b"")
    run = start(folder)
    records = run.run()
    assert [bool(one.get("error")) for one in records] == [False, True, False]
    assert "01.png" in records[1]["error"]
    (folder / "01.png").write_bytes((folder / "00.png").read_bytes())
    again = start(folder)
    assert [one.name for one in again.pending] == ["01"]
    assert not any(one.get("error") for one in again.run())
    assert (run.out / "scores/01.npy").is_file()


def test_broken_scores_name_the_frame(start, drive) -> None:
    folder = drive(count=2)
    Image.fromarray(np.full((40, 60, 3), (255, 0, 0), np.uint8)).save(folder / "bad.png")
    records = start(folder).run()
    assert "bad.png: energy:" in records[2]["error"]
    assert "NaN" in records[2]["error"]


def test_strict_stops_at_the_first(start, drive) -> None:
    folder = drive(count=4)
    (folder / "01.png").write_text("no picture")
    run = start(folder, strict=True)
    with pytest.raises(InputError, match=r"01\.png"):
        run.run()
    assert [path.name for path in sorted((run.out / "scores").iterdir())] == ["00.npy"]
    assert len(start(folder).run()) == 4


def test_nothing_scored_is_an_error_and_chooses_no_colours(start, drive) -> None:
    folder = drive(count=2)
    for path in folder.iterdir():
        path.write_text("no picture")
    run = start(folder)
    with pytest.raises(InputError, match=r"none of the 2 images could be scored; the first: .*00\.png"):
        run.run()
    assert len(index(run.out)["images"]) == 2
    drive(count=2)
    again = start(folder)
    again.run()
    assert scale(again)[0] < 0, "energies are negative, so the stand-in 0 to 1 would have been kept"


def test_an_image_that_can_be_read_stands_in_for_those_that_decide_the_colours(start, drive) -> None:
    folder = drive(count=16)
    for number in range(0, 16, 2):
        (folder / f"{number:02}.png").write_text("no picture")
    run = start(folder)
    run.run()
    first = ColourScale.of(np.load(run.out / "scores/01.npy"))
    assert scale(run) == pytest.approx([first.low, first.high, first.clear])


def test_a_scale_that_is_given_counts(start, drive, tiny) -> None:
    run = start(drive(count=2), scale=ColourScale(-3.0, 4.0), threshold=0.5)
    run.run()
    settings = index(run.out)["run"]
    assert (settings["scale"], settings["threshold"]) == ([-3.0, 4.0], 0.5)
    assert "chosen_scale" not in settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "msp"}, "detector was energy, is msp"),
        ({"threshold": 1.0}, r"threshold was None, is 1\.0"),
        ({"scale": ColourScale(0, 1)}, r"scale was None, is \[0\.0, 1\.0\]"),
    ],
)
def test_other_settings_need_another_folder(start, drive, options, message) -> None:
    start(drive())
    with pytest.raises(InputError, match=f"other settings .*{message}.*choose another --out"):
        start(drive(), **options)


def test_other_weights_and_classes_need_another_folder(start, drive, tiny, tmp_path) -> None:
    run = start(drive())
    other = load_model(tiny.factory("other"))
    other.facts = other.facts.model_copy(update={"name": run.scorer.model.name})
    with pytest.raises(InputError, match="weights sha256 was"):
        ScoreRun(Scorer.build(other, ["energy"]), find_images([drive()]), run.out)
    void = load_model(tiny.spec)
    classes = void.taxonomy.model_copy(update={"void": 4})
    void.facts = void.facts.model_copy(update={"taxonomy": classes})
    with pytest.raises(InputError, match="void was None, is 4"):
        ScoreRun(Scorer.build(void, ["energy"]), find_images([drive()]), run.out)


@pytest.mark.parametrize("name", ["run.json", "index.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"images": 3}'])
def test_files_of_another_program_are_left_alone(start, drive, tmp_path, name, content) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(content)
    with pytest.raises(InputError, match=r"out.*--out"):
        start(drive())
    assert (tmp_path / "out" / name).read_text() == content


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_is_a_number(start, drive, threshold) -> None:
    with pytest.raises(InputError, match="threshold"):
        start(drive(), threshold=threshold)
