"""Make the picture of the README: two synthetic scenes, each beside its anomaly scores.

python docs/picture.py
"""

from pathlib import Path

from PIL import Image

import strays
from strays.data.synthetic import synthetic_scene
from strays.drawing import ColourScale
from strays.files import whole_file

__all__ = ["main"]

PICTURE = Path(__file__).parent / "images" / "demo.jpg"
SEEDS = (28, 9)
SIZE = (360, 480)
BACKGROUND = (20, 20, 26)


def main() -> None:
    """Render, score and write the picture."""
    scenes = [synthetic_scene(seed, SIZE) for seed in SEEDS]
    found = [strays.score(scene.image) for scene in scenes]
    scale = ColourScale.of([one.score for one in found])
    tiles = [tile for one in found for tile in (Image.fromarray(one.image), one.overlay(scale=scale))]
    height = max(tile.height for tile in tiles)
    sheet = Image.new("RGB", (2 * SIZE[1], len(found) * height), BACKGROUND)
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (SIZE[1] * (index % 2), height * (index // 2)))
    with whole_file(PICTURE) as stream:
        sheet.save(stream, "JPEG", quality=90)


if __name__ == "__main__":
    main()
