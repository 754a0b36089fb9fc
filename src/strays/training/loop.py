"""The loop: batches in, a model directory out; killed and started again it ends with the same weights."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, AdamW

from strays.data import SceneSet, open_scenes
from strays.detectors import build_detector
from strays.errors import InputError
from strays.files import make_folder
from strays.model import Model
from strays.negatives import build_negatives
from strays.negatives.mixing import Mixture
from strays.networks.base import SegmentationNetwork, TrainingOutputs
from strays.objectives.cross_entropy import inverse_log_weights
from strays.recipes import Recipe, build_recipe
from strays.training.averaging import WeightAverage
from strays.training.checkpoints import CHECKPOINT, Circumstances, Progress, load_checkpoint, save_checkpoint
from strays.training.colours import RandomColours
from strays.training.crops import Batch, Crops, SceneMix, crop_batches, known_classes
from strays.training.devices import make_accelerator
from strays.training.learner import Learner, parameter_groups
from strays.training.logbook import Listener, Logbook, crop_pictures
from strays.training.result import trained_model
from strays.training.schedules import Schedule
from strays.training.settings import TrainingSettings
from strays.training.start import starting_point
from strays.training.validation import Validation, anomaly_metrics, closed_set_metrics

__all__ = ["Trainer", "train"]

_OPTIMIZERS = {"adamw": AdamW, "adam": Adam}
_CALIBRATION_BATCHES = 16


def train(
    settings: TrainingSettings,
    out: Path,
    listener: Listener | None = None,
    device: str = "auto",
    workers: int = 0,
    checkpoint_minutes: float = 5.0,
    validate_every: int = 1,
    validation_anomalies: Sequence[str] = (),
) -> Model:
    """Train a network and return the model, also written to ``out`` with checkpoint and TensorBoard logs.

    Args:
        settings: everything that decides the result.
        out: folder of the run; one that holds an unfinished run with the same settings is continued.
        listener: is told about progress.
        device: ``auto`` takes a GPU where there is one; or ``cpu``, ``cuda``.
        workers: processes that prepare crops; 0 prepares them in this one.
        checkpoint_minutes: how much work a kill may cost at most.
        validate_every: epochs between two looks at the validation scenes; 0 = never.
        validation_anomalies: data sets with anomaly masks (``smiyc-obstacle=DIR``) that are looked at as well.

    Raises:
        InputError: if data, negatives, network, recipe or device are unknown or do not fit, the folder holds a run
            with other settings, or the loss is no longer finite (the checkpoint before is kept).
    """
    if settings.schedule == "plateau" and validate_every != 1:
        raise InputError("the schedule plateau waits for validation after every epoch: leave --validate-every at 1")
    trainer = Trainer(settings, make_folder(out), device, validation_anomalies)
    trainer.run(listener, workers, checkpoint_minutes * 60, validate_every)
    outcome = replace(trainer.start, network=trainer.outcome)
    model = trained_model(outcome, settings, trainer.scenes.names, trainer.result)
    if trainer.accelerator.is_main_process:
        model.save(out)
    return model


class Trainer:
    """One run: network, optimiser, recipe and data, and where it stands.

    Args:
        settings: everything that decides the result.
        out: folder of the run.
        device: ``auto``, ``cpu`` or ``cuda``.
        validation_anomalies: data sets with anomaly masks to validate on.
    """

    def __init__(
        self, settings: TrainingSettings, out: Path, device: str = "auto", validation_anomalies: Sequence[str] = ()
    ) -> None:
        recipe = build_recipe(settings.recipe)  # a wrong name is told before data are opened
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.out = out
        self.detector = build_detector(recipe.detector)
        data = [open_scenes(spec, split="train") for spec in settings.data]
        self.start = starting_point(settings, known_classes(data))
        self.scenes = SceneMix(data, self.start.taxonomy)
        self.validation, self.unvalidated = _validation_scenes(settings.data[0])
        self.anomalies = _anomaly_sets(validation_anomalies)
        if settings.schedule == "plateau" and self.validation is None:
            raise InputError(f"the schedule plateau needs labelled validation scenes, and {settings.data[0]} has none")
        self.mixture = _mixture(settings, recipe)
        self.steps_per_epoch = _steps_per_epoch(self.scenes, settings)
        self.steps = settings.epochs * self.steps_per_epoch
        self.result: Validation | None = None
        self.accelerator = make_accelerator(settings.precision, out, device)
        self._check_processes()
        self._build()

    def _check_processes(self) -> None:
        parts = self.accelerator.num_processes * self.settings.accumulate
        if self.settings.batch % parts:
            processes = self.accelerator.num_processes
            raise InputError(
                f"a batch of {self.settings.batch} cannot be shared by {processes} processes that compute it in "
                f"{self.settings.accumulate} parts each: choose a --batch that {parts} divides"
            )

    def _build(self) -> None:
        settings = self.settings
        self.crops = Crops(self.scenes, settings, self.mixture)
        network = self.start.network.to(self.accelerator.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        known = len(self.start.taxonomy) - (self.start.taxonomy.void is not None)
        weights = self._class_weights(known) if settings.class_weights == "inverse-log" else None
        recipe = build_recipe(settings.recipe, weights, self.start.taxonomy.void)
        learner = Learner(network, recipe, self.scenes.space, settings.trained, settings.frozen_norm)
        groups = parameter_groups(network, settings, self.start.extended)
        optimizer = _OPTIMIZERS[settings.optimizer](groups, betas=(0.9, 0.99))
        self.schedule = Schedule(settings, self.steps)
        self.colours = RandomColours(settings.colour, settings.seed, settings.style).to(self.accelerator.device)
        self.average = WeightAverage(network, settings.average) if settings.average else None
        progress = Progress(learner, optimizer, self.schedule, self.average)
        self.found = self._circumstances()
        self.moved = load_checkpoint(self.out, settings, self.found, progress)
        self.step = progress.step
        self.learner, self.optimizer = self.accelerator.prepare(learner, optimizer)
        if self.step == 0:
            self._calibrate()
        self.learner.train()  # a model that the run starts from came in evaluation mode

    @property
    def network(self) -> SegmentationNetwork:
        """The network that is trained."""
        network: SegmentationNetwork = self._plain().network
        return network

    @property
    def outcome(self) -> SegmentationNetwork:
        """The network that is looked at and left behind: the average of the trained one, where there is one."""
        return self.network if self.average is None else self.average.network

    @property
    def recipe(self) -> Recipe:
        """The recipe with what it has learnt about the network."""
        recipe: Recipe = self._plain().recipe
        return recipe

    def _plain(self) -> Learner:
        learner: Learner = self.accelerator.unwrap_model(self.learner)
        return learner

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Show the recipe what the network makes of inlier crops, all processes the same ones."""
        crops = Crops(self.scenes, self.settings)
        steps = min(_CALIBRATION_BATCHES, self.steps_per_epoch)
        network = self.network.eval()
        device = self.accelerator.device
        batches = (
            (cast(TrainingOutputs, network.outputs(self._pixels(one))), one.labels.to(device), one.mask.to(device))
            for one in crop_batches(crops, 0, steps)
        )
        self.recipe.calibrate(batches)

    def run(
        self, listener: Listener | None, workers: int = 0, checkpoint_seconds: float = 300, validate_every: int = 1
    ) -> None:
        """Take all steps that are left."""
        logbook = Logbook(self.accelerator, listener, self.steps)
        logbook.start(self.step)
        if self.moved:
            logbook.note(f"{'; '.join(self.moved)}: the result will not be exactly that of a run without a stop")
        if validate_every and self.unvalidated:
            logbook.note(f"classes are not validated: {self.unvalidated}")
        saved = asked = time.perf_counter()
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        for batch in crop_batches(self.crops, self.step, self.steps, workers, rank, processes):
            waited = time.perf_counter() - asked
            terms = self.take_step(batch)
            now = time.perf_counter()
            try:
                logbook.step(self.step, terms, self._rate(), waited, now - asked)
                if validate_every and self._is_time(validate_every):
                    self._validate(logbook, batch)
            except BaseException:
                self.save()  # whatever went wrong with telling and validating, nothing of the training is lost
                raise
            if now - saved > checkpoint_seconds or self.step == self.steps:
                self.save()
                saved = time.perf_counter()
            asked = time.perf_counter()
        if validate_every and self.result is None:
            self._validate(logbook)
        logbook.end()
        # what is handed on computes in float32, as it will when it is loaded
        self.learner = self.accelerator.unwrap_model(self.learner, keep_fp32_wrapper=False)

    def _is_time(self, validate_every: int) -> bool:
        return self.step % (validate_every * self.steps_per_epoch) == 0 or self.step == self.steps

    def take_step(self, batch: Batch) -> dict[str, float]:
        """Learn from one batch and return the loss by terms.

        Raises:
            InputError: if the loss or its gradient is not finite; no weight has been changed then.
        """
        torch.manual_seed(_step_seed(self.settings.seed, self.step, self.accelerator.process_index))
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.schedule.factor(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        pixels = self._coloured(batch)
        terms: dict[str, float] = {}
        parts = self.settings.accumulate
        for number, (part, images) in enumerate(zip(batch.parts(parts), pixels.chunk(parts), strict=True), start=1):
            with nullcontext() if number == parts else self.accelerator.no_sync(self.learner):
                losses = self._losses(part, images)
                for name, value in losses.items():
                    terms[name] = terms.get(name, 0.0) + float(value.detach()) / parts
                self._check_finite(terms, part)
                self.accelerator.backward(losses["total"] / parts)
        norm = self.accelerator.clip_grad_norm_(self.learner.parameters(), self.settings.clip)
        self._check_finite({"gradient": float(norm)}, batch)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        self.step += 1
        return terms

    def _losses(self, batch: Batch, images: Tensor) -> Mapping[str, Tensor]:
        device = self.accelerator.device
        losses: Mapping[str, Tensor] = self.learner(images, batch.labels.to(device), batch.mask.to(device))
        return losses

    def _pixels(self, batch: Batch) -> Tensor:
        return batch.images.to(self.accelerator.device).float() / 255

    def _coloured(self, batch: Batch) -> Tensor:
        """Return the images as the network is shown them: the same ones whenever this step is taken."""
        stream = self.step * self.accelerator.num_processes + self.accelerator.process_index
        coloured: Tensor = self.colours(self._pixels(batch), stream)
        return coloured.to(memory_format=torch.channels_last)

    def save(self) -> None:
        """Write a checkpoint of the run as it stands."""
        if self.accelerator.is_main_process:
            optimizer = self.optimizer.optimizer
            progress = Progress(self._plain(), optimizer, self.schedule, self.average, self.step)
            save_checkpoint(self.out, self.settings, self.found, progress)

    def _circumstances(self) -> Circumstances:
        kinds = () if self.mixture is None else self.mixture.kinds
        return Circumstances(
            scenes=f"{len(self.scenes)} ({self.scenes.digest()})",
            negatives=", ".join(str(len(one)) for one in kinds),
            device=self.accelerator.device.type,
            precision="bfloat16" if self.accelerator.mixed_precision == "bf16" else "float32",
            processes=self.accelerator.num_processes,
        )

    def _rate(self) -> float:
        return self.schedule.factor(self.step) * self.settings.learning_rate

    def _check_finite(self, terms: Mapping[str, float], batch: Batch) -> None:
        broken = [name for name, value in terms.items() if not isfinite(value)]
        if broken:
            names = ", ".join(self.scenes.scene_name(int(index)) for index in batch.indices)
            kept = f"the last checkpoint in {self.out} is kept" if (self.out / CHECKPOINT).is_file() else "none is kept"
            raise InputError(
                f"the training is no longer finite at step {self.step} ({', '.join(broken)}) on {names}; {kept}: start "
                "anew with a smaller --learning-rate and another --out"
            )

    def _validate(self, logbook: Logbook, batch: Batch | None = None) -> None:
        """Look at the validation scenes in the first process, and let the others know."""
        found = [self._validated() if self.accelerator.is_main_process else None]
        self.learner.train()  # what looks at a network sets its mode, and frozen batch norms have one of their own
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast_object_list(found)
        self.result = found[0]
        if self.result is None:
            return
        if self.result.closed:
            self.schedule.validated(self.result.closed["mIoU"])
        logbook.validation(self.step, self.result)
        if batch is not None and self.accelerator.is_main_process:
            logbook.pictures(self.step, self._pictures(batch))
            self.learner.train()

    def _validated(self) -> Validation | None:
        network, taxonomy, device = self.outcome, self.start.taxonomy, self.accelerator.device
        if self.validation is None and not self.anomalies:
            return None
        found = {one.name: anomaly_metrics(network, self.detector, one, taxonomy, device) for one in self.anomalies}
        if self.validation is None:
            return Validation(anomalies=found)
        return Validation(closed_set_metrics(network, self.validation, taxonomy, device, self.start.labels), found)

    def _pictures(self, batch: Batch) -> dict[str, np.ndarray]:
        return crop_pictures(self.outcome, self.detector, batch, self._pixels(batch), self.start.taxonomy.void)

    def _class_weights(self, known: int) -> Tensor:
        counts = torch.zeros(256, dtype=torch.long)
        for scene in self.scenes:
            if scene.labels is not None:
                counts += torch.bincount(torch.from_numpy(scene.labels).flatten().long(), minlength=256)
        return inverse_log_weights(counts[:known])


def _mixture(settings: TrainingSettings, recipe: Recipe) -> Mixture | None:
    """Return the negatives of a run.

    Raises:
        InputError: if the recipe cannot do without, and there are none.
    """
    if settings.negatives:
        return Mixture([build_negatives(spec) for spec in settings.negatives], settings.negative_share)
    if recipe.card.needs.negatives:
        raise InputError(
            f"the recipe {settings.recipe_name} learns from negatives, and there are none: name a folder of objects or "
            "images with --negatives objects=DIR or patches=DIR, or take the unlabelled pixels with --negatives void"
        )
    return None


def _anomaly_sets(specs: Sequence[str]) -> list[SceneSet]:
    """Return the data sets to validate anomaly scores on.

    Raises:
        InputError: if one has no anomaly masks, or two have the same name.
    """
    sets = [open_scenes(spec) for spec in specs]
    for number, one in enumerate(sets):
        if not one.has_masks:
            raise InputError(f"--validation-anomalies: {one.name} has scenes without anomaly masks")
        if one.name in [other.name for other in sets[:number]]:
            raise InputError(f"--validation-anomalies: two sets are called {one.name}: write OTHER={one.name.upper()}")
    return sets


def _validation_scenes(spec: str) -> tuple[SceneSet | None, str]:
    """Return the labelled ``val`` split of the first data set of a run, or None and why there is none."""
    try:
        scenes = open_scenes(spec, split="val")
    except InputError as error:
        return None, str(error)
    return (scenes, "") if scenes.has_labels else (None, f"the split val of {scenes.name} has no labels")


def _steps_per_epoch(scenes: SceneMix, settings: TrainingSettings) -> int:
    steps = len(scenes) // settings.batch
    if steps == 0:
        raise InputError(f"{len(scenes)} scenes do not fill a batch of {settings.batch}: choose a smaller --batch")
    return steps


def _step_seed(seed: int, step: int, process: int) -> int:
    """Return the seed of one step: dropout draws the same whether or not the run was stopped in between."""
    entropy = [seed, step] if process == 0 else [seed, step, process]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
