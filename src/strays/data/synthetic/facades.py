"""Upright things along procedural streets: buildings, walls, fences, hedges, poles, signs and the skyline."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strays.data.synthetic.canvas import Canvas, Floats, Patch, noise, rgb, smoothstep

__all__ = ["Barrier", "Building", "Lamp", "Sign", "Skyline"]

BUILDING, POLE, TREE, SIGN, FENCE = 1, 2, 5, 6, 7
Covered = NDArray[np.bool_]


@dataclass(frozen=True)
class Building:
    """A house: front from ``start`` to ``end`` (x, z), reaching ``deep`` metres away from the road.

    Args:
        material: brick, plaster, concrete or glass.
        roof: height of the pitched roof above the eaves, 0 for flat.
        shop: whether the ground floor is a shop.
        bay: metres from window to window; ``storey``: from floor to floor.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    deep: float
    height: float
    material: str
    colour: tuple[float, float, float]
    trim: tuple[float, float, float]
    roof: float
    shop: bool
    bay: float
    storey: float
    seed: float

    @property
    def depth(self) -> float:
        """Metres to the far end: whatever stands nearer than that stands before the front."""
        return self.end[1] + 0.5

    def corners(self) -> NDArray[np.float64]:
        """Return the plan (4, 2): front near, front far, back far, back near."""
        a, b = np.array(self.start), np.array(self.end)
        away = np.array((self.deep, 0.0))
        return np.stack([a, b, b + away, a + away])

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return (plan, from height, to height) of what casts shadows."""
        return [(self.corners(), 0.0, self.height + self.roof * 0.4)]

    def paint(self, canvas: Canvas) -> None:
        """Paint roof, near side and front."""
        near, far, _, back = (np.array((x, 0.0, z)) for x, z in self.corners())
        up = np.array((0, self.height + self.roof, 0.0))
        if self.roof:
            ridge = (back - near) / 2 + (0, self.roof, 0)
            canvas.plane(np.add(near, (0, self.height, 0)), far - near, ridge, self._roof, BUILDING)
        canvas.plane(near, back - near, up, self._gable, BUILDING)
        canvas.plane(near, far - near, (0, self.height, 0), self._front, BUILDING)

    def _light(self, patch: Patch, normal: tuple[float, float, float]) -> Floats:
        grime = 1 - 0.3 * np.exp(-patch.t * 0.9) + 0.05 * patch.noise("soft", 0.12, 0.4, self.seed)
        return np.asarray(patch.light.on(rgb(*normal), 0.85) * grime[..., None], np.float32)

    def _wall(self, patch: Patch) -> Floats:
        """Return the bare material (h, w, 3)."""
        tone = 1 + 0.05 * patch.noise("rough", 0.03, 1, self.seed)
        if self.material == "brick":
            course = np.floor(patch.t / np.float32(0.085))
            stone = np.floor(patch.s / np.float32(0.24) + (course % 2) / 2)
            fade = 0.1 / (0.1 + patch.pixel)
            tone += 0.13 * fade * noise("white", stone + np.float32(self.seed), course, 1.0)
            tone -= 0.12 * fade * (patch.t / np.float32(0.085) % 1 > 0.85)
        elif self.material == "concrete":
            tone -= 0.12 * ((patch.s % 3.0 < 0.05) | (patch.t % self.storey < 0.06))
        return np.asarray(rgb(*self.colour) * tone[..., None], np.float32)

    def _front(self, patch: Patch) -> tuple[Floats, Covered]:
        normal = (-1.0 if self.deep > 0 else 1.0, 0.0, 0.0)
        colours = self._wall(patch)
        self._windows(patch, colours)
        if self.shop:
            self._shop(patch, colours)
        else:
            self._doors(patch, colours)
        ledge = (patch.t > self.height - 0.35) | (np.abs(patch.t - self.storey * 1.02) < 0.09)
        colours = np.where(ledge[..., None], rgb(*self.trim) * 0.85, colours)
        eaves = 1 - 0.3 * np.exp(-np.abs(self.height - 0.35 - patch.t) * 2.5) * (patch.t < self.height - 0.35)
        return colours * self._light(patch, normal) * eaves[..., None], patch.inside

    def _windows(self, patch: Patch, colours: Floats) -> None:
        u, v = patch.s / np.float32(self.bay), patch.t / np.float32(self.storey)
        x, y = (u % 1 - 0.5) * self.bay, (v % 1 - 0.52) * self.storey
        wide, tall = (0.46, 0.44) if self.material == "glass" else (0.27 + self.seed % 0.1, 0.29)
        half_w, half_h = self.bay * wide, self.storey * tall
        column, row = np.floor(u), np.floor(v)
        real = (patch.t < self.height - 0.5) & (row >= (1 if self.shop else 0)) & (column < self._bays(patch))
        hole = (np.abs(x) < half_w) & (np.abs(y) < half_h) & real
        frame = hole & ((np.abs(x) > half_w - 0.09) | (np.abs(y) > half_h - 0.09) | (np.abs(x) < 0.035))
        frame |= hole & (np.abs(y - 0.1) < 0.035)
        sill = real & (np.abs(x) < half_w + 0.12) & (y < -half_h) & (y > -half_h - 0.14)
        colours[hole] = self._glass(patch, column, row, y)[hole]
        colours[frame | sill] = rgb(*self.trim)
        lintel = real & (np.abs(x) < half_w + 0.1) & (y > half_h) & (y < half_h + 0.16)
        colours[lintel] *= np.float32(0.8 if self.material == "plaster" else 1.25)

    def _bays(self, patch: Patch) -> float:
        return max(1.0, float(np.floor(np.hypot(*np.subtract(self.end, self.start)) / self.bay)))

    def _glass(self, patch: Patch, column: Floats, row: Floats, y: Floats) -> Floats:
        chance = noise("white", column + np.float32(self.seed * 17), row + np.float32(self.seed), 1.0)
        streak = noise("soft", patch.s + patch.t * np.float32(0.6) + column * 7, patch.t * 0, 0.03)
        reflect = np.clip(0.24 + 0.16 * chance + 0.13 * y + 0.05 * streak, 0.05, 0.6)[..., None]
        dark = rgb(0.07, 0.08, 0.095)
        curtain = (chance > 0.9)[..., None] * rgb(0.3, 0.28, 0.24)
        return np.asarray(dark + curtain + (patch.light.sky * 0.9 - dark) * reflect, np.float32)

    def _shop(self, patch: Patch, colours: Floats) -> None:
        floor = self.storey * 1.02
        board = (patch.t > floor - 0.75) & (patch.t < floor)
        unit = np.floor(patch.s / np.float32(self.bay * 2))
        tint = np.stack(
            [0.45 + 0.3 * noise("white", unit + k * 31 + np.float32(self.seed * 9), unit * 0, 1.0) for k in range(3)],
            -1,
        )
        tint = 0.65 * tint + 0.35 * tint.mean(axis=-1, keepdims=True)
        colours[board] = np.clip(tint * 0.8, 0.04, 0.8)[board]
        word = noise("rough", patch.s + np.float32(self.seed), np.floor(patch.t * 8), 0.07)
        letters = board & (np.abs(patch.t - floor + 0.37) < 0.17) & (word > 0.35) & (patch.s % (2 * self.bay) > 0.6)
        colours[letters] = rgb(0.92, 0.9, 0.82)
        pane = (patch.t > 0.45) & (patch.t < floor - 0.75)
        x = patch.s % np.float32(self.bay)
        goods = noise("rough", patch.s + np.float32(self.seed), patch.t, 0.06)[..., None] * rgb(0.10, 0.09, 0.08)
        inside = 0.55 * self._glass(patch, unit, unit * 0, patch.t * 0.4) + np.where(patch.t[..., None] < 1.6, goods, 0)
        colours[pane] = inside[pane]
        colours[(patch.t < floor - 0.75) & ((x < 0.12) | (patch.t < 0.45))] = rgb(*self.trim) * 0.6

    def _doors(self, patch: Patch, colours: Floats) -> None:
        x = patch.s % np.float32(self.bay * 3) - np.float32(self.bay * 1.5)
        door = (np.abs(x) < 0.5) & (patch.t < 2.1)
        around = (np.abs(x) < 0.62) & (patch.t < 2.25)
        colours[around] = rgb(*self.trim)
        paint = np.abs(np.sin(np.arange(3) * 2.1 + self.seed)) * 0.35 + 0.05
        colours[door] = paint.astype(np.float32)
        colours[door & (patch.t > 1.5) & (np.abs(x) < 0.3) & (patch.t < 1.9)] = rgb(0.12, 0.13, 0.15)

    def _gable(self, patch: Patch) -> tuple[Floats, Covered]:
        deep = abs(self.deep)
        rise = self.height + self.roof * (1 - np.abs(2 * patch.s / np.float32(deep) - 1))
        colours = self._wall(patch)
        middle = np.abs(patch.s - deep / 2) < 0.5
        window = middle & (np.abs(patch.t % self.storey - self.storey * 0.55) < 0.6) & (patch.t < self.height - 0.4)
        colours[window & (self.seed % 1 > 0.4)] = rgb(0.13, 0.14, 0.16)
        return colours * self._light(patch, (0.0, 0.0, -1.0)), patch.inside & (patch.t <= rise)

    def _roof(self, patch: Patch) -> tuple[Floats, Covered]:
        slope = np.array((-self.roof * np.sign(self.deep), abs(self.deep) / 2, 0.0))
        light = patch.light.on(rgb(*(slope / np.linalg.norm(slope))))
        base = rgb(0.30, 0.29, 0.31) if self.seed % 2 < 1 else rgb(0.42, 0.27, 0.22)
        tile = noise("white", np.floor(patch.s / 0.3), np.floor(patch.t / 0.25), 1.0) * 0.09 / (1 + patch.pixel * 8)
        rows = 0.14 * (patch.t % 0.25 < 0.05) / (1 + patch.pixel * 20)
        tone = 1 + tile - rows + 0.1 * patch.noise("soft", 0.1, 1, self.seed)
        return base * tone[..., None] * light, patch.inside


@dataclass(frozen=True)
class Barrier:
    """A fence, garden wall or hedge from ``start`` to ``end``; kind is railing, panels, wall or hedge."""

    start: tuple[float, float]
    end: tuple[float, float]
    height: float
    kind: str
    colour: tuple[float, float, float]
    seed: float

    @property
    def depth(self) -> float:
        """Metres to the far end."""
        return self.end[1]

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return (plan, from height, to height) of what casts shadows."""
        a, b = np.array(self.start), np.array(self.end)
        thick = np.array((0.3 if self.kind == "hedge" else 0.06, 0.0))
        return [(np.stack([a - thick, b - thick, b + thick, a + thick]), 0.0, self.height)]

    def paint(self, canvas: Canvas) -> None:
        """Paint it as an upright sheet; a railing is labelled as a whole."""
        a, b = (np.array((x, 0.0, z)) for x, z in (self.start, self.end))
        label = TREE if self.kind == "hedge" else FENCE
        canvas.plane(a, b - a, (0, self.height, 0), getattr(self, f"_{self.kind}"), label, self.kind == "railing")

    def _light(self, patch: Patch) -> Floats:
        across = np.subtract(self.end, self.start)
        normal = np.array((across[1], 0.0, -across[0])) / np.linalg.norm(across)
        return patch.light.on(normal if normal[0] * self.start[0] < 0 else -normal, 0.8)

    def _railing(self, patch: Patch) -> tuple[Floats, Covered]:
        bar = (patch.s % 0.14 < 0.025) & (patch.t > 0.12)
        post = patch.s % 2.0 < 0.07
        rail = (np.abs(patch.t - 0.15) < 0.025) | (patch.t > self.height - 0.06)
        return np.broadcast_to(rgb(*self.colour) * self._light(patch), (*patch.s.shape, 3)), bar | post | rail

    def _panels(self, patch: Patch) -> tuple[Floats, Covered]:
        board = np.floor(patch.s / 0.15)
        tone = 1 + 0.09 * noise("white", board + np.float32(self.seed), board * 0, 1.0)
        tone += 0.08 * patch.noise("rough", 0.02, 0.15, self.seed) - 0.3 * (patch.s % 0.15 < 0.02)
        tone -= 0.25 * (patch.s % 1.8 < 0.1)
        return rgb(*self.colour) * tone[..., None] * self._light(patch), patch.inside

    def _wall(self, patch: Patch) -> tuple[Floats, Covered]:
        course = np.floor(patch.t / 0.085)
        stone = np.floor(patch.s / 0.24 + (course % 2) / 2)
        tone = 1 + 0.14 * noise("white", stone + np.float32(self.seed), course, 1.0) * 0.1 / (0.1 + patch.pixel)
        tone += 0.06 * patch.noise("soft", 0.05) + 0.25 * (patch.t > self.height - 0.12)
        tone -= 0.25 * np.exp(-patch.t * 5)
        return rgb(*self.colour) * tone[..., None] * self._light(patch), patch.inside

    def _hedge(self, patch: Patch) -> tuple[Floats, Covered]:
        ragged = self.height * 0.93 + 0.09 * noise("rough", patch.s, patch.t, 0.05)
        tone = 0.75 + 0.35 * patch.noise("rough", 0.035, 1, self.seed) + 0.25 * patch.noise("white", 0.03)
        tone += 0.3 * (patch.t / self.height - 0.6)
        light = self._light(patch) * 0.6 + patch.light.on(rgb(0, 1, 0), 0.6) * 0.4
        return rgb(*self.colour) * np.maximum(tone, 0.15)[..., None] * light, patch.inside & (patch.t < ragged)


