"""Reading weights files: safetensors, or third-party checkpoints without ever unpickling code."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from strays.errors import WeightsError
from strays.networks.base import StateDict

__all__ = ["file_sha256", "load_state", "read_weights"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
_SHOWN = 5


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_weights(path: Path) -> StateDict:
    """Return the tensors of a weights file by name, on the CPU, without the ``module.`` prefix of DataParallel.

    ``.safetensors`` files are read as such; anything else by ``torch.load(weights_only=True)``, which refuses every
    object that is not plain data before any of its code could run.

    Raises:
        WeightsError: if the file is missing, damaged, holds something else than tensors, or would have to run code.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}: check the path behind the @ of --model")
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else _torch_load(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a plain weights file and was refused, nothing in it was run: save a state dict of "
            "tensors, with safetensors or torch.save(network.state_dict(), path)"
        ) from error
    except Exception as error:
        if "TorchScript archives" in str(error):
            raise WeightsError(f"{path} is a whole network in TorchScript: write --model torchscript:{path}") from error
        # a damaged pickle stream ends in any of a dozen kinds, AssertionError among them
        raise WeightsError(f"{path} cannot be read as weights ({_first_line(error)}): fetch it again") from error
    return _without_prefix(_unwrapped(loaded, path))


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load tensors into a network, all of them or none.

    Raises:
        WeightsError: if keys or shapes differ; the message names which.
    """
    expected = network.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in state and key not in counters]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    differences = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    found = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in differences if keys)
    if found:
        raise WeightsError(f"{source} holds the weights of another network than {type(network).__name__}: {found}")
    network.load_state_dict(state, strict=False)


def _torch_load(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that it refuses a moment later
        return torch.load(path, map_location="cpu", weights_only=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _unwrapped(loaded: object, path: Path) -> Mapping[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path} holds {type(loaded).__name__}, expected tensors by name (a state dict)")
    others = [str(key) for key, value in loaded.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        raise WeightsError(f"{path} holds more than tensors by name: {_some(others)}; save only the state dict")
    return loaded


def _without_prefix(state: Mapping[str, Tensor]) -> StateDict:
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
