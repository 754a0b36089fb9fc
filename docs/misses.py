"""Make the picture of what the built-in model gets wrong: its worst misses and false alarms on synthetic scenes.

python docs/misses.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import strays
from strays.data import open_scenes
from strays.drawing import ColourScale, draw_overlay
from strays.files import whole_file
from strays.scene import ANOMALY, INLIER, Scene
from strays.score_map import ScoreMap
from strays.segments import Box, find_segments

__all__ = ["main"]

PICTURE = Path(__file__).parent / "images" / "misses.jpg"
SCENES = 60
ALARMS = 0.02
"""The share of inlier pixels above the threshold."""
COLUMNS, TILE = 5, (240, 320)
BACKGROUND = (20, 20, 26)


@dataclass(frozen=True)
class Mistake:
    """An anomaly with pixels below the threshold, or a segment without any anomaly above it.

    Args:
        scene: its number.
        box: where it is.
        weight: how bad it is, to compare mistakes of one kind.
    """

    scene: int
    box: Box
    weight: float


def main() -> None:
    """Score, find what is wrong, and draw the worst: misses in the upper row, false alarms in the lower one."""
    scenes = list(open_scenes(f"synthetic={SCENES}", "val"))
    found = [strays.score(scene.image) for scene in scenes]
    inliers = np.concatenate([one.score[scene.mask == INLIER] for one, scene in zip(found, scenes, strict=True)])
    threshold = float(np.quantile(inliers, 1 - ALARMS))
    scale = ColourScale.of([one.score for one in found])
    rows = [worst(kind(scenes, found, threshold)) for kind in (misses, false_alarms)]
    sheet = Image.new("RGB", (COLUMNS * TILE[1], len(rows) * TILE[0]), BACKGROUND)
    for row, mistakes in enumerate(rows):
        for column, mistake in enumerate(mistakes):
            tile = drawn(mistake, scenes[mistake.scene], found[mistake.scene], scale, threshold)
            sheet.paste(tile, (column * TILE[1], row * TILE[0]))
    with whole_file(PICTURE) as stream:
        sheet.save(stream, "JPEG", quality=88)
    print(f"threshold {threshold:.3f}, which {100 * ALARMS:g} % of the inlier pixels of {SCENES} scenes reach")


def misses(scenes: Sequence[Scene], found: Sequence[ScoreMap], threshold: float) -> list[Mistake]:
    """Return the anomalies, weighted by how many of their pixels are below the threshold."""
    return [
        Mistake(number, one.box, float(one.area - (seen.score >= threshold)[one.box.window][one.mask].sum()))
        for number, (scene, seen) in enumerate(zip(scenes, found, strict=True))
        for one in find_segments((scene.mask == ANOMALY).astype(np.float32), 0.5)
    ]


def false_alarms(scenes: Sequence[Scene], found: Sequence[ScoreMap], threshold: float) -> list[Mistake]:
    """Return the segments that touch no anomaly, weighted by how far they are above the threshold in all."""
    return [
        Mistake(number, one.box, one.area * (one.mean - threshold))
        for number, (scene, seen) in enumerate(zip(scenes, found, strict=True))
        for one in find_segments(seen.score, threshold)
        if not (scene.mask == ANOMALY)[one.box.window][one.mask].any()
    ]


def worst(mistakes: Sequence[Mistake]) -> list[Mistake]:
    """Return the worst mistake of each of the worst scenes."""
    ordered = sorted(mistakes, key=lambda one: one.weight, reverse=True)
    by_scene = {one.scene: one for one in reversed(ordered)}
    return sorted(by_scene.values(), key=lambda one: one.weight, reverse=True)[:COLUMNS]


def drawn(mistake: Mistake, scene: Scene, seen: ScoreMap, scale: ColourScale, threshold: float) -> Image.Image:
    """Return a view of the overlay around a mistake, truth outlined, at least a third of the scene wide."""
    picture = draw_overlay(scene.image, seen.score, scale, threshold, scene.mask, legend=False)
    box, (height, width) = mistake.box, scene.size
    wide = min(width, max(width // 3, 2 * (box.right - box.left), 2 * (box.bottom - box.top) * TILE[1] // TILE[0]))
    tall = min(height, wide * TILE[0] // TILE[1])
    left = min(max(0, (box.left + box.right - wide) // 2), width - wide)
    top = min(max(0, (box.top + box.bottom - tall) // 2), height - tall)
    return picture.crop((left, top, left + wide, top + tall)).resize((TILE[1], TILE[0]))


if __name__ == "__main__":
    main()
