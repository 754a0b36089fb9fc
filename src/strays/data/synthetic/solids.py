"""Round and boxy bodies seen by ray casting: what people, cyclists and the anomalies of road scenes are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strays.data.synthetic.canvas import NEAR, Canvas, Floats, noise, swept

__all__ = ["Finish", "Solid", "Texture", "ball", "block", "limb", "paint_solids", "placed", "shadow_of", "tube"]

Texture = Callable[[Floats, Floats], Floats]
"""(points (N, 3) on the body in metres, albedo (3,)) -> albedo (N, 3)."""


@dataclass(frozen=True)
class Solid:
    """An ellipsoid, box, cylinder, cone or torus.

    Args:
        kind: which of them; cylinder, cone and torus stand along their own second axis.
        centre: metres right, up, ahead.
        radii: half sizes along the own axes.
        axes: rows are the own axes in the world.
        colour: albedo.
        texture: changes the albedo over the surface, or None.
        bump: how strongly noise tilts the surface, 0 for smooth.
        shine: strength of the highlight.
    """

    kind: str
    centre: NDArray[np.float64]
    radii: NDArray[np.float64]
    axes: NDArray[np.float64]
    colour: Floats
    texture: Texture | None = None
    bump: float = 0.0
    shine: float = 0.0


class Finish(TypedDict, total=False):
    """The optional looks of a body."""

    texture: Texture
    bump: float
    shine: float


def ball(centre: ArrayLike, radii: ArrayLike, colour: Floats, turn: float = 0.0, **more: Unpack[Finish]) -> Solid:
    """Return an upright ellipsoid."""
    return _make("ellipsoid", centre, radii, _about_vertical(turn), colour, **more)


def block(centre: ArrayLike, radii: ArrayLike, colour: Floats, turn: float = 0.0, **more: Unpack[Finish]) -> Solid:
    """Return a box turned about the vertical."""
    return _make("box", centre, radii, _about_vertical(turn), colour, **more)


def tube(
    kind: str, centre: ArrayLike, radii: ArrayLike, colour: Floats, axis: ArrayLike, **more: Unpack[Finish]
) -> Solid:
    """Return a cylinder, cone or torus along ``axis``."""
    return _make(kind, centre, radii, _frame(axis), colour, **more)


def limb(start: ArrayLike, end: ArrayLike, thickness: float, colour: Floats, **more: Unpack[Finish]) -> Solid:
    """Return an ellipsoid that reaches a little beyond both ends."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    half = float(np.linalg.norm(b - a)) / 2 + thickness * 0.6
    return _make("ellipsoid", (a + b) / 2, (thickness, half, thickness), _frame(b - a), colour, **more)


def _about_vertical(turn: float) -> NDArray[np.float64]:
    c, s = np.cos(turn), np.sin(turn)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def _make(
    kind: str, centre: ArrayLike, radii: ArrayLike, axes: NDArray[np.float64], colour: Floats, **more: Unpack[Finish]
) -> Solid:
    half = np.broadcast_to(np.asarray(radii, np.float64), 3)
    return Solid(kind, np.asarray(centre, np.float64), half, axes, colour, **more)


