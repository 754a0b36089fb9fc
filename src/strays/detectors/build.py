"""Detectors from the strings that people write: ``energy``, ``energy:temperature=2``, ``smoothed(energy,sigma=2)``."""

from pathlib import Path

from strays.detectors.base import DETECTORS, Detector
from strays.errors import InputError
from strays.specs import call_arguments, is_setting, parsed_settings, split_parts

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
        return kind(**parsed_settings(name, kind, call_arguments(spec, name, kind)))
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
    for part in split_parts(text):
        if specs and is_setting(part):
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    return specs
