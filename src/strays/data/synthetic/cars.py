"""Cars, vans and buses of procedural road scenes: a body lofted through rings, with wheels, windows and lights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from strays.data.synthetic.canvas import NEAR, Canvas, Floats, rgb

__all__ = ["BODIES", "Car"]

CAR = 8
# One ring per row: height, rear end, front end, half width, and whether glass starts here. Metres.
BODIES: dict[str, tuple[tuple[float, float, float, float, int], ...]] = {
    "hatch": (
        (0.17, -1.78, 1.80, 0.74, 0),
        (0.32, -1.90, 1.93, 0.82, 0),
        (0.55, -1.94, 1.96, 0.85, 0),
        (0.76, -1.92, 1.84, 0.85, 0),
        (0.86, -1.90, 1.55, 0.84, 0),
        (0.93, -1.88, 0.98, 0.81, 1),
        (1.34, -1.50, 0.20, 0.63, 0),
        (1.43, -1.32, -0.02, 0.55, 0),
        (1.46, -1.05, -0.25, 0.42, 0),
    ),
    "sedan": (
        (0.17, -2.10, 2.10, 0.76, 0),
        (0.32, -2.22, 2.24, 0.84, 0),
        (0.56, -2.26, 2.27, 0.87, 0),
        (0.76, -2.24, 2.12, 0.87, 0),
        (0.87, -2.18, 1.75, 0.86, 0),
        (0.94, -1.62, 1.02, 0.82, 1),
        (1.33, -0.98, 0.26, 0.64, 0),
        (1.40, -0.82, 0.06, 0.56, 0),
        (1.43, -0.62, -0.12, 0.42, 0),
    ),
    "estate": (
        (0.20, -2.10, 2.08, 0.78, 0),
        (0.36, -2.22, 2.22, 0.87, 0),
        (0.64, -2.26, 2.25, 0.90, 0),
        (0.88, -2.24, 2.10, 0.90, 0),
        (0.99, -2.22, 1.72, 0.89, 0),
        (1.05, -2.18, 1.10, 0.85, 1),
        (1.55, -2.00, 0.38, 0.71, 0),
        (1.65, -1.86, 0.16, 0.63, 0),
        (1.68, -1.60, -0.10, 0.48, 0),
    ),
    "van": (
        (0.25, -2.40, 2.36, 0.86, 0),
        (0.42, -2.50, 2.50, 0.95, 0),
        (0.78, -2.52, 2.52, 0.97, 0),
        (1.02, -2.52, 2.36, 0.97, 0),
        (1.14, -2.52, 1.95, 0.96, 0),
        (1.20, -2.52, 1.66, 0.95, 1),
        (1.85, -2.48, 1.02, 0.90, 0),
        (2.08, -2.42, 0.82, 0.82, 0),
        (2.14, -2.25, 0.60, 0.68, 0),
    ),
    "bus": (
        (0.30, -5.2, 5.2, 1.16, 0),
        (0.50, -5.3, 5.3, 1.24, 0),
        (0.95, -5.3, 5.3, 1.25, 0),
        (1.20, -5.3, 5.3, 1.25, 1),
        (2.40, -5.28, 5.22, 1.24, 0),
        (2.85, -5.25, 5.15, 1.22, 0),
        (3.00, -5.05, 4.95, 1.08, 0),
    ),
}


@dataclass(frozen=True)
class Car:
    """A vehicle; ``turn`` is the heading in radians from straight ahead (pi: it comes towards the camera)."""

    x: float
    depth: float
    turn: float
    body: str
    colour: tuple[float, float, float]
    scale: float = 1.0
    braking: bool = False

    def _world(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return world positions of points (N, 3) given as right, up and forward on the vehicle."""
        x, y, z = np.asarray(points, np.float64).T * self.scale
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.stack([self.x + c * x + s * z, y, self.depth - s * x + c * z], axis=1)

    def outline(self, margin: float = 0.0) -> NDArray[np.float64]:
        """Return the plan (4, 2)."""
        rows = BODIES[self.body]
        rear, front = min(row[1] for row in rows) - margin, max(row[2] for row in rows) + margin
        half = max(row[3] for row in rows) + margin
        corners = [(-half, 0, rear), (half, 0, rear), (half, 0, front), (-half, 0, front)]
        return self._world(corners)[:, [0, 2]]

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return (plan, from height, to height) of what casts shadows."""
        return [(self.outline(-0.1), 0.1, BODIES[self.body][-1][0] * self.scale * 0.92)]

    def paint(self, canvas: Canvas) -> None:
        """Draw wheels and body with Pillow and put them on the canvas."""
        flat = self.outline(0.1)
        tall = BODIES[self.body][-1][0] * self.scale + 0.1
        corners = np.concatenate([np.insert(flat, 1, height, axis=1) for height in (0.0, tall)])
        box = None if corners[:, 2].min() < NEAR else canvas.view.box(corners)
        if box is None:
            return
        size = (box[2] - box[0], box[3] - box[1])
        sheet, cover = Image.new("RGB", size), Image.new("L", size)
        pens = _Pens(canvas, box, ImageDraw.Draw(sheet), ImageDraw.Draw(cover))
        sunlit = canvas.sunlit(self.x, self.depth)
        self._wheels(pens)
        self._faces(pens, sunlit)
        self._wheels(pens, outside=True)
        self._plate(pens)
        colours = np.asarray(sheet, np.float32) / np.float32(170)
        canvas.put(box, canvas.light.through_air(colours, self.depth), np.asarray(cover) > 0, CAR)

    def _rings(self) -> NDArray[np.float64]:
        """Return the mesh points (rings, points, 3): rounded rectangles in plan."""
        count = 48 if self.depth < 14 else 32 if self.depth < 28 else 20
        angles = (np.arange(count) + 0.5) / count * 2 * np.pi
        power = 0.42 if self.body != "bus" else 0.22
        c, s = np.cos(angles), np.sin(angles)
        across, along = (np.sign(one) * np.abs(one) ** power for one in (c, s))
        rows = _rounded(np.array([row[:4] for row in BODIES[self.body]]))
        x = rows[:, 3:4] * across
        z = (rows[:, 1:2] + rows[:, 2:3]) / 2 + (rows[:, 2:3] - rows[:, 1:2]) / 2 * along
        return np.stack([x, np.broadcast_to(rows[:, :1], x.shape), z], axis=-1)

    def _faces(self, pens: "_Pens", sunlit: float) -> None:
        local = self._rings()
        world = self._world(local.reshape(-1, 3)).reshape(local.shape)
        after = np.roll(np.arange(local.shape[1]), -1)
        quads = np.stack([world[:-1], world[:-1, after], world[1:, after], world[1:]], axis=2)
        centres = quads.mean(2)
        normals = np.cross(quads[:, :, 1] - quads[:, :, 0], quads[:, :, 3] - quads[:, :, 0])
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
        normals *= np.sign((normals * (centres - world.mean((0, 1)))).sum(-1, keepdims=True))
        smooth = normals.copy()
        smooth[1:] += 0.6 * normals[:-1]
        smooth[:-1] += 0.6 * normals[1:]
        smooth /= np.linalg.norm(smooth, axis=-1, keepdims=True)
        towards = np.array((0, pens.canvas.view.eye, 0)) - centres
        seen = (normals * towards).sum(-1) > 0
        colours = self._colours(pens.canvas, (local[:-1] + local[1:]) / 2, smooth, towards, sunlit)
        order = np.argsort(-np.linalg.norm(towards, axis=-1)[seen])
        flat = pens.canvas.view.project(quads[seen][order].reshape(-1, 3)) - pens.box[:2]
        tones = np.clip(colours[seen][order] * 170, 0, 255).astype(int).tolist()
        for outline, (red, green, blue) in zip(flat.reshape(-1, 8).tolist(), tones, strict=True):
            pens.flat(outline, (red, green, blue))
        pens.polygon(world[-1], self._roof(pens.canvas, sunlit))

    def _roof(self, canvas: Canvas, sunlit: float) -> Floats:
        return np.asarray(
            rgb(*self.colour) * canvas.light.on(rgb(0, 1, 0), sunlit) + 0.3 * canvas.light.haze, np.float32
        )

    def _colours(
        self,
        canvas: Canvas,
        local: NDArray[np.float64],
        normals: NDArray[np.float64],
        towards: NDArray[np.float64],
        sunlit: float,
    ) -> Floats:
        rows = BODIES[self.body]
        light = canvas.light.on(normals, sunlit)
        view = towards / np.linalg.norm(towards, axis=-1, keepdims=True)
        facing = (view * normals).sum(-1, keepdims=True)
        mirror_up = (2 * facing * normals - view)[..., 1:2]
        gloss = 0.07 + 0.45 * (1 - np.clip(facing, 0, 1)) ** 3
        reflected = np.where(
            mirror_up > 0.02, canvas.light.haze * (0.75 + 0.25 * np.clip(mirror_up, 0, 1)), canvas.light.sky * 0.25
        )
        colours = rgb(*self.colour) * light * (0.8 + 0.2 * np.clip(local[..., 1:2], 0, 1)) + reflected * gloss
        half = view + canvas.light.sun
        half /= np.linalg.norm(half, axis=-1, keepdims=True)
        colours += canvas.light.sun_colour * sunlit * np.clip((half * normals).sum(-1, keepdims=True), 0, 1) ** 40 * 0.8
        belt = 2 * next(index for index, row in enumerate(rows) if row[4])
        self._details(colours, local, belt)
        for ring in (belt, belt + 1):
            glass = self._glazed(local[ring])
            pane = 0.03 + reflected[ring] * (0.09 + 0.8 * gloss[ring])
            colours[ring][glass] = pane[glass]
        return np.asarray(colours, np.float32)

    def _glazed(self, ring: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which faces of the window ring are glass: all but the pillars, and less of a van."""
        along = ring[:, 2] - (ring[:, 2].max() + ring[:, 2].min()) / 2
        half_long, half_wide = np.ptp(ring[:, 2]) / 2, ring[:, 0].max()
        end = np.abs(along) > half_long * 0.93
        corner = (np.abs(ring[:, 0]) > half_wide * 0.86) & (np.abs(along) > half_long * 0.86)
        post = ~end & (np.abs(along) < half_long * 0.1)
        solid = (self.body == "van") & ~end & (along < half_long * 0.3)
        return np.asarray(~(corner | post | solid), np.bool_)

    def _details(self, colours: Floats, local: NDArray[np.float64], belt: int) -> None:
        """Paint bumpers, lamps and grille into the faces below the windows."""
        rear, front = local[..., 2].min(), local[..., 2].max()
        wide = np.abs(local[..., 0]) / local[..., 0].max()
        at_rear, at_front = local[..., 2] < rear * 0.9, local[..., 2] > front * 0.86
        low = np.zeros(local.shape[:2], np.bool_)
        low[:2] = True
        colours[low] *= np.float32(0.35)
        middle = np.zeros_like(low)
        middle[max(3, belt - 6) : belt - 2] = True
        colours[middle & at_rear & (wide > 0.72)] = rgb(0.95, 0.10, 0.08) if self.braking else rgb(0.5, 0.05, 0.05)
        colours[middle & at_front & (wide > 0.62)] = rgb(0.85, 0.86, 0.88)
        grille = np.zeros_like(low)
        grille[2:5] = True
        colours[grille & at_front & (wide < 0.55)] = rgb(0.07, 0.07, 0.08)

    def _wheels(self, pens: "_Pens", outside: bool = False) -> None:
        rows = BODIES[self.body]
        half, front, rear = max(row[3] for row in rows), rows[1][2], rows[1][1]
        radius = 0.31 if self.body != "bus" else 0.48
        for side in (-1, 1):
            for z in (rear * 0.66, front * 0.68):
                if outside and self._faces_camera(pens.canvas, side, half, z):
                    self._wheel(pens, side * (half + 0.005), z, radius)
                elif not outside:
                    x = side * half * 0.82
                    pens.polygon(self._world(_rectangle(x, 0.11, z, radius * 1.6)), rgb(0.03, 0.03, 0.035))

    def _faces_camera(self, canvas: Canvas, side: int, half: float, z: float) -> bool:
        outer, inner = self._world([(side * half, 0.3, z), (0, 0.3, z)])
        return bool((outer - inner) @ (np.array((0, canvas.view.eye, 0)) - outer) > 0.05)

    def _wheel(self, pens: "_Pens", x: float, z: float, radius: float) -> None:
        light = pens.canvas.light.sky
        rings = (
            (1.17, 0.025 * light),
            (1.0, 0.07 * light),
            (0.66, 0.42 * light),
            (0.58, 0.3 * light),
            (0.2, 0.5 * light),
        )
        angles = np.linspace(0, 2 * np.pi, 26, endpoint=False)
        for size, colour in rings:
            y = radius + np.sin(angles) * radius * size
            disc = np.stack([np.full(26, x), np.maximum(y, 0.0), z + np.cos(angles) * radius * size], axis=1)
            pens.polygon(self._world(disc), colour)

    def _plate(self, pens: "_Pens") -> None:
        rows = BODIES[self.body]
        for end, colour in ((1, rgb(0.85, 0.7, 0.2)), (2, rgb(0.85, 0.85, 0.85))):
            z = rows[2][end]
            corners = self._world([(-0.26, 0.47, z), (0.26, 0.47, z), (0.26, 0.59, z), (-0.26, 0.59, z)])
            normal = self._world([(0, 0, z * 2), (0, 0, z)])
            if (normal[0] - normal[1]) @ (np.array((0, 0.5, 0)) - corners.mean(0)) > 0.3:
                pens.polygon(corners, colour * pens.canvas.light.sky)


