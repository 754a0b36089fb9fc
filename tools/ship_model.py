"""Turn a finished training run into a built-in model: measure it on CamVid test, fill in its card, store float16.

python tools/ship_model.py runs/default --camvid ../shared/data/camvid
"""

import argparse
import shlex
from pathlib import Path

import torch

from strays.cards import Card, Published
from strays.data import open_scenes
from strays.loading import choose_device
from strays.metrics import ClosedSetResult
from strays.model import Model, ModelFacts
from strays.training.settings import TrainingSettings
from strays.training.validation import closed_set_metrics

__all__ = ["main"]

ASSETS = Path(__file__).parents[1] / "src" / "strays" / "assets" / "models"
LARGEST = 25_000_000
LICENCE = (
    "Weights under Apache-2.0; trained on CamVid, whose images are for non-commercial research use, "
    "on synthetic scenes of this package, and from an ImageNet encoder."
)
NOTE = (
    "Taken at the end of the schedule, not chosen among checkpoints; "
    "no setting was changed after the test split was first looked at."
)


def main() -> None:
    """Measure, describe and store the model of a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder that `strays train` wrote")
    parser.add_argument("--camvid", type=Path, required=True, help="folder of CamVid")
    arguments = parser.parse_args()
    trained = Model.load(arguments.run).to(choose_device("auto"))
    stored = Model.load(trained.save(ASSETS / trained.name, torch.float16)).to(trained.device)
    results = {split: _measured(stored, arguments.camvid, split) for split in ("val", "test")}
    Model(stored.network, _facts(stored.facts, results)).save(ASSETS / stored.name, torch.float16)
    size = (ASSETS / stored.name / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{size} bytes of weights are more than the {LARGEST} that may be shipped")
    print(
        f"{stored.name}: {size / 1e6:.1f} MB, "
        + ", ".join(f"{split} {result['mIoU']:.4f}" for split, result in results.items())
    )


def _measured(model: Model, camvid: Path, split: str) -> ClosedSetResult:
    scenes = open_scenes(f"camvid={camvid}", split=split)
    return closed_set_metrics(model.network, scenes, model.taxonomy, model.device)


def _facts(facts: ModelFacts, results: dict[str, ClosedSetResult]) -> ModelFacts:
    settings = TrainingSettings.model_validate(facts.training["settings"])
    protocol = "11 classes, 480x360, pooled over all labelled pixels, float16 weights"
    published = [
        Published(
            dataset=f"CamVid {split}", metric="mIoU", value=result["mIoU"], network=facts.network, protocol=protocol
        )
        for split, result in results.items()
    ]
    card = Card(
        title="SwiftNet-MobileNetV2 on CamVid",
        summary="The embedded model: 11 CamVid classes, from an ImageNet encoder, with synthetic scenes mixed in.",
        paper=facts.card.paper,
        year=facts.card.year,
        url=facts.card.url,
        licence=LICENCE,
        published=tuple(published),
        notes=f"{command(settings)} (seed {settings.seed}). {NOTE}",
    )
    measured = {
        split: {**result, "iou": dict(zip(facts.taxonomy.names, result.iou, strict=True))}
        for split, result in results.items()
    }
    return facts.model_copy(update={"card": card, "training": {**facts.training, "measured": measured}})


def command(settings: TrainingSettings) -> str:
    """Return the command that trains such a model, with names in capitals in place of this machine's paths."""
    words = ["strays", "train", settings.recipe]
    usual = TrainingSettings(recipe=settings.recipe, data=(), init=settings.init and "default")
    for name, value in settings:
        if name == "recipe" or (value == getattr(usual, name) and name != "init") or value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        for one in value if name in ("data", "negatives") else (value,):
            words += [option, _word(one)]
    return shlex.join([*words, "--out", "RUN"])


def _word(value: object) -> str:
    """Return a setting as it is typed."""
    if isinstance(value, tuple):
        return ("x" if all(isinstance(one, int) for one in value) else ",").join(map(str, value))
    kind, _, source = str(value).rpartition("=")
    path = Path(source)
    if not path.is_absolute() and path.parts[:1] != ("..",):
        return str(value)
    return f"{kind}={path.name.upper()}" if kind else path.name


if __name__ == "__main__":
    main()
