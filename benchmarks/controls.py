"""Does a detector find what does not belong, or only what was pasted? Scores of pasted anomalies and pasted controls.

    python benchmarks/controls.py [FOLDER] [--models default ...] [--detectors max-logit,entropy]

FOLDER is what `strays data paste` has written; by default twelve CamVid test frames with COCO128 objects, and with
road users of CamVid. A line per model and detector: the score of anomalies, of pasted things of the network's own
classes, and of all else (mean over the pixels of a frame, median over frames), and how often a pixel of an anomaly
scores above one of a control (AUROC).
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from real_sets import SHARED
from strays.building import PasteRun, read_settings
from strays.building.control import ControlFrame, compare_controls, control_frames
from strays.data import open_scenes
from strays.loading import load_model
from strays.scoring import Scorer
from tables import markdown

__all__ = ["main"]

HEADER = ("model", "detector", "anomalies", "controls", "elsewhere", "AUROC %")
FRAMES = 12


def main() -> None:
    """Score the frames of a folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="what strays data paste has written")
    parser.add_argument("--models", nargs="+", default=["default", "swiftnet-mnv2-camvid"])
    parser.add_argument("--detectors", default="max-logit,energy,entropy", help="separated by commas")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        frames = list(control_frames(arguments.folder or pasted(Path(temporary) / "pasted")))
    rows = [row for model in arguments.models for row in compared(model, arguments.detectors.split(","), frames)]
    print(markdown(HEADER, rows, frozenset(HEADER[:2])))


def pasted(out: Path) -> Path:
    """Paste objects of COCO128, and road users, into test frames of CamVid."""
    data = SHARED / "data"
    settings = read_settings(objects=str(data / "coco128_seg"), count=FRAMES)
    PasteRun(open_scenes(f"camvid={data / 'camvid'}", "test"), settings, out).run()
    return out


def compared(model: str, detectors: Sequence[str], frames: Sequence[ControlFrame]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a model, one per detector."""
    scorer = Scorer.build(load_model(model), detectors)
    seen = [scorer(frame.scene.image).scores for frame in frames]
    for name in scorer.detectors:
        found = compare_controls((frame, scores[name]) for frame, scores in zip(frames, seen, strict=True))
        kinds = (found.anomaly, found.control, found.elsewhere)
        yield scorer.model.name, name, *(f"{value:.3g}" for value in kinds), f"{100 * found.auroc:.1f}"


if __name__ == "__main__":
    main()
