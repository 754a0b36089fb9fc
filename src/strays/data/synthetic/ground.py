"""Sky and ground of procedural road scenes: asphalt, markings, kerbs, pavements, verges, clouds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strays.data.synthetic.canvas import Canvas, Floats, Patch, View, noise, rgb, smoothstep

__all__ = ["Band", "Street", "paint_ground", "paint_sky"]

SKY, ROAD, PAVEMENT, TREE = 0, 3, 4, 5
_KERB = 0.16


@dataclass(frozen=True)
class Band:
    """A strip or rectangle on the road: lateral and forward range in metres, brightness change or paint."""

    left: float
    right: float
    near: float
    far: float
    change: float = 0.0
    dash: float = 0.0
    gap: float = 0.0
    colour: tuple[float, float, float] = (0.86, 0.86, 0.84)
    stripes: float = 0.0


@dataclass(frozen=True)
class Street:
    """The plan of the road: lateral metres are measured from the camera's own path.

    Args:
        left: where the road ends on the left (negative).
        right: where it ends on the right.
        pavements: width of the pavement on the left and on the right.
        verge: what lies beyond: ``grass``, ``paving`` or ``gravel``.
        bend: lateral metres per square metre ahead.
        heading: lateral metres per metre ahead.
        side_road: forward range of a junction, or None.
        asphalt: brightness of the road.
        patches: repairs.
        markings: paint.
        seed: offset of the noise.
    """

    left: float
    right: float
    pavements: tuple[float, float]
    verge: str
    bend: float
    heading: float
    side_road: tuple[float, float] | None
    asphalt: float
    wear: float
    patches: tuple[Band, ...]
    markings: tuple[Band, ...]
    seed: float

    def centre(self, z: float) -> float:
        """Return how far right the camera's path has moved after ``z`` metres."""
        return self.heading * z + self.bend * z * z

    def edge(self, side: int, pavement: bool = True) -> float:
        """Return where road (and pavement) end on a side: -1 left, 1 right."""
        outer = self.pavements[0 if side < 0 else 1] + _KERB if pavement else 0.0
        return self.left - outer if side < 0 else self.right + outer


def paint_sky(canvas: Canvas, clouds: float, blue: Floats, bright: Floats, seed: float) -> None:
    """Fill the picture with a sky: ``clouds`` from 0 (clear) to 1 (overcast)."""
    view = canvas.view
    rows = min(view.height, int(view.cy + abs(view.roll) * view.width + 2))
    if rows <= 0:
        return
    right, up = view.slopes((0, 0, view.width, rows))
    # Clouds are soft: every second row and column is enough.
    right, up = right[:, ::2], np.maximum(up[::2, ::2], np.float32(0.004))
    blend = smoothstep(0.0, 0.75, up)[..., None]
    sky = canvas.light.haze + (blue - canvas.light.haze) * blend
    x, y = right / (up + 0.12) * 60, 60 / (up + 0.12)
    cover = _smooth(x + np.float32(seed * 7), y, 0.9) + 0.4 * _smooth(x * 4 + np.float32(seed), y * 4, 0.9)
    amount = smoothstep(0.9 - 2.6 * clouds, 2.2 - 2.2 * clouds, cover)[..., None]
    tone = bright * (1 - 0.16 * smoothstep(-1.0, 2.2, cover)[..., None] * (0.5 + clouds))
    sky += (tone - sky) * amount * (0.35 + 0.65 * smoothstep(0.0, 0.3, up)[..., None])
    sky = np.repeat(np.repeat(sky + _glow(canvas, right, up), 2, axis=0), 2, axis=1)[:rows, : view.width]
    canvas.put((0, 0, view.width, rows), sky, np.ones(sky.shape[:2], np.bool_), SKY)


