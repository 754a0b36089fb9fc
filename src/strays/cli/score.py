"""``strays score``: images in, score maps and overlays out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from strays.drawing import ColourScale

__all__ = ["score"]

Sources = Annotated[list[str], typer.Argument(help="Images, folders or globs.", metavar="SOURCES...")]
ModelName = Annotated[
    str, typer.Option(help="Built-in name, folder, NETWORK@FILE, hf:ID, onnx:FILE, python:MODULE:NAME.")
]
DeviceName = Annotated[str, typer.Option(help="auto takes a GPU where there is one; or cpu, cuda, cuda:1, ...")]
NetworkSize = Annotated[str | None, typer.Option(help="HxW at which the network sees the images.", metavar="HxW")]
TaxonomyName = Annotated[str | None, typer.Option(help="Name or JSON file of the classes, where the model has none.")]


def score(
    sources: Sources,
    out: Annotated[Path, typer.Option(help="Folder for scores, overlays and index.json.")] = Path("scored"),
    model: ModelName = "default",
    detector: Annotated[
        str | None, typer.Option(help="Such as energy or energy:temperature=2; the model's own one by default.")
    ] = None,
    network_size: NetworkSize = None,
    threshold: Annotated[float | None, typer.Option(help="Draw the contour of this score.")] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Scores of the first and the last colour; chosen from 8 images by default.", metavar="LOW,HIGH"
        ),
    ] = None,
    taxonomy: TaxonomyName = None,
    device: DeviceName = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be scored.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="A line per image: size, milliseconds, peak score.")
    ] = False,
) -> None:
    """Score images: writes scores/NAME.npy, overlays/NAME.jpg and index.json. Killed and started again it continues."""
    from strays.cli.progress import bar, console
    from strays.data.sources import find_images
    from strays.loading import load_model
    from strays.scoring import Scorer, ScoreRun, parse_size

    found = find_images(sources)
    loaded = load_model(model, taxonomy, device)
    scorer = Scorer.build(loaded, [detector] if detector else [], parse_size(network_size))
    run = ScoreRun(scorer, found, out, threshold, _scale(scale), strict)
    with bar(quiet=quiet) as progress:
        task = progress.add_task(f"{run.detector} by {loaded.name}", total=len(found))
        progress.advance(task, len(found) - len(run.pending))

        def scored(record: dict[str, object]) -> None:
            progress.advance(task)
            if verbose or record.get("error"):
                progress.console.print(_line(record), markup=False, highlight=False)

        records = run.run(scored)
    failed = sum(1 for record in records if record.get("error"))
    if not quiet:
        lost = f", {failed} could not be scored (see index.json)" if failed else ""
        console.print(f"{len(records) - failed} images scored{lost}: open {out / 'overlays'}", highlight=False)
        console.print("next: strays bench to measure on masks, or --threshold X to draw a contour", highlight=False)


def _scale(text: str | None) -> "ColourScale | None":
    from strays.drawing import ColourScale
    from strays.errors import InputError

    if text is None:
        return None
    try:
        low, high = (float(one) for one in text.split(","))
    except ValueError as error:
        raise InputError(f"expected --scale LOW,HIGH with two numbers, got {text!r}") from error
    return ColourScale(low, high)


def _line(record: dict[str, object]) -> str:
    if record.get("error"):
        return f"{record['name']}: {record['error']}"
    size, quantiles = record["size"], record["quantiles"]
    if not (isinstance(size, list) and isinstance(quantiles, dict)):
        return str(record["name"])
    return f"{record['name']}: {size[0]}x{size[1]}, {record['milliseconds']} ms, peak {quantiles['1.0']:.4g}"
