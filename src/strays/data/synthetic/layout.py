"""What stands along and on procedural streets: houses, gardens, trees, street furniture, traffic, people."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from strays.data.synthetic.canvas import Canvas
from strays.data.synthetic.cars import BODIES, Car
from strays.data.synthetic.facades import Barrier, Building, Lamp, Sign, Skyline
from strays.data.synthetic.ground import Street
from strays.data.synthetic.people import Figure, cyclist, pedestrian
from strays.data.synthetic.trees import BareTree, LeafyTree, grow

__all__ = ["Standing", "furniture", "people", "sides", "traffic"]

Random = np.random.Generator


class Standing(Protocol):
    """Something fixed that stands on the ground, may cast a shadow and paints itself."""

    @property
    def depth(self) -> float:
        """Metres ahead; nearer things are painted later."""

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return (plan (N, 2), from height, to height) of the parts that cast shadows."""

    def paint(self, canvas: Canvas) -> None:
        """Paint it."""


def _clear(street: Street, near: float, far: float) -> bool:
    return street.side_road is None or far < street.side_road[0] - 1 or near > street.side_road[1] + 1


def _at(street: Street, lateral: float, z: float) -> tuple[float, float]:
    return street.centre(z) + lateral, z


def sides(random: Random, street: Street, kind: str) -> list[Standing]:
    """Return what lines the street on both sides, and what closes the view."""
    closing = Skyline(
        random.uniform(110, 180), random.uniform(6, 13), str(random.choice(["trees", "roofs"])), random.random()
    )
    things: list[Standing] = [closing]
    for side in (-1, 1):
        style = kind if kind != "wide" else str(random.choice(["urban", "suburban", "residential"]))
        build = {"urban": _terrace, "residential": _houses, "suburban": _greens}[style]
        things += build(random, street, side)
    return things


def _terrace(random: Random, street: Street, side: int) -> list[Standing]:
    """Return an unbroken row of buildings behind the pavement."""
    things: list[Standing] = []
    z, base = random.uniform(0.9, 3.0), street.edge(side)
    tall, shops = random.uniform(6, 15), random.random() < 0.65
    while z < 115:
        wide = random.uniform(6, 19)
        setback = random.choice([0.0, 0.0, random.uniform(0, 2.5)])
        if random.random() < 0.9 and _clear(street, z, z + wide):
            height = float(np.clip(tall * random.normal(1, 0.22), 5, 24))
            things.append(_building(random, street, side, base + side * setback, z, z + wide, height, shops))
        elif _clear(street, z, z + wide):
            things += [_tree(random, street, base + side * random.uniform(2, 7), z + wide / 2, 0.5)]
        else:
            wide = 4.0
        z += wide + (random.uniform(1, 5) if random.random() < 0.12 else 0.0)
    return things


def _building(
    random: Random, street: Street, side: int, lateral: float, near: float, far: float, height: float, shops: bool
) -> Building:
    material = str(random.choice(["brick", "plaster", "concrete", "glass"], p=[0.45, 0.33, 0.14, 0.08]))
    palette = {
        "brick": [(0.48, 0.27, 0.2), (0.55, 0.42, 0.3), (0.4, 0.3, 0.25), (0.62, 0.52, 0.4)],
        "plaster": [(0.82, 0.8, 0.74), (0.74, 0.66, 0.54), (0.66, 0.68, 0.7), (0.8, 0.72, 0.62), (0.6, 0.45, 0.4)],
        "concrete": [(0.56, 0.55, 0.53), (0.45, 0.45, 0.46)],
        "glass": [(0.3, 0.34, 0.38), (0.4, 0.4, 0.4)],
    }[material]
    colour = np.array(palette[random.integers(len(palette))]) * random.uniform(0.82, 1.12)
    trim = np.array([(0.85, 0.84, 0.8), (0.75, 0.74, 0.7), (0.2, 0.2, 0.21), (0.6, 0.55, 0.46)][random.integers(4)])
    storey = random.uniform(2.7, 3.5)
    pitched = material in ("brick", "plaster") and random.random() < 0.75
    return Building(
        _at(street, lateral, near),
        _at(street, lateral, far),
        side * random.uniform(8, 13),
        round(height / storey) * storey + 0.7,
        material,
        tuple(colour),
        tuple(trim),
        random.uniform(1.5, 4.0) if pitched else 0.0,
        bool(shops and random.random() < 0.8),
        random.uniform(2.1, 3.6),
        storey,
        float(random.uniform(0, 40)),
    )