def _frame(axis: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(axis, np.float64)
    up = given / np.linalg.norm(given)
    side = np.cross(up, np.array((0.0, 0.0, 1.0) if abs(up[2]) < 0.9 else (1.0, 0.0, 0.0)))
    side = side / np.linalg.norm(side)
    return np.stack([side, up, np.cross(side, up)])


def placed(solids: Sequence[Solid], x: float, z: float, turn: float, scale: float = 1.0) -> list[Solid]:
    """Return bodies built around the origin, scaled, turned about the vertical and moved to (x, z)."""
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    moved = []
    for one in solids:
        centre = rotation @ one.centre * scale + (x, 0, z)
        moved.append(replace(one, centre=centre, radii=one.radii * scale, axes=one.axes @ rotation.T))
    return moved


def extent(solid: Solid) -> NDArray[np.float64]:
    """Return the half sizes of the upright box around a body."""
    if solid.kind == "box":
        return np.abs(solid.axes.T) @ solid.radii
    return np.sqrt((solid.axes.T**2) @ solid.radii**2) * (1.0 if solid.kind == "ellipsoid" else 1.35)


def shadow_of(solid: Solid, shift: tuple[float, float]) -> NDArray[np.float64]:
    """Return the outline (N, 2) of the body's shadow on the ground for a shift per metre of height."""
    half = extent(solid) * 0.9
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    ring = np.stack([np.cos(angles) * half[0], np.sin(angles) * half[2]], axis=1)
    if shift == (0.0, 0.0):
        return np.asarray(solid.centre[[0, 2]] + ring, np.float64)
    low, high = (max(0.0, float(solid.centre[1] + side * half[1])) for side in (-0.8, 0.8))
    return swept(solid.centre[[0, 2]] + ring + np.multiply(shift, low), np.multiply(shift, high - low))


def paint_solids(canvas: Canvas, solids: Sequence[Solid], label: int) -> None:
    """Paint bodies that may hide each other; all their visible pixels get the label."""
    everything = np.concatenate([_corners(one) for one in solids])
    if everything[:, 2].min() < NEAR:
        return
    box = canvas.view.box(everything)
    if box is None:
        return
    x0, y0, x1, y1 = box
    depth = np.full((y1 - y0, x1 - x0), np.inf, np.float32)
    colours = np.zeros((*depth.shape, 3), np.float32)
    base = everything.mean(0)
    sunlit = canvas.sunlit(float(base[0]), float(base[2]))
    for one in solids:
        _cast(canvas, one, box, depth, colours, sunlit)
    canvas.put(box, colours, np.isfinite(depth), label)


def _corners(solid: Solid) -> NDArray[np.float64]:
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return np.asarray(solid.centre + signs * extent(solid), np.float64)


def _cast(
    canvas: Canvas,
    solid: Solid,
    outer: tuple[int, int, int, int],
    depth: Floats,
    colours: Floats,
    sunlit: float,
) -> None:
    box = canvas.view.box(_corners(solid))
    if box is None:
        return
    inner = (slice(box[1] - outer[1], box[3] - outer[1]), slice(box[0] - outer[0], box[2] - outer[0]))
    right, up = canvas.view.slopes(box)
    rays = np.stack([np.broadcast_to(right, up.shape), up, np.ones_like(up)], axis=-1).reshape(-1, 3)
    origin = solid.axes @ (np.array([0, canvas.view.eye, 0]) - solid.centre)
    heading = rays @ solid.axes.T.astype(np.float32)
    distance, normal = _HITS[solid.kind](origin.astype(np.float32), heading, solid.radii.astype(np.float32))
    nearer = np.flatnonzero(distance < depth[inner].ravel())
    if not len(nearer):
        return
    distance = distance[nearer]
    points = origin.astype(np.float32) + heading[nearer] * distance[:, None]
    lit = _shaded(canvas, solid, points, normal[nearer], rays[nearer], sunlit)
    target = np.unravel_index(nearer, up.shape)
    depth[inner][target] = distance
    colours[inner][target] = canvas.light.through_air(lit, distance)


def _shaded(canvas: Canvas, solid: Solid, points: Floats, normal: Floats, rays: Floats, sunlit: float) -> Floats:
    if solid.bump:
        normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        normal = normal + solid.bump * _wobble(points, float(solid.radii.max()))
    normal = normal @ solid.axes.astype(np.float32)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    albedo = solid.colour if solid.texture is None else solid.texture(points, solid.colour)
    light = canvas.light.on(normal, sunlit)
    height = (points @ solid.axes.astype(np.float32))[:, 1] + np.float32(solid.centre[1])
    light *= np.clip(0.62 + 0.9 * height, 0.5, 1.0)[:, None]
    if solid.shine:
        view = -rays / np.linalg.norm(rays, axis=1, keepdims=True)
        half = view + canvas.light.sun
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        gloss = np.maximum((normal * half).sum(1), 0) ** 24
        return np.asarray(albedo * light + solid.shine * gloss[:, None] * (0.3 + canvas.light.sun_colour), np.float32)
    return np.asarray(albedo * light, np.float32)


def _wobble(points: Floats, size: float) -> Floats:
    x, y, z = points.T
    cell = max(size / 60, 0.004)
    parts = [noise("soft", x + 3 * shift + z, y - z * np.float32(0.6), cell) for shift in range(3)]
    return np.stack(parts, axis=1)


def _ellipsoid(origin: Floats, heading: Floats, radii: Floats) -> tuple[Floats, Floats]:
    o, d = origin / radii, heading / radii
    a, b, c = (d * d).sum(1), d @ o, float(o @ o) - 1
    root = b * b - a * np.float32(c)
    distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf).astype(np.float32)
    point = o + d * np.where(root > 0, distance, 0)[:, None]
    return distance, point / radii


