"""Which recipe teaches a network to know what it does not know? All of them, from one network, on one budget.

    python benchmarks/recipes.py [--out FOLDER] [--recipes "a;b:key=value epochs=9"] [--tracks pasted,held-out,real]
                                 [--seeds 0,1,2] [--epochs 5] [--crop 192x256] [--every 3] [--threads N]
                                 [--markdown FILE]

Needs the folder ../shared. Three tracks: `pasted`, CamVid test with animals pasted that no training saw; `held-out`,
CamVid with bicyclists and signs as anomalies, from a base network that was trained without them; `real`, the first
seed of `pasted` on four real sets. Every run is kept in its folder: started again, what is done is not done again.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments import folder_name, training_settings
from pasted import anomaly_mask, pasted_scenes
from real_sets import SETS, SHARED, SIZE, open_real, title_of
from strays.allocation import keep_freed_memory
from strays.benchmark import Benchmark, Protocol
from strays.data import open_scenes
from strays.data.base import SceneSet
from strays.files import make_folder, write_json
from strays.loading import load_model
from strays.metrics import OpenSetConfusion, OpenSetThreshold, PixelMetrics, crossed_thresholds, open_set_over_halves
from strays.model import Model
from strays.negatives import build_negatives
from strays.recipes import RECIPES
from strays.scene import Scene
from strays.scoring import Scorer
from strays.taxonomy import CAMVID, IGNORE
from strays.training import TrainingSettings, train
from tables import markdown, published

CAMVID_FOLDER = SHARED / "data" / "camvid"
HELD_OUT = tuple(CAMVID.names.index(name) for name in ("sign", "bicyclist"))
OBJECTS = (
    f"objects:exclude=meta-ood,min_size=1={SHARED / 'data' / 'coco128_seg'}",
    f"objects={SHARED / 'data' / 'object_cutouts'}",
)
PATCHES = tuple(f"patches={SHARED / 'data' / name}" for name in ("coco128_seg", "object_cutouts"))
LOGITS = ("msp", "max-logit", "entropy", "energy")
OUTLIER_HEAD = ("outlier-probability", "outlier-probability-msp", "densehybrid")
PLAIN = "no training"
ASKED = (PLAIN, *RECIPES, "outlier-head:outlier_weight=1")
"""What is measured unless others are named; a weight of 1 is that of OODHead, which the published tables have."""

DETECTORS = {"mc-dropout": "mutual-information:samples=10"}
NEGATIVES = {"noisy-negatives": PATCHES, "closed-set": (), "mc-dropout": ()}
ELSEWHERE = ("Fishyscapes Lost & Found test", "Fishyscapes Static test", "RoadAnomaly21 test", "StreetHazards test")
SETTINGS = {"held-out": {"densehybrid": "densehybrid:posterior_void=ignore"}}
"""Where bicyclists and signs are void, void must not be taught to be an inlier."""

Result = dict[str, object]


def main() -> None:
    """Train, measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"), help="continued where it was killed")
    parser.add_argument("--recipes", default=";".join(ASKED), help="and settings; separated by semicolons")
    parser.add_argument("--tracks", default="pasted,held-out,real", help="separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--base-epochs", type=int, default=20, help="of the network that never saw what is held out")
    parser.add_argument("--crop", default="192x256")
    parser.add_argument("--every", type=int, default=3, help="look at every N-th frame of CamVid test only")
    parser.add_argument("--threads", type=int, help="of PyTorch; its own choice by default")
    parser.add_argument("--markdown", type=Path, help="write the tables of all that was measured so far there")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for track in filter(None, arguments.tracks.split(",")):
        seeds = [int(seed) for seed in arguments.seeds.split(",")]
        for seed in seeds[:1] if track == "real" else seeds:
            for recipe in arguments.recipes.split(";"):
                measure(track, recipe, seed, arguments)
    if arguments.markdown is not None:
        arguments.markdown.write_text(page(arguments.out), "utf-8")


