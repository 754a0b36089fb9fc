"""Which images of a source are left out because of what they show or how small they are."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from strays.errors import InputError
from strays.negatives.sources.base import InstanceSource

__all__ = ["EXCLUSIONS", "Exclusion", "parse_exclusion", "remaining"]


@dataclass(frozen=True)
class Exclusion:
    """What a method leaves out.

    Args:
        classes: images that show one of these are left out.
        min_size: images lower or narrower than this are left out, in pixels.
    """

    classes: frozenset[str] = frozenset()
    min_size: int = 0


EXCLUSIONS = {
    "none": Exclusion(),
    "meta-ood": Exclusion(
        frozenset({"person", "bicycle", "car", "motorcycle", "bus", "truck", "traffic light", "stop sign"}),
        min_size=480,
    ),
}
"""The lists of the published methods: of DenseHybrid and others (``none``), of meta-OoD and PEBAL (``meta-ood``).

``meta-ood`` holds classes of Cityscapes by their names in COCO, though not "train".
"""


def parse_exclusion(exclude: str) -> Exclusion:
    """Return what names of lists and classes joined by ``+`` leave out together.

    Example:
        >>> parse_exclusion("meta-ood+train").min_size, parse_exclusion("dog + cat").classes == {"cat", "dog"}
        (480, True)
    """
    words = [word.strip() for word in exclude.split("+") if word.strip()]
    if not words:
        raise InputError(
            f"expected {' or '.join(EXCLUSIONS)} or classes joined by +, got {exclude!r}; none excludes none"
        )
    parts = [EXCLUSIONS.get(word, Exclusion(frozenset({word}))) for word in words]
    return Exclusion(frozenset().union(*(part.classes for part in parts)), max(part.min_size for part in parts))


def remaining(source: InstanceSource, exclude: str = "none", min_size: int | None = None) -> list[int]:
    """Return the indices of the images that remain in a source, in ascending order.

    An image is left out when it shows one of the classes, or when its height or its width is below the smallest size. A
    source that names no classes stays as it is, unless ``min_size`` is given. Images that cannot be judged are left out
    too, with one warning for all.

    Args:
        source: the images.
        exclude: ``"none"``, ``"meta-ood"``, or names of classes, joined by ``+``.
        min_size: the smallest height and width in pixels; None for what the list asks for, 480 for ``meta-ood``.

    Raises:
        InputError: if the source has no class of such a name; it lists those there are.
    """
    asked = parse_exclusion(exclude)
    if min_size is not None and min_size < 0:
        raise InputError(f"expected a smallest size of 0 or more pixels, got {min_size}")
    names = source.names if asked.classes else frozenset[str]()
    _check_names(asked.classes, names)
    smallest = min_size if min_size is not None else asked.min_size * bool(names)
    unwanted = asked.classes & names
    kept: list[int] = []
    broken: list[InputError] = []
    for index in range(len(source)):
        try:
            if _is_wanted(source, index, unwanted, smallest):
                kept.append(index)
        except InputError as error:
            broken.append(error)
    if broken:
        warnings.warn(f"{len(broken)} of {len(source)} images are left out, the first: {broken[0]}", stacklevel=2)
    return kept


def _is_wanted(source: InstanceSource, index: int, unwanted: frozenset[str], smallest: int) -> bool:
    if smallest and min(source.size(index)) < smallest:
        return False
    return not unwanted or unwanted.isdisjoint(source.classes(index))


def _check_names(wanted: Iterable[str], names: frozenset[str]) -> None:
    missing = sorted(set(wanted) - names)
    if missing and names:
        known = ", ".join(sorted(names))
        raise InputError(f"no class {', '.join(missing)} to exclude; join by + what you mean of: {known}")
