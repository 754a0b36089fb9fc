"""Which detector for which network? Every detector that leaves the network alone, on four real anomaly sets.

    python benchmarks/posthoc.py [--out FOLDER] [--networks enet,erfnet,swiftnet] [--detectors a,b] [--markdown FILE]

Needs the folder ../shared with data and weights. Fitted on the three Cityscapes train frames (shrunk to 1024 pixels)
and CamVid train in one pass for all detectors; `suppressed`, which reads anomaly masks, on synthetic scenes. Scores
at 512x1024, images without any anomaly skipped, pixels pooled. Networks may run as several processes, one --networks
each; what a killed run has fitted and measured is kept, and --markdown gathers the tables of all --networks and
--group there are.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from real_sets import SETS, SHARED, SIZE, open_real, title_of
from strays.allocation import keep_freed_memory
from strays.benchmark import Benchmark, Protocol
from strays.data import SceneSet, open_scenes
from strays.detectors import DETECTORS, Detector, build_detector
from strays.detectors.base import FittedOn
from strays.detectors.fitted import FittedDetector
from strays.detectors.statistics import Statistics
from strays.files import make_folder, write_json
from strays.loading import load_model
from strays.model import Model
from strays.prediction import Prediction
from strays.scene import Scene
from strays.scoring import Scored, Scorer, as_tensor
from strays.taxonomy import translation
from tables import markdown, published

NETWORKS = {
    "enet": f"enet@{SHARED / 'weights' / 'enet_cityscapes_void.pth'}",
    "erfnet": f"erfnet@{SHARED / 'weights' / 'erfnet_cityscapes_void_bnfolded.pth'}",
    "swiftnet": "swiftnet-mnv2-camvid",
}
TITLES = {
    "enet": "ENet (Cityscapes, void trained, 63.6 % mIoU)",
    "erfnet": "ERFNet (Cityscapes, void trained, folded int8, 64.3 % mIoU)",
    "swiftnet": "SwiftNet on MobileNetV2 (CamVid, `swiftnet-mnv2-camvid`)",
}
FROM_LOGITS = ("msp", "entropy", "softmax-distance", "max-logit", "energy", "jsd", "dirichlet")
MUTUAL = "dirichlet:score=mutual-information"
WITH_VOID, WITH_DROPOUT = ("void",), ("mc-dropout:samples=8",)
AGAIN = ("odin", "flipped(energy)")
FLOOR = ("random", "local-contrast")
SEGMENTS = ("dispersion", "meta-classifier", "meta-regressor", "suppressed(entropy)")
BANKS = ("nearest-neighbors", "nearest-neighbors-energy", "embedding-knn")
DENSITIES = ("mahalanobis", "gaussian-mixture", "prototypes")
FLOWS = ("embedding-flow", "embedding-flow-min", "embedding-flow-regression")
STUDENTS = ("distillation-comparison:epochs=5,batch=1",)
FROM_FEATURES = (*DENSITIES, *(f"{one}:tap=encoder" for one in DENSITIES), "prototype-guided", *FLOWS, *STUDENTS)
STANDARDIZED = ("standardized-max-logit", "standardized-max-logit:suppression=no,smoothing=no")
WRAPPED = ("smoothed(energy,sigma=3)", "combined(energy,local-contrast,weights=1+0.25)")
ELSEWHERE = ("RoadAnomaly21 test", "Fishyscapes Static test")
READ = (*FLOOR, *FROM_LOGITS, MUTUAL, *WITH_VOID, *STANDARDIZED, *AGAIN, *WITH_DROPOUT)
ALL = (*READ, *FROM_FEATURES, *SEGMENTS, *WRAPPED)


def main() -> None:
    """Fit, measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/posthoc"), help="continued where it was killed")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="separated by commas")
    parser.add_argument("--detectors", help="separated by semicolons; all by default")
    parser.add_argument("--references", type=int, default=20_000, help="pixels that nearest neighbours are sought in")
    parser.add_argument("--group", default="all", help="keeps these detectors apart from others measured before")
    parser.add_argument("--every", type=int, default=1, help="fit on every N-th image only")
    parser.add_argument("--threads", type=int, help="of PyTorch; its own choice by default")
    parser.add_argument("--markdown", type=Path, help="write the tables of all networks measured so far there")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    banks = tuple(f"{one}:references={arguments.references}" for one in BANKS)
    wanted = arguments.detectors.split(";") if arguments.detectors else (*ALL, *banks)
    for network in filter(None, arguments.networks.split(",")):
        measure(network, wanted, arguments.out / network, arguments.group, arguments.every)
    if arguments.markdown is not None:
        arguments.markdown.write_text(tables(arguments.out), "utf-8")


