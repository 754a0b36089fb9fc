"""Components in words: ``name(value,key=value)`` taken apart and parsed by the types of the keyword arguments."""

import inspect
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from fractions import Fraction
from typing import get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from strays.errors import InputError

__all__ = ["Value", "call_arguments", "is_setting", "parsed_scales", "parsed_settings", "setting_types", "split_parts"]

Value = float | int | str | bool | None
"""What a setting in words may become."""

_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)


def split_parts(text: str) -> list[str]:
    """Return what stands between the commas that are in no bracket, empty parts left out.

    Example:
        >>> split_parts("a(b,c=1), d=2")
        ['a(b,c=1)', 'd=2']
    """
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def is_setting(part: str) -> bool:
    """Return whether a part is ``key=value``, and no component in words or path that holds an equals sign.

    Example:
        >>> [is_setting(part) for part in ("sigma=2", "energy:temperature=2", "runs/rate=0.1/model")]
        [True, False, False]
    """
    return "=" in part and not any(mark in part.partition("=")[0] for mark in ":@(/")


def call_arguments(spec: str, name: str, kind: Callable[..., object]) -> list[str]:
    """Return ``key=value`` for every argument of ``name(value,key=value)``; those without a key get it by position.

    ``key=value`` belongs to the value before it where that may have settings, which a colon begins (``odin:step=0.1``,
    ``hf:ORG/ID``), and the component itself knows no such key.

    Args:
        spec: the component in words, with its brackets.
        name: what it is called there.
        kind: what takes the arguments.

    Raises:
        InputError: if the closing bracket is missing, or there are more values than keys.

    Example:
        >>> def scaled(other: str, factor: float = 1.0) -> None: ...
        >>> call_arguments("scaled(odin:temperature=2,step=0.1,factor=3)", "scaled", scaled)
        ['other=odin:temperature=2,step=0.1', 'factor=3']
    """
    rest = spec.strip().removeprefix(name).strip()
    if not rest.endswith(")"):
        raise InputError(f"{spec!r} has no closing bracket at its end: write {name}(...)")
    keys = list(setting_types(kind))
    values: list[str] = []
    settings: list[str] = []
    for part in split_parts(rest[1:-1]):
        known = part.partition("=")[0].strip() in keys
        if not is_setting(part):
            values.append(part)
        elif not known and values and ":" in values[-1].partition("(")[0]:
            values[-1] += f",{part}"
        else:
            settings.append(part)
    if len(values) > len(keys):
        raise InputError(f"{name} takes at most {len(keys)} values, got {len(values)}: {', '.join(values)}")
    return [f"{key}={value}" for key, value in zip(keys, values, strict=False)] + settings


def parsed_scales(scales: str) -> tuple[Fraction, ...]:
    """Return the numbers in a setting such as ``"300/720+1"``.

    Raises:
        InputError: if one is no number above 0.

    Example:
        >>> parsed_scales("1/2 + 1.5")
        (Fraction(1, 2), Fraction(3, 2))
    """
    try:
        parsed = tuple(Fraction(part.strip()) for part in scales.split("+"))
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"expected scales such as 1 or 300/720+1, got {scales!r}") from error
    if min(parsed) <= 0:
        raise InputError(f"expected scales above 0, got {scales!r}")
    return parsed


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
