"""Which settings for the built-in model? Trainings on a small budget, looked at on validation frames only.

    python benchmarks/default_model.py [--out FOLDER] [--experiments "pebal;dirichlet camera=1"] [--seeds 0]
                                       [--epochs 2] [--crop 192x256] [--mean] [--threads N] [--markdown FILE]

Needs the folder ../shared. Trains the built-in closed-set network further on CamVid, IDD-Lite, three Cityscapes frames
and synthetic scenes with pasted objects, and tries it on validation frames of CamVid and IDD-Lite with other objects
pasted: every eighth of the cut-outs, which training leaves out, with blended edges; and on the same frames as another
camera might have seen them. An experiment is a recipe and the settings that differ; `--mean` tries the mean of the
weights of all seeds too. Every run is kept in its folder: started again, what is done is not done again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from experiments import folder_name, training_settings
from pasted import pasted_scenes
from real_sets import SHARED
from strays.allocation import keep_freed_memory
from strays.data import open_scenes
from strays.files import make_folder, write_json
from strays.metrics import PixelMetrics
from strays.model import Model
from strays.negatives import build_negatives
from strays.scene import Scene
from strays.scoring import Scorer
from strays.training import train
from strays.training.cameras import another_camera
from strays.training.souping import average_models
from strays.training.validation import closed_set_metrics
from tables import markdown

DATA = SHARED / "data"
CUTOUTS = DATA / "object_cutouts"
BASE = {
    "init": "swiftnet-mnv2-camvid",
    "data": (
        f"camvid={DATA / 'camvid'}",
        f"idd-lite={DATA / 'idd20k_lite'}",
        f"cityscapes={DATA / 'cityscapes'}",
        "synthetic=60",
    ),
    "negatives": (
        f"objects:exclude=meta-ood,min_size=1,side=0.06+0.7={DATA / 'coco128_seg'}",
        f"objects:fold=train,side=0.06+0.7={CUTOUTS}",
    ),
}
UNSEEN = f"objects:fold=val,side=0.06+0.5,feather=2={CUTOUTS}"
EXPERIMENTS = (
    "dirichlet",
    "dirichlet camera=1 style=0.5",
    "pebal camera=1 style=0.5",
    "max-entropy camera=1 style=0.5",
    "outlier-head:outlier_weight=1 camera=1 style=0.5",
)
DETECTORS = ("max-logit", "energy", "entropy")
HEADS = ("outlier-probability", "outlier-probability-msp", "densehybrid")
SETS = {"CamVid val": ("camvid", DATA / "camvid", 2), "IDD-Lite val": ("idd-lite", DATA / "idd20k_lite", 4)}
"""What is looked at: reader, folder, and every how many-th frame."""

CAMERA = "another camera"

Numbers = dict[str, dict[str, float]]


def main() -> None:
    """Train, measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/default-model"), help="continued where it was killed")
    parser.add_argument("--experiments", default=";".join(EXPERIMENTS), help="separated by semicolons")
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--crop", default="192x256")
    parser.add_argument("--mean", action="store_true", help="try the mean of the weights of all seeds as well")
    parser.add_argument("--threads", type=int, help="of PyTorch; its own choice by default")
    parser.add_argument("--markdown", type=Path, help="write the table of all that was measured so far there")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for experiment in filter(None, arguments.experiments.split(";")):
        seeds = [int(seed) for seed in arguments.seeds.split(",")]
        for seed in seeds:
            measure(experiment, seed, arguments)
        if arguments.mean:
            measure_mean(experiment, seeds, arguments.out)
    if arguments.markdown is not None:
        arguments.markdown.write_text(page(arguments.out), "utf-8")


def measure(experiment: str, seed: int, arguments: argparse.Namespace) -> None:
    """Run one experiment, unless it has been, and write down what became of it."""
    folder = arguments.out / folder_name(experiment, seed)
    if (folder / "result.json").is_file():
        return
    usual = {**BASE, "seed": seed, "epochs": arguments.epochs, "crop": arguments.crop.split("x")}
    settings = training_settings(experiment, usual)
    model = train(settings, make_folder(folder) / "run", device="cpu", validate_every=0)
    look(model, folder, experiment, seed)


def measure_mean(experiment: str, seeds: Sequence[int], out: Path) -> None:
    """Try the mean of the weights of several seeds, unless it has been."""
    joined = "+".join(map(str, seeds))
    folder = out / folder_name(experiment, joined)
    if (folder / "result.json").is_file():
        return
    model = average_models([Model.load(out / folder_name(experiment, seed) / "run") for seed in seeds])
    model.save(make_folder(folder) / "run")
    look(model, folder, experiment, joined)


