"""The camera, the light and the picture that procedural road scenes are painted on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

__all__ = [
    "NEAR",
    "Canvas",
    "Floats",
    "Light",
    "Patch",
    "Shader",
    "View",
    "clip_near",
    "ground_shade",
    "noise",
    "rgb",
    "smoothstep",
    "swept",
]

Floats = NDArray[np.floating]
"""Pixels and coordinates: float32 wherever there is one per pixel, so that a picture costs half the memory."""
NEAR = 0.9
"""Nothing closer to the camera than this many metres is drawn."""
TILE = 512


@cache
def _tile(kind: str) -> Floats:
    """Return a tileable noise of mean 0 and deviation 1: ``white``, ``rough`` (1/f) or ``soft`` (1/f^2)."""
    random = np.random.default_rng(len(kind)).standard_normal((TILE, TILE))
    power = {"white": 0.0, "rough": 1.0, "soft": 1.9}[kind]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE)))
    frequency[0, 0] = np.inf
    tile = np.fft.ifft2(np.fft.fft2(random) * frequency**-power).real
    return np.asarray(np.clip(tile / tile.std(), -3, 3), np.float32)


def noise(kind: str, x: Floats, y: Floats, cell: float) -> Floats:
    """Return noise at metres (x, y), one value per square of ``cell`` metres; mean 0, deviation 1."""
    # Adding a multiple of the tile makes truncation round down, as all coordinates stay far above it.
    scale, ahead = np.float32(1 / cell), np.float32(TILE * 512)
    column = (x * scale + ahead).astype(np.int32) & (TILE - 1)
    row = (y * scale + ahead).astype(np.int32) & (TILE - 1)
    return np.asarray(_tile(kind).ravel().take(row * TILE + column), np.float32)


def rgb(*values: float) -> Floats:
    """Return a colour as float32."""
    return np.array(values, np.float32)


def smoothstep(low: float, high: float, value: Floats) -> Floats:
    """Return the smooth ramp from 0 at ``low`` to 1 at ``high``."""
    ramp = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


@dataclass(frozen=True)
class Light:
    """One sun and one sky: directions in world axes (right, up, ahead), colours as RGB."""

    sun: Floats
    sun_colour: Floats
    sky: Floats
    haze: Floats
    density: float

    @property
    def has_shadows(self) -> bool:
        """Whether the sun is strong enough to cast visible shadows."""
        return bool(self.sun_colour.mean() > 0.12)

    def on(self, normal: ArrayLike, sunlit: float = 1.0) -> Floats:
        """Return the light (..., 3) that falls on surfaces of unit ``normal`` (..., 3)."""
        facing = np.asarray(normal, np.float32)
        direct = np.maximum(facing @ self.sun, 0)[..., None] * (self.sun_colour * sunlit)
        return np.asarray(self.sky * (0.72 + 0.28 * facing[..., 1:2]) + direct, np.float32)

    def through_air(self, colour: Floats, depth: Floats | float) -> Floats:
        """Return colours (..., 3) as seen through ``depth`` (...) metres of air."""
        clear = np.exp(np.asarray(depth, np.float32) * np.float32(-self.density))[..., None]
        return np.asarray(colour * clear + self.haze * (1 - clear), np.float32)

    def shadow_shift(self) -> tuple[float, float]:
        """Return how far (right, ahead) the shadow of a point one metre above the ground falls."""
        x, y, z = (float(one) for one in self.sun)
        return -x / max(y, 0.15), -z / max(y, 0.15)


@dataclass(frozen=True)
class View:
    """A pinhole camera at the origin, ``eye`` metres above the ground, looking along z at one picture size."""

    width: int
    height: int
    focal: float
    cx: float
    cy: float
    eye: float
    roll: float

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return pixel coordinates (N, 2) of world points (N, 3) in front of the camera."""
        x, y, z = np.asarray(points, np.float64).T
        u = self.focal * x / z
        pixels = np.empty((len(u), 2))
        pixels[:, 0], pixels[:, 1] = self.cx + u, self.cy + self.roll * u + self.focal * (self.eye - y) / z
        return pixels

    def slopes(self, box: tuple[int, int, int, int]) -> tuple[Floats, Floats]:
        """Return the rays of a pixel box (x0, y0, x1, y1) as slopes right (1, w) and up (h, w) per metre ahead."""
        x0, y0, x1, y1 = box
        u = np.arange(x0, x1, dtype=np.float32)[None] + np.float32(0.5 - self.cx)
        v = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5 - self.cy)
        return u / np.float32(self.focal), (np.float32(self.roll) * u - v) / np.float32(self.focal)

    def box(self, points: ArrayLike) -> tuple[int, int, int, int] | None:
        """Return the pixel box around a convex outline (N, 3), or None where it is outside the picture."""
        seen = clip_near(points)
        if not len(seen):
            return None
        pixels = self.project(seen)
        low = np.clip(np.floor(pixels.min(0)), 0, (self.width, self.height)).astype(int)
        high = np.clip(np.ceil(pixels.max(0)) + 1, 0, (self.width, self.height)).astype(int)
        return (int(low[0]), int(low[1]), int(high[0]), int(high[1])) if (high > low).all() else None