def measure(network: str, wanted: tuple[str, ...] | list[str], out: Path, group: str, every: int) -> None:
    """Fit and measure the detectors of one network, and write the rows into the folder of the group."""
    model = load_model(NETWORKS[network])
    specs = [one for one in wanted if suits(one, model)]
    facts = {spec: fitted(spec, out) for spec in specs}
    fit_all(model, [spec for spec in specs if facts[spec] is None], out, every)
    detectors = {spec: detector_of(spec, out) for spec in specs}
    rows = [row for folder in SETS for row in measured(model, detectors, folder, out / group)]
    fits = {spec: fitted(spec, out) or {} for spec in specs}
    write_json(out / group / "rows.json", {"rows": rows, "fits": fits})


def suits(spec: str, model: Model) -> bool:
    """Return whether a network has what a detector reads: ours have no masks, some no void class or dropout."""
    needs = build_detector(spec).card.needs
    has_dropout = any(isinstance(one, torch.nn.modules.dropout._DropoutNd) for one in model.network.modules())
    return not (
        needs.masks or (needs.void_class and model.taxonomy.void is None) or (needs.dropout and not has_dropout)
    )


def file_of(spec: str, out: Path) -> Path:
    """Return where a fitted detector is kept."""
    return out / "fits" / f"{spec.translate(str.maketrans(':(),=', '-----'))}.safetensors"


def fitted(spec: str, out: Path) -> dict[str, float] | None:
    """Return seconds and megabytes of a fit, nothing where there is nothing to fit, None where it is still to do."""
    if not isinstance(build_detector(spec), FittedDetector):
        return {}
    path = file_of(spec, out).with_suffix(".json")
    return json.loads(path.read_text()) if path.is_file() else None


def detector_of(spec: str, out: Path) -> Detector:
    """Return a detector with what was fitted, if anything was."""
    plain = build_detector(spec)
    return Detector.load(file_of(spec, out)) if isinstance(plain, FittedDetector) else plain


def fit_all(model: Model, specs: list[str], out: Path, every: int) -> None:
    """Fit several detectors in one pass of the network; time is taken for each apart."""
    make_folder(out / "fits")
    built = {spec: build_detector(spec) for spec in specs}
    detectors = {spec: one for spec, one in built.items() if isinstance(one, FittedDetector)}
    masked = {spec: one for spec, one in detectors.items() if one.target == "mask"}
    swept = {spec: one for spec, one in detectors.items() if one.sweeps > 1}
    once = {spec: one for spec, one in detectors.items() if spec not in masked and spec not in swept}
    road = [open_scenes(f"{name}={SHARED / 'data' / name}", "train") for name in ("cityscapes", "camvid")]
    for group, sets in ((once, road), (masked, [open_scenes("synthetic=60", "val")]), (swept, road)):
        if group:
            fit_group(model, group, sets, out, every)