def _box(origin: Floats, heading: Floats, radii: Floats) -> tuple[Floats, Floats]:
    safe = np.where(np.abs(heading) < 1e-7, np.float32(1e-7), heading)
    one, two = (-radii - origin) / safe, (radii - origin) / safe
    entry = np.minimum(one, two)
    near, far = entry.max(1), np.maximum(one, two).min(1)
    normal = np.where(entry == near[:, None], -np.sign(safe), np.float32(0))
    return np.where((near < far) & (near > 0), near, np.inf).astype(np.float32), normal.astype(np.float32)


def _cylinder(origin: Floats, heading: Floats, radii: Floats) -> tuple[Floats, Floats]:
    return _barrel(origin, heading, radii, 0.0)


def _cone(origin: Floats, heading: Floats, radii: Floats) -> tuple[Floats, Floats]:
    return _barrel(origin, heading, radii, 0.88)


def _barrel(origin: Floats, heading: Floats, radii: Floats, taper: float) -> tuple[Floats, Floats]:
    """Cylinder of unit size whose radius shrinks by ``taper`` from bottom to top; solves (x, z)^2 = (k - m y)^2."""
    o, d = origin / radii, heading / radii
    k, m = np.float32(1 - taper / 2), np.float32(taper / 2)
    edge = k - m * o[1]
    a = d[:, 0] ** 2 + d[:, 2] ** 2 - (m * d[:, 1]) ** 2
    b = d[:, 0] * o[0] + d[:, 2] * o[2] + m * d[:, 1] * edge
    root = b * b - a * (o[0] ** 2 + o[2] ** 2 - edge**2)
    side = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / np.where(a == 0, np.float32(1e-7), a), np.inf)
    height = o[1] + d[:, 1] * np.where(np.isfinite(side), side, 0)
    side = np.where((np.abs(height) <= 1) & (side > 0), side, np.inf)
    cap_y = np.where(d[:, 1] < 0, np.float32(1), np.float32(-1))
    cap = (cap_y - o[1]) / np.where(d[:, 1] == 0, np.float32(1e-7), d[:, 1])
    reach = (o[0] + d[:, 0] * cap) ** 2 + (o[2] + d[:, 2] * cap) ** 2
    cap = np.where((reach <= (k - m * cap_y) ** 2) & (cap > 0), cap, np.inf)
    point = o + d * np.where(np.isfinite(side), side, 0)[:, None]
    round_ = np.stack([point[:, 0], np.full_like(height, m), point[:, 2]], axis=1) / radii
    flat = np.stack([np.zeros_like(cap_y), cap_y, np.zeros_like(cap_y)], axis=1)
    return np.minimum(side, cap).astype(np.float32), np.where((cap < side)[:, None], flat, round_).astype(np.float32)


def _torus(origin: Floats, heading: Floats, radii: Floats) -> tuple[Floats, Floats]:
    """A ring of radius ``radii[0]`` and thickness ``radii[1]``, by sphere tracing from its outer ball."""
    speed = np.linalg.norm(heading, axis=1)
    distance = np.full(len(heading), np.linalg.norm(origin) - radii[0] - radii[1], np.float32) / speed
    for _ in range(28):
        gap, _slope = _ring(origin + heading * distance[:, None], radii)
        distance = distance + gap / speed
    gap, normal = _ring(origin + heading * distance[:, None], radii)
    return np.where(gap < radii[1] * 0.12, distance, np.inf).astype(np.float32), normal


def _ring(point: Floats, radii: Floats) -> tuple[Floats, Floats]:
    around = np.hypot(point[:, 0], point[:, 2])
    out = around - radii[0]
    gap = np.hypot(out, point[:, 1])
    scale = out / np.maximum(around, 1e-6)
    normal = np.stack([point[:, 0] * scale, point[:, 1], point[:, 2] * scale], axis=1)
    return gap - radii[1], normal / np.maximum(gap, 1e-6)[:, None]


_HITS: dict[str, Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]] = {
    "ellipsoid": _ellipsoid,
    "box": _box,
    "cylinder": _cylinder,
    "cone": _cone,
    "torus": _torus,
}
