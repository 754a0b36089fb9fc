"""Checkpoints from which a run continues exactly where it stopped."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import NotRequired, TypedDict, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from strays.errors import InputError
from strays.files import whole_file
from strays.training.averaging import WeightAverage
from strays.training.schedules import Schedule
from strays.training.settings import TrainingSettings

__all__ = ["CHECKPOINT", "Circumstances", "Progress", "load_checkpoint", "save_checkpoint"]

CHECKPOINT = "checkpoint.pt"


class _State(TypedDict):
    settings: str
    circumstances: dict[str, str | int]
    learner: dict[str, Tensor]
    optimizer: dict[str, object]
    schedule: dict[str, float]
    average: NotRequired[dict[str, Tensor]]
    step: int


@dataclass(frozen=True)
class Circumstances:
    """What a run finds rather than is told. Steps are counted in its scenes: with others it cannot go on.

    Args:
        scenes: which scenes there are.
        negatives: how many negatives there are.
        device: what computes.
        precision: how.
        processes: how many share a batch.
    """

    scenes: str
    negatives: str
    device: str
    precision: str
    processes: int = 1


_INDISPENSABLE = ("scenes", "negatives")


@dataclass
class Progress:
    """What changes from step to step, and has to outlast a run that is killed.

    Args:
        learner: network and recipe.
        optimizer: with its moments.
        schedule: of the learning rate.
        average: of the weights, or None.
        step: the number of steps done.
    """

    learner: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    average: WeightAverage | None
    step: int = 0


def save_checkpoint(folder: Path, settings: TrainingSettings, found: Circumstances, progress: Progress) -> None:
    """Write everything that the run needs to go on, whole or not at all.

    Order of the data, crops, negatives, colours and dropout depend on the seed and the step alone.
    """
    state = _State(
        settings=settings.model_dump_json(),
        circumstances=asdict(found),
        learner=progress.learner.state_dict(),
        optimizer=progress.optimizer.state_dict(),
        schedule=progress.schedule.state(),
        step=progress.step,
    )
    if progress.average is not None:
        state["average"] = progress.average.state()
    with whole_file(folder / CHECKPOINT) as stream:
        torch.save(state, stream)


def load_checkpoint(folder: Path, settings: TrainingSettings, found: Circumstances, progress: Progress) -> list[str]:
    """Bring a run to where it stood when its folder was last written; leave it as it is without a checkpoint.

    Returns:
        Which circumstances are others now, so that the result is not that of a run which was never stopped.

    Raises:
        InputError: if the checkpoint belongs to a run with other settings or from other data, of which it names those
            that differ, or is damaged or of another version.
    """
    path = folder / CHECKPOINT
    for unfinished in folder.glob(f".{CHECKPOINT}.*.part"):
        unfinished.unlink(missing_ok=True)  # a run that was killed while it wrote
    if not path.is_file():
        return []
    state, before = _read(path)
    if changed := _changed(before, settings.model_dump()):
        raise InputError(
            f"{folder} holds a run with other settings ({'; '.join(changed.values())}): choose another --out"
        )
    moved = _changed(state["circumstances"], asdict(found))
    if lost := [told for key, told in moved.items() if key in _INDISPENSABLE]:
        fix = "bring them back, or choose another --out to start anew"
        raise InputError(f"{folder} holds a run from other data ({'; '.join(lost)}): {fix}")
    progress.learner.load_state_dict(_with_room(state["learner"], progress.learner))
    progress.optimizer.load_state_dict(state["optimizer"])
    progress.schedule.restore(state["schedule"])
    if progress.average is not None:
        progress.average.restore(state["average"])
    progress.step = state["step"]
    return list(moved.values())


def _changed(before: Mapping[str, object], now: Mapping[str, object]) -> dict[str, str]:
    """Return by name in words what was something else before."""
    return {key: f"{key} was {before[key]}, is {value}" for key, value in now.items() if before[key] != value}


def _with_room(state: dict[str, Tensor], learner: nn.Module) -> dict[str, Tensor]:
    """Return a state; buffers that a recipe fills before the first step get a place to be loaded into."""
    for name, value in state.items():
        module, _, key = name.rpartition(".")
        owner = learner.get_submodule(module)
        if key in owner._buffers and owner._buffers[key] is None:
            owner._buffers[key] = torch.empty_like(value)
    return state


def _read(path: Path) -> tuple[_State, dict[str, object]]:
    """Return a checkpoint and the settings of its run by name."""
    try:
        state = cast(_State, torch.load(path, map_location="cpu", weights_only=True))
        settings = TrainingSettings.model_validate_json(state["settings"])
        complete = _State.__required_keys__ <= state.keys()
    except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise InputError(_damaged(path)) from error
    if not complete:
        raise InputError(_damaged(path))
    return state, settings.model_dump()


def _damaged(path: Path) -> str:
    fix = "choose another --out, or delete it to start anew"
    return f"{path} is damaged or was written by another version of strays: {fix}"