def _houses(random: Random, street: Street, side: int) -> list[Standing]:
    """Return houses behind front gardens with hedges, walls, fences and trees."""
    things: list[Standing] = []
    z, base = random.uniform(0.9, 4.0), street.edge(side)
    back, kind = random.uniform(3, 9), str(random.choice(["hedge", "wall", "panels", "railing"]))
    while z < 110:
        wide = random.uniform(7, 14)
        if _clear(street, z, z + wide):
            height = random.choice([5.6, 6.0, 8.6])
            things.append(_building(random, street, side, base + side * back, z, z + wide, height, False))
            if random.random() < 0.8:
                kind = kind if random.random() < 0.6 else str(random.choice(["hedge", "wall", "panels", "railing"]))
                things.append(
                    _barrier(random, street, base + side * 0.25, z, z + wide - random.choice([0.0, 2.8]), kind)
                )
            if random.random() < 0.6:
                things.append(
                    _tree(random, street, base + side * random.uniform(1.0, back), z + random.uniform(0, wide), 0.35)
                )
        z += wide + random.choice([0.0, random.uniform(1.5, 6)])
    return things


def _greens(random: Random, street: Street, side: int) -> list[Standing]:
    """Return hedges, trees, fences and a house now and then."""
    things: list[Standing] = []
    z, base = random.uniform(1, 5), street.edge(side)
    bare, density = random.random(), random.uniform(3, 9)
    while z < 120:
        if _clear(street, z - 2, z + 2):
            things.append(_tree(random, street, base + side * random.uniform(1.2, 14), z, bare))
        z += random.uniform(0.5, 1.5) * density
    if random.random() < 0.75:
        kind, offset = str(random.choice(["hedge", "railing", "panels", "wall"])), random.uniform(0.4, 4)
        spans = (
            [(2.0, street.side_road[0] - 3), (street.side_road[1] + 3, 100.0)] if street.side_road else [(2.0, 100.0)]
        )
        things += _fence_line(random, street, base + side * offset, spans, kind)
    if random.random() < 0.6:
        start = random.uniform(12, 60)
        far = start + random.uniform(10, 25)
        if _clear(street, start, far):
            things.append(_building(random, street, side, base + side * random.uniform(6, 16), start, far, 7.0, False))
    return things


def _fence_line(
    random: Random, street: Street, lateral: float, spans: Sequence[tuple[float, float]], kind: str
) -> list[Standing]:
    things: list[Standing] = []
    for near, far in spans:
        steps = np.arange(near, far, 9.0)
        things += [_barrier(random, street, lateral, z, z + 9.0, kind) for z in steps]
    return things


def _barrier(random: Random, street: Street, lateral: float, near: float, far: float, kind: str) -> Barrier:
    height = {"hedge": (0.9, 2.2), "wall": (0.6, 1.3), "panels": (1.2, 1.9), "railing": (0.9, 1.4)}[kind]
    colour = {
        "hedge": (0.17, 0.24, 0.09),
        "wall": (0.46, 0.33, 0.26),
        "panels": (0.42, 0.31, 0.2),
        "railing": (0.1, 0.12, 0.12) if random.random() < 0.7 else (0.55, 0.57, 0.58),
    }[kind]
    tone = random.uniform(0.8, 1.25)
    shade = (colour[0] * tone, colour[1] * tone, colour[2] * tone)
    start, end = _at(street, lateral, near), _at(street, lateral, far)
    return Barrier(start, end, float(random.uniform(*height)), kind, shade, float(random.uniform(0, 40)))


