"""Trees of procedural road scenes: leafy crowns made of clumps, and bare winter trees made of branches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from strays.data.synthetic.canvas import NEAR, Canvas, Floats, Patch, noise, rgb

__all__ = ["BareTree", "LeafyTree", "grow"]

TREE = 5


def _disc(x: float, z: float, radius: float) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    return np.stack([x + radius * np.cos(angles), z + radius * np.sin(angles)], axis=1)


@dataclass(frozen=True)
class LeafyTree:
    """A tree or bush with leaves; ``clumps`` (N, 3) are x, y and radius relative to a crown of width 1."""

    x: float
    depth: float
    height: float
    spread: float
    trunk: float
    clumps: NDArray[np.float64]
    colour: tuple[float, float, float]
    seed: float

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return (plan, from height, to height) of what casts shadows."""
        crown = _disc(self.x, self.depth, self.spread * 0.4)
        return [(_disc(self.x, self.depth, 0.15), 0.0, self.trunk + 0.5), (crown, self.trunk, self.height * 0.85)]

    def paint(self, canvas: Canvas) -> None:
        """Paint trunk and crown."""
        thick = 0.05 * self.height**0.9 + 0.06
        foot = np.array((self.x - thick / 2, 0.0, self.depth + 0.05))
        canvas.plane(foot, (thick, 0, 0), (0.05, self.trunk + self.height * 0.3, 0), self._bark, TREE)
        corner = np.array((self.x - self.spread * 0.62, max(0.0, self.trunk - 0.1 * self.height), self.depth))
        top = self.height * 1.06 - corner[1]
        canvas.plane(corner, (self.spread * 1.24, 0, 0), (0, top, 0), self._leaves, TREE)

    def _bark(self, patch: Patch) -> tuple[Floats, NDArray[np.bool_]]:
        return _bark(patch, self.seed), patch.inside

    def _leaves(self, patch: Patch) -> tuple[Floats, NDArray[np.bool_]]:
        x = patch.s / np.float32(self.spread) - np.float32(0.62)
        tall = self.height - self.trunk
        base = max(0.0, self.trunk - 0.1 * self.height) - self.trunk
        y = (patch.t + np.float32(base)) / np.float32(tall)
        rough = patch.noise("rough", 0.022, 1, self.seed)
        depth = np.full(x.shape, -1, np.float32)
        slope_x, slope_y = np.zeros_like(x), np.zeros_like(x)
        for cx, cy, radius in self.clumps.astype(np.float32):
            dx, dy = (x - cx) / radius, (y - cy) / radius
            bulge = 1 - dx * dx - dy * dy
            nearer = bulge * radius > depth
            np.copyto(depth, bulge * radius, where=nearer)
            np.copyto(slope_x, dx, where=nearer)
            np.copyto(slope_y, dy, where=nearer)
        covered = depth + 0.055 * rough + 0.03 * patch.noise("white", 0.03) > 0.02
        return self._leaf_colours(patch, slope_x, slope_y, y, rough), covered

    def _leaf_colours(self, patch: Patch, dx: Floats, dy: Floats, y: Floats, rough: Floats) -> Floats:
        sun = patch.light.sun
        facing = dx * sun[0] + dy * sun[1] - sun[2] * np.sqrt(np.maximum(1 - dx * dx - dy * dy, 0))
        facing = np.clip(0.35 + 0.65 * facing + 0.12 * rough, 0.03, 1.2)[..., None]
        light = patch.light.sky * (0.55 + 0.4 * np.clip(y, 0, 1))[..., None] + patch.light.sun_colour * facing * 0.85
        tone = 0.95 + 0.24 * rough + 0.22 * patch.noise("white", 0.022, 1, self.seed) + 0.12 * dy
        hue = rgb(0.10, 0.03, -0.05) * noise("rough", patch.s, patch.t, 0.11)[..., None] * np.float32(0.25)
        return np.asarray(
            (rgb(*self.colour) + hue * self.colour[1]) * np.maximum(tone, 0.2)[..., None] * light, np.float32
        )


