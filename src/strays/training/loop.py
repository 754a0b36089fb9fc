"""The loop: batches in, a model directory out; killed and started again it ends with the same weights."""

import time
from collections.abc import Mapping
from math import cos, isfinite, pi
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim import AdamW

from strays.data import SceneSet, open_scenes
from strays.errors import InputError
from strays.files import make_folder
from strays.loading import choose_device
from strays.metrics import ClosedSetResult
from strays.model import Model
from strays.networks.base import NETWORKS, SegmentationNetwork
from strays.networks.weights import load_state, read_weights
from strays.objectives.cross_entropy import inverse_log_weights
from strays.recipes import RECIPES, Recipe
from strays.taxonomy import IGNORE
from strays.training.checkpoints import load_checkpoint, save_checkpoint
from strays.training.colours import RandomColours
from strays.training.crops import Crops, SceneMix, crop_batches
from strays.training.result import trained_model
from strays.training.settings import Precision, TrainingSettings
from strays.training.validation import closed_set_metrics

__all__ = ["Listener", "Trainer", "train"]

_WARM_UP = 50
_SCALARS_EVERY = 10
_DEVICES = ("auto", "cpu", "cuda")


class Listener(Protocol):
    """Whoever wants to show how a run goes on; all calls are made from the loop's own thread."""

    def started(self, step: int, steps: int) -> None:
        """The run starts, or continues behind ``step`` of ``steps``."""

    def stepped(self, step: int, terms: Mapping[str, float], waiting: float) -> None:
        """A step is done: its loss by terms, and the share of the time that was spent waiting for data."""

    def validated(self, step: int, result: ClosedSetResult) -> None:
        """The validation scenes were looked at."""


def train(
    settings: TrainingSettings,
    out: Path,
    listener: Listener | None = None,
    device: str = "auto",
    workers: int = 0,
    checkpoint_minutes: float = 5.0,
    validate_every: int = 1,
) -> Model:
    """Train a network and return the model, also written to ``out`` with checkpoint and TensorBoard logs.

    Args:
        settings: everything that decides the result.
        out: folder of the run; one that holds an unfinished run with the same settings is continued.
        listener: is told about progress.
        device: ``auto`` takes a GPU where there is one; or ``cpu``, ``cuda``.
        workers: processes that prepare crops; 0 prepares them in this one.
        checkpoint_minutes: how much work a kill may cost at most.
        validate_every: epochs between two looks at the validation scenes, from 1.

    Raises:
        InputError: if data, network, recipe or device are unknown or do not fit, the folder holds a run with other
            settings, or the loss is no longer finite (the checkpoint before is kept).
    """
    trainer = Trainer(settings, make_folder(out), device)
    trainer.run(listener, workers, checkpoint_minutes * 60, validate_every)
    model = trained_model(trainer.network, settings, trainer.scenes, trainer.result)
    model.save(out)
    return model