def _tree(random: Random, street: Street, lateral: float, z: float, bare: float) -> Standing:
    x = street.centre(z) + lateral
    height = random.uniform(4.5, 12)
    if random.random() < bare:
        shade = np.array((0.22, 0.19, 0.16)) * random.uniform(0.6, 1.3)
        return BareTree(x, z, height, grow(random, height, 7 if z < 22 else 6 if z < 50 else 5), tuple(shade))
    clumps = [(0.0, 0.5, 0.36)]
    for _ in range(random.integers(9, 16)):
        angle, out = random.uniform(0, 2 * np.pi), random.uniform(0.12, 0.34)
        clumps.append((out * np.cos(angle), 0.5 + 1.05 * out * np.sin(angle), random.uniform(0.11, 0.22)))
    green = np.array([(0.2, 0.28, 0.09), (0.26, 0.3, 0.1), (0.15, 0.23, 0.1), (0.34, 0.28, 0.12)][random.integers(4)])
    spread, trunk = height * random.uniform(0.5, 0.85), height * random.choice([0.05, 0.2, 0.3])
    colour = tuple(green * random.uniform(0.8, 1.3))
    return LeafyTree(x, z, height, spread, trunk, np.array(clumps), colour, float(random.uniform(0, 40)))


def furniture(random: Random, street: Street, kind: str) -> list[Standing]:
    """Return lamps, posts, signs, traffic lights and railings along the kerb."""
    things: list[Standing] = []
    for side in (-1, 1):
        kerb = street.edge(side, pavement=False) + side * 0.45
        gap, height, thick = random.uniform(18, 32), random.uniform(5, 9), random.uniform(0.09, 0.16)
        colour = (0.42, 0.44, 0.44) if random.random() < 0.6 else (0.12, 0.14, 0.13)
        for z in np.arange(random.uniform(6, 16), 110, gap):
            if _clear(street, z, z) and random.random() < 0.85:
                arm = -side * random.choice([1.3, 2.0])
                things.append(Lamp(street.centre(z) + kerb, float(z), height, thick, arm, colour))
        for _ in range(random.integers(1, 5)):
            things += _sign(random, street, kerb + side * random.uniform(0, 0.8))
        if kind in ("urban", "wide") and random.random() < 0.3:
            near = random.uniform(5, 25)
            if _clear(street, near, near + 12):
                things.append(
                    _barrier(random, street, kerb - side * 0.2, near, near + random.uniform(6, 12), "railing")
                )
    if street.side_road or random.random() < 0.3:
        stop = street.side_road[0] - 1.5 if street.side_road else random.uniform(10, 30)
        things += _lights(random, street, stop)
    return things


def _sign(random: Random, street: Street, lateral: float) -> list[Standing]:
    z = random.uniform(6.5, 40)
    shape = str(random.choice(["round", "triangle", "board"], p=[0.45, 0.3, 0.25]))
    size, low = random.uniform(0.6, 0.95), random.uniform(1.9, 2.5)
    x = street.centre(z) + lateral
    return [Lamp(x, z, low + size * 0.9, 0.08, 0.0, (0.5, 0.51, 0.52)), Sign(x, z, low, size, shape, random.random())]


def _lights(random: Random, street: Street, z: float) -> list[Standing]:
    phase, things = random.random(), list[Standing]()
    for side in (-1, 1):
        x = street.centre(z) + street.edge(side, pavement=False) + side * 0.4
        things += [Lamp(x, z, 3.3, 0.12, 0.0, (0.1, 0.1, 0.1)), Sign(x, z, 2.2, 1.0, "light", phase)]
    return things


def traffic(random: Random, street: Street, kind: str) -> list[Car]:
    """Return the cars in the lanes, along the kerbs and on the side road."""
    density = random.choice([0.2, 0.6, 0.95], p=[0.2, 0.45, 0.35])
    cars = []
    middle = (street.left + street.right) / 2
    lanes = [(0.0, 0.0)] + [
        (x, 0.0 if x * middle < 0 else np.pi)
        for x in (2 * middle, street.left + 1.7, street.right - 1.7)
        if abs(x) > 2.4
    ]
    for lateral, turn in lanes:
        z = random.uniform(8, 32) if lateral == 0 else random.uniform(4.5, 20)
        while z < 95:
            if random.random() < density:
                heading = np.arctan(street.heading + 2 * street.bend * z)
                cars.append(_car(random, street.centre(z) + lateral + random.normal(0, 0.15), z, turn + heading))
            z += random.uniform(9, 30)
    if kind in ("urban", "residential"):
        for side in (-1, 1):
            cars += _parked(random, street, side)
    if street.side_road and random.random() < 0.5:
        z = sum(street.side_road) / 2
        cars.append(
            _car(random, random.uniform(-12, 12), z, np.pi / 2 * random.choice([-1, 1]) + random.normal(0, 0.1))
        )
    return _apart(cars)


