"""Where a run computes, how precisely, and in how many processes."""

from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from strays.errors import InputError
from strays.loading import choose_device
from strays.training.settings import Precision

__all__ = ["make_accelerator"]

_DEVICES = ("auto", "cpu", "cuda")


def make_accelerator(precision: Precision, out: Path, device: str) -> Accelerator:
    """Return what prepares network and optimiser for the devices at hand, one or, under ``torchrun``, several.

    Raises:
        InputError: if the device is unknown or not there.
    """
    if device not in _DEVICES:
        fix = "of several GPUs, choose one with CUDA_VISIBLE_DEVICES"
        raise InputError(f"--device {device}: training takes one of {', '.join(_DEVICES)}; {fix}")
    choose_device(device)
    mixed = "bf16" if _in_bfloat16(precision, device) else "no"
    try:
        return _accelerator(mixed, out, device)
    except ValueError:  # Accelerate keeps device and precision of a process's first run; forget them
        AcceleratorState._reset_state(reset_partial_state=True)
        return _accelerator(mixed, out, device)


def _accelerator(mixed: str, out: Path, device: str) -> Accelerator:
    # networks may have parameters that no loss reaches, such as a head for another size
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        # Unless it is told, Accelerate takes several processes without a GPU for as many runs of one process.
        cpu=device == "cpu" or not torch.cuda.is_available(),
        mixed_precision=mixed,
        log_with="tensorboard",
        project_dir=out,
        kwargs_handlers=[unused],
    )


def _in_bfloat16(precision: Precision, device: str) -> bool:
    if precision != "auto":
        return precision == "bfloat16"
    if device != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    # without the instruction bfloat16 is emulated and many times slower than float32
    known = getattr(torch.cpu, "get_capabilities", None)  # PyTorch before 2.9 cannot tell
    return bool(known and known().get("avx512_bf16"))