class Trainer:
    """One run: network, optimiser, recipe and data, and where it stands.

    Args:
        settings: everything that decides the result.
        out: folder of the run.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(self, settings: TrainingSettings, out: Path, device: str = "auto") -> None:
        kinds = NETWORKS[settings.network], RECIPES[settings.recipe]  # a wrong name is told before data are opened
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.out = out
        self.scenes = SceneMix([open_scenes(spec, split="train") for spec in settings.data])
        self.validation = _validation_scenes(settings.data[0])
        self.steps_per_epoch = _steps_per_epoch(self.scenes, settings)
        self.steps = settings.epochs * self.steps_per_epoch
        self.result: ClosedSetResult | None = None
        self.accelerator = _accelerator(settings.precision, out, device)
        self._build(*kinds)

    def _build(self, kind: type[SegmentationNetwork], recipe: type[Recipe]) -> None:
        settings = self.settings
        network = kind(classes=len(self.scenes.taxonomy))
        if settings.encoder_weights is not None:
            _load_encoder(network, Path(settings.encoder_weights))
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = AdamW(_parameter_groups(network, settings), betas=(0.9, 0.99))
        weights = _class_weights(self.scenes) if settings.class_weights == "inverse-log" else None
        self.recipe = recipe(weights).to(self.accelerator.device)
        self.colours = RandomColours(settings.colour, settings.seed).to(self.accelerator.device)
        self.step = load_checkpoint(self.out, settings, network, optimizer)
        self.network: SegmentationNetwork
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)

    def run(
        self, listener: Listener | None, workers: int = 0, checkpoint_seconds: float = 300, validate_every: int = 1
    ) -> None:
        """Take all steps that are left."""
        self.accelerator.init_trackers("tensorboard")
        if listener is not None:
            listener.started(self.step, self.steps)
        saved = asked = time.perf_counter()
        for images, labels in crop_batches(Crops(self.scenes, self.settings), self.step, self.steps, workers):
            waited = time.perf_counter() - asked
            terms = self.take_step(images, labels)
            now = time.perf_counter()
            self._report(listener, terms, waited / (now - asked))
            if self.step % (validate_every * self.steps_per_epoch) == 0 or self.step == self.steps:
                self._validate(listener)
            if now - saved > checkpoint_seconds or self.step == self.steps:
                self.save()
                saved = time.perf_counter()
            asked = time.perf_counter()
        if self.result is None:
            self._validate(listener)
        self.accelerator.end_training()
        # what is handed on computes in float32, as it will when it is loaded
        self.network = self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)

    def take_step(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Learn from one batch, images (N, 3, h, w) and labels (N, h, w) uint8, and return the loss by terms."""
        device = self.accelerator.device
        torch.manual_seed(_step_seed(self.settings.seed, self.step))
        pixels = self.colours(images.to(device).float() / 255, self.step).to(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._rate()
        with self.accelerator.autocast():  # also for networks whose outputs are not made by forward
            outputs = self.network.outputs(pixels)
        losses = self.recipe.losses(outputs, labels.to(device))
        terms = {name: float(value.detach()) for name, value in losses.items()}
        self._check_finite(terms)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(losses["total"])
        self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        self.step += 1
        return terms

    def save(self) -> None:
        """Write a checkpoint of the run as it stands."""
        network = self.accelerator.unwrap_model(self.network)
        save_checkpoint(self.out, self.settings, network, self.optimizer.optimizer, self.step)

    def _rate(self) -> float:
        """Return the factor on the learning rate: a short linear start, then half a cosine."""
        floor = self.settings.final_learning_rate / self.settings.learning_rate
        cosine = floor + (1 - floor) * (1 + cos(pi * self.step / self.steps)) / 2
        return min(1.0, (self.step + 1) / _WARM_UP) * cosine

    def _check_finite(self, terms: Mapping[str, float]) -> None:
        broken = [name for name, value in terms.items() if not isfinite(value)]
        if broken:
            raise InputError(
                f"the loss is no longer finite at step {self.step} ({', '.join(broken)}); the last checkpoint in "
                f"{self.out} is kept: start anew with a smaller --learning-rate"
            )

    def _report(self, listener: Listener | None, terms: Mapping[str, float], waiting: float) -> None:
        if self.step % _SCALARS_EVERY == 0:
            scalars = {f"loss/{name}": value for name, value in terms.items()}
            self.accelerator.log({**scalars, "learning rate": self._rate() * self.settings.learning_rate}, self.step)
        if listener is not None:
            listener.stepped(self.step, terms, waiting)

    def _validate(self, listener: Listener | None) -> None:
        if self.validation is None:
            return
        classes = len(self.scenes.taxonomy)
        self.result = closed_set_metrics(self.network, self.validation, classes, self.accelerator.device)
        self.accelerator.log({"validation/mIoU": self.result["mIoU"]}, self.step)
        if listener is not None:
            listener.validated(self.step, self.result)


def _validation_scenes(spec: str) -> SceneSet | None:
    """Return the labelled ``val`` split of the first data set of a run, or None where it has none."""
    try:
        scenes = open_scenes(spec, split="val")
    except InputError:
        return None
    return scenes if scenes.has_labels else None


def _steps_per_epoch(scenes: SceneMix, settings: TrainingSettings) -> int:
    steps = len(scenes) // settings.batch
    if steps == 0:
        raise InputError(f"{len(scenes)} scenes do not fill a batch of {settings.batch}: choose a smaller --batch")
    return steps


def _step_seed(seed: int, step: int) -> int:
    """Return the seed of one step: dropout draws the same whether or not the run was stopped in between."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def _accelerator(precision: Precision, out: Path, device: str) -> Accelerator:
    if device not in _DEVICES:
        fix = "of several GPUs, choose one with CUDA_VISIBLE_DEVICES"
        raise InputError(f"--device {device}: training takes one of {', '.join(_DEVICES)}; {fix}")
    choose_device(device)
    mixed = "bf16" if _in_bfloat16(precision, device) else "no"
    try:
        return Accelerator(cpu=device == "cpu", mixed_precision=mixed, log_with="tensorboard", project_dir=out)
    except ValueError:  # Accelerate keeps device and precision of a process's first run; forget them
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(cpu=device == "cpu", mixed_precision=mixed, log_with="tensorboard", project_dir=out)


def _in_bfloat16(precision: Precision, device: str) -> bool:
    if precision != "auto":
        return precision == "bfloat16"
    if device != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    # without the instruction bfloat16 is emulated and many times slower than float32
    known = getattr(torch.cpu, "get_capabilities", None)  # PyTorch before 2.9 cannot tell
    return bool(known and known().get("avx512_bf16"))


def _load_encoder(network: nn.Module, path: Path) -> None:
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise InputError(f"{type(network).__name__} has no encoder to load {path} into: leave --encoder-weights out")
    load_state(encoder, {key: value.float() for key, value in read_weights(path).items()}, str(path))


def _parameter_groups(network: nn.Module, settings: TrainingSettings) -> list[dict[str, object]]:
    pretrained = settings.encoder_weights is not None
    slow = [one for name, one in network.named_parameters() if pretrained and name.startswith("encoder.")]
    chosen = {id(one) for one in slow}
    fast = [one for one in network.parameters() if id(one) not in chosen]
    groups = []
    for parameters, factor in ((fast, 1.0), (slow, settings.encoder_rate)):
        rate = settings.learning_rate * factor
        decay = settings.weight_decay * factor
        groups.append({"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay})
    return [group for group in groups if group["params"]]


def _class_weights(scenes: SceneMix) -> Tensor:
    counts = torch.zeros(256, dtype=torch.long)
    for scene in scenes:
        if scene.labels is not None:
            counts += torch.bincount(torch.from_numpy(scene.labels).flatten().long(), minlength=256)
    counts[IGNORE] = 0
    return inverse_log_weights(counts[: len(scenes.taxonomy)])
