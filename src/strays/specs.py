"""Settings of a component in words: ``key=value`` parsed by the types of its keyword arguments."""

import inspect
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from typing import get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from strays.errors import InputError

__all__ = ["Value", "parsed_settings", "setting_types"]

Value = float | int | str | bool | None
"""What a setting in words may become."""

_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)


def parsed_settings(
    name: str, kind: Callable[..., object], parts: Sequence[str], without: Collection[str] = ()
) -> dict[str, Value]:
    """Return the keyword arguments of a class or factory that ``key=value`` stands for.

    Args:
        name: what the component is called in messages.
        kind: what takes the arguments.
        parts: one ``key=value`` each; empty ones are passed over.
        without: arguments that are no settings.

    Raises:
        InputError: if a key is unknown or a value is not of the argument's type.

    Example:
        >>> def scaled(factor: float = 1.0, exact: bool = False) -> None: ...
        >>> parsed_settings("scaled", scaled, ["factor=2", "exact=yes"])
        {'factor': 2.0, 'exact': True}
    """
    types = {key: type_ for key, type_ in setting_types(kind).items() if key not in without}
    settings: dict[str, Value] = {}
    for part in filter(None, (one.strip() for one in parts)):
        key, equals, value = (one.strip() for one in part.partition("="))
        if key not in types:
            raise InputError(f"{name} has no setting {key!r}; {_known(key, types)}")
        if not equals:
            raise InputError(f"{name}: the setting {key!r} has no value: write {name}:{key}=VALUE")
        settings[key] = _value(f"{name}: {key}", value, types[key])
    return settings


def setting_types(kind: Callable[..., object]) -> dict[str, TypeAdapter[Value]]:
    """Return what parses every keyword of a component; the type of its default counts where it is not annotated."""
    hints = get_type_hints(_initializer(kind))
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(kind).parameters.values()
    given = {one.name: hints.get(one.name, type(one.default)) for one in parameters if one.kind in named}
    return {key: TypeAdapter(hint, config=_ANY_CLASS) for key, hint in given.items()}


def _initializer(kind: Callable[..., object]) -> Callable[..., object]:
    initializer: Callable[..., object] = getattr(kind, "__init__") if isinstance(kind, type) else kind  # noqa: B009
    return initializer


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
