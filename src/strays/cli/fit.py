"""``strays fit``: a detector, a model and inlier scenes in, a file for ``NAME@FILE`` out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strays.cli import options

if TYPE_CHECKING:
    from strays.data import SceneSet
    from strays.detectors.fitted import FittedDetector
    from strays.detectors.statistics import Statistics
    from strays.fitting import FitRun
    from strays.taxonomy import Taxonomy

__all__ = ["fit"]


def fit(
    out: Annotated[Path, typer.Option(help="File for the fitted detector.", metavar="FILE")],
    detector: Annotated[
        str | None,
        typer.Argument(help="Such as nearest-neighbors or nearest-neighbors:tap=decoder,k=5; see strays detectors."),
    ] = None,
    model: options.ModelName = "default",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Data set of inlier scenes: a name, and its folder. Several times for several sets.",
            metavar="NAME=PATH",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of the data sets; train by default, where there is one.", metavar="NAME")
    ] = None,
    max_side: Annotated[
        int | None, typer.Option(help="Shrink longer images to so many pixels on their longer side.", metavar="PIXELS")
    ] = None,
    taxonomy: options.TaxonomyName = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Take in only one of several equal parts of the images, such as 3/8.", metavar="N/COUNT"),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the shards beside --out into one detector.", metavar="")
    ] = False,
    device: options.DeviceName = "auto",
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> None:
    """Estimate the statistics of a detector on images without anomalies. The network is not changed.

    One pass over the images; the same command continues a fit that was killed.

    Example: strays fit nearest-neighbors --data camvid=DIR --out bank.safetensors
    """
    from strays.errors import InputError

    if merge:
        _merge(out, detector, quiet)
        return
    if detector is None or not data:
        raise InputError("name a detector and its data: strays fit DETECTOR --data NAME=DIR --out FILE")
    run = _run(detector, model, taxonomy, device, [_opened(one, split) for one in data], out, shard, max_side, strict)
    _gather(run, quiet)
    if shard is not None:
        _told(f"{run.path} holds shard {shard}: with all in one folder, strays fit --merge --out {out}", quiet)
        return
    _told(f"estimating {run.detector.name}", quiet)
    fitted = run.conclude()
    _done(fitted, out, model, quiet, run.model.taxonomy)


def _run(
    detector: str,
    model: str,
    taxonomy: str | None,
    device: str,
    sets: "list[SceneSet]",
    out: Path,
    shard: str | None,
    max_side: int | None,
    strict: bool,
) -> "FitRun":
    from strays.detectors import build_detector
    from strays.fitting import FitRun, Shard
    from strays.loading import load_model

    part = None if shard is None else Shard.parse(shard)
    return FitRun(load_model(model, taxonomy, device), build_detector(detector), sets, out, part, max_side, strict)


def _opened(spec: str, split: str | None) -> "SceneSet":
    """Return a data set; without a named split the one for training, where it has one."""
    from strays.data import open_scenes
    from strays.errors import InputError

    if split is not None:
        return open_scenes(spec, split)
    try:
        return open_scenes(spec, "train")
    except InputError:
        return open_scenes(spec)


def _gather(run: "FitRun", quiet: bool) -> None:
    from strays.cli.progress import bar, say

    with bar(quiet=quiet) as progress:
        task = progress.add_task(f"{run.detector.name} on {run.model.name}", total=run.total)
        run.run(lambda done, total: progress.update(task, completed=done, total=total))
    for name, reason in run.gathered.unreadable.items():
        say(f"not used: {name}: {reason}", style="yellow")


def _merge(out: Path, detector: str | None, quiet: bool) -> None:
    from strays.errors import InputError
    from strays.fitting import merge_shards

    merged = merge_shards(out)
    if detector is not None and merged.name != detector.partition(":")[0]:
        raise InputError(f"the shards beside {out} are of {merged.name}, not of {detector}: leave the detector out")
    fitted_on = merged.fitted_on
    _done(merged, out, "MODEL" if fitted_on is None else fitted_on.model, quiet)


def _done(
    detector: "FittedDetector[Statistics]", out: Path, model: str, quiet: bool, taxonomy: "Taxonomy | None" = None
) -> None:
    """Say what was written, which classes were never seen, and what to do with it."""
    if detector.absent:
        names = [taxonomy.names[one] if taxonomy else f"class {one}" for one in detector.absent]
        _told(f"no pixel of {', '.join(names)}: their statistics are those of all classes together", quiet)
    megabytes = out.stat().st_size / 1e6
    images = detector.fitted_on.images if detector.fitted_on else 0
    _told(f"{out}: {detector.name} fitted on {images} images, {megabytes:.1f} MB", quiet)
    _told(f"next: strays bench --model {model} --detectors {detector.name}@{out} --data NAME=DIR", quiet)


def _told(text: str, quiet: bool) -> None:
    from strays.cli.progress import say

    if not quiet:
        say(text)
