"""The ordered classes of a segmentation network, their colours, and which of them is void."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from strays.errors import InputError

__all__ = [
    "CAMVID",
    "CITYSCAPES",
    "CITYSCAPES_VOID",
    "IGNORE",
    "STREETHAZARDS",
    "TAXONOMIES",
    "LabelClass",
    "LabelSpace",
    "Taxonomy",
    "load_taxonomy",
    "named_classes",
    "parse_taxonomy",
    "translation",
]

IGNORE = 255
"""The label of a pixel that belongs to no class and counts nowhere."""


Channel = Annotated[int, Field(ge=0, le=255)]


class LabelClass(BaseModel):
    """One class.

    Args:
        name: what it is called.
        colour: RGB, each channel in [0, 255].
        contains: names that other taxonomies give to finer classes which are all this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    colour: tuple[Channel, Channel, Channel]
    contains: tuple[str, ...] = ()


class Taxonomy(BaseModel):
    """The classes of a segmentation network in the order of its channels.

    Args:
        name: what the taxonomy is called.
        classes: one entry per channel of the network, the void channel included where there is one.
        void: the index of the channel that was trained on void pixels, or None.

    Example:
        >>> CITYSCAPES_VOID.void, len(CITYSCAPES_VOID), CITYSCAPES.names[0]
        (19, 20, 'road')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    classes: tuple[LabelClass, ...]
    void: int | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Taxonomy":
        if not 1 <= len(self.classes) <= IGNORE:
            raise ValueError(f"expected 1 to {IGNORE} classes, got {len(self.classes)}")
        if self.void is not None and not 0 <= self.void < len(self.classes):
            raise ValueError(f"void is {self.void}, but the classes are numbered 0 to {len(self.classes) - 1}")
        return self

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The class names in channel order."""
        return tuple(one.name for one in self.classes)

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """Colours by label, (256, 3) uint8: labels outside the taxonomy, ``IGNORE`` among them, are black."""
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self)] = [one.colour for one in self.classes]
        return colours

    def colourize(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the RGB picture (H, W, 3) of a label map (H, W)."""
        return self.palette[labels]


def _taxonomy(name: str, void: int | None = None, **colours: tuple[int, int, int]) -> Taxonomy:
    classes = (LabelClass(name=one.replace("_", " "), colour=colour) for one, colour in colours.items())
    return Taxonomy(name=name, classes=tuple(classes), void=void)


CITYSCAPES = _taxonomy(
    "cityscapes",
    road=(128, 64, 128),
    sidewalk=(244, 35, 232),
    building=(70, 70, 70),
    wall=(102, 102, 156),
    fence=(190, 153, 153),
    pole=(153, 153, 153),
    traffic_light=(250, 170, 30),
    traffic_sign=(220, 220, 0),
    vegetation=(107, 142, 35),
    terrain=(152, 251, 152),
    sky=(70, 130, 180),
    person=(220, 20, 60),
    rider=(255, 0, 0),
    car=(0, 0, 142),
    truck=(0, 0, 70),
    bus=(0, 60, 100),
    train=(0, 80, 100),
    motorcycle=(0, 0, 230),
    bicycle=(119, 11, 32),
)
CITYSCAPES_VOID = Taxonomy(
    name="cityscapes-void",
    classes=(*CITYSCAPES.classes, LabelClass(name="void", colour=(0, 0, 0))),
    void=19,
)
CAMVID = _taxonomy(
    "camvid",
    sky=(128, 128, 128),
    building=(128, 0, 0),
    pole=(192, 192, 128),
    road=(128, 64, 128),
    pavement=(60, 40, 222),
    tree=(128, 128, 0),
    sign=(192, 128, 128),
    fence=(64, 64, 128),
    car=(64, 0, 128),
    pedestrian=(64, 64, 0),
    bicyclist=(0, 128, 192),
)
STREETHAZARDS = _taxonomy(
    "streethazards",
    unlabeled=(0, 0, 0),
    building=(70, 70, 70),
    fence=(190, 153, 153),
    other=(250, 170, 160),
    pedestrian=(220, 20, 60),
    pole=(153, 153, 153),
    road_line=(157, 234, 50),
    road=(128, 64, 128),
    sidewalk=(244, 35, 232),
    vegetation=(107, 142, 35),
    car=(0, 0, 142),
    wall=(102, 102, 156),
    traffic_sign=(220, 220, 0),
)
_SAME = {
    "pavement": "sidewalk",
    "tree": "vegetation",
    "sign": "traffic sign",
    "pedestrian": "person",
    "bicyclist": "rider",
}
"""What other data sets call classes of Cityscapes."""

TAXONOMIES = {one.name: one for one in (CITYSCAPES, CITYSCAPES_VOID, CAMVID, STREETHAZARDS)}


def translation(source: Taxonomy, target: Taxonomy) -> NDArray[np.uint8]:
    """Return the label in ``target`` of every label in ``source``, (256,) uint8.

    Classes are the same where they have the same name, else where CamVid and Cityscapes use their names for one thing,
    else where one contains the other and no second one; all other labels, and the void class, become ``IGNORE``.

    Example:
        >>> CITYSCAPES.names[translation(CAMVID, CITYSCAPES)[CAMVID.names.index("pavement")]]
        'sidewalk'
    """
    table = np.full(256, IGNORE, np.uint8)
    for index, members in enumerate(_members(source, target)):
        if len(members) == 1:
            table[index] = members[0]
    return table


def named_classes(table: NDArray[np.uint8]) -> frozenset[int]:
    """Return the classes that a translation leads to: those that its source can name.

    Example:
        >>> named = named_classes(translation(CAMVID, CITYSCAPES))
        >>> [CITYSCAPES.names[one] for one in range(19) if one not in named][:4]
        ['wall', 'traffic light', 'terrain', 'truck']
    """
    return frozenset(table[table != IGNORE].tolist())


def _members(source: Taxonomy, target: Taxonomy) -> list[tuple[int, ...]]:
    """Return, for each class of a taxonomy, the classes of another that it may be."""
    known = {index: one for index, one in enumerate(target.classes) if index != target.void}
    return [() if index == source.void else _alike(one, known) for index, one in enumerate(source.classes)]


def _alike(one: LabelClass, known: Mapping[int, LabelClass]) -> tuple[int, ...]:
    """Return the numbers of the classes that another one may be, by the first way that finds any."""
    ways: tuple[Callable[[LabelClass], bool], ...] = (
        lambda other: other.name == one.name,
        lambda other: _SAME.get(other.name, other.name) == _SAME.get(one.name, one.name),
        lambda other: other.name in one.contains or one.name in other.contains,
    )
    found = (tuple(index for index, other in known.items() if way(other)) for way in ways)
    return next(filter(None, found), ())


class LabelSpace:
    """The labels by which data sets of several taxonomies teach one network: its classes, and groups of them.

    A label below ``first_group`` is a class of the network. The labels from there on say that a pixel is one of the
    classes of a group, nobody knows which: coarse classes of other data sets are that. ``IGNORE`` says nothing.

    Args:
        target: the classes of the network.

    Attributes:
        groups: indices of the classes of each group, in the order of their labels.

    Example:
        >>> coarse = LabelClass(name="standing", colour=(0, 0, 0), contains=("pole", "sign", "fence", "traffic light"))
        >>> space = LabelSpace(CAMVID)
        >>> int(space.labels_of(Taxonomy(name="coarse", classes=(coarse,)))[0]), space.groups
        (11, [(2, 6, 7)])
    """

    def __init__(self, target: Taxonomy) -> None:
        self.target = target
        self.first_group = len(target)
        self.groups: list[tuple[int, ...]] = []

    def labels_of(self, source: Taxonomy) -> NDArray[np.uint8]:
        """Return the label of every label of a taxonomy, (256,) uint8, adding the groups that it brings.

        Raises:
            InputError: if there are more than 255 labels then.
        """
        table = translation(source, self.target)
        for index, members in enumerate(_members(source, self.target)):
            if len(members) > 1:
                table[index] = self._label(members)
        return table

    def _label(self, group: tuple[int, ...]) -> int:
        if group not in self.groups:
            self.groups.append(group)
        label = self.first_group + self.groups.index(group)
        if label >= IGNORE:
            raise InputError(f"expected at most {IGNORE} classes and groups of classes, {self.target.name} brings more")
        return label


def load_taxonomy(source: str | Path) -> Taxonomy:
    """Return a built-in taxonomy by name, or one read from a JSON file.

    The file holds ``{"name": ..., "classes": [{"name": "road", "colour": [128, 64, 128]}, ...], "void": null}``.

    Raises:
        InputError: if there is neither such a name nor such a file, or the file does not describe a taxonomy.
    """
    if str(source) in TAXONOMIES:
        return TAXONOMIES[str(source)]
    path = Path(source)
    if not path.is_file():
        known = ", ".join(TAXONOMIES)
        raise InputError(f"no taxonomy or file is called {str(source)!r}; built in: {known}; or name a JSON file")
    return parse_taxonomy(path.read_bytes(), str(path))


def parse_taxonomy(text: str | bytes, source: str) -> Taxonomy:
    """Return the taxonomy in a JSON text.

    Args:
        text: JSON as ``load_taxonomy`` describes it.
        source: where it comes from, for messages.

    Raises:
        InputError: if it does not describe a taxonomy.
    """
    try:
        return Taxonomy.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the JSON"
        raise InputError(f"{source} is not a taxonomy: {where}: {first['msg']}") from error
