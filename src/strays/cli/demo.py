"""``strays demo``: the embedded model on embedded scenes, from images to a report."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["demo"]

_PARTS = ("scenes", "scored", "benchmark")
_DETECTORS = ["max-logit", "energy", "entropy", "msp"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results; made anew each time.")] = Path("demo"),
    count: Annotated[int, typer.Option(help="Number of scenes.")] = 10,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the table.")] = False,
) -> None:
    """Try it all with nothing at hand: ten synthetic scenes are scored, measured and shown on a page."""
    from strays.benchmark import Protocol
    from strays.cli.bench import measure
    from strays.cli.progress import bar, console
    from strays.data.sources import find_images
    from strays.files import make_folder
    from strays.loading import load_model
    from strays.scoring import Scorer, ScoreRun

    make_folder(out)
    for part in _PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
    model = load_model("default")
    with bar(quiet=quiet) as progress:
        _render(out / "scenes", count, progress)
        run = ScoreRun(Scorer.build(model), find_images([out / "scenes" / "images"]), out / "scored")
        task = progress.add_task(f"2 scoring by {run.detector}", total=count)
        run.run(lambda record: progress.advance(task))
    if not quiet:
        console.print("3 measuring four detectors on the same scenes", highlight=False)
    measure([model], _DETECTORS, [f"demo={out / 'scenes'}"], Protocol(), out / "benchmark", quiet=True)
    if not quiet:
        _tell(out)


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
    from strays.cli.progress import console

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
        console.print(line, highlight=False, soft_wrap=True)
