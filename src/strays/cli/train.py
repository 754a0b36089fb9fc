"""``strays train``: a recipe, a network and data in, a model directory out."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import typer

from strays.cli import training_options as options

if TYPE_CHECKING:
    from rich.progress import Progress

    from strays.training import TrainingSettings, Validation

__all__ = ["train"]


def train(
    context: typer.Context,
    recipe: options.Recipe,
    data: options.DataSets,
    out: options.Out,
    negatives: options.NegativeSources = None,
    negative_share: options.NegativeShare = None,
    network: options.NetworkName = None,
    init: options.Init = None,
    encoder_weights: options.EncoderWeights = None,
    trained: options.TrainedBlocks = None,
    frozen_norm: options.FrozenNorm = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    accumulate: options.Accumulate = None,
    optimizer: options.Optimizer = None,
    schedule: options.Schedule = None,
    learning_rate: options.LearningRate = None,
    final_learning_rate: options.FinalLearningRate = None,
    encoder_rate: options.EncoderRate = None,
    head_rate: options.HeadRate = None,
    weight_decay: options.WeightDecay = None,
    clip: options.Clip = None,
    average: options.Average = None,
    crop: options.Crop = None,
    scale: options.Zoom = None,
    colour: options.Colour = None,
    style: options.Style = None,
    camera: options.Camera = None,
    class_weights: options.ClassWeights = None,
    precision: options.Precision = None,
    seed: options.Seed = None,
    device: options.TrainingDevice = "auto",
    workers: options.Workers = 0,
    validate_every: options.ValidateEvery = 1,
    validation_anomalies: options.AnomalySets = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a network. Killed and started again with the same words it continues and ends with the same weights.

    What is not said here is as the recipe has it, else as shown. Started by torchrun it takes several processes.
    """
    from strays.cli.progress import bar, say

    _check_extra()
    settings = _settings(context.params)
    quiet = quiet or os.environ.get("RANK", "0") != "0"  # of the processes that torchrun starts, the first one talks
    from strays.training import train as train_network

    with bar("step", quiet) as progress:
        shown = _Shown(progress)
        model = train_network(
            settings,
            out,
            None if quiet else shown,
            device,
            workers,
            validate_every=validate_every,
            validation_anomalies=validation_anomalies or (),
        )
    if not quiet:
        say(f"{shown.waiting:.0%} of the time was spent waiting for data")
        say(f"{model.name} is in {out}: strays score IMAGES --model {out}\ncurves: tensorboard --logdir {out}")


class _Shown:
    """Shows loss by terms, time spent waiting for data, and validation results beside a progress bar."""

    def __init__(self, progress: "Progress") -> None:
        self.progress = progress
        self.task = progress.add_task("training", total=None)
        self.waiting = 0.0

    def started(self, step: int, steps: int) -> None:
        self.progress.update(self.task, completed=step, total=steps)

    def stepped(self, step: int, terms: Mapping[str, float], waiting: float) -> None:
        self.waiting = waiting
        told = ", ".join(f"{name} {value:.3f}" for name, value in terms.items() if name != "total" or len(terms) == 1)
        self.progress.update(self.task, completed=step, description=f"{told}, {waiting:.0%} waiting for data")

    def noted(self, message: str) -> None:
        self.progress.console.print(message, style="yellow", markup=False, highlight=False)

    def validated(self, step: int, result: "Validation") -> None:
        told = [f"{name} {100 * value:.2f} %" for name, value in result.scalars().items()]
        self.progress.console.print(f"step {step}: {', '.join(told)}", highlight=False)


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


def _settings(words: Mapping[str, object]) -> "TrainingSettings":
    """Return the settings that the options stand for; those that were not given are left to recipe and defaults."""
    from pydantic import ValidationError

    from strays.errors import InputError
    from strays.training import TrainingSettings

    given = {key: one for key, one in words.items() if key in TrainingSettings.model_fields and one is not None}
    parsed = {key: parse(str(given[key])) for key, parse in _PARSED.items() if key in given}
    try:
        return TrainingSettings.model_validate({**given, **parsed})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # about several options together
            raise InputError(first["msg"].removeprefix("Value error, ")) from error
        option, told = str(first["loc"][0]).replace("_", "-"), first["msg"].removeprefix("Value error, ")
        raise InputError(f"--{option}: {told}, got {first['input']!r}") from error


_PARSED: Mapping[str, Callable[[str], object]] = {
    "crop": lambda text: _pair("--crop", text.lower(), "x", int),
    "scale": lambda text: _pair("--scale", text, ",", float),
    "trained": lambda text: tuple(filter(None, text.split(","))),
    "encoder_weights": str,
}