def _bark(patch: Patch, seed: float) -> Floats:
    across = patch.s / np.maximum(patch.s.max(), 1e-3) * 2 - 1
    normal = np.stack([across, 0 * across, -np.sqrt(np.maximum(1 - across**2, 0))], axis=-1)
    tone = 1 + 0.2 * patch.noise("rough", 0.02, 0.3, seed)
    return np.asarray(rgb(0.26, 0.23, 0.19) * tone[..., None] * patch.light.on(normal, 0.8), np.float32)


def grow(random: np.random.Generator, height: float, levels: int = 6) -> NDArray[np.float64]:
    """Return the branches (N, 5) of a bare tree: x0, y0, x1, y1 in metres from the foot, and thickness."""
    branches: list[tuple[float, ...]] = []
    lean = np.pi / 2 + random.normal(0, 0.04)
    tips = [(0.0, 0.0, lean, height * 0.27, height * 0.028)]
    for level in range(levels):
        following = []
        for x, y, angle, length, thick in tips:
            end = (x + length * np.cos(angle), y + length * np.sin(angle))
            branches.append((x, y, *end, thick))
            for side in (-1, 1) if level or random.random() < 0.6 else (-1, 0, 1):
                turn = side * random.uniform(0.22, 0.55) + 0.12 * np.cos(angle)
                shrink = random.uniform(0.68, 0.9)
                following.append((*end, angle + turn, length * shrink, thick * 0.62))
        tips = following
    return np.array(branches)


@dataclass(frozen=True)
class BareTree:
    """A tree without leaves, from the branches that ``grow`` returns."""

    x: float
    depth: float
    height: float
    branches: NDArray[np.float64]
    colour: tuple[float, float, float]

    def footprints(self) -> list[tuple[NDArray[np.float64], float, float]]:
        """Return (plan, from height, to height) of what casts shadows."""
        return [(_disc(self.x, self.depth, 0.14), 0.0, self.height * 0.5)]

    def paint(self, canvas: Canvas) -> None:
        """Draw the branches as lines; the label covers the crown's twigs and the small gaps between them."""
        if self.depth < NEAR:
            return
        starts, ends = self._points(0), self._points(2)
        box = canvas.view.box(np.concatenate([starts, ends]))
        if box is None:
            return
        size = (box[2] - box[0], box[3] - box[1])
        sheet, outline = Image.new("L", size), Image.new("L", size)
        pens = ImageDraw.Draw(sheet), ImageDraw.Draw(outline)
        scale = float(canvas.view.focal / self.depth)
        tone = np.clip(255 * (0.75 + 0.5 * (self.branches[:, 2] - self.branches[:, 0])), 120, 255).astype(int)
        lines = zip(
            *(canvas.view.project(one) - box[:2] for one in (starts, ends)), self.branches[:, 4], tone, strict=True
        )
        for a, b, thick, level in lines:
            pens[0].line((*a, *b), fill=int(level), width=max(1, round(thick * scale)))
            pens[1].line((*a, *b), fill=255, width=max(2, round((thick + 0.1) * scale)))
        drawn = np.asarray(sheet)
        crown = np.asarray(outline.filter(ImageFilter.BoxBlur(max(1.0, 0.12 * scale)))) > 70
        light = canvas.light.on(rgb(0, 0, -1), 0.8)
        colours = rgb(*self.colour) * light * (drawn[..., None] / np.float32(220))
        canvas.put(box, canvas.light.through_air(colours, self.depth), drawn > 0, TREE, crown | (drawn > 0))

    def _points(self, first: int) -> NDArray[np.float64]:
        x, y = self.branches[:, first], self.branches[:, first + 1]
        return np.stack([self.x + x, y, np.full(len(x), self.depth)], axis=1)