@dataclass(frozen=True)
class Lamp:
    """A street lamp, or a bare post where ``arm`` is 0; ``arm`` metres reach over the road."""

    x: float
    depth: float
    height: float
    thick: float
    arm: float
    colour: tuple[float, float, float]

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return (plan, from height, to height) of what casts shadows."""
        half = self.thick / 2
        base = np.add(np.array([(-half, -half), (half, -half), (half, half), (-half, half)]), (self.x, self.depth))
        return [(base, 0.0, self.height)]

    def paint(self, canvas: Canvas) -> None:
        """Paint post, arm and head."""
        thick = self.thick
        foot = np.array((self.x - thick / 2, 0.0, self.depth))
        canvas.plane(
            foot - (thick * 0.4, 0, 0), (thick * 1.8, 0, 0), (0, min(1.1, self.height / 3), 0), self._shade, POLE
        )
        canvas.plane(foot, (thick, 0, 0), (0, self.height, 0), self._shade, POLE)
        if self.arm:
            top = np.add(foot, (0, self.height - thick, 0))
            canvas.plane(top, (self.arm, 0.35, 0), (0, thick * 0.7, 0), self._shade, POLE)
            canvas.plane(
                np.add(top, (self.arm, 0.30, 0)), (np.sign(self.arm) * 0.75, 0.02, 0), (0, 0.17, 0), self._shade, POLE
            )

    def _shade(self, patch: Patch) -> tuple[Floats, Covered]:
        x = patch.s / np.maximum(patch.s.max(), 1e-3) * 2 - 1
        normal = np.stack([x, 0 * x, -np.sqrt(np.maximum(1 - x * x, 0))], axis=-1)
        return rgb(*self.colour) * patch.light.on(normal), patch.inside


@dataclass(frozen=True)
class Sign:
    """A traffic sign, board or traffic light: ``shape`` is round, triangle, board or light."""

    x: float
    depth: float
    low: float
    size: float
    shape: str
    seed: float

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return (plan, from height, to height) of what casts shadows."""
        half = self.size / 2
        plan = np.add(np.array([(-half, 0), (half, 0), (half, 0.05), (-half, 0.05)]), (self.x, self.depth))
        return [(plan, self.low, self.low + self.size)]

    def paint(self, canvas: Canvas) -> None:
        """Paint the plate, facing the camera."""
        wide, tall = {"board": (1.5, 0.8), "light": (0.36, 1.0)}.get(self.shape, (1.0, 1.0))
        across = np.array((self.size * wide, 0.0, 0.06))
        corner = np.array((self.x, self.low, self.depth - 0.15)) - across / 2
        canvas.plane(corner, across, (0, self.size * tall, 0), self._face, SIGN)

    def _face(self, patch: Patch) -> tuple[Floats, Covered]:
        x = patch.s / np.float32(self.size) - np.float32({"board": 0.75, "light": 0.18}.get(self.shape, 0.5))
        y = patch.t / np.float32(self.size) - np.float32(0.4 if self.shape == "board" else 0.5)
        colours, covered = getattr(self, f"_{self.shape}")(x, y)
        return colours * (patch.light.on(rgb(0, 0, -1)) * 0.75 + 0.25), covered

    def _round(self, x: Floats, y: Floats) -> tuple[Floats, Covered]:
        radius = np.hypot(x, y)
        red, blue, white = rgb(0.75, 0.06, 0.08), rgb(0.06, 0.2, 0.62), rgb(0.93, 0.93, 0.93)
        if self.seed < 0.35:
            glyph = (np.abs(x - 0.4 * y) < 0.07) & (np.abs(y) < 0.3)
            colours = np.where(((radius > 0.44) | glyph)[..., None], white, blue)
        elif self.seed < 0.55:
            colours = np.where(((np.abs(y) < 0.09) & (np.abs(x) < 0.33))[..., None], white, red)
        else:
            glyph = (np.abs(np.abs(x) - 0.12) < 0.05) & (np.abs(y) < 0.2)
            colours = np.where((radius > 0.37)[..., None], red, np.where(glyph[..., None], rgb(0.1, 0.1, 0.1), white))
        return colours, radius < 0.5

    def _triangle(self, x: Floats, y: Floats) -> tuple[Floats, Covered]:
        edge = np.minimum(y + 0.42, (0.5 - y) * 0.5 - np.abs(x) * 0.87 + 0.0)
        glyph = (np.abs(x) < 0.05) & (y < 0.12) & (y > -0.28)
        colours = np.where(glyph[..., None], rgb(0.08, 0.08, 0.08), rgb(0.93, 0.93, 0.9))
        return np.where((edge < 0.09)[..., None], rgb(0.78, 0.07, 0.08), colours), edge > 0

    def _board(self, x: Floats, y: Floats) -> tuple[Floats, Covered]:
        base = (rgb(0.05, 0.3, 0.16), rgb(0.08, 0.2, 0.55), rgb(0.9, 0.9, 0.88), rgb(0.86, 0.7, 0.1))[
            int(self.seed * 4) % 4
        ]
        ink = rgb(0.95, 0.95, 0.95) if base.sum() < 1.4 else rgb(0.08, 0.08, 0.08)
        word = noise("white", x + np.float32(self.seed), np.floor(y * 5), 0.045) > -0.5
        line = (y * 5 % 1 > 0.3) & (y * 5 % 1 < 0.75) & (np.abs(x) < 0.6) & (np.abs(y) < 0.28)
        border = (np.abs(x) > 0.71) | (np.abs(y) > 0.36)
        return np.where(((word & line) | border)[..., None], ink, base), np.ones(x.shape, np.bool_)

    def _light(self, x: Floats, y: Floats) -> tuple[Floats, Covered]:
        colours = np.broadcast_to(rgb(0.06, 0.06, 0.065), (*x.shape, 3)).copy()
        lamps = ((0.32, rgb(1.0, 0.16, 0.1)), (0.0, rgb(1.0, 0.65, 0.1)), (-0.32, rgb(0.15, 1.0, 0.6)))
        for index, (height, colour) in enumerate(lamps):
            lit = 1.3 if index == int(self.seed * 3) % 3 else 0.16
            colours[np.hypot(x, y - height) < 0.125] = colour * lit
        return colours, np.ones(x.shape, np.bool_)


