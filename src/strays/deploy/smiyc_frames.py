"""The test frames of SegmentMeIfYouCan by name, as its toolkit and the OoDIS benchmark on the same images list them."""

from collections.abc import Iterator, Mapping

__all__ = ["ANOMALY_TEST", "ANOMALY_VAL", "OBSTACLE_TEST"]

_ANOMALIES = {
    "airplane": 2,
    "bear": 1,
    "boat_trailer": 5,
    "camel": 2,
    "caravan": 8,
    "carriage": 8,
    "cock": 1,
    "coffin": 1,
    "cones": 7,
    "cow": 14,
    "deer": 2,
    "donkey": 2,
    "elephant": 12,
    "goose": 1,
    "hay": 1,
    "horse": 5,
    "leopard": 1,
    "lion": 1,
    "piano": 1,
    "pig": 2,
    "rhino": 2,
    "scooter": 1,
    "sheep": 11,
    "tent": 1,
    "tractor": 6,
    "zebra": 2,
}
_OBSTACLES = {
    "curvy-street": "carton:1-6 dog:1-10 inliner_hubcap:1-9 pig_frisbee:1-6 skateboard_bag:1-5 umbrella:1-4",
    "darkasphalt": "axestump:2,3,6 bag:3 bagB:6 bagP:1,3,5 basket:2,3,6 boot:2,3 bottles:1,2 bottles2:5 boxG:1,3,5 "
    "bucket:1,3,4,6 canister:2,3,6 cans:1,2 cans2:5 helmetO:1,2,6 stump:1,2,5 watercanS:2,5 wood:2,4,6",
    "darkasphalt2": "dog:1-5,14,17",
    "gravel": "axestump:2,3 bag:3 bagP:4 basket:2,3 boot:1,2,5 bottle:2-4 bottles:5 boxG:2,4 bucket:3 "
    "canister:1,3,4,7 cans2:2,5 cans3:3 helmetG:2 log:2,3,8 stump:1,2 watercanB:2,4,7 watercanS:2",
    "greyasphalt": "axestump:2-4,7 bag:3,4 bagB:5 basket:1,3,4,7 boot:2,3,6 bottle:1,2 bottlesB:5 boxG:2,4,7 "
    "canister:2,3,6 cansA:1 cansB:2 dog:1-6 gnome:1-6 helmetB:1,2,6 pig:1-6 scooter:1-6 skateboard:1-6 stump:2,3,6 "
    "watercanB:1,4,7 watercanS:2,7",
    "motorway": "axestump:2 basket:1,4 boot:1,3,6_and_bird bottleC:1,3,5 bottles:1,k bucket:3 canister:3 cans:1 "
    "cans3:1,3,7 helmetB:1,3 helmetO:1 stone:1,2 stump:2,3 triangle:2 watercanB:1 watercanS:1 wood:2,4,7",
    "one-way-street": "backpack:1-4 backpack2:1-5 bagB:1-9 cap:1-3 cartons2:1-7 dog:1-6 frisbee:1-9 inliner:1-10 "
    "pig:1-9 sleigh:1-10",
    "paving": "axe:2,4 axestump:2 axewood:5,8 bag:3,6 basket:3,5 boot:1,2,7 bottles:1,2 bottlesBC:5 bucket:3,6 "
    "canister:1,4,8 cans:2 cansPB:8 helmetB:1,2,7 helmetG:1,3,7 stump:2,7 watercanB:2,5,9 watercanS:2,4,8 wood:2,3,6",
}


def _numbered(counts: Mapping[str, int]) -> Iterator[str]:
    return (f"{thing}{number:04}" for thing, count in counts.items() for number in range(count))


def _of_scenes(scenes: Mapping[str, str]) -> Iterator[str]:
    for scene, things in scenes.items():
        for thing, _, numbers in (one.partition(":") for one in things.split()):
            yield from (f"{scene}_{thing}_{number}" for one in numbers.split(",") for number in _expanded(one))


def _expanded(numbers: str) -> list[str]:
    """Return the numbers of a range; what is none stands for itself.

    Example:
        >>> _expanded("2-4"), _expanded("6_and_bird")
        (['2', '3', '4'], ['6_and_bird'])
    """
    first, dash, last = numbers.partition("-")
    return [str(number) for number in range(int(first), int(last) + 1)] if dash else [numbers]


ANOMALY_TEST = frozenset(_numbered(_ANOMALIES))
"""The 100 of ``AnomalyTrack-test``."""

ANOMALY_VAL = frozenset(_numbered({"validation": 10}))
"""The 10 with public masks."""

OBSTACLE_TEST = frozenset(_of_scenes(_OBSTACLES))
"""The 327 of ``ObstacleTrack-test``."""