def _smooth(x: Floats, y: Floats, cell: float) -> Floats:
    """Return soft noise, interpolated so that its cells do not show."""
    u, v = x / np.float32(cell), y / np.float32(cell)
    p, q = u - np.floor(u), v - np.floor(v)
    corners = [noise("soft", u + i, v + j, 1.0) for j in (0, 1) for i in (0, 1)]
    low, high = corners[0] + (corners[1] - corners[0]) * p, corners[2] + (corners[3] - corners[2]) * p
    return np.asarray(low + (high - low) * q, np.float32)


def _glow(canvas: Canvas, right: Floats, up: Floats) -> Floats:
    sun, strength = canvas.light.sun, canvas.light.sun_colour
    facing = (right * sun[0] + up * sun[1] + sun[2]) / np.sqrt(right**2 + up**2 + 1)
    return np.asarray(np.maximum(facing, 0)[..., None] ** 6 * strength * np.float32(0.3), np.float32)


def paint_ground(canvas: Canvas, street: Street, shade: Floats, contact: Floats) -> None:
    """Paint everything below the horizon; ``shade`` and ``contact`` (H, W) darken sun and sky light."""
    view = canvas.view
    patch = _ground_patch(view, canvas)
    if patch is None:
        return
    top = view.height - patch.z.shape[0]
    labels, colours = _surfaces(street, patch)
    shade, contact = shade[top:], contact[top:]
    light = canvas.light.sky + canvas.light.sun_colour * canvas.light.sun[1] * (1 - shade)[..., None]
    colours *= light * (1 - contact)[..., None]
    box = (0, top, view.width, view.height)
    canvas.put(box, canvas.light.through_air(colours, patch.z), patch.inside, None)
    region = canvas.labels[top:]
    np.copyto(region, labels, where=patch.inside)


def _ground_patch(view: View, canvas: Canvas) -> Patch | None:
    top = max(0, int(view.cy - abs(view.roll) * view.width / 2))
    if top >= view.height:
        return None
    right, up = view.slopes((0, top, view.width, view.height))
    z = np.float32(view.eye) / np.maximum(-up, np.float32(view.eye / 600))
    pixel = z / np.float32(view.focal)
    return Patch(right * z, z, z, -up > view.eye / 600, pixel * np.sqrt(z / np.float32(view.eye)), canvas.light)


def _surfaces(street: Street, patch: Patch) -> tuple[NDArray[np.uint8], Floats]:
    z = patch.z
    s = patch.s - z * (np.float32(street.heading) + np.float32(street.bend) * z)
    lines = (street.edge(-1), street.left - _KERB, street.left, street.right, street.right + _KERB, street.edge(1))
    zone = sum((s > np.float32(line)).astype(np.int8) for line in lines)
    zone = _with_side_road(street, s, z, np.asarray(zone, np.int8))
    labels = np.array((TREE if street.verge == "grass" else PAVEMENT, 4, 4, 3, 4, 4, 0), np.uint8)
    labels[6] = labels[0]
    colours = _palette(street)[zone]
    surface = Patch(s, z, z, patch.inside, patch.pixel, patch.light)
    tone = np.ones_like(z)
    verge = (zone == 0) | (zone == 6)
    for where, texture in ((zone == 3, _asphalt), (verge, _verge), ((zone != 3) & ~verge, _paving)):
        there = Patch(s[where], z[where], z[where], patch.inside[where], patch.pixel[where], patch.light)
        tone[where] = texture(street, there)
    colours *= tone[..., None]
    _paint_markings(street, surface, zone == 3, colours)
    return labels[zone], colours


def _with_side_road(street: Street, s: Floats, z: Floats, zone: NDArray[np.int8]) -> NDArray[np.int8]:
    if street.side_road is None:
        return zone
    near, far = street.side_road
    corner = np.maximum(0, 2.5 - np.maximum(street.left - s, s - street.right))
    return np.where((z > near - corner) & (z < far + corner), np.int8(3), zone)


