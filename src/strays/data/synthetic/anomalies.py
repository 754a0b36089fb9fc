"""Things that do not belong on a road and are of no class: animals, tyres, boxes, boulders, furniture and more."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from strays.data.synthetic.canvas import Floats, noise, rgb
from strays.data.synthetic.solids import Finish, Solid, Texture, ball, block, limb, tube

__all__ = ["ANOMALIES", "Build"]

Build = Callable[[np.random.Generator], list[Solid]]
"""Random numbers -> bodies around the origin, standing on the ground, in metres."""


def _grain(kind: str, cell: float, strength: float, stretch: float = 1.0, seed: float = 0.0) -> Texture:
    """Return a texture that scales the albedo by noise, finer along one axis when stretched."""

    def texture(points: Floats, colour: Floats) -> Floats:
        x, y, z = points.T
        value = noise(
            kind, x + z * np.float32(0.83) + np.float32(seed), (y + z * np.float32(0.37)) * np.float32(stretch), cell
        )
        return np.asarray(colour * np.maximum(1 + strength * value, 0.12)[:, None], np.float32)

    return texture


def _bands(other: Floats, width: float, axis: int = 1, tilt: float = 0.0, shift: float = 0.0) -> Texture:
    """Return a texture of stripes across an axis."""

    def texture(points: Floats, colour: Floats) -> Floats:
        along = points[:, axis] + np.float32(tilt) * points[:, (axis + 2) % 3] + np.float32(shift)
        return np.where((np.floor(along / width) % 2 == 0)[:, None], colour, other).astype(np.float32)

    return texture


def _sectors(colours: Floats) -> Texture:
    """Return a texture of coloured segments around the vertical axis."""

    def texture(points: Floats, colour: Floats) -> Floats:
        angle = np.arctan2(points[:, 0], points[:, 2]) / np.float32(2 * np.pi) + 0.5
        index = np.minimum((angle * len(colours)).astype(int), len(colours) - 1)
        return np.asarray(np.take(colours, index, axis=0), np.float32)

    return texture


def _checks(other: Floats, size: float) -> Texture:
    """Return a texture of cubes in two colours."""

    def texture(points: Floats, colour: Floats) -> Floats:
        return np.where((np.floor(points / size + 0.01).sum(1) % 2 == 0)[:, None], colour, other).astype(np.float32)

    return texture


def _static(cell: float) -> Texture:
    """Return a texture of coloured noise."""

    def texture(points: Floats, colour: Floats) -> Floats:
        x, y, z = points.T
        parts = [noise("white", x + 9 * k, y + z, cell) for k in range(3)]
        return np.asarray(np.clip(0.5 + 0.3 * np.stack(parts, axis=1), 0.02, 1), np.float32)

    return texture


def _board_lines(gap: float, axis: int, seed: float) -> Texture:
    """Return wood: planks with dark gaps and stretched grain."""
    grain = _grain("rough", 0.01, 0.14, 0.12, seed)

    def texture(points: Floats, colour: Floats) -> Floats:
        dark = (points[:, axis] / gap) % 1 < 0.12
        return np.asarray(grain(points, colour) * np.where(dark, np.float32(0.3), np.float32(1))[:, None], np.float32)

    return texture


def _carton(seed: float) -> Texture:
    """Return cardboard: faint ribs, a strip of tape, a printed patch."""
    grain = _grain("soft", 0.02, 0.06, 1.0, seed)

    def texture(points: Floats, colour: Floats) -> Floats:
        albedo = grain(points, colour)
        albedo[np.abs(points[:, 0]) < 0.03] *= np.float32(1.25)
        printed = (np.abs(points[:, 1]) < 0.06) & (np.abs(points[:, 0] - 0.12) < 0.07)
        albedo[printed] *= np.float32(0.4)
        return albedo

    return texture


def _colour(random: np.random.Generator, low: float = 0.05, high: float = 0.85) -> Floats:
    return rgb(*random.uniform(low, high, 3))


def _animal(random: np.random.Generator) -> list[Solid]:
    """Return a four-legged animal: between deer, dog and cow, standing or grazing."""
    size, stocky = random.uniform(0.55, 1.25), random.uniform(0.8, 1.5)
    coat = np.asarray(rgb(0.45, 0.29, 0.16) * np.float32(random.uniform(0.4, 1.4)), np.float32)
    fur = _grain("rough", 0.015, 0.22, 0.4, float(random.uniform(0, 9)))
    if random.random() < 0.3:
        fur, coat = _grain("soft", 0.022, 0.65, 1.0, float(random.uniform(0, 9))), rgb(0.5, 0.48, 0.45)
    thick, more = 0.2 * stocky, Finish(texture=fur, bump=0.15)
    parts = [
        limb((0, 0.88, -0.42), (0, 0.9, 0.38), thick, coat, **more),
        ball((0, 0.92, 0.42), (thick * 0.9, 0.26, 0.24), coat, **more),
    ]
    parts.append(ball((0, 0.92, -0.45), (thick, 0.25, 0.26), coat, **more))
    head = np.array((random.normal(0, 0.1), random.choice([0.5, 1.15, 1.45]), 0.92))
    parts += [limb((0, 0.98, 0.5), head, 0.105 * stocky, coat, **more), ball(head, (0.095, 0.1, 0.14), coat, **more)]
    parts.append(limb(head, np.add(head, (0, -0.07, 0.22)), 0.06, coat * np.float32(0.7), **more))
    for side in (-1, 1):
        parts.append(
            limb(np.add(head, (side * 0.06, 0.07, -0.05)), np.add(head, (side * 0.17, 0.19, -0.07)), 0.03, coat)
        )
        for z in (-0.48, 0.42):
            swing = random.uniform(-0.16, 0.16)
            knee = (side * 0.13, 0.46, z + swing * 0.5 - 0.03)
            parts += [
                limb((side * 0.12, 0.85, z), knee, 0.085, coat, **more),
                limb(knee, (side * 0.13, 0.05, z + swing), 0.042, coat * np.float32(0.6)),
            ]
    parts.append(limb((0, 0.95, -0.68), (0, 0.65, -0.85), 0.04, coat, **more))
    if random.random() < 0.4:
        parts += _antlers(head)
    return _scaled(parts, size)


def _antlers(head: NDArray[np.float64]) -> list[Solid]:
    bone, parts = rgb(0.55, 0.48, 0.36), []
    for side in (-1, 1):
        fork = np.add(head, (side * 0.2, 0.38, -0.06))
        parts += [
            limb(np.add(head, (side * 0.04, 0.08, 0)), fork, 0.022, bone),
            limb(fork, np.add(fork, (side * 0.1, 0.25, 0.08)), 0.018, bone),
        ]
        parts.append(limb(fork, np.add(fork, (side * -0.06, 0.2, -0.05)), 0.018, bone))
    return parts


def _scaled(parts: list[Solid], size: float) -> list[Solid]:
    return [Solid(p.kind, p.centre * size, p.radii * size, p.axes, p.colour, p.texture, p.bump, p.shine) for p in parts]


def _tyre(random: np.random.Generator) -> list[Solid]:
    """Return one to three tyres, lying or leaning."""
    radius, thick = random.uniform(0.24, 0.42), random.uniform(0.085, 0.13)
    tread = _bands(rgb(0.075, 0.075, 0.08), 0.03, 1)
    rubber = rgb(0.04, 0.04, 0.043)
    parts = []
    for level in range(random.integers(1, 4)):
        lean = (random.normal(0, 0.1), 1, random.normal(0, 0.1))
        centre = (random.normal(0, 0.06), thick * (2 * level + 1), random.normal(0, 0.05))
        parts.append(tube("torus", centre, (radius, thick, radius), rubber, lean, texture=tread, shine=0.12))
    if random.random() < 0.4:
        upright = (radius + thick + 0.25, radius + thick, 0)
        parts.append(
            tube("torus", upright, (radius, thick, radius), rubber, (0.9, 0.25, 0.5), texture=tread, shine=0.12)
        )
    return parts


def _boxes(random: np.random.Generator) -> list[Solid]:
    """Return a stack of cardboard boxes."""
    parts, level = [], 0.0
    for _ in range(random.integers(2, 5)):
        half = random.uniform((0.2, 0.13, 0.18), (0.42, 0.27, 0.36))
        brown = np.asarray(rgb(0.60, 0.44, 0.28) * np.float32(random.uniform(0.8, 1.2)), np.float32)
        centre = (random.normal(0, 0.1), level + half[1], random.normal(0, 0.08))
        parts.append(
            block(centre, half, brown, random.uniform(-0.6, 0.6), texture=_carton(float(random.uniform(0, 9))))
        )
        level += 2 * half[1]
    return parts


def _boulder(random: np.random.Generator) -> list[Solid]:
    """Return a rock with smaller ones around it."""
    grey = np.asarray(rgb(0.42, 0.40, 0.37) * np.float32(random.uniform(0.7, 1.25)), np.float32)
    size, parts = random.uniform(0.3, 0.75), []
    for index in range(random.integers(4, 8)):
        scale = size if index < 3 else size * random.uniform(0.15, 0.4)
        spread = 0.3 if index < 3 else 1.3
        radii = scale * random.uniform((0.7, 0.45, 0.6), (1.1, 0.85, 1.0))
        spot = (random.normal(0, spread) * size, radii[1] * 0.7, random.normal(0, spread * 0.6) * size)
        stone = _grain("soft", 0.012, 0.25, 1.0, float(index + random.uniform(0, 9)))
        parts.append(ball(spot, radii, grey, turn=random.uniform(0, 3), texture=stone, bump=0.4))
    return parts


def _sofa(random: np.random.Generator) -> list[Solid]:
    """Return a sofa or armchair."""
    cloth, wide = _colour(random, 0.08, 0.6), random.uniform(0.4, 0.95)
    weave = _grain("white", 0.012, 0.12) if random.random() < 0.5 else _bands(_colour(random, 0.2, 0.8), 0.09, 0)
    more = Finish(texture=weave)
    parts = [
        block((0, 0.26, 0), (wide, 0.18, 0.4), cloth, **more),
        block((0, 0.55, 0.33), (wide, 0.35, 0.11), cloth, **more),
    ]
    for side in (-1, 1):
        parts.append(block((side * wide, 0.38, 0), (0.1, 0.28, 0.42), cloth * np.float32(0.9), **more))
        parts.append(block((side * wide * 0.9, 0.04, -0.3), (0.03, 0.05, 0.03), rgb(0.1, 0.07, 0.04)))
        pillow = np.asarray(cloth * np.float32(1.2), np.float32)
        parts.append(ball((side * wide * 0.45, 0.47, -0.03), (wide * 0.44, 0.09, 0.36), pillow, **more))
    return parts


def _mattress(random: np.random.Generator) -> list[Solid]:
    """Return a stained mattress, flat or leaning on its edge."""
    quilt = _checks(rgb(0.80, 0.77, 0.70), 0.16) if random.random() < 0.5 else _bands(rgb(0.45, 0.55, 0.7), 0.08, 0)
    stain = _grain("soft", 0.03, 0.18, 1.0, float(random.uniform(0, 9)))
    cover = rgb(0.74, 0.71, 0.64)
    both: Texture = lambda points, colour: stain(points, np.ones(3, np.float32)) * quilt(points, colour)  # noqa: E731
    if random.random() < 0.5:
        return [
            block((0, 0.13, 0), (0.95, 0.13, 0.7), cover, texture=both),
            ball((0.7, 0.32, 0), (0.18, 0.09, 0.4), cover),
        ]
    return [block((0, 0.62, 0), (0.9, 0.62, 0.12), cover, random.uniform(-0.5, 0.5), texture=both)]


def _toy_ball(random: np.random.Generator) -> list[Solid]:
    """Return one to three large balls."""
    parts = []
    for index in range(random.integers(1, 4)):
        size = random.uniform(0.16, 0.5)
        colours = np.stack([_colour(random, 0.02, 1.0) if k % 2 else rgb(0.92, 0.92, 0.9) for k in range(6)])
        spot = (random.normal(0, 0.7) * (index > 0), size, random.normal(0, 0.5) * (index > 0))
        axis = random.normal((0, 0.3, 0), 1)
        parts.append(tube("ellipsoid", spot, size, colours[1], axis, texture=_sectors(colours), shine=0.5))
    return parts


def _barrels(random: np.random.Generator) -> list[Solid]:
    """Return striped drums, standing or rolled over."""
    paint = np.stack([rgb(0.9, 0.32, 0.05), rgb(0.1, 0.25, 0.6), rgb(0.85, 0.7, 0.05), rgb(0.15, 0.4, 0.2)])[
        random.integers(4)
    ]
    stripes = _bands(rgb(0.9, 0.9, 0.88), random.uniform(0.12, 0.28), 1)
    parts = []
    for index in range(random.integers(1, 4)):
        fallen = random.random() < 0.35
        axis = (random.normal(), 0.0, random.normal() + 0.01) if fallen else (0, 1, 0)
        spot = (index * 0.68, 0.29 if fallen else 0.45, random.normal(0, 0.2))
        parts.append(tube("cylinder", spot, (0.29, 0.45, 0.29), paint, axis, texture=stripes, shine=0.25))
    return parts


def _cones(random: np.random.Generator) -> list[Solid]:
    """Return a group of traffic cones, some knocked over."""
    orange, parts = rgb(0.95, 0.30, 0.06), []
    for index in range(random.integers(2, 5)):
        tall = random.uniform(0.35, 0.5)
        x, z = index * 0.55, random.normal(0, 0.35)
        more = Finish(texture=_bands(rgb(0.93, 0.93, 0.9), tall * 0.55, 1, 0.0, tall * 0.25))
        if random.random() < 0.3:
            parts.append(tube("cone", (x, 0.19, z), (0.17, tall, 0.17), orange, (0.8, 0.25, random.normal()), **more))
        else:
            parts.append(tube("cone", (x, tall, z), (0.17, tall, 0.17), orange, (0, 1, 0), **more))
            parts.append(block((x, 0.03, z), (0.24, 0.03, 0.24), rgb(0.06, 0.06, 0.06)))
    return parts


def _bag(random: np.random.Generator) -> list[Solid]:
    """Return crumpled rubbish bags or a tarpaulin."""
    plastics = np.stack([rgb(0.04, 0.04, 0.05), rgb(0.8, 0.82, 0.84), rgb(0.08, 0.3, 0.65), rgb(0.15, 0.45, 0.25)])
    parts = []
    for index in range(random.integers(1, 4)):
        plastic = plastics[random.integers(len(plastics))]
        size = random.uniform(0.25, 0.55)
        spot = np.array((random.normal(0, 0.5) * (index > 0), size * 0.6, random.normal(0, 0.3)))
        more = Finish(bump=0.55, shine=0.5)
        parts.append(ball(spot, (size, size * 0.7, size * 0.9), plastic, turn=random.uniform(0, 3), **more))
        parts.append(ball(np.add(spot, (size * 0.3, size * 0.45, 0)), size * 0.45, plastic, **more))
        parts.append(
            tube(
                "cone",
                np.add(spot, (0, size * 0.85, 0)),
                (size * 0.22, size * 0.3, size * 0.22),
                plastic,
                (0.2, -1, 0.1),
                **more,
            )
        )
    return parts


def _crate(random: np.random.Generator) -> list[Solid]:
    """Return a wooden crate with its fruit spilled over the road."""
    wood = rgb(0.55, 0.38, 0.2)
    planks = _board_lines(0.11, 1, float(random.uniform(0, 9)))
    parts = [block((0, 0.21, 0), (0.42, 0.21, 0.28), wood, random.uniform(-0.8, 0.8), texture=planks)]
    fruit = np.stack([rgb(0.9, 0.45, 0.04), rgb(0.7, 0.06, 0.05), rgb(0.45, 0.62, 0.1)])[random.integers(3)]
    for _ in range(random.integers(14, 26)):
        size = random.uniform(0.05, 0.085)
        on_top = random.random() < 0.4
        x, z = random.normal(0, 0.2 if on_top else 0.75), random.normal(0, 0.1 if on_top else 0.4)
        spot = (np.clip(x, -0.35, 0.35) if on_top else x, 0.42 + size * 0.5 if on_top else size, z)
        parts.append(ball(spot, size, fruit * np.float32(random.uniform(0.7, 1.1)), shine=0.4))
    return parts


def _fridge(random: np.random.Generator) -> list[Solid]:
    """Return a toppled fridge or washing machine."""
    white, turn = (
        np.asarray(rgb(0.85, 0.86, 0.86) * np.float32(random.uniform(0.7, 1.05)), np.float32),
        random.uniform(-0.9, 0.9),
    )
    dirt = _grain("soft", 0.03, 0.06, 1.0, float(random.uniform(0, 9)))
    if random.random() < 0.5:
        parts = [block((0, 0.31, 0), (0.85, 0.31, 0.31), white, 0, texture=dirt, shine=0.2)]
        parts += [
            block((0.22, 0.31, -0.315), (0.012, 0.31, 0.006), rgb(0.2, 0.2, 0.2)),
            block((0.3, 0.31, -0.335), (0.015, 0.2, 0.02), rgb(0.35, 0.35, 0.36), shine=0.5),
        ]
        parts.append(block((-0.8, 0.31, 0), (0.06, 0.28, 0.28), rgb(0.1, 0.1, 0.1)))
        return [_turned(one, turn) for one in parts]
    parts = [block((0, 0.43, 0), (0.3, 0.43, 0.3), white, 0, texture=dirt, shine=0.2)]
    parts += [
        tube("cylinder", (0, 0.42, -0.3), (0.2, 0.03, 0.2), rgb(0.5, 0.5, 0.52), (0, 0, 1)),
        tube("cylinder", (0, 0.42, -0.315), (0.15, 0.03, 0.15), rgb(0.06, 0.07, 0.09), (0, 0, 1), shine=0.6),
    ]
    parts.append(block((0, 0.78, -0.302), (0.28, 0.05, 0.006), rgb(0.3, 0.31, 0.33)))
    return [_turned(one, turn * 0.7) for one in parts]


def _turned(solid: Solid, turn: float) -> Solid:
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    axes = solid.axes @ rotation.T
    return Solid(
        solid.kind, rotation @ solid.centre, solid.radii, axes, solid.colour, solid.texture, solid.bump, solid.shine
    )


def _oddity(random: np.random.Generator) -> list[Solid]:
    """Return a blob or block in a pattern that nothing on a road has."""
    size, colour = random.uniform(0.25, 0.6), _colour(random, 0.0, 1.0)
    patterns = (
        _checks(_colour(random, 0, 1), size * 0.4),
        _static(0.035),
        _bands(_colour(random, 0, 1), size * 0.25, 1, 0.7),
    )
    texture, parts = patterns[random.integers(len(patterns))], []
    for index in range(random.integers(1, 5)):
        radii = size * random.uniform(0.5, 1.0, 3)
        spot = (random.normal(0, 0.5) * size * (index > 0), radii[1], random.normal(0, 0.4) * size)
        shape = (ball, block)[random.integers(2)]
        parts.append(shape(spot, radii, colour, turn=random.uniform(0, 3), texture=texture, bump=0.2))
    return parts


def _chair(random: np.random.Generator) -> list[Solid]:
    """Return a chair or a small table, upright or on its side."""
    wood, tall = rgb(*random.uniform((0.3, 0.15, 0.05), (0.75, 0.5, 0.35))), random.uniform(0.4, 0.7)
    grain = _board_lines(0.2, 0, float(random.uniform(0, 9)))
    parts = [block((0, tall, 0), (0.32, 0.03, 0.3), wood, texture=grain)]
    for x in (-0.27, 0.27):
        parts += [block((x, tall / 2, z), (0.025, tall / 2, 0.025), wood * np.float32(0.8)) for z in (-0.25, 0.25)]
    if random.random() < 0.7:
        parts += [block((0, tall + h, 0.27), (0.3, 0.07, 0.02), wood) for h in (0.2, 0.42)]
        parts += [block((x, tall + 0.25, 0.27), (0.025, 0.28, 0.025), wood) for x in (-0.28, 0.28)]
    return parts


ANOMALIES: dict[str, Build] = {
    "animal": _animal,
    "tyre": _tyre,
    "boxes": _boxes,
    "boulder": _boulder,
    "sofa": _sofa,
    "mattress": _mattress,
    "ball": _toy_ball,
    "barrels": _barrels,
    "cones": _cones,
    "bag": _bag,
    "crate": _crate,
    "fridge": _fridge,
    "oddity": _oddity,
    "chair": _chair,
}