def measure(track: str, recipe: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train one recipe with one seed, unless it has been, and write down what it is worth on a track."""
    folder = folder_of(arguments.out, track, recipe, seed)
    if (folder / "result.json").is_file() or (recipe == PLAIN and seed):
        return
    make_folder(folder)
    source = "pasted" if track == "real" else track
    model = trained(source, recipe, seed, arguments)
    own = None if recipe == PLAIN else DETECTORS.get(name_of(recipe), model.facts.detector)
    heads = OUTLIER_HEAD if model.network.has_outlier_head else ()
    scorer = Scorer.build(model, list(dict.fromkeys(filter(None, (*LOGITS, *heads, own)))))
    if track == "real":
        result = on_real_sets(scorer, folder)
    else:
        result = on_camvid(scorer, list(anomaly_scenes(track, arguments.every)))
    write_json(folder / "result.json", {"recipe": recipe, "own": own, **result})
    print(f"{track}, {recipe}, seed {seed}: {json.dumps(result)[:400]}", flush=True)


def folder_of(out: Path, track: str, recipe: str, seed: int) -> Path:
    """Return where the run of a recipe, and what it is worth on a track, is kept."""
    return out / track / folder_name(recipe, seed)


def name_of(recipe: str) -> str:
    """Return the name of a recipe without any settings."""
    return recipe.split()[0].split(":")[0]


def trained(track: str, recipe: str, seed: int, arguments: argparse.Namespace) -> Model:
    """Return the network of a track as it is, or trained by a recipe."""
    base = "swiftnet-mnv2-camvid" if track == "pasted" else str(held_out_base(arguments))
    if recipe == PLAIN:
        return load_model(base)
    data = CAMVID_FOLDER if track == "pasted" else held_out_copy(arguments.out)
    usual = {
        "init": base,
        "data": (f"camvid={data}",),
        "negatives": NEGATIVES.get(name_of(recipe), OBJECTS),
        "epochs": arguments.epochs,
        "crop": arguments.crop.split("x"),
        "seed": seed,
    }
    settings = training_settings(SETTINGS.get(track, {}).get(recipe, recipe), usual)
    return train(settings, folder_of(arguments.out, track, recipe, seed) / "run", device="cpu", validate_every=0)


def held_out_base(arguments: argparse.Namespace) -> Path:
    """Return the folder of a network that has never been told what bicyclists and signs are."""
    folder = arguments.out / "held-out-base"
    if not (folder / "model.json").is_file():
        settings = TrainingSettings(
            network="swiftnet-mnv2",
            encoder_weights=str(SHARED / "weights" / "mobilenet_v2_imagenet.pth"),
            data=(f"camvid={held_out_copy(arguments.out)}",),
            epochs=arguments.base_epochs,
            crop=tuple(int(side) for side in arguments.crop.split("x")),
        )
        train(settings, folder, device="cpu", validate_every=0)
    return folder


def held_out_copy(out: Path, most: float = 0.005) -> Path:
    """Return a copy of CamVid train in which bicyclists and signs are void; frames with much of them are left out."""
    folder = out / "camvid-held-out"
    if folder.is_dir():
        return folder
    part = folder.with_name("camvid-held-out.part")
    shutil.rmtree(part, ignore_errors=True)
    for kind in ("images", "labels"):
        (part / "train" / kind).mkdir(parents=True)
    frames = open_scenes(f"camvid={CAMVID_FOLDER}", "train")
    for scene in frames:
        known = scene.labels.copy()
        known[np.isin(known, HELD_OUT)] = IGNORE
        if np.isin(scene.labels, HELD_OUT[1:]).mean() <= most:
            known[known == IGNORE] = len(CAMVID)
            Image.fromarray(scene.image).save(part / "train" / "images" / f"{scene.name}.png")
            Image.fromarray(known).save(part / "train" / "labels" / f"{scene.name}.png")
    part.rename(folder)
    return folder


def anomaly_scenes(track: str, every: int) -> Iterator[Scene]:
    """Yield frames of CamVid test with labels and anomaly mask."""
    frames: SceneSet = open_scenes(f"camvid={CAMVID_FOLDER}", "test")[::every]
    if track == "pasted":
        animals = build_negatives(f"objects:side=0.1+0.5={SHARED / 'data' / 'held_out_objects'}")
        yield from pasted_scenes(frames, animals)
        return
    for scene in frames:
        anomalous = np.isin(scene.labels, HELD_OUT)
        labels = np.where(anomalous, np.uint8(IGNORE), scene.labels)
        yield Scene(scene.image, labels, anomaly_mask(labels, anomalous), scene.name)


def on_camvid(scorer: Scorer, scenes: Sequence[Scene]) -> Result:
    """Return pixel metrics and open-set metrics of every detector; the threshold of a half comes from the other."""
    found = [scorer(scene.image) for scene in scenes]
    rows: dict[str, Mapping[str, float]] = {}
    classes = len(CAMVID)
    for name in scorer.detectors:
        pixels = PixelMetrics()
        halves = {half: OpenSetThreshold(exact=True, downsampling=2) for half in ("even", "odd")}
        for number, (scored, scene) in enumerate(zip(found, scenes, strict=True)):
            pixels.update(scored.scores[name], scene.mask)
            halves["odd" if number % 2 else "even"].update(scored.scores[name], scene.mask)
        confusions = {half: OpenSetConfusion(classes, at) for half, at in crossed_thresholds(halves).items()}
        for number, (scored, scene) in enumerate(zip(found, scenes, strict=True)):
            half = confusions["odd" if number % 2 else "even"]
            half.update(scored.labels, scored.scores[name], scene.labels, scene.mask)
        opened = open_set_over_halves(confusions)
        times = [scored.detector_milliseconds[name] for scored in found]
        rows[name] = {
            **{key: pixels.compute()[key] for key in ("AP", "FPR95", "AUROC")},
            **{key: opened[key] for key in ("closed_mIoU", "open_mIoU")},
            "ms": float(np.median(times)),
        }
    return {"images": len(scenes), "detectors": rows}


def on_real_sets(scorer: Scorer, folder: Path) -> Result:
    """Return AP, FPR95 and AUROC of every detector on the four real sets."""
    rows: dict[str, dict[str, Mapping[str, float]]] = {name: {} for name in scorer.detectors}
    for name in SETS:
        protocol = Protocol(size=SIZE, anomaly_free="skip")
        for outcome in Benchmark(scorer, protocol, folder).run(open_real(name)):
            metrics = outcome.row.metrics
            rows[outcome.row.detector][name] = {key: metrics[key] for key in ("AP", "FPR95", "AUROC")}
    return {"detectors": rows}


INTRODUCTION = """<!-- Written by benchmarks/recipes.py --markdown: edit that, not this page. -->

# Recipes compared

[Training networks that know what they do not know](training.md) says what follows from these tables, and how they were
made. All numbers are per cent, AP / FPR95 pooled over all pixels. *own* is the detector that the recipe names, *logits*
the best in AP of MSP, max-logit, entropy and energy on the same network. After ± stands the standard deviation over the
seeds. `open` is the open-set mIoU at the threshold that finds 95 % of the anomalies of the other half of the frames,
`ms` the time of the own detector on top of the network, for an image of 360x480 on one core of a busy machine."""

PUBLISHED = """AP / FPR95 in per cent on hidden test sets, from the authors' networks (DeepLabV3+, ladder DenseNets,
SwiftNet), with their data and many times this budget: what a recipe can do. `strays recipes --json` names networks and
protocols."""


def page(out: Path) -> str:
    """Return the page with all tables that can be made so far."""
    parts = [INTRODUCTION]
    for track, title in (
        ("pasted", "CamVid test with animals pasted into it"),
        ("held-out", "CamVid test, bicyclists and signs held out"),
    ):
        found = results(out / track)
        if found:
            parts += [f"## {title}", camvid_table(found)]
    if found := results(out / "real"):
        parts += ["## Four real sets, one seed", real_table(found)]
    parts += ["## Published elsewhere", PUBLISHED, published_table()]
    return "\n\n".join(parts) + "\n"


def results(folder: Path) -> dict[str, list[Result]]:
    """Return the results of all seeds by recipe, in the order of the registry; then those with other settings."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
    names = dict.fromkeys((PLAIN, *RECIPES, *sorted(run["recipe"] for run in runs)))
    found = {name: [run for run in runs if run["recipe"] == name] for name in names}
    return {name: own for name, own in found.items() if own}


