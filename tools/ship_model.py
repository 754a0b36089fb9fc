"""Turn a finished training run into a built-in model: measure it, fill in its card, store float16.

python tools/ship_model.py runs/default swiftnet-mnv2-roads --camvid ../shared/data/camvid \\
    --anomalies smiyc-anomaly=DIR --anomalies road-anomaly=DIR
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from strays.benchmark import Benchmark, Protocol
from strays.cards import Published
from strays.data import DATASETS, SceneSet, open_scenes
from strays.loading import choose_device
from strays.metrics import ClosedSetResult
from strays.model import Model, ModelFacts
from strays.networks import NETWORKS
from strays.scoring import Scorer
from strays.training.settings import TrainingSettings
from strays.training.validation import closed_set_metrics

__all__ = ["command", "main", "parts", "told", "words"]

ASSETS = Path(__file__).parents[1] / "src" / "strays" / "assets" / "models"
LARGEST = 25_000_000
ANOMALIES = Protocol(size=(512, 1024), anomaly_free="skip")
METRICS = ("AP", "FPR95", "AUROC")
NOTE = (
    "Taken at the end of the schedule, not chosen among checkpoints; every setting was chosen on validation frames of "
    "the training data with unseen objects in them, none on the sets with real anomalies that the card has numbers of."
)


def main() -> None:
    """Measure, describe and store the model of a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder that `strays train` wrote")
    parser.add_argument("name", help="what the model is to be called")
    parser.add_argument("--camvid", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--anomalies", action="append", default=[], help="data set with anomaly masks, as NAME=DIR")
    arguments = parser.parse_args()
    trained = Model.load(arguments.run).to(choose_device("auto"))
    folder = trained.save(ASSETS / arguments.name, torch.float16)
    stored = Model.load(folder).to(trained.device)  # what is measured is what is shipped
    facts = stored.facts.model_copy(update={"name": arguments.name})
    closed = {split: _classes(stored, arguments.camvid, split) for split in ("val", "test")}
    found = [one for spec in arguments.anomalies for one in _anomalies(stored, open_scenes(spec))]
    Model(stored.network, _described(facts, closed, found), arguments.name).save(folder, torch.float16)
    size = (folder / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{size} bytes of weights are more than the {LARGEST} that may be shipped")
    print(f"{arguments.name}: {size / 1e6:.1f} MB")
    for one in (*_mean_ious(facts, closed), *found):
        print(f"  {one.dataset}: {one.metric} {100 * one.value:.2f} %")


def _classes(model: Model, camvid: Path, split: str) -> ClosedSetResult:
    return closed_set_metrics(model.network, open_scenes(f"camvid={camvid}", split), model.taxonomy, model.device)


def _anomalies(model: Model, scenes: SceneSet) -> list[Published]:
    """Return what the model's own detector finds in a data set with anomaly masks."""
    with TemporaryDirectory() as folder:
        (outcome,) = Benchmark(Scorer.build(model), ANOMALIES, Path(folder)).run(scenes)
    protocol = f"{model.facts.detector}, 512x1024, images without anomaly skipped, pooled"
    metrics = {name: outcome.row.metrics[name] for name in METRICS}
    return _published(scenes.card.title, metrics, model.facts.network, protocol)


def _mean_ious(facts: ModelFacts, closed: dict[str, ClosedSetResult]) -> list[Published]:
    protocol = "480x360, pooled over all labelled pixels"
    each = ((f"CamVid {split}", {"mIoU": result["mIoU"]}) for split, result in closed.items())
    return [one for title, metrics in each for one in _published(title, metrics, facts.network, protocol)]


def _published(dataset: str, metrics: dict[str, float], network: str, protocol: str) -> list[Published]:
    measured = f"{protocol}, float16 weights"
    return [
        Published(dataset=dataset, metric=metric, value=value, network=network, protocol=measured)
        for metric, value in metrics.items()
    ]


def _described(facts: ModelFacts, closed: dict[str, ClosedSetResult], found: Sequence[Published]) -> ModelFacts:
    """Return the facts with all numbers, and the command that made the model."""
    settings = TrainingSettings.model_validate(facts.training["settings"])
    averaged = parts(facts, settings)
    titles = _titles(settings)
    card = facts.card.model_copy(
        update={
            "title": f"{_network_title(facts)}, {settings.recipe_name}",
            "summary": f"An embedded model: the recipe {settings.recipe_name} on {titles}.",
            "licence": f"Weights under Apache-2.0; trained on {titles}. Real images among these are for research use.",
            "published": (*_mean_ious(facts, closed), *found),
            "notes": f"{command(settings)} {told(settings, averaged)}. {NOTE}",
        }
    )
    iou = {split: dict(zip(facts.taxonomy.names, result.iou, strict=False)) for split, result in closed.items()}
    measured = {split: {**result, "iou": iou[split]} for split, result in closed.items()}
    described = {"settings": _without_paths(settings).model_dump(mode="json"), "measured": measured}
    training = {**facts.training, **described, **({"averaged": averaged} if averaged else {})}
    return facts.model_copy(update={"card": card, "training": training})


def parts(facts: ModelFacts, settings: TrainingSettings) -> list[dict[str, object]]:
    """Return for each training that a model is the mean of the settings in which they differ; none of a single one."""
    found = facts.training.get("averaged", [])
    whole = (_without_paths(settings.model_copy(update=one)).model_dump(mode="json") for one in found)
    return [{name: settings[name] for name in one} for one, settings in zip(found, whole, strict=True)]


def told(settings: TrainingSettings, averaged: Sequence[dict[str, object]]) -> str:
    """Return the seed of a model, or in what the trainings differ that it is the mean of."""
    if not averaged:
        return f"(seed {settings.seed})"
    differing = (" ".join(f"--{name} {value}" for name, value in one.items()) for one in averaged)
    return f"with {', '.join(differing)}; the model is their mean (strays average)"


def _without_paths(settings: TrainingSettings) -> TrainingSettings:
    """Return the settings with names in capitals in place of this machine's paths."""
    several = {name: tuple(map(_without_path, getattr(settings, name))) for name in ("data", "negatives")}
    single = {
        name: getattr(settings, name) and _without_path(getattr(settings, name)) for name in ("init", "encoder_weights")
    }
    return settings.model_copy(update={**several, **single})


def _network_title(facts: ModelFacts) -> str:
    """Return what the field calls the network, heads that a recipe adds aside."""
    return NETWORKS[str(facts.configuration.get("network", facts.network))].card.title


def _titles(settings: TrainingSettings) -> str:
    """Return what the training data are called, in words."""
    names = list(dict.fromkeys(spec.partition("=")[0] for spec in settings.data))
    *first, last = [DATASETS[name].card.title for name in names]
    return f"{', '.join(first)} and {last}" if first else last


def command(settings: TrainingSettings) -> str:
    """Return the command that trains such a model, with names in capitals in place of this machine's paths."""
    return shlex.join([*words(_without_paths(settings)), "--out", "RUN"])


def words(settings: TrainingSettings) -> list[str]:
    """Return the command that trains such a model word by word, without the folder of the run."""
    found = ["strays", "train", settings.recipe]
    usual = TrainingSettings(recipe=settings.recipe, data=(), init=settings.init and "default")
    for name, value in settings:
        if name == "recipe" or (value == getattr(usual, name) and name != "init") or value is None:
            continue
        for one in value if name in ("data", "negatives") else (value,):
            found += [f"--{name.replace('_', '-')}", _typed(one)]
    return found


def _typed(value: object) -> str:
    if isinstance(value, tuple):
        return ("x" if all(isinstance(one, int) for one in value) else ",").join(map(str, value))
    return str(value)


def _without_path(spec: str) -> str:
    kind, _, source = spec.rpartition("=")
    path = Path(source)
    if not path.is_absolute() and path.parts[:1] != ("..",):
        return spec
    return f"{kind}={path.name.upper()}" if kind else path.name


if __name__ == "__main__":
    main()
