"""Train a built-in model again: the settings of its card, and before that the built-in model that it starts from.

python tools/retrain.py default --data ../shared --out runs/again [--seed 1] [--device cpu]

The data sets are looked for below the folder, under the names that the card has in capitals, in any case of letters.
Every stage is one `strays train`, printed before it runs; killed and started again it continues.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ship_model import words

from strays.loading import DEFAULT_MODEL, builtin_models
from strays.training import TrainingSettings

__all__ = ["here", "main", "stages"]

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
    for name, settings in stages(DEFAULT_MODEL if arguments.model == "default" else arguments.model):
        seed = {} if arguments.seed is None else {"seed": arguments.seed}
        found = here(settings.model_copy(update=seed), arguments.data, arguments.out)
        command = [*words(found), "--device", arguments.device, "--out", str(arguments.out / name)]
        print(f"$ {shlex.join(command)}", flush=True)
        subprocess.run([STRAYS, *command[1:]], check=True)


def stages(model: str) -> Iterator[tuple[str, TrainingSettings]]:
    """Yield the names and settings of the built-in models that lead to one, in the order of their training."""
    settings = TrainingSettings.model_validate(builtin_models()[model].training["settings"])
    if settings.init is not None:
        yield from stages(settings.init)
    yield model, settings


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
