"""What the adapters of other people's networks share: they check what they are given and say what came instead."""

import json
from collections.abc import Mapping
from typing import Annotated, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from strays.errors import InputError
from strays.networks.base import Normalization

__all__ = ["as_normalization", "checked_logits", "normalization_json"]

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")

    mean: tuple[_Number, _Number, _Number]
    std: tuple[_Positive, _Positive, _Positive]


def as_normalization(given: object) -> Normalization:
    """Return a normalization given as such, as JSON, as a mapping with ``mean`` and ``std``, or as that pair.

    Raises:
        InputError: if it is none of these, or holds something else than three numbers each, those of ``std`` positive.

    Example:
        >>> as_normalization('{"mean": [0, 0, 0.5], "std": [1, 1, 0.5]}').std
        (1.0, 1.0, 0.5)
    """
    if isinstance(given, Normalization):
        return given
    try:
        facts = json.loads(given) if isinstance(given, str) else given
        if isinstance(facts, (list, tuple)) and len(facts) == 2:
            facts = {"mean": facts[0], "std": facts[1]}
        valid = _Given.model_validate(facts)
    except (ValidationError, ValueError) as error:
        expected = '{"mean": [red, green, blue], "std": [red, green, blue]}'
        raise InputError(f"expected a normalization like {expected} for RGB in [0, 1], got {given!r}") from error
    return Normalization(valid.mean, valid.std)


def normalization_json(normalization: Normalization) -> str:
    """Return the JSON that ``as_normalization`` reads."""
    return _Given(mean=normalization.mean, std=normalization.std).model_dump_json()


def checked_logits(output: object, images: int, source: str) -> Tensor:
    """Return the logits (N, K, h, w) in what a foreign network gave: a tensor, or a mapping with ``logits`` or ``out``.

    Args:
        output: what it gave.
        images: N, the number of images it was given.
        source: what the network is called in messages.

    Raises:
        InputError: if there are no such logits, or they are class indices.
    """
    if isinstance(output, Mapping):
        output = _picked(output, source)
    expected = f"{source} must return logits (N, K, h, w) for N images, or a mapping with 'logits' or 'out'"
    if not isinstance(output, Tensor):
        raise InputError(f"{expected}; it returned {_described(output)}")
    if not output.is_floating_point():
        raise InputError(
            f"{expected}; it returned {output.dtype} {tuple(output.shape)}: return what argmax was taken of"
        )
    if output.ndim != 4 or len(output) != images:
        raise InputError(f"{expected}; for N = {images} it returned {tuple(output.shape)}")
    return output


def _picked(output: Mapping[str, object], source: str) -> object:
    for key in ("logits", "out"):
        if key in output:
            return output[key]
    found = ", ".join(map(str, output)) or "nothing"
    raise InputError(f"{source} must return a mapping with 'logits' or 'out'; it holds {found}")


def _described(output: object) -> str:
    if isinstance(output, (list, tuple)):
        return f"a {type(output).__name__} of {len(cast('tuple[object, ...]', output))}"
    return type(output).__name__
