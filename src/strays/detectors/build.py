"""Detectors from the strings that people write: ``energy``, ``energy:temperature=2``, ``nearest-neighbors@FILE``."""

import inspect
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import get_type_hints

from pydantic import TypeAdapter, ValidationError

from strays.detectors.base import DETECTORS, Detector
from strays.detectors.stored import Settings
from strays.errors import InputError

__all__ = ["build_detector"]

Value = float | int | str | bool | None


def build_detector(spec: str) -> Detector:
    """Return the detector that a string describes.

    Args:
        spec: ``NAME``, ``NAME:key=value,key=value`` with settings of that detector, or ``NAME@FILE`` for one that
            ``Detector.save`` wrote, with what was fitted.

    Raises:
        InputError: if there is no such detector, setting or file, or a value is not of the setting's type.

    Example:
        >>> build_detector("energy:temperature=2").settings()
        {'temperature': 2.0}
    """
    head, at, file = spec.strip().partition("@")
    name, _, settings = head.partition(":")
    kind = DETECTORS[name]
    if at and settings:
        raise InputError(f"{spec!r} states settings and a file; the file holds the settings: write {name}@{file}")
    return kind.load(Path(file)) if at else kind(**_parsed(name, kind, settings))


def _parsed(name: str, kind: type[Detector], text: str) -> Settings:
    types = _types(kind)
    settings: Settings = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        key, equals, value = (one.strip() for one in part.partition("="))
        if key not in types:
            raise InputError(f"{name} has no setting {key!r}; {_known(key, types)}")
        if not equals:
            raise InputError(f"{name}: the setting {key!r} has no value: write {name}:{key}=VALUE")
        settings[key] = _value(f"{name}: {key}", value, types[key])
    return settings


def _types(kind: type[Detector]) -> dict[str, TypeAdapter[Value]]:
    """Return what parses every keyword of a detector; the type of its default counts where it is not annotated."""
    hints = get_type_hints(kind.__init__)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: TypeAdapter(hints.get(one.name, type(one.default))) for one in parameters if one.kind in named}


def _value(what: str, text: str, type_: TypeAdapter[Value]) -> Value:
    try:
        return type_.validate_python(text)
    except ValidationError as error:
        if text.lower() == "none" and _optional(type_):
            return None
        raise InputError(f"{what} is {text!r}: {error.errors()[0]['msg']}") from error


def _optional(type_: TypeAdapter[Value]) -> bool:
    try:
        return type_.validate_python(None) is None
    except ValidationError:
        return False


def _known(key: str, types: Collection[str]) -> str:
    if not types:
        return "it has none"
    close = get_close_matches(key, types, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"its settings: {', '.join(types)}"
