"""Does reading keep up? Frames read as ``strays bench`` reads them, beside a plain Pillow loop.

    python benchmarks/reading.py [--frames 24] [--size 1024x2048] [--to 512x1024] [--consumer 0 30 100] [--workers 1 2]

Synthetic photographs with masks, as PNG and as JPEG, in a temporary folder; or data sets that are there, with
``--data fishyscapes-static=PATH``. The loop opens image and mask and resizes both; strays also checks and converts the
mask, and reads ahead. What comes of a frame goes to a consumer that sleeps so many milliseconds, as one does whose GPU
is at work. The ways take turns with the same files, which the file cache holds; medians of some rounds. Memory is
measured in a process per way, after all frames and after as many four times over.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from metrics import resident_peak
from strays.data import open_scenes
from strays.data.base import Frame, FrameSet
from strays.data.reading import AHEAD, read_ahead
from strays.scoring import parse_size

__all__ = ["main"]

Size = tuple[int, int]
Pixels = NDArray[np.uint8]
Way = Callable[[FrameSet, list[int], Size], Iterator[Pixels]]

FORMATS = {"PNG": {}, "JPEG": {"quality": 95}}
LONG = 4


def by_pillow(scenes: FrameSet, order: list[int], size: Size) -> Iterator[Pixels]:
    """Yield the resized images of a plain loop; it reads the maps of a frame and checks nothing."""
    height, width = size
    for frame in (scenes.frames[index] for index in order):
        with Image.open(frame.image) as opened:
            image = np.asarray(opened.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
        maps = [pillow_map(path, size) for path in maps_of(frame)]
        yield image
        del image, maps


def pillow_map(path: Path, size: Size) -> Pixels:
    """Return a resized mask or label map as it is stored."""
    height, width = size
    with Image.open(path) as opened:
        return np.asarray(opened.resize((width, height), Image.Resampling.NEAREST))


def maps_of(frame: Frame) -> list[Path]:
    return [path for path in (frame.labels, frame.mask) if path is not None]


def by_strays(workers: int) -> Way:
    """Return what yields the resized images of scenes, read by so many threads; by none in the loop itself."""

    def read(scenes: FrameSet, order: list[int], size: Size) -> Iterator[Pixels]:
        def scene_at(index: int) -> Pixels:
            return scenes[index].resized(size).image

        if workers == 0:
            return map(scene_at, order)
        return (image for _, image in read_ahead(order, scene_at, workers))

    return read


def ways(workers: list[int]) -> dict[str, Way]:
    """Return everything that is compared by name, the one that the others are measured by first."""
    named = {0: "strays, no worker", 1: "strays, 1 worker"}
    ours = {named.get(count, f"strays, {count} workers"): by_strays(count) for count in [0, *workers]}
    return {"Pillow loop": by_pillow, **ours}


def consume(images: Iterator[Pixels], pause: float) -> None:
    """Take one image after the other, each for so many seconds."""
    for _ in images:
        if pause:
            time.sleep(pause)


def check(scenes: FrameSet, size: Size, compared: dict[str, Way]) -> None:
    """Refuse to compare ways that do not read the same pixels; the files are in the file cache afterwards."""
    order = list(range(len(scenes)))
    for images in zip(*(way(scenes, order, size) for way in compared.values()), strict=True):
        for name, image in zip(compared, images, strict=True):
            if not np.array_equal(image, images[0]):
                raise SystemExit(f"{scenes.name}: {name} reads other pixels than {next(iter(compared))}")


def measure(
    scenes: FrameSet, size: Size, pauses: list[float], rounds: int, compared: dict[str, Way]
) -> dict[str, list[float]]:
    """Return by way the frames per second of each pause of the consumer."""
    seconds: dict[tuple[str, float], list[float]] = {}
    for _ in range(rounds):
        for pause in pauses:
            for name, way in compared.items():
                before = time.perf_counter()
                consume(way(scenes, list(range(len(scenes))), size), pause)
                seconds.setdefault((name, pause), []).append(time.perf_counter() - before)
    return {name: [len(scenes) / median(seconds[name, pause]) for pause in pauses] for name in compared}


def peak_memory(scenes: FrameSet, size: Size, way: Way) -> tuple[int, int]:
    """Return how many bytes this process needs at most beyond its start: for all frames once, and ``LONG`` times."""
    before, once = resident_peak(reset=True), 0
    for number, _ in enumerate(way(scenes, list(range(len(scenes))) * LONG, size), start=1):
        # A consumer that lingers gets all that may be read ahead, one that hurries keeps all readers at work.
        time.sleep(0.5 if number <= AHEAD else 0)
        if number == len(scenes):
            once = resident_peak()
    return once - before, resident_peak() - before


def memory_in_process(spec: str, name: str, given: argparse.Namespace) -> tuple[str, str]:
    """Return ``peak_memory`` of a fresh process in MB, or the last line of its complaint."""
    workers = [str(count) for count in given.workers]
    wanted = ["--memory-of", name, "--data", spec, "--frames", str(given.frames), "--to", given.to]
    command = [sys.executable, __file__, *wanted, "--workers", *workers]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.splitlines() or [f"ended with {done.returncode}"])[-1], ""
    once, long = json.loads(done.stdout.splitlines()[-1])
    return f"{once / 1e6:.0f}", f"{long / 1e6:.0f}"


def make_frames(folder: Path, kind: str, count: int, size: Size) -> str:
    """Write photographs with masks of an anomaly and a border to ignore; return how the data set is opened."""
    height, width = size
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        mask = np.zeros(size, np.uint8)
        mask[height // 2 : height * 5 // 8, width // 3 : width * 3 // 8] = 1
        mask[-height // 10 :] = 255
        Image.fromarray(photograph(index, size)).save(folder / f"images/{index:03}.{kind.lower()}", **FORMATS[kind])
        Image.fromarray(mask).save(folder / f"masks/{index:03}.png")
    return f"folder={folder}"


def photograph(seed: int, size: Size) -> Pixels:
    """Return noise of all scales, (H, W, 3); as PNG it takes about as many bits per pixel as Cityscapes does."""
    height, width = size
    random = np.random.default_rng(seed)
    pixels = random.normal(0, 0.7, (height, width, 3)).astype(np.float32)
    pixels += random.normal(0, 0.4, (height, width, 1)).astype(np.float32)
    for cell in (128, 32, 8):
        coarse = random.integers(0, 256, (height // cell + 2, width // cell + 2, 3), np.uint8)
        pixels += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) * (cell / 200)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def opened(spec: str, most: int) -> FrameSet:
    """Return the first frames of a data set."""
    scenes = open_scenes(spec)
    if not isinstance(scenes, FrameSet):
        raise SystemExit(f"{spec} has no files to read")
    return scenes[:most]


def show(title: str, spec: str, given: argparse.Namespace) -> None:
    """Measure one data set and print its table."""
    scenes, size, compared = opened(spec, given.frames), parse_size(given.to), ways(given.workers)
    check(scenes, size, compared)
    rates = measure(scenes, size, [one / 1000 for one in given.consumer], given.rounds, compared)
    table = Table("way", box=MARKDOWN)
    for pause in given.consumer:
        table.add_column(f"{pause:g} ms (at most {1000 / pause:.1f}/s)" if pause else "no consumer", justify="right")
        table.add_column("x Pillow", justify="right")
    for times in () if given.skip_memory else (1, LONG):
        table.add_column(f"peak MB, {times * len(scenes)} frames", justify="right")
    for name, found in rates.items():
        against = zip(found, rates["Pillow loop"], strict=True)
        cells = [cell for rate, plain in against for cell in (f"{rate:.1f}/s", f"{rate / plain:.2f}")]
        memory = () if given.skip_memory else memory_in_process(spec, name, given)
        table.add_row(name, *cells, *memory)
    megabytes = sum(one.image.stat().st_size for one in scenes.frames) / len(scenes) / 1e6
    height, width = scenes[0].size
    console = Console(width=170)
    console.print(f"{title}: {len(scenes)} frames of {height}x{width}, {megabytes:.2f} MB each, to {given.to}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", default="1024x2048", help="HxW of synthetic frames")
    parser.add_argument("--to", default="512x1024", help="HxW that frames are resized to")
    parser.add_argument("--consumer", type=float, nargs="+", default=[0.0, 30.0, 100.0], help="milliseconds per frame")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", nargs="+", help="data sets in place of synthetic frames")
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        scenes, way = opened(given.data[0], given.frames), ways(given.workers)[given.memory_of]
        print(json.dumps(peak_memory(scenes, parse_size(given.to), way)))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {AHEAD} frames ahead, median of {given.rounds}")
    for spec in given.data or ():
        show(spec, spec, given)
    for kind in () if given.data else FORMATS:
        with TemporaryDirectory() as folder:
            show(kind, make_frames(Path(folder), kind, given.frames, parse_size(given.size)), given)


if __name__ == "__main__":
    main()
