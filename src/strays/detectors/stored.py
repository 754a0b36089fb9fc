"""A detector as one safetensors file: its tensors, and the rest as JSON in the metadata."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from strays.errors import WeightsError
from strays.files import whole_file

__all__ = [
    "Facts",
    "FittedOn",
    "Settings",
    "read_described",
    "read_detector",
    "restore",
    "write_described",
    "write_detector",
]

M = TypeVar("M", bound=BaseModel)

Settings = dict[str, float | int | str | bool | None]
"""The keyword arguments that build a detector."""

_KEY = "strays.detector"


class FittedOn(BaseModel):
    """What a detector was fitted on.

    Args:
        model: name of the model.
        weights_sha256: over the weights of its network.
        taxonomy: name of its classes.
        void: the index of its void channel, or None.
        data: the data sets, each with its split and the number of images that were used.
        images: how many images there were together.
        max_side: what longer images were shrunk to, or None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights_sha256: str
    taxonomy: str
    void: int | None = None
    data: tuple[str, ...] = ()
    images: int = 0
    max_side: int | None = None


class Facts(BaseModel):
    """What rebuilds a detector before its tensors are put back, and where these come from.

    Args:
        name: what it is registered as.
        settings: the keyword arguments that build it.
        version: of the library that wrote it.
        taps: the features that it reads.
        fitted_on: what it was fitted on; None where nothing was, or where nobody said on what.
        absent: the classes that never occurred when it was fitted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    settings: Settings
    version: str
    taps: tuple[str, ...] = ()
    fitted_on: FittedOn | None = None
    absent: tuple[int, ...] = ()


def write_detector(path: Path, facts: Facts, state: Mapping[str, Tensor]) -> None:
    """Write a detector's facts and tensors into one file, whole or not at all."""
    write_described(path, _KEY, facts, state)


def read_detector(path: Path) -> tuple[Facts, dict[str, Tensor]]:
    """Return the facts and the tensors, on the CPU, of a file that ``write_detector`` wrote.

    Raises:
        WeightsError: if the file is missing, damaged, or holds no detector.
    """
    return read_described(path, _KEY, Facts, "detector")


def write_described(path: Path, key: str, description: BaseModel, state: Mapping[str, Tensor]) -> None:
    """Write tensors into one safetensors file, with a description as JSON in its metadata, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    # A single key: safetensors does not promise the order of several, and equal detectors shall have equal bytes.
    content = save(tensors, metadata={key: description.model_dump_json()})
    with whole_file(path) as stream:
        stream.write(content)


def read_described(path: Path, key: str, kind: type[M], what: str) -> tuple[M, dict[str, Tensor]]:
    """Return the description and the tensors, on the CPU, of a file that ``write_described`` wrote.

    Args:
        path: the file.
        key: what the description is kept under.
        kind: the class of the description.
        what: what such a file holds, in a word for messages.

    Raises:
        WeightsError: if the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"no {what} file at {path}: check the path, or write one with `strays fit`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return kind.model_validate_json(metadata[key]), state
    except KeyError as error:
        raise WeightsError(f"{path} is a safetensors file without a {what}: give one that strays fit wrote") from error
    except (SafetensorError, ValidationError, OSError) as error:
        reason = str(error).splitlines()[0][:120]
        raise WeightsError(f"{path} cannot be read as a {what} ({reason}): write it again with `strays fit`") from error


def restore(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put saved tensors back into a freshly built module.

    Parameters keep the shape they were built with. Buffers take whatever shape was saved, because that of a fitted
    statistic depends on the data; one that is None until it is fitted will do.

    Raises:
        WeightsError: if the tensors are those of another module.
    """
    for key, value in state.items():
        _make_room(module, key, value)
    try:
        module.load_state_dict(dict(state), assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise WeightsError(f"{source} does not fit {type(module).__name__} ({reason}): write it again") from error


def _make_room(module: nn.Module, key: str, value: Tensor) -> None:
    path, _, leaf = key.rpartition(".")
    # An owner that does not exist is load_state_dict's to report.
    with suppress(AttributeError):
        owner = module.get_submodule(path)
        present = getattr(owner, leaf)
        if present is None or (isinstance(present, Tensor) and not isinstance(present, nn.Parameter)):
            setattr(owner, leaf, value)
