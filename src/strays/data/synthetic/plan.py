"""The composition of procedural road scenes: which street, what stands where, which weather. Free of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strays.data.synthetic.anomalies import ANOMALIES
from strays.data.synthetic.canvas import Floats, Light, rgb
from strays.data.synthetic.cars import Car
from strays.data.synthetic.facades import Barrier, Lamp, Sign
from strays.data.synthetic.ground import Band, Street
from strays.data.synthetic.layout import Standing, furniture, people, sides, traffic
from strays.data.synthetic.people import Figure
from strays.data.synthetic.solids import placed
from strays.taxonomy import IGNORE

__all__ = ["Plan", "Weather", "make_plan"]

Random = np.random.Generator


@dataclass(frozen=True)
class Weather:
    """Light, clouds and what the camera makes of them."""

    light: Light
    clouds: float
    blue: Floats
    bright: Floats
    exposure: float
    tint: Floats
    contrast: float


@dataclass(frozen=True)
class Plan:
    """Everything about a scene but its resolution; lengths of the camera are in picture widths."""

    street: Street
    weather: Weather
    fixed: tuple[Standing, ...]
    cars: tuple[Car, ...]
    figures: tuple[Figure, ...]
    focal: float
    horizon: float
    sideways: float
    eye: float
    roll: float
    seed: int


def make_plan(seed: int, anomalies: int | None) -> Plan:
    """Draw a scene."""
    random = np.random.default_rng([2008, seed])
    kind = str(random.choice(["urban", "residential", "suburban", "wide"], p=[0.36, 0.26, 0.2, 0.18]))
    street = _street(random, kind)
    weather = _weather(random)
    chance = np.random.default_rng([7, seed])
    count = int(chance.integers(1, 4))
    count = count if anomalies is None else anomalies
    focal, eye = random.uniform(0.95, 1.2), random.uniform(1.25, 1.65)
    strays = _strays(chance, street, count, focal)
    fixed = [*sides(random, street, kind), *furniture(random, street, kind)]
    cars, walkers = traffic(random, street, kind), people(random, street, kind)
    cars = [one for one in cars if not _in_the_way(one.outline(0.3), strays)]
    walkers = [one for one in walkers if not _in_the_way(_around(one), strays)]
    walkers = [one for one in walkers if not any(_hits(one, car) for car in cars)]
    fixed = [one for one in fixed if not (isinstance(one, Lamp | Sign | Barrier) and _in_the_way(_plan(one), strays))]
    return Plan(
        street,
        weather,
        tuple(fixed),
        tuple(cars),
        (*walkers, *strays),
        focal,
        horizon=random.uniform(0.42, 0.53),
        sideways=random.normal(0, 0.05),
        eye=eye,
        roll=random.normal(0, 0.012),
        seed=seed,
    )


def _weather(random: Random) -> Weather:
    mood = str(random.choice(["sunny", "fair", "overcast", "dusk"], p=[0.3, 0.25, 0.3, 0.15]))
    angle, height = random.uniform(0, 2 * np.pi), random.uniform(0.35, 0.9)
    if mood == "dusk":
        height = random.uniform(0.15, 0.3)
    direction = rgb(np.cos(angle), np.tan(height), np.sin(angle))
    direction /= np.linalg.norm(direction)
    sun, sky, haze, clouds, exposure = {
        "sunny": (rgb(1.25, 1.15, 0.98), rgb(0.40, 0.45, 0.53), rgb(0.92, 0.96, 1.0), random.uniform(0, 0.45), 1.0),
        "fair": (rgb(0.72, 0.68, 0.60), rgb(0.60, 0.63, 0.68), rgb(1.0, 1.01, 1.03), random.uniform(0.4, 0.8), 1.0),
        "overcast": (
            rgb(0.07, 0.07, 0.07),
            rgb(0.88, 0.90, 0.93),
            rgb(1.02, 1.03, 1.04),
            random.uniform(0.85, 1.1),
            0.95,
        ),
        "dusk": (rgb(0.42, 0.28, 0.16), rgb(0.33, 0.36, 0.43), rgb(0.62, 0.60, 0.60), random.uniform(0.2, 0.9), 0.85),
    }[mood]
    light = Light(direction, sun, sky, haze, random.uniform(0.0012, 0.006))
    blue = rgb(0.33, 0.52, 0.80) * (0.62 if mood == "dusk" else random.uniform(0.9, 1.15))
    bright = rgb(1.12, 1.12, 1.14) * (0.7 if mood == "dusk" else random.uniform(0.92, 1.08))
    warm = random.normal(0, 0.035)
    tint = rgb(1 + warm - 0.02, 1.0, 1 - warm + 0.025)
    return Weather(light, clouds, blue, bright, exposure * random.uniform(0.95, 1.35), tint, random.uniform(0.15, 0.6))


def _street(random: Random, kind: str) -> Street:
    lane = random.uniform(2.9, 3.6)
    lanes_left, lanes_right = {"urban": (1, 1), "residential": (1, 1), "suburban": (1, 1), "wide": (2, 2)}[kind]
    parking = random.uniform(0, 2.2) if kind in ("urban", "residential") else 0.3
    own = random.choice([-1, 1])
    middle = own * lane / 2 * (1 if lanes_left == 1 else random.choice([1, 3]))
    left, right = middle - lane * lanes_left - parking, middle + lane * lanes_right + random.uniform(0, 1) * parking
    wide = {"urban": (1.8, 4.5), "residential": (1.4, 2.6), "suburban": (0.2, 2.2), "wide": (1.8, 5.0)}[kind]
    verge = {"urban": "paving", "residential": "grass", "suburban": "grass", "wide": "grass"}[kind]
    if random.random() < 0.2:
        verge = str(random.choice(["gravel", "paving"]))
    junction = float(random.uniform(14, 45)) if random.random() < 0.4 else None
    bend = random.normal(0, 0.0009) if kind != "suburban" else random.normal(0, 0.0022)
    side_road = (junction, junction + random.uniform(6, 9)) if junction else None
    return Street(
        left,
        right,
        (random.uniform(*wide), random.uniform(*wide)),
        verge,
        bend,
        random.normal(0, 0.035),
        side_road,
        random.uniform(0.27, 0.45),
        random.uniform(0.2, 1.0),
        _repairs(random, left, right),
        tuple(_markings(random, left, right, middle, lane, kind, side_road)),
        float(random.uniform(0, 50)),
    )


def _repairs(random: Random, left: float, right: float) -> tuple[Band, ...]:
    bands = []
    for _ in range(random.integers(0, 6)):
        x, z = random.uniform(left, right - 1), random.uniform(4, 40)
        wide = random.uniform(0.4, 2.4)
        bands.append(Band(x, min(x + wide, right), z, z + random.uniform(0.8, 14), random.choice([-0.16, -0.1, 0.09])))
    if random.random() < 0.6:
        x, z = random.uniform(left + 0.6, right - 0.6), random.uniform(5, 18)
        bands.append(Band(x - 0.3, x + 0.3, z, z + 0.6, -0.3))
    return tuple(bands)


def _markings(
    random: Random, left: float, right: float, middle: float, lane: float, kind: str, side: tuple[float, float] | None
) -> list[Band]:
    white, yellow = (0.86, 0.86, 0.84), (0.72, 0.58, 0.22)
    dash, gap = random.choice([(2.0, 4.0), (4.0, 2.0), (3.0, 6.0), (0.0, 0.0)], p=[0.35, 0.3, 0.25, 0.1])
    bands = []
    if kind != "residential" or random.random() < 0.7:
        bands.append(Band(middle - 0.06, middle + 0.06, 1, 160, dash=dash, gap=gap))
    if kind == "wide":
        bands += [Band(x - 0.06, x + 0.06, 1, 160, dash=2.0, gap=4.0) for x in (middle - lane, middle + lane)]
    style = random.choice(["none", "yellow", "white"], p=[0.4, 0.35, 0.25])
    for edge, inward in ((left, 1), (right, -1)):
        offsets = {"none": (), "yellow": (0.3, 0.5), "white": (0.4,)}[style]
        colour = yellow if style == "yellow" else white
        bands += [Band(edge + inward * o - 0.05, edge + inward * o + 0.05, 1, 120, colour=colour) for o in offsets]
    stop = side[0] - 2.5 if side else random.uniform(9, 40)
    if random.random() < 0.35:
        bands.append(Band(left, right, stop - 3.2, stop - 0.4, stripes=0.55))
        bands.append(Band(*((left, middle) if middle < 0 else (left, right)), stop - 4.4, stop - 4.1))
    elif side:
        bands.append(Band(left, right, stop, stop + 0.3))
    if side and random.random() < 0.25:
        bands += [Band(left, right, z, z + 0.12, colour=yellow) for z in np.arange(side[0], side[1], 1.1)]
    return bands


def _strays(random: Random, street: Street, count: int, focal: float) -> list[Figure]:
    """Return anomalies at places where they do not hide each other, all inside the picture."""
    found: list[Figure] = []
    for _ in range(100 * count):
        if len(found) == count:
            break
        z = float(np.exp(random.uniform(np.log(5.5), np.log(26))))
        on_road = random.random() < 0.75
        low, high = (street.left, street.right) if on_road else (street.edge(-1), street.edge(1))
        x = street.centre(z) + random.uniform(low, high)
        if abs(x) > 0.34 / focal * z:
            continue
        one = _stray(random, x, z)
        left, right = _sight(one)
        if all(right < _sight(other)[0] or left > _sight(other)[1] for other in found):
            found.append(one)
    return found


def _stray(random: Random, x: float, z: float) -> Figure:
    """Return one anomaly of any kind; far ones are large ones."""
    solids = list(ANOMALIES.values())[random.integers(len(ANOMALIES))](random)
    turn, scale = random.uniform(0, 2 * np.pi), random.uniform(0.85, 1.35) * max(1.0, z / 15)
    return Figure(x, z, tuple(placed(solids, x, z, turn, scale)), IGNORE)


def _sight(figure: Figure) -> tuple[float, float]:
    """Return between which slopes to the side the camera sees a figure, with a little room."""
    centres = np.stack([solid.centre for solid in figure.solids])
    half = np.array([solid.radii.max() for solid in figure.solids])
    low, high = (centres[:, 0] - half) / centres[:, 2], (centres[:, 0] + half) / centres[:, 2]
    return float(low.min()) - 0.015, float(high.max()) + 0.015


def _spot(x: float, z: float, half: float) -> NDArray[np.float64]:
    return np.array([(x - half, z - half), (x + half, z - half), (x + half, z + half), (x - half, z + half)])


def _plan(thing: Lamp | Sign | Barrier) -> NDArray[np.float64]:
    return thing.footprints()[0][0] if isinstance(thing, Barrier) else _spot(thing.x, thing.depth, 0.4)


def _around(figure: Figure) -> NDArray[np.float64]:
    return _spot(figure.x, figure.depth, 0.6)


def _in_the_way(plan: NDArray[np.float64], strays: Sequence[Figure]) -> bool:
    """Return whether something with this plan (N, 2) stands on an anomaly or hides it from the camera."""
    slopes = plan[:, 0] / np.maximum(plan[:, 1], 0.5)
    for one in strays:
        low, high = _sight(one)
        far = max(float(solid.centre[2] + solid.radii.max()) for solid in one.solids)
        if slopes.max() > low and slopes.min() < high and plan[:, 1].min() < far + 0.5:
            return True
    return False


def _hits(figure: Figure, car: Car) -> bool:
    plan, here = car.outline(0.3), np.array((figure.x, figure.depth))
    return bool(((here > plan.min(0)) & (here < plan.max(0))).all())
