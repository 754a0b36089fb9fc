"""``strays bench``: detectors x data sets -> numbers with their protocol, and a page to look at."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from strays.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress, TaskID

    from strays.benchmark import Protocol
    from strays.benchmark.runner import Advance
    from strays.data import SceneSet
    from strays.model import Model

__all__ = ["bench", "measure"]


def bench(
    data: options.DataSets,
    model: options.ModelNames = ["default"],  # noqa: B006 - Typer reads the default, nobody changes it
    detectors: options.DetectorNames = None,
    out: options.OutFolder = Path("benchmark"),
    network_size: options.NetworkSize = None,
    taxonomy: options.TaxonomyName = None,
    protocol: options.ProtocolName = "default",
    size: options.Size = None,
    anomaly_free: options.AnomalyFree = None,
    aggregation: options.Aggregation = None,
    fpr_rule: options.FprRule = None,
    components: options.Components = None,
    instances: options.Instances = False,
    classes: options.Classes = False,
    exact: options.Exact = False,
    split: options.Split = None,
    device: options.DeviceName = "auto",
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how well detectors find anomalies in images with masks.

    The network sees each image once for all detectors. The same command continues a run that was killed.

    Example: strays bench --data street=my_data/ --detectors energy,max-logit --out benchmark
    """
    from strays.detectors.build import split_specs
    from strays.scoring import parse_size

    how = _protocol(
        protocol,
        size=parse_size(size),
        network_size=parse_size(network_size),
        anomaly_free=anomaly_free,
        aggregation=aggregation,
        fpr_rule=fpr_rule,
        exact=exact or None,
        components=components,
        instances=instances or None,
        classes=classes or None,
    )
    sets, names = _data(data, split), split_specs(detectors or "")
    measure(_models(model, taxonomy, device), names, sets, how, out, strict=strict, quiet=quiet)


def measure(
    models: "Sequence[Model]",
    detectors: list[str],
    sets: "Sequence[SceneSet]",
    protocol: "Protocol",
    out: Path,
    strict: bool = False,
    quiet: bool = False,
) -> None:
    """Run the benchmark, write its files and print the table; a data set that cannot be measured costs no other."""
    from strays.benchmark import Benchmark
    from strays.cli.presenting import Measured, present
    from strays.cli.progress import bar
    from strays.errors import InputError
    from strays.scoring import Scorer

    runs = [Benchmark(Scorer.build(one, detectors, protocol.network_size), protocol, out, strict) for one in models]
    for run, scenes in product(runs, sets):
        run.check(scenes)
    measured = Measured()
    with bar(quiet=quiet) as progress:
        for run in runs:
            for scenes in sets:
                task = progress.add_task(f"{run.scorer.model.name} on {scenes.name}", total=len(scenes))
                try:
                    measured.add(run.run(scenes, _shown(progress, task)))
                except InputError as error:
                    if strict:
                        raise
                    run.unmeasured.append(run.failed(scenes, str(error).removeprefix(f"{scenes.name}: ")))
            measured.close(run)
    present(out, measured, quiet=quiet)


def _shown(progress: "Progress", task: "TaskID") -> "Advance":
    def advance(name: str, done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return advance


def _data(specs: list[str], split: str | None) -> "list[SceneSet]":
    """Return the data sets; two of one name are refused, as nobody could tell their results apart."""
    from strays.data import open_scenes
    from strays.errors import InputError

    sets = [open_scenes(spec, split) for spec in specs]
    for name, count in Counter(one.name for one in sets).items():
        if count > 1:
            both = " and ".join(spec for spec, one in zip(specs, sets, strict=True) if one.name == name)
            fix = "give each a name of its own, as in --data first=PATH --data second=PATH"
            raise InputError(f"{count} data sets are called {name!r} ({both}): {fix}")
    return sets


def _models(specs: list[str], taxonomy: str | None, device: str) -> "list[Model]":
    """Return the models; those of one name, such as two trainings of one network, are called as they were given."""
    from dataclasses import replace

    from strays.loading import load_model

    given = list(dict.fromkeys(specs))
    models = [load_model(one, taxonomy, device) for one in given]
    count = Counter(one.name for one in models)
    renamed = (one.facts.model_copy(update={"name": spec}) for one, spec in zip(models, given, strict=True))
    pairs = zip(models, renamed, strict=True)
    return [one if count[one.name] == 1 else replace(one, facts=facts) for one, facts in pairs]


def _protocol(name: str, **choices: object) -> "Protocol":
    """Return a protocol by its name, with the choices that are not None."""
    from pydantic import ValidationError

    from strays.benchmark import Protocol
    from strays.errors import InputError

    try:
        return Protocol.named(name, **{key: value for key, value in choices.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        told = first["msg"].removeprefix("Value error, ")
        flags = [f"--{str(name).replace('_', '-')}: " for name in first["loc"]]
        raise InputError(f"{flags[0]}{told}, got {first['input']!r}" if flags else told) from error
