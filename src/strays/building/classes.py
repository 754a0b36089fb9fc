"""What classes are to whoever pastes: ground, road users, things to go around, and how large things are in metres."""

from collections.abc import Collection

from strays.negatives.sources.exclusion import EXCLUSIONS
from strays.taxonomy import CITYSCAPES, IGNORE, LabelClass, LabelSpace, Taxonomy, translation

__all__ = [
    "ANIMALS",
    "FURNITURE",
    "GROUND",
    "METRES",
    "ON_ROADS",
    "ROAD_USERS",
    "SURFACE",
    "class_indices",
    "extent_in_metres",
    "is_known",
]

GROUND = frozenset({"road", "road line"})
"""What pasted things stand on."""

SURFACE = GROUND | frozenset({"sidewalk", "terrain"})
"""What hides nothing that stands on it."""

ROAD_USERS = frozenset({"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"})
"""Classes whose regions are things; those of the inlier data that can be pasted as controls."""

FURNITURE = frozenset({"pole", "traffic light", "traffic sign", "fence"})
"""What stands beside a road and hides what is behind it."""

ON_ROADS = EXCLUSIONS["meta-ood"].classes | {"train"}
"""COCO's names of things that belong on a road: never anomalies, whatever the taxonomy calls them."""

ANIMALS = frozenset({"bird", "cat", "cow", "dog", "horse", "sheep"})
"""The classes of Pascal VOC that WD-Pascal pastes."""

METRES = {
    "backpack": 0.55,
    "bear": 1.8,
    "bird": 0.45,
    "boat": 4.0,
    "bottle": 0.35,
    "bowl": 0.35,
    "cake": 0.35,
    "cat": 0.6,
    "chair": 0.95,
    "couch": 2.0,
    "cow": 2.3,
    "dog": 0.95,
    "elephant": 4.5,
    "fire hydrant": 0.8,
    "frisbee": 0.27,
    "giraffe": 4.5,
    "handbag": 0.4,
    "horse": 2.3,
    "microwave": 0.5,
    "potted plant": 0.9,
    "pottedplant": 0.9,
    "refrigerator": 1.8,
    "sheep": 1.3,
    "skateboard": 0.8,
    "snowboard": 1.5,
    "sofa": 2.0,
    "sports ball": 0.25,
    "suitcase": 0.75,
    "surfboard": 2.0,
    "teddy bear": 0.7,
    "toilet": 0.75,
    "tv": 0.9,
    "tvmonitor": 0.9,
    "vase": 0.45,
    "zebra": 2.2,
    "person": 1.72,
    "pedestrian": 1.72,
    "bicycle": 1.75,
    "motorcycle": 2.1,
    "motorbike": 2.1,
    "car": 1.5,
    "bus": 3.1,
    "truck": 3.0,
    "train": 3.7,
}
"""Class -> how long its longer side usually is in metres, how high those in ``_BY_HEIGHT`` are (ours)."""

_BY_HEIGHT = frozenset({"car", "bus", "truck", "train"})
"""Whose longer side depends on where they are seen from."""

_SYNONYMS = {"motorbike": "motorcycle", "stop sign": "traffic sign", "street sign": "traffic sign"}
_UNKNOWN = 0.8
"""How long a thing without a class, or of an unlisted one, is taken to be."""


def extent_in_metres(name: str, size: tuple[int, int]) -> tuple[float, int]:
    """Return how long a thing of a class usually is, and over how many of the (h, w) = ``size`` pixels it is so long.

    Example:
        >>> extent_in_metres("car", (30, 80)), extent_in_metres("dog", (30, 40))
        ((1.5, 30), (0.95, 40))
    """
    return METRES.get(name, _UNKNOWN), size[0] if name in _BY_HEIGHT else max(size)


def class_indices(taxonomy: Taxonomy, names: Collection[str]) -> tuple[int, ...]:
    """Return the classes of a taxonomy that Cityscapes calls by one of some names, or that contain such a class.

    Example:
        >>> from strays.taxonomy import CAMVID
        >>> [CAMVID.names[index] for index in class_indices(CAMVID, SURFACE)]
        ['road', 'pavement']
    """
    table = translation(taxonomy, CITYSCAPES)
    return tuple(
        index
        for index, one in enumerate(taxonomy.classes)
        if index != taxonomy.void and not _names(one, int(table[index])).isdisjoint(names)
    )


def is_known(name: str, taxonomy: Taxonomy) -> bool:
    """Return whether something that other data call by a name belongs to a class, or several, of a taxonomy.

    Example:
        >>> from strays.taxonomy import CAMVID
        >>> is_known("person", CAMVID), is_known("dog", CAMVID)
        (True, False)
    """
    alone = Taxonomy(name="one", classes=(LabelClass(name=_SYNONYMS.get(name, name), colour=(0, 0, 0)),))
    return int(LabelSpace(taxonomy).labels_of(alone)[0]) != IGNORE


def _names(one: LabelClass, twin: int) -> frozenset[str]:
    return frozenset({one.name, *one.contains, *(CITYSCAPES.names[twin : twin + 1] if twin != IGNORE else ())})
