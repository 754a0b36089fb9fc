"""Checkpoints from which a run continues exactly where it stopped."""

from pathlib import Path
from pickle import UnpicklingError
from typing import TypedDict, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from strays.errors import InputError
from strays.files import whole_file
from strays.training.settings import TrainingSettings

__all__ = ["CHECKPOINT", "load_checkpoint", "save_checkpoint"]

CHECKPOINT = "checkpoint.pt"


class _State(TypedDict):
    settings: str
    network: dict[str, Tensor]
    optimizer: dict[str, object]
    step: int


def save_checkpoint(
    folder: Path, settings: TrainingSettings, network: nn.Module, optimizer: Optimizer, step: int
) -> None:
    """Write everything that the run needs to go on, whole or not at all."""
    state = _State(
        settings=settings.model_dump_json(),
        network=network.state_dict(),
        optimizer=optimizer.state_dict(),
        step=step,
    )
    with whole_file(folder / CHECKPOINT) as stream:
        torch.save(state, stream)


def load_checkpoint(folder: Path, settings: TrainingSettings, network: nn.Module, optimizer: Optimizer) -> int:
    """Restore network and optimizer from a folder and return the number of steps done; 0 without a checkpoint.

    Raises:
        InputError: if the checkpoint belongs to a run with other settings, of which it names those that differ, or is
            damaged or of another version.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return 0
    state, before = _read(path)
    changed = [f"{key} was {before[key]}, is {now}" for key, now in settings.model_dump().items() if before[key] != now]
    if changed:
        raise InputError(f"{folder} holds a run with other settings ({'; '.join(changed)}): choose another --out")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def _read(path: Path) -> tuple[_State, dict[str, object]]:
    """Return a checkpoint and the settings of its run by name."""
    try:
        state = cast(_State, torch.load(path, map_location="cpu", weights_only=True))
        settings = TrainingSettings.model_validate_json(state["settings"])
    except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError, ValidationError) as error:
        fix = "choose another --out, or delete it to start anew"
        raise InputError(f"{path} is damaged or was written by another version of strays: {fix}") from error
    return state, settings.model_dump()