def _parked(random: Random, street: Street, side: int) -> list[Car]:
    lateral = street.edge(side, pavement=False) - side * 0.95
    if abs(lateral) < 2.0 or random.random() < 0.25:
        return []
    cars, turn = [], 0.0 if random.random() < 0.7 else np.pi
    z = random.uniform(4.5, 12)
    while z < 80:
        if _clear(street, z - 3, z + 3) and random.random() < 0.75:
            heading = np.arctan(street.heading + 2 * street.bend * z)
            cars.append(_car(random, street.centre(z) + lateral, z, turn + heading + random.normal(0, 0.02)))
        z += random.uniform(5.4, 7)
    return cars


def _car(random: Random, x: float, z: float, turn: float) -> Car:
    body = str(random.choice(list(BODIES), p=[0.34, 0.26, 0.2, 0.14, 0.06]))
    greys = [(0.6, 0.62, 0.64), (0.06, 0.06, 0.07), (0.3, 0.31, 0.33), (0.8, 0.8, 0.8)]
    colours = [
        (0.5, 0.04, 0.05),
        (0.05, 0.1, 0.33),
        (0.05, 0.2, 0.14),
        (0.12, 0.2, 0.36),
        (0.55, 0.48, 0.36),
        (0.16, 0.2, 0.25),
        (0.6, 0.5, 0.12),
    ]
    palette = greys if random.random() < 0.55 else colours
    colour = palette[random.integers(len(palette))]
    if body in ("van", "bus") and random.random() < 0.6:
        colour = (0.82, 0.82, 0.82)
    return Car(x, z, float(turn), body, colour, random.uniform(0.95, 1.06), bool(random.random() < 0.3))


def _apart(cars: Sequence[Car]) -> list[Car]:
    """Return the cars without those that stand in another one or too close to the camera."""
    kept: list[Car] = []
    for one in sorted(cars, key=lambda car: car.depth):
        plan = one.outline(0.25)
        free = all(
            (np.maximum(plan.min(0), other.outline().min(0)) > np.minimum(plan.max(0), other.outline().max(0))).any()
            for other in kept
        )
        if free and plan[:, 1].min() > 2.0 and not (abs(one.x) < 2 and plan[:, 1].min() < 4.5):
            kept.append(one)
    return kept


def people(random: Random, street: Street, kind: str) -> list[Figure]:
    """Return pedestrians and cyclists."""
    figures = []
    busy = {"urban": 9, "residential": 4, "suburban": 2, "wide": 6}[kind]
    for _ in range(random.integers(0, busy + 1)):
        side, z = random.choice([-1, 1]), random.uniform(6, 45)
        inner, outer = street.edge(side, pavement=False), street.edge(side)
        lateral = random.uniform(min(inner, outer), max(inner, outer))
        group = 1 if random.random() < 0.7 else 2
        figures += [pedestrian(random, street.centre(z) + lateral + 0.55 * k, z) for k in range(group)]
    if random.random() < 0.2:
        z = random.uniform(12, 35)
        figures.append(pedestrian(random, street.centre(z) + random.uniform(street.left, street.right), z))
    for _ in range(random.choice([0, 1, 2], p=[0.45, 0.4, 0.15])):
        side, z = random.choice([-1, 1]), random.uniform(7, 30)
        lateral = street.edge(side, pavement=False) - side * random.uniform(0.6, 1.2)
        turn = (0.0 if random.random() < 0.7 else np.pi) + random.normal(0, 0.2)
        figures.append(cyclist(random, street.centre(z) + lateral, z, float(turn)))
    return figures