def fit_group(
    model: Model, group: Mapping[str, FittedDetector[Statistics]], sets: list[SceneSet], out: Path, every: int
) -> None:
    """Fit detectors that are shown the same scenes equally often."""
    statistics = {spec: detector.statistics() for spec, detector in group.items()}
    seconds = dict.fromkeys(group, 0.0)
    taps = frozenset[str]().union(*(one.taps() for one in group.values()))
    sweeps = max(one.sweeps for one in group.values())
    shown = 0
    for _ in range(sweeps):
        for index, prediction, scene, scenes in predicted(model, sets, taps, every):
            for spec, detector in group.items():
                started = time.perf_counter()
                statistics[spec].update(prediction, labels_for(detector, scene, scenes, model), index)
                seconds[spec] += time.perf_counter() - started
            shown += 1
            if shown % 50 == 0:
                print(f"{model.name}: {shown} images shown to {', '.join(group)}", flush=True)
    data = tuple(f"{one.name} {one.split}" for one in sets)
    for spec, detector in group.items():
        started = time.perf_counter()
        detector.conclude(statistics[spec])
        seconds[spec] += time.perf_counter() - started
        detector.fitted_on = fit_facts(model, data, shown // sweeps)
        path = file_of(spec, out)
        detector.save(path)
        write_json(path.with_suffix(".json"), {"seconds": seconds[spec], "megabytes": path.stat().st_size / 1e6})
        print(f"{model.name}: {spec} fitted in {seconds[spec]:.1f} s", flush=True)


def fit_facts(model: Model, data: tuple[str, ...], images: int) -> FittedOn:
    """Return what detectors were fitted on."""
    return FittedOn(
        model=model.name,
        weights_sha256=model.sha256(),
        taxonomy=model.taxonomy.name,
        void=model.taxonomy.void,
        data=data,
        images=images,
        max_side=SIZE[1],
    )


@torch.no_grad()
def predicted(
    model: Model, sets: list[SceneSet], taps: frozenset[str], every: int
) -> Iterator[tuple[int, Prediction, Scene, SceneSet]]:
    """Yield number, prediction, scene and set of the scenes; large ones are shrunk."""
    number = 0
    for scenes in sets:
        for place in range(0, len(scenes), every):
            scene = scenes[place]
            if max(scene.size) > SIZE[1]:
                scene = scene.resized((scene.size[0] * SIZE[1] // scene.size[1], SIZE[1]))
            yield number, model.predict(as_tensor(scene.image), scene.size, taps), scene, scenes
            number += 1


def labels_for(detector: FittedDetector[Statistics], scene: Scene, scenes: SceneSet, model: Model) -> torch.Tensor:
    """Return what a detector is fitted on, (1, H, W)."""
    values = scene.mask if detector.target == "mask" else scene.labels
    assert values is not None
    if detector.target == "labels" and scenes.taxonomy is not None:
        values = translation(scenes.taxonomy, model.taxonomy)[values]
    return torch.from_numpy(values.copy())[None]


class Remembering(Scorer):
    """A scorer that keeps on disk what it has computed: component metrics need every score a second time."""

    folder: Path

    def __call__(self, image: NDArray[np.uint8]) -> Scored:
        """Score an RGB image (H, W, 3), or return its scores from before."""
        path = self.folder / f"{hashlib.sha256(image.tobytes()).hexdigest()}.npz"
        if not path.is_file():
            scored = super().__call__(image)
            times = np.array([scored.network_milliseconds, *scored.detector_milliseconds.values()])
            np.savez(path.with_suffix(".part.npz"), times=times, scores=np.stack(list(scored.scores.values())))
            path.with_suffix(".part.npz").rename(path)
        with np.load(path) as stored:
            scores, (network, *own) = dict(zip(self.detectors, stored["scores"], strict=True)), stored["times"].tolist()
        nothing = Prediction(torch.zeros(1, 1, 1, 1), image.shape[:2])
        return Scored(scores, nothing, network, dict(zip(self.detectors, own, strict=True)))


def measured(model: Model, detectors: Mapping[str, Detector], folder: str, out: Path) -> list[dict[str, object]]:
    """Return the rows of all detectors on one set."""
    protocol = Protocol(size=SIZE, anomaly_free="skip", components=SETS[folder][1])
    scorer = Remembering(model, detectors)
    scorer.folder = make_folder(out / "scores" / folder)
    started = time.perf_counter()
    outcomes = Benchmark(scorer, protocol, out).run(open_real(folder))
    print(f"{model.name} on {folder}: {time.perf_counter() - started:.0f} s", flush=True)
    for path in scorer.folder.glob("*.npz"):
        path.unlink()
    return [outcome.row.model_dump(mode="json") for outcome in outcomes]


INTRODUCTION = """<!-- Written by benchmarks/posthoc.py --markdown: edit that, not this page. -->

# Detectors compared on real road scenes

[Which detector for which network?](which-detector.md) says what follows from these tables. Each cell of a data set is
AP / FPR95 in per cent; the means are over the four sets, F1* is the mean component F1 of SegmentMeIfYouCan. `ms` is the
median time of the detector on top of the network, for an image of 512x1024, on one core of a busy machine: good for
orders of magnitude. `fit s` is what fitting took apart from the network, `MB` the size of its file. Published numbers
are those of other networks on hidden test sets; they show what a method can do, not what these networks should.

Protocol: images and masks at 512x1024, images without any anomaly skipped, pixels pooled, FPR at the first point with a
true-positive rate of at least 95 %. No image of these sets was used to fit, or to choose a setting, but for the window
of `local-contrast`."""


def tables(out: Path) -> str:
    """Return the page with the table of every network measured so far."""
    parts = [INTRODUCTION]
    for network in NETWORKS:
        groups = [json.loads(path.read_text()) for path in sorted((out / network).glob("*/rows.json"))]
        if groups:
            rows = [row for group in groups for row in group["rows"]]
            fits = {spec: fit for group in groups for spec, fit in group["fits"].items()}
            parts += [f"## {TITLES[network]}", table(rows, fits)]
    return "\n\n".join(parts) + "\n"


def table(rows: list[Mapping], fits: Mapping[str, Mapping[str, float]]) -> str:
    """Return one line per detector: AP / FPR95 by set, means, costs, and what was published elsewhere."""
    header = [
        "detector",
        *map(title_of, SETS),
        "mean AP",
        "mean AUROC",
        "mean F1*",
        "ms",
        "fit s",
        "MB",
        "published elsewhere",
    ]
    by_detector: dict[str, list[Mapping]] = {}
    for row in rows:
        by_detector.setdefault(row["detector"], []).append(row)
    order = {spec: float(np.mean([row["metrics"]["AP"] for row in rows])) for spec, rows in by_detector.items()}
    best_first = sorted(by_detector, key=order.__getitem__, reverse=True)
    lines = [line(spec, by_detector[spec], fits.get(spec, {})) for spec in best_first]
    return markdown(header, lines, frozenset({"published elsewhere"}))


def line(spec: str, rows: list[Mapping], fit: Mapping[str, float]) -> list[str]:
    """Return the cells of one detector."""
    card = DETECTORS[spec.split("(")[0].split(":")[0]].card
    metrics = [row["metrics"] for row in rows]
    means = [100 * float(np.mean([one.get(key, np.nan) for one in metrics])) for key in ("AP", "AUROC", "F1_mean")]
    return [
        f"`{spec}`",
        *(f"{100 * one['AP']:.1f} / {100 * one['FPR95']:.1f}" for one in metrics),
        *(f"{mean:.1f}" for mean in means),
        f"{np.median([row['protocol']['detector_milliseconds'] for row in rows]):.0f}",
        f"{fit['seconds']:.0f}" if fit else "",
        f"{fit['megabytes']:.1f}" if fit else "",
        "; ".join(f"{dataset} {pair}" for dataset, pair in published(card, ELSEWHERE).items()),
    ]


if __name__ == "__main__":
    main()
