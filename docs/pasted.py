"""Make the contact sheet of a pasted benchmark: synthetic scenes, with anomalies of other synthetic scenes in them.

python docs/pasted.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy import ndimage

from strays.building import CONTROLS, PasteRun, read_settings
from strays.building.sheet import frames_sheet
from strays.data.synthetic import SyntheticScenes, synthetic_scene
from strays.data.synthetic.dataset import Rendered, SyntheticReader
from strays.files import whole_file

__all__ = ["main"]

PICTURE = Path(__file__).parent / "images" / "pasted.jpg"
FRAMES, FIRST = 6, 2_000_000
"""How many frames are shown, and the seed of the first."""
SOURCES = range(1_000_000, 1_000_012)
"""The seeds of the scenes whose anomalies are cut out."""
SMALLEST, ROOM = 60, 4
"""The longer side in pixels that a cut-out needs, and the transparent pixels around it."""


def main() -> None:
    """Cut out, paste, and draw."""
    scenes = Rendered(SyntheticScenes(FRAMES, seed=FIRST, anomalies=0), SyntheticReader.card, "train")
    with TemporaryDirectory() as folder:
        objects, out = Path(folder) / "objects", Path(folder) / "pasted"
        objects.mkdir()
        print(f"{write_cutouts(objects)} objects")
        PasteRun(scenes, read_settings(objects=str(objects), seed=1), out).run()
        paths = ([out / kind / f"{name}.png" for name in scenes.names] for kind in ("images", "labels_masks", CONTROLS))
        with whole_file(PICTURE) as stream:
            frames_sheet(*paths).save(stream, "JPEG", quality=88)


def write_cutouts(folder: Path) -> int:
    """Write the large anomalies of some scenes as images with transparency, and return how many there are."""
    count = 0
    for seed in SOURCES:
        scene = synthetic_scene(seed, (480, 640))
        regions, _ = ndimage.label(scene.mask == 1)
        for number, box in enumerate(ndimage.find_objects(regions), start=1):
            mask = np.pad(regions[box] == number, ROOM)
            image = np.pad(scene.image[box], ((ROOM, ROOM), (ROOM, ROOM), (0, 0)))
            if max(mask.shape) >= SMALLEST:
                layers = np.dstack([image, np.where(mask, np.uint8(255), np.uint8(0))])
                Image.fromarray(layers).save(folder / f"{count:02}.png")
                count += 1
    return count


if __name__ == "__main__":
    main()
