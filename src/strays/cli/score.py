"""``strays score``: images in, score maps and overlays out."""

from pathlib import Path
from typing import TYPE_CHECKING

from strays.cli import options

if TYPE_CHECKING:
    from strays.data import Source
    from strays.drawing import ColourScale

__all__ = ["score"]


def score(
    sources: options.Sources,
    out: options.OutFolder = Path("scored"),
    model: options.ModelName = "default",
    detector: options.DetectorName = None,
    network_size: options.NetworkSize = None,
    threshold: options.Threshold = None,
    scale: options.Scale = None,
    taxonomy: options.TaxonomyName = None,
    device: options.DeviceName = "auto",
    strict: options.Strict = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Score images: an anomaly map and a picture for each.

    Writes scores/NAME.npy (float32, larger = more anomalous), overlays/NAME.jpg and index.json.

    The same command continues a run that was killed.

    Example: strays score my_drive/ --detector energy --out scored
    """
    from strays.cli.progress import bar, say
    from strays.loading import load_model
    from strays.scoring import Scorer, ScoreRun, parse_size

    found, colours, size = _found(sources, out), _scale(scale), parse_size(network_size)
    loaded = load_model(model, taxonomy, device)
    run = ScoreRun(Scorer.build(loaded, [detector] if detector else [], size), found, out, threshold, colours, strict)
    with bar(quiet=quiet) as progress:
        task = progress.add_task(f"{run.detector} by {loaded.name}", total=len(found))
        progress.advance(task, len(found) - len(run.pending))

        def scored(record: dict[str, object]) -> None:
            if verbose or record.get("error"):
                say(_line(record))

        records = run.run(scored, lambda: progress.advance(task))
    failed = sum(1 for record in records if record.get("error"))
    if not quiet:
        lost = f", {failed} could not be scored (see {out / 'index.json'})" if failed else ""
        say(f"{len(records) - failed} images scored{lost}: open {out / 'overlays'}")
        say("next: --threshold SCORE --out FOLDER draws a contour, strays bench measures where there are masks")


def _found(sources: list[str], out: Path) -> "list[Source]":
    """Return the images, without the overlays that an earlier run has written among them."""
    from strays.data.sources import find_images

    overlays = (out / "overlays").resolve()
    found = find_images(sources)
    others = [one.path for one in found if not one.path.resolve().is_relative_to(overlays)]
    return found if len(others) == len(found) else find_images(others)


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
    return f"{record['name']}: {size[0]}x{size[1]}, {record['milliseconds']:.0f} ms, peak {quantiles['1.0']:.4g}"
