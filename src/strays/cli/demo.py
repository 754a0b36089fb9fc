"""``strays demo``: the embedded model on embedded scenes, from images to a report."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["demo"]

_PARTS = ("scenes", "scored", "benchmark")
_COMPARED = ("energy", "entropy", "msp")
_MARK = ".strays-demo"
"""A file that tells a folder of ours, which may be emptied, from one of the user's."""


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the results; those of an earlier demo are replaced.", metavar="FOLDER")
    ] = Path("demo"),
    count: Annotated[int, typer.Option(help="Number of scenes.", metavar="N", min=1)] = 10,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only results and errors.", metavar="")] = False,
) -> None:
    """Try it all with nothing at hand: synthetic scenes, scored, measured and shown on a page.

    Takes a minute or two on a laptop and needs neither images nor network.
    """
    from strays.benchmark import Protocol
    from strays.cli.bench import measure
    from strays.cli.progress import bar, say
    from strays.data import find_images, open_scenes
    from strays.loading import load_model
    from strays.scoring import Scorer, ScoreRun

    _empty(out)
    model = load_model("default")
    with bar(quiet=quiet) as progress:
        _render(out / "scenes", count, progress)
        run = ScoreRun(Scorer.build(model), find_images([out / "scenes" / "images"]), out / "scored")
        task = progress.add_task(f"2 scoring by {run.detector}", total=count)
        run.run(advance=lambda: progress.advance(task))
    if not quiet:
        say("3 measuring its detector and others on the same scenes")
    scenes = open_scenes(f"demo={out / 'scenes'}")
    detectors = list(dict.fromkeys((model.facts.detector, *_COMPARED)))
    measure([model], detectors, [scenes], Protocol(), out / "benchmark", quiet=True)
    if not quiet:
        _tell(out)


def _empty(out: Path) -> None:
    """Remove what an earlier demo has left, and refuse to touch a folder that holds anything else."""
    from strays.errors import InputError
    from strays.files import make_folder

    if out.is_dir() and any(out.iterdir()) and not (out / _MARK).is_file():
        raise InputError(f"{out} holds files that are not those of a demo: choose another folder with --out")
    make_folder(out)
    (out / _MARK).touch()
    for part in _PARTS:
        shutil.rmtree(out / part, ignore_errors=True)


def _render(folder: Path, count: int, progress: "Progress") -> None:
    """Write scenes as a data set of anybody's own: images, masks, and a note on what the values mean."""
    from PIL import Image

    from strays.data.synthetic import SyntheticScenes
    from strays.files import make_folder, whole_file

    task = progress.add_task("1 rendering scenes", total=count)
    for kind in ("images", "masks"):
        make_folder(folder / kind)
    for scene in SyntheticScenes(count):
        for kind, values in (("images", scene.image), ("masks", scene.mask)):
            if values is not None:
                with whole_file(folder / kind / f"{scene.name}.png") as stream:
                    Image.fromarray(values).save(stream, "PNG")
        progress.advance(task)


def _tell(out: Path) -> None:
    from strays.cli.progress import say

    lines = (
        f"open {out / 'benchmark' / 'report.html'}    the numbers, curves, worst misses and false alarms",
        f"open {out / 'scored' / 'overlays'}    every scene with its anomaly scores",
        "",
        "then try your own:",
        "  strays score my_images/ --out scored",
        "  strays score my_images/ --model hf:nvidia/segformer-b0-finetuned-cityscapes-1024-1024 --detector energy",
        f"  strays doctor {out / 'scenes'}",
        "  strays bench --data mine=FOLDER --detectors max-logit,energy --out benchmark",
    )
    for line in lines:
        say(line)
