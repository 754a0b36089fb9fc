"""Detectors from the strings that people write: ``energy``, ``energy:temperature=2``, ``smoothed(energy,sigma=2)``."""

from pathlib import Path

from strays.detectors.base import DETECTORS, Detector
from strays.errors import InputError
from strays.specs import parsed_settings, setting_types

__all__ = ["build_detector", "spec_of", "split_specs"]


def build_detector(spec: str) -> Detector:
    """Return the detector that a string describes.

    Args:
        spec: ``NAME``; ``NAME:key=value,key=value`` or ``NAME(key=value,key=value)`` with settings of that detector;
            ``NAME@FILE`` for one that ``Detector.save`` wrote, with what was fitted. Wrappers take other detectors
            first: ``smoothed(nearest-neighbors@FILE,sigma=2)``.

    Raises:
        InputError: if there is no such detector, setting or file, or a value is not of the setting's type.

    Example:
        >>> build_detector("energy:temperature=2").settings()
        {'temperature': 2.0}
        >>> build_detector("smoothed(energy(temperature=2),sigma=3)").settings()
        {'detector': 'energy(temperature=2.0)', 'sigma': 3.0}
    """
    spec = spec.strip()
    name = spec.split("(")[0].split("@")[0].split(":")[0].strip()
    kind, rest = DETECTORS[name], spec[len(name) :].strip()
    if rest.startswith("("):
        if not rest.endswith(")"):
            raise InputError(f"{spec!r} has no closing bracket at its end: write {name}(...)")
        return kind(**parsed_settings(name, kind, _arguments(name, kind, rest[1:-1])))
    settings, at, file = rest.partition("@")
    if at and settings:
        raise InputError(f"{spec!r} states settings and a file; the file holds the settings: write {name}@{file}")
    return kind.load(Path(file)) if at else kind(**parsed_settings(name, kind, settings.removeprefix(":").split(",")))


def spec_of(detector: Detector) -> str:
    """Return the string that builds a detector again, apart from what was fitted.

    Example:
        >>> spec_of(build_detector("energy:temperature=2"))
        'energy(temperature=2.0)'
    """
    settings = ",".join(f"{key}={value}" for key, value in detector.settings().items())
    return f"{detector.name}({settings})" if settings else detector.name


def split_specs(text: str) -> list[str]:
    """Return the parts of ``a,b:key=1,key=2,c(d,key=3)``.

    A part with ``=`` but without ``:`` belongs to the one before; commas between brackets part nothing.

    Example:
        >>> split_specs("msp, entropy:temperature=2,normalised=no, smoothed(energy,sigma=2)")
        ['msp', 'entropy:temperature=2,normalised=no', 'smoothed(energy,sigma=2)']
    """
    specs: list[str] = []
    for part in _top_level(text):
        if specs and _is_setting(part):
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    return specs


def _top_level(text: str) -> list[str]:
    """Return what stands between the commas that are in no bracket."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _is_setting(part: str) -> bool:
    return "=" in part and not any(mark in part.partition("=")[0] for mark in ":@(")


def _arguments(name: str, kind: type[Detector], text: str) -> list[str]:
    """Return ``key=value`` for every argument of a call; those without a key get theirs by position.

    ``key=value`` belongs to the detector before it where the call itself knows no such key.
    """
    keys = list(setting_types(kind))
    values: list[str] = []
    settings: list[str] = []
    for part in _top_level(text):
        known = part.partition("=")[0].strip() in keys
        if _is_setting(part) and (known or not values):
            settings.append(part)
        elif _is_setting(part):
            values[-1] += f",{part}"
        else:
            values.append(part)
    if len(values) > len(keys):
        raise InputError(f"{name} takes at most {len(keys)} values, got {len(values)}: {', '.join(values)}")
    return [f"{key}={value}" for key, value in zip(keys, values, strict=False)] + settings