def camvid_table(found: Mapping[str, list[Result]]) -> str:
    """Return a line per recipe: its own detector, the best score of its logits, and what became of the classes."""
    header = ["recipe", "own detector", "own", "AUROC", "logits", "closed", "open", "ms", "seeds"]
    lines = []
    for recipe, runs in found.items():
        own = runs[0]["own"]
        chosen = [run["detectors"][own or best_logits(run["detectors"])] for run in runs]
        logits = [run["detectors"][best_logits(run["detectors"])] for run in runs]
        lines.append(
            [
                f"`{recipe}`" if own else recipe,
                f"`{own}`" if own else "",
                pair(chosen) if own else "",
                spread([one["AUROC"] for one in chosen]),
                pair(logits),
                spread([one["closed_mIoU"] for one in chosen]),
                spread([one["open_mIoU"] for one in chosen]),
                f"{np.median([one['ms'] for one in chosen]):.0f}",
                str(len(runs)),
            ]
        )
    return markdown(header, lines, frozenset({"own detector"}))


def real_table(found: Mapping[str, list[Result]]) -> str:
    """Return two lines per recipe: its own detector, and the best score of its logits in mean AP."""
    header = ["recipe", "score", *map(title_of, SETS), "mean AP"]
    lines = []
    for recipe, (run, *_) in found.items():
        means = {name: np.mean([one["AP"] for one in sets.values()]) for name, sets in run["detectors"].items()}
        logits = max(LOGITS, key=means.__getitem__)
        for name in dict.fromkeys(filter(None, (run["own"], logits))):
            sets = run["detectors"][name].values()
            cells = [f"{100 * one['AP']:.1f} / {100 * one['FPR95']:.1f}" for one in sets]
            lines.append(
                [recipe if recipe == PLAIN else f"`{recipe}`", f"`{name}`", *cells, f"{100 * means[name]:.1f}"]
            )
    return markdown(header, lines, frozenset({"score"}))


def published_table() -> str:
    """Return a line per recipe that has been published with numbers on test sets of the field."""
    found = {recipe: published(built.card, ELSEWHERE) for recipe, built in RECIPES.items()}
    lines = [[f"`{recipe}`", *(pairs.get(one, "") for one in ELSEWHERE)] for recipe, pairs in found.items() if pairs]
    return markdown(["recipe", *ELSEWHERE], lines)


def best_logits(detectors: Mapping[str, Mapping[str, float]]) -> str:
    """Return the score of the logits with the largest AP."""
    return max(LOGITS, key=lambda name: detectors[name]["AP"])


def pair(rows: Sequence[Mapping[str, float]]) -> str:
    """Return AP / FPR95 over the seeds."""
    return f"{spread([one['AP'] for one in rows])} / {spread([one['FPR95'] for one in rows])}"


def spread(values: Sequence[float]) -> str:
    """Return the mean in per cent, and the standard deviation of several."""
    mean = f"{100 * np.mean(values):.1f}"
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