def _rounded(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows with one more between every two, on a smooth (Catmull-Rom) curve."""
    padded = np.concatenate([rows[:1], rows, rows[-1:]])
    between = (9 * (rows[:-1] + rows[1:]) - padded[:-3] - padded[3:]) / 16
    full = np.empty((2 * len(rows) - 1, rows.shape[1]))
    full[0::2], full[1::2] = rows, between
    return full


def _rectangle(x: float, half: float, z: float, tall: float) -> list[tuple[float, float, float]]:
    return [(x - half, 0.0, z), (x + half, 0.0, z), (x + half, tall, z), (x - half, tall, z)]


@dataclass(frozen=True)
class _Pens:
    """A small sheet that polygons are drawn on, with its cover."""

    canvas: Canvas
    box: tuple[int, int, int, int]
    sheet: ImageDraw.ImageDraw
    cover: ImageDraw.ImageDraw

    def polygon(self, points: NDArray[np.float64], colour: Floats) -> None:
        """Draw a polygon (N, 3) in one colour."""
        red, green, blue = np.clip(colour * 170, 0, 255).astype(int).tolist()
        self.flat((self.canvas.view.project(points) - self.box[:2]).ravel().tolist(), (red, green, blue))

    def flat(self, outline: list[float], colour: tuple[int, int, int]) -> None:
        """Draw a polygon given in pixels of the sheet: x0, y0, x1, y1, ..."""
        self.sheet.polygon(outline, fill=colour)
        self.cover.polygon(outline, fill=255)
