"""Train a built-in model again: the settings of its card, and before that the built-in model that it starts from.

python tools/retrain.py default --data ../shared --out runs/again [--seed 1] [--device cpu]

The data sets are looked for below the folder, under the names that the card has in capitals, in any case of letters.
Every stage is one `strays train`, printed before it runs; killed and started again it continues.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ship_model import words

from strays.loading import DEFAULT_MODEL, builtin_models
from strays.training import TrainingSettings

__all__ = ["Stage", "commands", "here", "main", "stages"]

DEEPEST = 2
STRAYS = str(Path(sys.executable).with_name("strays"))


def main() -> None:
    """Run every stage, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a built-in model, or default")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets and weights")
    parser.add_argument("--out", type=Path, required=True, help="each stage becomes a model directory in here")
    parser.add_argument("--seed", type=int, help="another one than the card's")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    for stage in stages(DEFAULT_MODEL if arguments.model == "default" else arguments.model):
        for command in commands(stage, arguments.data, arguments.out, arguments.seed, arguments.device):
            print(f"$ {shlex.join(command)}", flush=True)
            subprocess.run([STRAYS, *command[1:]], check=True)


class Stage(NamedTuple):
    """One built-in model.

    Args:
        name: what it is called.
        settings: of its training.
        averaged: for each training that it is the mean of, what is different in its settings; none of a single one.
    """

    name: str
    settings: TrainingSettings
    averaged: Sequence[Mapping[str, object]] = ()


def stages(model: str) -> Iterator[Stage]:
    """Yield the built-in models that lead to one, in the order of their training."""
    training = builtin_models()[model].training
    settings = TrainingSettings.model_validate(training["settings"])
    if settings.init is not None:
        yield from stages(settings.init)
    yield Stage(model, settings, training.get("averaged", ()))


def commands(stage: Stage, folder: Path, out: Path, seed: int | None, device: str) -> Iterator[list[str]]:
    """Yield the commands that train a stage, word by word; with another seed, it and those that follow it."""
    whole = out / stage.name
    runs = [out / f"{stage.name}-{number}" for number in range(len(stage.averaged))] or [whole]
    for number, (run, part) in enumerate(zip(runs, stage.averaged or [{}], strict=True)):
        other = {} if seed is None else {"seed": seed + number}
        settings = here(stage.settings.model_copy(update={**part, **other}), folder, out)
        yield [*words(settings), "--device", device, "--out", str(run)]
    if stage.averaged:
        yield ["strays", "average", *map(str, runs), "--out", str(whole)]


def here(settings: TrainingSettings, folder: Path, out: Path) -> TrainingSettings:
    """Return the settings with this machine's paths in place of the names in capitals, and of the stage before."""
    several = {name: tuple(_placed(one, folder) for one in getattr(settings, name)) for name in ("data", "negatives")}
    encoder = settings.encoder_weights and str(_path(settings.encoder_weights, folder))
    init = settings.init and str(out / settings.init)
    return settings.model_copy(update={**several, "encoder_weights": encoder, "init": init})


def _placed(spec: str, folder: Path) -> str:
    """Return ``kind=NAME`` with the path of that name; what needs no folder, such as ``synthetic=60``, as it is."""
    kind, _, source = spec.rpartition("=")
    return f"{kind}={_path(source, folder)}" if source.isupper() else spec


def _path(name: str, folder: Path) -> Path:
    deep = (path for depth in range(DEEPEST) for path in sorted(folder.glob("*/" * depth + "*")))
    found = next((path for path in deep if path.name.upper() == name.upper()), None)
    if found is None:
        raise SystemExit(f"{folder} holds no {name}, whatever the case of its letters, nor does a folder in it")
    return found


if __name__ == "__main__":
    main()
