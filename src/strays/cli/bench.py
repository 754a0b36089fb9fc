"""``strays bench``: detectors x data sets -> numbers with their protocol, and a page to look at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strays.cli.score import DeviceName, NetworkSize, TaxonomyName

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from strays.benchmark import Outcome, Protocol
    from strays.benchmark.runner import Advance
    from strays.model import Model

__all__ = ["bench", "measure"]

Models = Annotated[list[str], typer.Option(help="As for strays score; may be given several times.")]


def bench(
    data: Annotated[list[str], typer.Option(help="NAME=PATH; several times for several sets.", metavar="NAME=PATH")],
    out: Annotated[Path, typer.Option(help="Folder for results.json, results.md and report.html.")] = Path("benchmark"),
    model: Models = ["default"],  # noqa: B006 - Typer reads the default, nobody changes it
    detectors: Annotated[
        str | None, typer.Option(help="Separated by commas; the model's own one by default.", metavar="A,B")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="HxW that image and mask are resized to; their own by default.", metavar="HxW")
    ] = None,
    network_size: NetworkSize = None,
    anomaly_free: Annotated[str, typer.Option(help="include or skip images without any anomaly.")] = "include",
    aggregation: Annotated[str, typer.Option(help="pooled over all pixels of a set, or per-image.")] = "pooled",
    fpr_rule: Annotated[
        str, typer.Option(help="first, strict, argmin or interpolated: which point FPR95 means.")
    ] = "first",
    components: Annotated[
        str, typer.Option(help="none, anomaly-track or obstacle-track: component metrics too.")
    ] = "none",
    exact: Annotated[
        bool, typer.Option("--exact", help="Keep every score: equal to scikit-learn, much memory.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="Which part of the data sets; the usual one by default.")] = None,
    taxonomy: TaxonomyName = None,
    device: DeviceName = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the table.")] = False,
) -> None:
    """Measure detectors on data sets with anomaly masks. Killed and started again it continues."""
    from strays.loading import load_model
    from strays.scoring import parse_size

    protocol = _protocol(
        size=parse_size(size),
        network_size=parse_size(network_size),
        anomaly_free=anomaly_free,
        aggregation=aggregation,
        fpr_rule=fpr_rule,
        exact=exact,
        components=components,
    )
    names = _split(detectors)
    models = [load_model(one, taxonomy, device) for one in model]
    measure(models, names, data, protocol, out, split=split, strict=strict, quiet=quiet)


def measure(
    models: "list[Model]",
    detectors: list[str],
    data: list[str],
    protocol: "Protocol",
    out: Path,
    split: str | None = None,
    strict: bool = False,
    quiet: bool = False,
) -> None:
    """Run the benchmark, write its files and print the table."""
    from strays.benchmark import Benchmark
    from strays.cli.presenting import present
    from strays.cli.progress import bar
    from strays.data import open_scenes
    from strays.scoring import Scorer

    sets = [open_scenes(spec, split) for spec in data]
    runs: list[Benchmark] = []
    outcomes: list[Outcome] = []
    with bar(quiet=quiet) as progress:
        for model in models:
            run = Benchmark(Scorer.build(model, detectors, protocol.network_size), protocol, out, strict)
            runs.append(run)
            for scenes in sets:
                task = progress.add_task(f"{model.name} on {scenes.name}", total=len(scenes))
                outcomes += run.run(scenes, _shown(progress, task))
    present(out, outcomes, runs, quiet=quiet)


def _shown(progress: "Progress", task: "TaskID") -> "Advance":
    def advance(name: str, done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return advance


def _split(detectors: str | None) -> list[str]:
    """Return the detectors of ``a,b:key=1,key=2,c``: a part with ``=`` but without ``:`` belongs to the one before."""
    names: list[str] = []
    for part in (detectors or "").split(","):
        if names and "=" in part and ":" not in part:
            names[-1] += f",{part.strip()}"
        elif part.strip():
            names.append(part.strip())
    return names


def _protocol(**choices: object) -> "Protocol":
    from pydantic import ValidationError

    from strays.benchmark import Protocol
    from strays.errors import InputError

    try:
        return Protocol.model_validate(choices)
    except ValidationError as error:
        first = error.errors()[0]
        flag = f"--{str(first['loc'][0]).replace('_', '-')}" if first["loc"] else "options"
        raise InputError(f"{flag}: {first['msg']}, got {first['input']!r}") from error