def _palette(street: Street) -> Floats:
    tone = street.asphalt
    verge = {"grass": (0.25, 0.33, 0.13), "paving": (0.47, 0.45, 0.43), "gravel": (0.5, 0.46, 0.4)}[street.verge]
    paving = (0.50, 0.485, 0.47) if street.seed % 2 < 1 else (0.44, 0.42, 0.42)
    kerb = (0.56, 0.55, 0.53)
    road = (tone, tone * 1.0, tone * 1.015)
    return rgb(*verge, *paving, *kerb, *road, *kerb, *paving, *verge).reshape(7, 3)


def _asphalt(street: Street, ground: Patch) -> Floats:
    s, z = ground.s, ground.z
    tone = 1 + 0.13 * ground.noise("white", 0.012, offset=street.seed) + 0.07 * ground.noise("rough", 0.03)
    tone += 0.07 * street.wear * ground.noise("soft", 0.11, 0.25, street.seed * 3)
    lane = (s - np.float32(street.left)) / 3.1
    tone -= np.float32(0.05 * street.wear) * np.cos(lane * np.float32(4 * np.pi))
    for one in street.patches:
        inside = (s > one.left) & (s < one.right) & (z > one.near) & (z < one.far)
        tone += np.float32(one.change) * inside
    wander = noise("soft", s, z * np.float32(0.7), 0.04)
    crack = np.abs(wander - np.float32(0.4)) < 0.012 * street.wear
    tone -= 0.22 * crack / (1 + ground.pixel * 60)
    gutter = np.minimum(s - street.left, street.right - s)
    return np.asarray(tone - 0.16 * np.exp(-np.maximum(gutter, 0) * 3.5), np.float32)


def _paving(street: Street, ground: Patch) -> Floats:
    s, z = ground.s, ground.z
    slab = 0.45 + 0.3 * (street.seed % 1)
    fade = 1 / (1 + ground.pixel * 14)
    u, v = s / np.float32(slab), z / np.float32(slab * 1.5)
    joint = (np.abs(u % 1 - 0.5) > 0.47) | (np.abs(v % 1 - 0.5) > 0.48)
    tone = 1 + 0.06 * noise("white", np.floor(u), np.floor(v), 1.0) * fade - 0.2 * joint * fade
    tone += 0.07 * ground.noise("rough", 0.02) + 0.06 * ground.noise("soft", 0.09)
    for line in (street.left, street.right):
        kerb = np.abs(s - np.float32(line)) < 0.05
        tone -= 0.3 * kerb / (1 + ground.pixel * 6)
    return np.asarray(tone, np.float32)


def _verge(street: Street, ground: Patch) -> Floats:
    if street.verge != "grass":
        return _paving(street, ground)
    blades = 0.24 * ground.noise("white", 0.02, 0.4) + 0.22 * ground.noise("rough", 0.05)
    return np.asarray(1 + blades + 0.12 * ground.noise("soft", 0.2), np.float32)


def _paint_markings(street: Street, ground: Patch, road: NDArray[np.bool_], colours: Floats) -> None:
    s, z = ground.s, ground.z
    row_near, row_far = z.min(axis=1), z.max(axis=1)
    worn = noise("rough", s, z, 0.03) * np.float32(0.35 + 0.4 * street.wear)
    for one in street.markings:
        rows = np.flatnonzero((row_far > one.near) & (row_near < one.far))
        if not len(rows):
            continue
        cut = slice(rows[0], rows[-1] + 1)
        here = (s[cut] > one.left) & (s[cut] < one.right) & (z[cut] > one.near) & (z[cut] < one.far) & road[cut]
        if one.dash:
            here &= (z[cut] + np.float32(street.seed)) % (one.dash + one.gap) < one.dash
        if one.stripes:
            here &= (s[cut] - np.float32(one.left)) % (2 * one.stripes) < one.stripes
        strength = np.clip(0.85 - np.maximum(worn[cut] - 0.25, 0), 0.15, 1) * here
        colours[cut] += (rgb(*one.colour) - colours[cut]) * strength[..., None]