@dataclass(frozen=True)
class Skyline:
    """What closes the view: trees or roofs across the whole width, far away."""

    depth: float
    height: float
    kind: str
    seed: float

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return nothing: it is too far away."""
        return []

    def paint(self, canvas: Canvas) -> None:
        """Paint it as one sheet facing the camera."""
        wide = self.depth * 4
        label = TREE if self.kind == "trees" else BUILDING
        shader = self._trees if self.kind == "trees" else self._roofs
        canvas.plane((-wide / 2, 0, self.depth), (wide, 0, 0), (0, self.height * 1.25, 0), shader, label)

    def _trees(self, patch: Patch) -> tuple[Floats, Covered]:
        s = patch.s + np.float32(self.seed * 100)
        top = self.height * (0.7 + 0.16 * noise("soft", s, s * 0, 0.35) + 0.05 * noise("rough", s, patch.t, 0.25))
        tone = 0.8 + 0.25 * noise("rough", s, patch.t, 0.3) + 0.25 * smoothstep(0, self.height, patch.t)
        light = patch.light.on(rgb(0, 0.7, -0.7), 0.7)
        return rgb(0.2, 0.24, 0.14) * tone[..., None] * light, patch.t < top

    def _roofs(self, patch: Patch) -> tuple[Floats, Covered]:
        s = patch.s + np.float32(self.seed * 100)
        house = np.floor(s / 9)
        tall = noise("white", house, house * 0, 1.0)
        gable = 1 - np.abs(s / 9 % 1 - 0.5) * 2
        top = self.height * (0.6 + 0.13 * tall) + 2.5 * gable * (tall > -0.4)
        tone = 0.9 + 0.2 * noise("white", house + 50, house * 0, 1.0)
        window = (s % 2.2 < 0.9) & (patch.t % 3 > 1.1) & (patch.t % 3 < 2.3) & (patch.t < self.height * 0.55)
        light = patch.light.on(rgb(0, 0, -1), 0.8)
        colours = np.where((patch.t > top - 2.5)[..., None], rgb(0.33, 0.29, 0.28), rgb(0.46, 0.38, 0.33))
        return np.where(window[..., None], rgb(0.16, 0.17, 0.2), colours * tone[..., None]) * light, patch.t < top
