"""Reading ahead: in order, bounded, stopped when nobody wants more."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strays.data import open_scenes
from strays.data.reading import AHEAD, read_ahead
from strays.errors import InputError

PATIENCE = 10.0
"""Seconds after which something that should have happened has not."""


class Frame:
    """What the fake reader reads; it can be told when nobody holds it any more."""

    def __init__(self, item: int) -> None:
        self.item = item


class Reader:
    """A reader that knows what it has begun, and how many of its frames are alive."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.alive: weakref.WeakSet[Frame] = weakref.WeakSet()
        self._lock = threading.Lock()

    def __call__(self, item: int) -> Frame:
        frame = Frame(item)
        with self._lock:
            self.begun.append(item)
            self.alive.add(frame)
        return frame

    def living(self) -> int:
        with self._lock:
            return len(self.alive)


def until(true: Callable[[], bool]) -> bool:
    """Wait until something is true; tell whether it became so."""
    end = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < end:
        time.sleep(0.001)
    return true()


def readers() -> list[str]:
    """The threads that read."""
    return [one.name for one in threading.enumerate() if one.name.startswith("strays-reading")]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    assert readers() == []
    yield
    assert readers() == [], "threads are left behind"


def test_in_order_though_a_later_one_is_done_first() -> None:
    second = threading.Event()

    def read(item: int) -> int:
        if item == 0:
            assert second.wait(PATIENCE), "the second is read only after the first"
        if item == 1:
            second.set()
        return -item

    assert list(read_ahead(range(20), read, workers=2)) == [(item, -item) for item in range(20)]


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_few_frames_or_none(frames: int) -> None:
    reader = Reader()
    assert [(item, frame.item) for item, frame in read_ahead(range(frames), reader)] == [(n, n) for n in range(frames)]
    assert sorted(reader.begun) == list(range(frames))


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (1, 3), (2, 2), (2, 4), (4, 2), (None, AHEAD)])
def test_so_many_frames_are_prepared_and_never_more(workers: int | None, ahead: int) -> None:
    reader, total = Reader(), 12
    for item, frame in read_ahead(range(total), reader, workers, ahead):
        wanted = min(item + 1 + ahead, total)
        assert until(lambda wanted=wanted: len(reader.begun) == wanted), "the readers do not use their room"
        time.sleep(0.005)  # a chance to read too much
        assert len(reader.begun) == wanted
        assert until(lambda wanted=wanted, item=item: reader.living() <= wanted - item), "old frames are held"
        assert frame.item == item


def test_the_frame_in_hand_is_held_by_nobody_else() -> None:
    reading = read_ahead(range(3), Reader(), workers=1, ahead=1)
    for _, frame in reading:
        last = weakref.ref(frame)
        del frame
        assert until(lambda last=last: last() is None)


def test_items_without_end_are_taken_as_they_are_needed() -> None:
    items = count()
    reading = read_ahead(items, lambda item: item, ahead=3)
    assert [item for item, _ in islice(reading, 5)] == [0, 1, 2, 3, 4]
    assert next(items) == 8
    reading.close()


def test_what_reading_raises_comes_at_its_place() -> None:
    def read(item: int) -> int:
        if item == 3:
            raise ValueError("no frame 3")
        return item

    reading = read_ahead(range(10), read, workers=2)
    assert list(islice(reading, 3)) == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(ValueError, match="no frame 3"):
        next(reading)
    assert list(reading) == []


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt])
def test_what_ends_early_begins_nothing_more(end: type[BaseException]) -> None:
    """One worker is in the middle of the second frame when the caller stops; two more wait for it."""
    reader, middle, go_on = Reader(), threading.Event(), threading.Event()

    def read(item: int) -> Frame:
        if item == 1:
            middle.set()
            assert go_on.wait(PATIENCE)
        return reader(item)

    reading = read_ahead(range(10), read, workers=1, ahead=3)
    assert next(reading)[0] == 0
    assert middle.wait(PATIENCE)
    threading.Timer(0.05, go_on.set).start()
    with pytest.raises(end):
        reading.throw(end)
    assert reader.begun == [0, 1]
    assert readers() == []


def test_a_loop_that_is_interrupted_leaves_no_reader() -> None:
    reader = Reader()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the loop is what is tested
        for _ in read_ahead(range(1000), reader, workers=2):
            raise KeyboardInterrupt
    assert readers() == []
    assert len(reader.begun) <= 1 + AHEAD


@pytest.mark.parametrize(("workers", "ahead"), [(0, 2), (1, 0), (None, 0)])
def test_somebody_has_to_read(workers: int | None, ahead: int) -> None:
    with pytest.raises(InputError, match="at least one worker and one frame ahead"):
        next(read_ahead([1], str, workers, ahead))


def test_by_default_a_thread_per_core_and_never_more_than_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (2, 2), (64, AHEAD)):
        monkeypatch.setattr("strays.data.reading._cores", lambda cores=cores: cores)
        together = threading.Barrier(expected)
        reading = read_ahead([together] * 2 * expected, lambda barrier: barrier.wait(PATIENCE))
        next(reading)
        assert len(readers()) == expected
        assert len(list(reading)) == 2 * expected - 1


def test_scenes_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for kind, shape in (("images", (24, 40, 3)), ("masks", (24, 40))):
        (tmp_path / kind).mkdir()
        for number in range(8):
            pixels = random.integers(0, 2 if kind == "masks" else 256, shape, np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.png")
    scenes = open_scenes(f"folder={tmp_path}")
    found = [scene for _, scene in read_ahead(range(len(scenes)), scenes.__getitem__, workers=4)]
    assert [one.name for one in found] == scenes.names
    for one, two in zip(found, scenes, strict=True):
        assert np.array_equal(one.image, two.image)
        assert np.array_equal(one.mask, two.mask)