def clip_near(points: ArrayLike) -> NDArray[np.float64]:
    """Return a polygon (N, 3) cut off where it comes closer than ``NEAR``."""
    outline = np.asarray(points, np.float64)
    if (outline[:, 2] >= NEAR).all():
        return outline
    kept = []
    for here, there in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if here[2] >= NEAR:
            kept.append(here)
        if (here[2] >= NEAR) != (there[2] >= NEAR):
            kept.append(here + (there - here) * (NEAR - here[2]) / (there[2] - here[2]))
    return np.array(kept).reshape(-1, 3)


@dataclass(frozen=True)
class Patch:
    """The pixels of a box that see a flat parallelogram: where on it they look, in metres, and how far away."""

    s: Floats
    t: Floats
    z: Floats
    inside: NDArray[np.bool_]
    pixel: Floats
    light: Light

    def noise(self, kind: str, cell: float, stretch: float = 1.0, offset: float = 0.0) -> Floats:
        """Return surface noise that fades where a cell becomes smaller than a pixel."""
        fade = np.float32(cell) / (np.float32(cell) + self.pixel)
        return noise(kind, self.s + np.float32(offset), self.t * np.float32(stretch), cell) * fade


Shader = Callable[[Patch], tuple[Floats, NDArray[np.bool_]]]
"""Patch -> colours (h, w, 3) already lit, and which pixels (h, w) are covered."""


