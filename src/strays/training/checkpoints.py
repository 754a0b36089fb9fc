"""Checkpoints from which a run continues exactly where it stopped."""

from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from strays.errors import InputError
from strays.files import whole_file
from strays.training.settings import TrainingSettings

__all__ = ["CHECKPOINT", "load_checkpoint", "save_checkpoint"]

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(
    folder: Path, settings: TrainingSettings, network: nn.Module, optimizer: Optimizer, step: int
) -> None:
    """Write everything that the run needs to go on, whole or not at all."""
    state = {
        "settings": settings.model_dump_json(),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    with whole_file(folder / CHECKPOINT) as stream:
        torch.save(state, stream)


def load_checkpoint(folder: Path, settings: TrainingSettings, network: nn.Module, optimizer: Optimizer) -> int:
    """Restore network and optimizer from a folder and return the number of steps done; 0 without a checkpoint.

    Raises:
        InputError: if the checkpoint belongs to a run with other settings; names those that differ.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    before = TrainingSettings.model_validate_json(state["settings"]).model_dump()
    changed = [f"{key} was {before[key]}, is {now}" for key, now in settings.model_dump().items() if before[key] != now]
    if changed:
        raise InputError(f"{folder} holds a run with other settings ({'; '.join(changed)}): choose another --out")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
