"""``strays train``: a recipe, a network and data in, a model directory out."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from strays.metrics import ClosedSetResult
    from strays.training.settings import TrainingSettings

__all__ = ["train"]


def train(
    recipe: Annotated[str, typer.Argument(help="Name of the recipe: see strays recipes.")],
    data: Annotated[
        list[str],
        typer.Option(help="NAME=PATH or synthetic=COUNT; several times for several sets.", metavar="NAME=PATH"),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model, checkpoint and TensorBoard logs.")],
    network: Annotated[str, typer.Option(help="Name of the network: see strays networks.")] = "swiftnet-rn18",
    encoder_weights: Annotated[
        Path | None, typer.Option(help="Weights file for the encoder; random by default.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 70,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 8,
    crop: Annotated[str, typer.Option(help="Size of a crop.", metavar="HxW")] = "256x320",
    scale: Annotated[str, typer.Option(help="Range of the random zoom.", metavar="LOW,HIGH")] = "0.6,1.8",
    colour: Annotated[float, typer.Option(help="Strength of random colour, light and blur, 0 to 3; 0 = none.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(help="At the start of the cosine.")] = 4e-4,
    encoder_rate: Annotated[
        float, typer.Option(help="Factor on the rate of an encoder that starts from weights.")
    ] = 0.25,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 1e-4,
    class_weights: Annotated[
        str, typer.Option(help="inverse-log favours rare classes, none does not.")
    ] = "inverse-log",
    precision: Annotated[
        str, typer.Option(help="auto, float32 or bfloat16; auto takes what the device computes fast.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Decides weights, order, crops and colours.")] = 0,
    device: Annotated[str, typer.Option(help="auto takes a GPU where there is one; or cpu, cuda.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that prepare crops.", min=0)] = 0,
    validate_every: Annotated[int, typer.Option(help="Epochs between two looks at the validation scenes.", min=1)] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
) -> None:
    """Train a network. Killed and started again with the same words it continues and ends with the same weights."""
    from strays.cli.progress import bar, say

    _check_extra()
    settings = _settings(
        recipe=recipe,
        network=network,
        data=tuple(data),
        encoder_weights=None if encoder_weights is None else str(encoder_weights),
        epochs=epochs,
        batch=batch,
        crop=_pair("--crop", crop.lower(), "x", int),
        scale=_pair("--scale", scale, ",", float),
        colour=colour,
        learning_rate=learning_rate,
        encoder_rate=encoder_rate,
        weight_decay=weight_decay,
        class_weights=class_weights,
        precision=precision,
        seed=seed,
    )
    from strays.training import train as train_network

    with bar("step", quiet) as progress:
        listener = None if quiet else _Shown(progress)
        model = train_network(settings, out, listener, device, workers, validate_every=validate_every)
    if not quiet:
        say(f"{model.name} is in {out}: strays score IMAGES --model {out}\ncurves: tensorboard --logdir {out}")


class _Shown:
    """Shows loss by terms, time spent waiting for data, and validation results beside a progress bar."""

    def __init__(self, progress: "Progress") -> None:
        self.progress = progress
        self.task = progress.add_task("training", total=None)
        self.waited: list[float] = []

    def started(self, step: int, steps: int) -> None:
        self.progress.update(self.task, completed=step, total=steps)

    def stepped(self, step: int, terms: Mapping[str, float], waiting: float) -> None:
        self.waited = [*self.waited[-99:], waiting]
        told = ", ".join(f"{name} {value:.3f}" for name, value in terms.items() if name != "total")
        share = sum(self.waited) / len(self.waited)
        self.progress.update(self.task, completed=step, description=f"{told}, {share:.0%} waiting for data")

    def validated(self, step: int, result: "ClosedSetResult") -> None:
        told = f"step {step}: mIoU {100 * result['mIoU']:.2f} %, accuracy {100 * result['accuracy']:.2f} %"
        self.progress.console.print(told, highlight=False)


def _check_extra() -> None:
    """Say how to install what only training needs, where it is missing."""
    from importlib.util import find_spec

    from strays.errors import InputError

    missing = [name for name in ("accelerate", "kornia", "tensorboard") if find_spec(name) is None]
    if missing:
        raise InputError(f"training needs {' and '.join(missing)}: pip install 'strays[train]'")


def _pair(option: str, text: str, separator: str, number: type[int] | type[float]) -> tuple[float, float]:
    from strays.errors import InputError

    try:
        first, second = (number(part) for part in text.split(separator))
    except ValueError as error:
        raise InputError(f"{option}: expected two numbers with {separator!r} between them, got {text!r}") from error
    return first, second


def _settings(**choices: object) -> "TrainingSettings":
    from pydantic import ValidationError

    from strays.errors import InputError
    from strays.training.settings import TrainingSettings

    try:
        return TrainingSettings.model_validate(choices)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}, got {first['input']!r}"
        ) from error
