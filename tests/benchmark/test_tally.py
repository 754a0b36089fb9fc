"""What a sweep has gathered, on disk and back."""

import time

import numpy as np
import pytest

from strays.benchmark.measures import OfPixels, Sight
from strays.benchmark.tally import NETWORK, Tally
from strays.errors import InputError
from strays.metrics import PixelMetrics

SETTINGS = {"size": None, "exact": False}
STAMPS = {"a": [10, 1], "b": [20, 2]}
SCORES = np.float32([[0.5, 0.25], [0.0, 1.0]])
MASK = np.uint8([[1, 0], [0, 255]])


@pytest.fixture
def tally(tmp_path):
    def make(settings=SETTINGS, stamps=STAMPS) -> Tally:
        measures = [OfPixels(PixelMetrics(), name) for name in ("energy", "msp")]
        return Tally(tmp_path / "state/one.npz", measures, settings, stamps)

    (tmp_path / "state").mkdir()
    return make


def gathered(tally) -> Tally:
    one = tally()
    one.count("a", Sight({"energy": SCORES, "msp": -SCORES}, MASK))
    one.left_out.append("b")
    one.unreadable["c"] = "is damaged"
    one.milliseconds.append({NETWORK: 3.5})
    one.save(now=True)
    return one


def test_nothing_on_disk_is_an_empty_tally(tally) -> None:
    one = tally().restored()
    assert len(one) == 0
    assert "a" not in one
    one.check()


def test_it_comes_back_as_it_was(tally) -> None:
    before, after = gathered(tally), tally().restored()
    results = [[measure.accumulator.compute() for measure in one.measures] for one in (before, after)]
    assert results[0] == results[1]
    assert [result["AP"] for result in results[1]] == [1, pytest.approx(1 / 3)]
    assert {name: {key: tuple(pair) for key, pair in notes.items()} for name, notes in after.counted.items()} == {
        "a": {"energy": (0.5, pytest.approx(0.25, abs=1e-3)), "msp": (-0.5, pytest.approx(-0.25, abs=1e-3))}
    }
    assert (after.left_out, after.milliseconds) == (["b"], [{NETWORK: 3.5}])
    assert "a" in after
    assert "b" in after


def test_unreadable_images_are_tried_again(tally) -> None:
    assert "c" in gathered(tally)
    assert "c" not in tally().restored()


def test_notes_of_a_frame_without_anomalies_or_inliers(tally) -> None:
    one = tally()
    one.count("a", Sight({"energy": SCORES, "msp": SCORES}, np.zeros((2, 2), np.uint8)))
    one.count("b", Sight({"energy": SCORES, "msp": SCORES}, np.ones((2, 2), np.uint8)))
    assert one.counted["a"]["energy"][0] is None
    assert one.counted["b"]["energy"][1] is None


@pytest.mark.parametrize("take", [Tally.check, Tally.restored])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"settings": {**SETTINGS, "size": [2, 3]}}, r"other settings \(size was None, is \[2, 3\]\): choose another"),
        ({"stamps": {**STAMPS, "a": [10, 9]}}, "counted the image a before the files changed: choose another"),
        ({"stamps": {}}, "counted 2 images, a first, before the files changed"),
    ],
)
def test_other_settings_or_files_are_refused(tally, take, other, message) -> None:
    gathered(tally)
    with pytest.raises(InputError, match=message):
        take(tally(**other))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_damaged_file_is_named(tally, content) -> None:
    one = tally()
    one.path.write_bytes(content)
    with pytest.raises(InputError, match=r"one\.npz cannot be read .*delete it"):
        one.restored()


def test_saving_takes_a_small_part_of_the_time(tally, monkeypatch) -> None:
    one = tally()
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one.save()
    written = one.path.stat().st_mtime_ns, one.path.read_bytes()

    def slow_state(*_: object) -> dict:
        now[0] += 1.0
        return {}

    monkeypatch.setattr(PixelMetrics, "state", slow_state)
    one.save(now=True)
    assert now[0] == 102
    one.path.write_bytes(b"")
    for later, due in ((103.0, False), (119.9, False), (120.1, True)):
        now[0] = later
        one.save()
        assert (one.path.read_bytes() != b"") == due
    assert written