class Canvas:
    """A float32 picture with labels and the light falling on it; painted from far to near."""

    def __init__(self, view: View, light: Light) -> None:
        self.view = view
        self.light = light
        self.rgb = np.zeros((view.height, view.width, 3), np.float32)
        self.labels = np.zeros((view.height, view.width), np.uint8)
        self.shade = np.ones((view.height, view.width), np.float32)

    def put(
        self,
        box: tuple[int, int, int, int],
        colours: Floats,
        covered: NDArray[np.bool_],
        label: int | None,
        labelled: NDArray[np.bool_] | None = None,
    ) -> None:
        """Replace the covered pixels of a box; ``labelled`` says where the label goes if not the same pixels."""
        x0, y0, x1, y1 = box
        np.copyto(self.rgb[y0:y1, x0:x1], colours, where=covered[..., None])
        if label is not None:
            self.labels[y0:y1, x0:x1][covered if labelled is None else labelled] = label

    def plane(
        self, corner: ArrayLike, across: ArrayLike, upward: ArrayLike, shader: Shader, label: int, solid: bool = False
    ) -> None:
        """Paint a parallelogram; ``solid`` labels all of it, also where the shader leaves it open."""
        found = self.patch(corner, across, upward)
        if found is not None:
            box, patch = found
            colours, covered = shader(patch)
            colours = self.light.through_air(colours, patch.z)
            self.put(box, colours, covered & patch.inside, label, patch.inside if solid else None)

    def patch(
        self, corner: ArrayLike, across: ArrayLike, upward: ArrayLike
    ) -> tuple[tuple[int, int, int, int], Patch] | None:
        """Return the box and patch of the parallelogram, or None where it is out of sight."""
        o, a, b = (np.asarray(one, np.float64) for one in (corner, across, upward))
        box = self.view.box([o, o + a, o + a + b, o + b])
        if box is None:
            return None
        o = o - (0, self.view.eye, 0)
        normal = _cross(a, b)
        right, up = self.view.slopes(box)
        facing = _along(normal, right, up)
        z = np.float32(o @ normal) / np.where(np.abs(facing) < 1e-9, np.float32(1e-9), facing)
        s, t = (_coordinate(axis, o, normal, right, up, z) for axis in (_cross(b, normal), _cross(normal, a)))
        inside = (s >= 0) & (s < 1) & (t >= 0) & (t < 1) & (z > 0)
        z = np.clip(z, NEAR / 2, 1000)
        # Beyond the edges the coordinates run away; nothing is drawn there.
        s = np.clip(s, 0, 1) * np.float32(np.linalg.norm(a))
        t = np.clip(t, 0, 1) * np.float32(np.linalg.norm(b))
        return box, Patch(s, t, z, inside, z / np.float32(self.view.focal), self.light)

    def sunlit(self, x: float, z: float) -> float:
        """Return how much sun (0 to 1) reaches the ground at (x, z), buildings and trees considered."""
        u, v = self.view.project([(x, 0.0, max(z, NEAR))])[0]
        row = int(np.clip(v, 0, self.view.height - 1))
        return float(self.shade[row, int(np.clip(u, 0, self.view.width - 1))])


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross product of two vectors, many times faster than NumPy's general one."""
    (p, q, r), (x, y, z) = a.tolist(), b.tolist()
    return np.array((q * z - r * y, r * x - p * z, p * y - q * x))


def _along(axis: NDArray[np.float64], right: Floats, up: Floats) -> Floats:
    x, y, z = (np.float32(one) for one in axis)
    flat = x * right + z
    return flat + y * up if y else np.broadcast_to(flat, up.shape)


def _coordinate(
    axis: NDArray[np.float64], o: NDArray[np.float64], normal: NDArray[np.float64], right: Floats, up: Floats, z: Floats
) -> Floats:
    size = float(normal @ normal)
    return z * _along(axis / size, right, up) - np.float32(o @ axis / size)


def swept(outline: NDArray[np.float64], shift: ArrayLike) -> NDArray[np.float64]:
    """Return what a convex outline (N, 2) covers when it moves by ``shift`` (2,), as an outline (2 N, 2)."""
    edges = np.roll(outline, -1, axis=0) - outline
    turning = np.sign((outline[:, 0] * np.roll(outline[:, 1], -1) - outline[:, 1] * np.roll(outline[:, 0], -1)).sum())
    x, y = np.asarray(shift, np.float64)
    leading = (edges[:, 1] * x - edges[:, 0] * y) * turning > 0
    moved = leading[:, None] * np.array((x, y))
    return np.stack([outline + moved, outline + edges + moved], axis=1).reshape(-1, 2)


def ground_shade(view: View, outlines: Sequence[NDArray[np.float64]], blur: float, scale: int = 2) -> Floats:
    """Return how dark (0 to 1) each pixel of the picture is under polygons (N, 2) on the ground."""
    layer = Image.new("L", (max(1, view.width // scale), max(1, view.height // scale)))
    draw = ImageDraw.Draw(layer)
    factor = (layer.width / view.width, layer.height / view.height)
    for outline in outlines:
        seen = clip_near(np.stack([outline[:, 0], np.zeros(len(outline)), outline[:, 1]], axis=1))
        if len(seen) > 2:
            draw.polygon([(x, y) for x, y in view.project(seen) * factor], fill=255)
    layer = layer.filter(ImageFilter.GaussianBlur(blur * view.width / scale))
    layer = layer.resize((view.width, view.height), Image.Resampling.BILINEAR)
    return np.asarray(layer, np.float32) / np.float32(255)