def look(model: Model, folder: Path, experiment: str, seed: int | str) -> None:
    """Write down what a model makes of the validation frames."""
    detectors = (*DETECTORS, *(HEADS if model.network.has_outlier_head else ()), model.facts.detector)
    scorer = Scorer.build(model, list(dict.fromkeys(detectors)))
    found = on_sets(scorer)
    frames = open_scenes(f"camvid={DATA / 'camvid'}", "val")[::2]
    classes = closed_set_metrics(model.network, frames, model.taxonomy, model.device)["mIoU"]
    write_json(folder / "result.json", {"experiment": experiment, "seed": seed, "sets": found, "mIoU": classes})
    print(f"{experiment}, seed {seed}: mIoU {classes:.3f}, {json.dumps(found)}", flush=True)


def on_sets(scorer: Scorer) -> dict[str, Numbers]:
    """Return AP and FPR95 by detector for every set, as it is and through another camera."""
    found = {}
    for name, source in SETS.items():
        frames = scenes(*source)
        found[name] = on_frames(scorer, frames)
        found[f"{name}, {CAMERA}"] = on_frames(scorer, [through_another_camera(*one) for one in enumerate(frames)])
    return found


def through_another_camera(index: int, scene: Scene) -> Scene:
    """Return a scene in other light, with noise and artefacts; always the same for a scene."""
    return replace(scene, image=another_camera(scene.image, 1.5, np.random.default_rng([11, index])))


def scenes(reader: str, folder: Path, every: int) -> list[Scene]:
    """Return validation frames with unseen objects in them."""
    return list(pasted_scenes(open_scenes(f"{reader}={folder}", "val")[::every], build_negatives(UNSEEN)))


def on_frames(scorer: Scorer, frames: Sequence[Scene]) -> Numbers:
    """Return AP and FPR95 by detector."""
    pixels = {name: PixelMetrics() for name in scorer.detectors}
    for scene in frames:
        for name, scores in scorer(scene.image).scores.items():
            pixels[name].update(scores, scene.mask)
    return {name: {key: one.compute()[key] for key in ("AP", "FPR95")} for name, one in pixels.items()}


INTRODUCTION = """<!-- Written by benchmarks/default_model.py --markdown: edit that, not this page. -->

# Experiments for the default model

[How the default model was made](default-model.md) says what was chosen. Every line is one command,
`python benchmarks/default_model.py --experiments "LINE"`: a recipe, and the settings in which it differs from the
others. Small budget: the built-in closed-set network, trained further on crops of 192x256 for two epochs of CamVid,
IDD-Lite, three Cityscapes frames and 60 synthetic scenes. Looked at on every second validation frame of CamVid and
every fourth of IDD-Lite, into each of which a cut-out is pasted that training left out; and on the same frames through
*another camera*: darker, coarser, noisier, compressed. AP / FPR95 in per cent, of the best detector in mean AP; mIoU on
CamVid. Seeds joined by + are the mean of their weights: `--seeds 0,1 --mean`."""


def page(out: Path) -> str:
    """Return the page with a line per experiment, best first."""
    runs = [json.loads(path.read_text()) for path in out.glob("*/result.json")]
    lines = sorted(map(line, runs), key=lambda cells: float(cells[-2]), reverse=True)
    columns = [column for name in SETS for column in (name, f"{name}, {CAMERA}")]
    header = ["experiment", "seed", "detector", *columns, "mean AP", "mIoU"]
    return f"{INTRODUCTION}\n\n{markdown(header, lines, frozenset({'detector'}))}\n"


def line(run: Mapping) -> list[str]:
    """Return the cells of one experiment."""
    sets: dict[str, Numbers] = run["sets"]
    means = {name: float(np.mean([one[name]["AP"] for one in sets.values()])) for name in next(iter(sets.values()))}
    best = max(means, key=means.__getitem__)
    pairs = [f"{100 * one[best]['AP']:.1f} / {100 * one[best]['FPR95']:.1f}" for one in sets.values()]
    return [
        f"`{run['experiment']}`",
        str(run["seed"]),
        f"`{best}`",
        *pairs,
        f"{100 * means[best]:.1f}",
        f"{100 * run['mIoU']:.1f}",
    ]


if __name__ == "__main__":
    main()
