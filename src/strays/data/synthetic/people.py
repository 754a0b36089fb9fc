"""Pedestrians and cyclists of procedural road scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strays.data.synthetic.canvas import Canvas, Floats, rgb
from strays.data.synthetic.solids import Solid, ball, limb, paint_solids, placed, shadow_of, tube

__all__ = ["Figure", "cyclist", "pedestrian"]

PEDESTRIAN, BICYCLIST = 9, 10


@dataclass(frozen=True)
class Figure:
    """A group of bodies with one label, standing on the ground."""

    x: float
    depth: float
    solids: tuple[Solid, ...]
    label: int

    def shadows(self, shift: tuple[float, float]) -> list[NDArray[np.float64]]:
        """Return the outlines (N, 2) of the shadows of all bodies."""
        return [shadow_of(one, shift) for one in self.solids]

    def paint(self, canvas: Canvas) -> None:
        """Cast the bodies onto the canvas."""
        paint_solids(canvas, self.solids, self.label)


def _cloth(random: np.random.Generator) -> Floats:
    dark = rgb(*random.uniform(0.03, 0.25, 3))
    vivid = rgb(*random.choice([(0.6, 0.1, 0.1), (0.1, 0.2, 0.5), (0.7, 0.7, 0.68), (0.5, 0.42, 0.3), (0.1, 0.3, 0.2)]))
    return vivid if random.random() < 0.45 else dark


def _skin(random: np.random.Generator) -> Floats:
    return rgb(0.72, 0.52, 0.42) * np.float32(random.uniform(0.4, 1.05))


def pedestrian(random: np.random.Generator, x: float, z: float) -> Figure:
    """Return somebody who walks or stands."""
    coat, trousers, skin, hair = _cloth(random), _cloth(random) * 0.7, _skin(random), rgb(0.12, 0.08, 0.05)
    step, long_coat = random.uniform(0.04, 0.34), random.random() < 0.35
    parts = []
    for side in (-1, 1):
        hip, knee = (side * 0.09, 0.9, 0.0), (side * 0.1, 0.48, side * step * 0.55 + 0.04)
        foot = (side * 0.1, 0.06, side * step)
        parts += [limb(hip, knee, 0.085, trousers), limb(knee, foot, 0.062, trousers)]
        parts.append(ball((side * 0.1, 0.05, side * step + 0.06), (0.05, 0.05, 0.13), rgb(0.05, 0.05, 0.05)))
        shoulder, elbow = (side * 0.2, 1.42, 0.0), (side * 0.25, 1.12, -side * step * 0.4)
        parts += [
            limb(shoulder, elbow, 0.06, coat),
            limb(elbow, (side * 0.24, 0.88, -side * step * 0.5 + 0.08), 0.048, coat),
        ]
        parts.append(ball((side * 0.24, 0.84, -side * step * 0.5 + 0.09), 0.045, skin))
    parts.append(limb((0, 0.62 if long_coat else 0.88, 0), (0, 1.45, 0), 0.165, coat))
    parts.append(ball((0, 1.36, 0), (0.22, 0.14, 0.13), coat))
    parts += [limb((0, 1.48, 0), (0, 1.58, 0), 0.055, skin), ball((0, 1.66, 0.01), (0.085, 0.12, 0.1), skin)]
    parts.append(ball((0, 1.70, -0.02), (0.092, 0.1, 0.105), hair))
    if random.random() < 0.35:
        parts.append(ball((random.choice([-0.3, 0.3]), 0.75, 0), (0.07, 0.2, 0.16), _cloth(random)))
    solids = placed(parts, x, z, random.uniform(0, 2 * np.pi), random.uniform(0.85, 1.06))
    return Figure(x, z, tuple(solids), PEDESTRIAN)


def cyclist(random: np.random.Generator, x: float, z: float, turn: float) -> Figure:
    """Return somebody on a bicycle heading ``turn`` radians from straight ahead."""
    coat, trousers, skin, frame = _cloth(random), _cloth(random) * 0.7, _skin(random), _cloth(random)
    parts = [
        tube("torus", (0, 0.34, where), (0.31, 0.035, 0.31), rgb(0.05, 0.05, 0.05), (1, 0, 0)) for where in (-0.5, 0.55)
    ]
    bars = [((0, 0.34, -0.5), (0, 0.85, -0.2)), ((0, 0.3, -0.02), (0, 0.82, 0.4)), ((0, 0.82, -0.18), (0, 0.85, 0.42))]
    bars += [((0, 0.34, 0.55), (0, 1.0, 0.4)), ((0, 0.3, -0.02), (0, 0.9, -0.2))]
    parts += [limb(a, b, 0.026, frame, shine=0.3) for a, b in bars]
    parts.append(limb((-0.26, 1.03, 0.38), (0.26, 1.03, 0.38), 0.025, rgb(0.1, 0.1, 0.1)))
    for side, low in ((-1, 0.22), (1, 0.42)):
        knee = (side * 0.1, low + 0.45, 0.18)
        parts += [
            limb((side * 0.09, 0.98, -0.2), knee, 0.08, trousers),
            limb(knee, (side * 0.1, low, 0.02), 0.06, trousers),
        ]
        parts.append(limb((side * 0.2, 1.42, 0.1), (side * 0.24, 1.07, 0.36), 0.055, coat))
        parts.append(ball((side * 0.1, low - 0.04, 0.06), (0.05, 0.05, 0.12), rgb(0.05, 0.05, 0.05)))
    parts += [limb((0, 0.98, -0.22), (0, 1.45, 0.08), 0.16, coat), ball((0, 1.40, 0.06), (0.21, 0.13, 0.13), coat)]
    parts += [
        ball((0, 1.66, 0.14), (0.085, 0.12, 0.1), skin),
        ball((0, 1.72, 0.12), (0.105, 0.09, 0.13), _cloth(random)),
    ]
    return Figure(x, z, tuple(placed(parts, x, z, turn)), BICYCLIST)
