"""Write docs/reference, one page per kind of component, from the cards: ``make docs``."""

import inspect
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from strays.cards import Card, Published
from strays.data import DATASETS, DatasetReader
from strays.detectors import DETECTORS, Detector
from strays.files import make_folder, write_text
from strays.loading import DEFAULT_MODEL, builtin_models
from strays.model import ModelFacts
from strays.negatives import NEGATIVES, Negatives
from strays.negatives.sources.base import SOURCES
from strays.networks import NETWORKS, SegmentationNetwork
from strays.networks.wrapper import WRAPPERS
from strays.recipes import RECIPES, Recipe

__all__ = ["FOLDER", "main", "outdated", "pages"]

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `make docs` from the cards in the source: edit those, not this page. -->"

Row = Sequence[str]


def pages() -> dict[str, str]:
    """Return the pages by file name; that of the models only where the package carries one."""
    written = {
        "detectors.md": detectors_page(DETECTORS),
        "networks.md": networks_page(NETWORKS),
        "datasets.md": datasets_page(DATASETS),
        "recipes.md": recipes_page(RECIPES),
        "negatives.md": negatives_page(NEGATIVES),
    }
    models = builtin_models()
    return {**written, "models.md": models_page(models)} if models else written


def detectors_page(detectors: Mapping[str, type[Detector]]) -> str:
    """Return the page of the detectors."""
    rows = [
        [link(name), kind.card.title, year(kind.card), reads(kind.card), f"`{name}{settings(kind)}`"]
        for name, kind in detectors.items()
    ]
    text = (
        "A detector turns what a network saw into one anomaly score per pixel: float32, larger is more anomalous, "
        "never rescaled. Write its name, with settings where the defaults will not do, after `--detector`."
    )
    head = table(["Detector", "Title", "Year", "Reads", "Defaults"], rows)
    return page("Detectors", text, head, [section(name, kind.card) for name, kind in detectors.items()])


def networks_page(networks: Mapping[str, type[SegmentationNetwork]]) -> str:
    """Return the page of the segmentation networks."""
    rows = [[link(name), kind.card.title, year(kind.card), kind.card.summary] for name, kind in networks.items()]
    text = (
        "A segmentation network turns images into class logits. Give weights of your own as `NETWORK@FILE` after "
        "`--model`; `hf:ORG/ID`, `onnx:FILE`, `torchscript:FILE` and `python:package.module:factory` bring in networks "
        "that are not here."
    )
    sections = [section(name, kind.card, network_facts(kind)) for name, kind in networks.items()]
    head = table(["Network", "Title", "Year", "What it is"], rows)
    return page("Networks", text, head, [*sections, wrappers_section()])


def wrappers_section() -> str:
    """Return what is said about wrappers around a model."""
    given = {name: settings(kind, ("base",)).replace(":", ",", 1) for name, kind in WRAPPERS.items()}
    rows = [[f"`{name}(MODEL{given[name]})`", kind.card.summary] for name, kind in WRAPPERS.items()]
    text = "A model of any kind, run in another way: write it so after `--model`. Wrappers nest, and results name them."
    return f"## Wrappers\n\n{text}\n\n{table(['Wrapper', 'What it does'], rows)}"


def datasets_page(datasets: Mapping[str, type[DatasetReader]]) -> str:
    """Return the page of the data sets."""
    rows = [
        [link(name), kind.card.title, year(kind.card), frames(kind), kind.card.licence, kind.card.status]
        for name, kind in datasets.items()
    ]
    text = (
        "Write `NAME=PATH` after `--data`; `strays doctor PATH` says which of these a folder holds and what is wrong "
        "with it. Bold is the split that is read when none is named."
    )
    sections = [section(name, kind.card, layouts(kind)) for name, kind in datasets.items()]
    return page("Data sets", text, table(["Name", "Title", "Year", "Frames", "Licence", "Status"], rows), sections)


def recipes_page(recipes: Mapping[str, type[Recipe]]) -> str:
    """Return the page of the recipes."""
    rows = [
        [
            link(name),
            kind.card.title,
            year(kind.card),
            str(kind.extension) if kind.extension else "",
            "yes" if kind.card.needs.negatives else "",
            f"[`{kind.detector}`](detectors.md#{kind.detector})",
        ]
        for name, kind in recipes.items()
    ]
    text = (
        "A recipe trains a network so that a detector can tell anomalies apart: `strays train NAME`, or "
        "`NAME:key=value` with settings of its own. [Training](../training.md) shows how."
    )
    head = table(["Recipe", "Title", "Year", "Adds to the network", "Negatives", "Read by"], rows)
    return page("Recipes", text, head, [section(name, kind.card, recipe_facts(kind)) for name, kind in recipes.items()])


def negatives_page(kinds: Mapping[str, Callable[..., Negatives]]) -> str:
    """Return the page of the kinds of negatives, and the layouts of folders that they are cut from."""
    classes = {name: kind for name, kind in kinds.items() if isinstance(kind, type)}
    rows = [
        [link(name), kind.card.title, settings(kind, ("folder",)).removeprefix(":")] for name, kind in classes.items()
    ]
    text = (
        "Negatives are pixels that stand for anomalies in training. Write `KIND=DIR` after `--negatives`, or "
        "`KIND:key=value,key=value=DIR`; `strays negatives` draws what they look like. They are cut from folders in "
        "any of these layouts, recognised by what is in them:"
    )
    known = table(["Layout", "What such a folder holds"], [[name, source.layout] for name, source in SOURCES.items()])
    sections = [section(name, kind.card) for name, kind in classes.items()]
    return page("Negatives", text, known, [table(["Kind", "Title", "Defaults"], rows), *sections])


def models_page(models: Mapping[str, ModelFacts]) -> str:
    """Return the page of the models that the package carries."""
    rows = [
        [
            link(name) + (" (`default`)" if name == DEFAULT_MODEL else ""),
            f"[`{one.network}`](networks.md#{one.network})",
            one.taxonomy.name,
            f"[`{one.detector}`](detectors.md#{one.detector})",
            one.card.licence,
        ]
        for name, one in models.items()
    ]
    text = "A model is a network with its weights, classes and card. These come with the package: write `--model NAME`."
    sections = [section(name, one.card, training(one)) for name, one in models.items()]
    return page("Models", text, table(["Model", "Network", "Classes", "Detector", "Licence"], rows), sections)


def page(title: str, text: str, head: str, sections: Iterable[str]) -> str:
    """Return a whole page."""
    return "\n\n".join([NOTE, f"# {title}", text, head, *sections]) + "\n"


def section(name: str, card: Card, facts: Sequence[str] = ()) -> str:
    """Return what the card of one component says, under its name."""
    lines = [f"**{card.title}.** {card.summary}"]
    if card.paper:
        source = f"[{card.paper}]({card.url})" if card.url else card.paper
        lines.append(
            f"Source: {source}" + (f" ({card.year})" if card.year and str(card.year) not in card.paper else "")
        )
    lines += [*facts, card.notes, published_table(card.published)]
    return "\n\n".join([f"## {name}", *filter(None, lines)])


def published_table(published: Sequence[Published]) -> str:
    """Return published numbers in per cent, one row per data set, network and protocol; "" without any."""
    if not published:
        return ""
    metrics = list(dict.fromkeys(one.metric for one in published))
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in published:
        rows.setdefault((one.dataset, one.network, one.protocol), {})[one.metric] = f"{100 * one.value:.2f}"
    body = [
        [dataset, network, *(values.get(metric, "") for metric in metrics), protocol]
        for (dataset, network, protocol), values in rows.items()
    ]
    return "Published, in per cent:\n\n" + table(["Data set", "Network", *metrics, "Protocol"], body)


def network_facts(kind: type[SegmentationNetwork]) -> list[str]:
    """Return settings, parameters, stride and taps of a network; nothing for one that depends on foreign files."""
    if not isinstance(inspect.signature(kind).parameters["classes"].default, int):
        return []
    with torch.device("meta"):
        network = kind()
    count = sum(one.numel() for one in network.parameters())
    taps = ", ".join(f"`{tap}`" for tap in network.tap_modules)
    built = settings(kind).removeprefix(":").replace(",", ", ")
    return [f"With `{built}`: {count:,} parameters, logits at stride {network.stride}. Taps: {taps}."]


def recipe_facts(kind: type[Recipe]) -> list[str]:
    """Return the settings of a recipe, and the training settings that it changes."""
    facts = []
    if own := settings(kind, ("class_weights", "void")).removeprefix(":"):
        facts.append(f"Settings: `{own.replace(',', ', ')}`.")
    if kind.defaults:
        changed = ", ".join(f"`--{name.replace('_', '-')} {value}`" for name, value in kind.defaults.items())
        facts.append(f"Trained with {changed} unless told otherwise.")
    return facts


def training(facts: ModelFacts) -> list[str]:
    """Return how a model was trained, as its file tells it."""
    if not facts.training:
        return []
    recipe = f"Trained by the recipe [`{facts.recipe}`](recipes.md#{facts.recipe}):"
    return [recipe, "```json\n" + json.dumps(facts.training, indent=2) + "\n```"]


def layouts(kind: type[DatasetReader]) -> list[str]:
    """Return the layouts on disk that a reader knows."""
    known: Sequence[str] = getattr(kind, "layouts", ())
    return ["Layouts: " + "; ".join(f"`{one}`" for one in known) + "."] if known else []


def frames(kind: type[DatasetReader]) -> str:
    """Return how many frames each split has, the usual one in bold."""
    counts = {split or "all": count for split, count in kind.facts.frames.items()}
    usual = kind.default_split or "all"
    return ", ".join(
        f"**{split}** {count}" if split == usual else f"{split} {count}" for split, count in counts.items()
    )


def settings(kind: type, without: Collection[str] = ()) -> str:
    """Return the settings of a component with their defaults, as they are written: ``:temperature=1.0``."""
    own = () if kind.__init__ is torch.nn.Module.__init__ else inspect.signature(kind).parameters.values()
    defaults = {one.name: one.default for one in own if one.name not in without}
    return ":" + ",".join(f"{name}={value}" for name, value in defaults.items()) if defaults else ""


def reads(card: Card) -> str:
    """Return what a detector reads and needs, in words."""
    words = {
        "features": "features",
        "masks": "mask outputs",
        "image": "the image",
        "void_class": "a void class",
        "outlier_head": "an outlier head",
        "gradients": "gradients",
        "negatives": "negatives",
        "dropout": "passes with dropout",
        "fitting": "a fit on inliers",
        "anomalies": "with anomaly masks",
    }
    found = [word for name, word in words.items() if getattr(card.needs, name)]
    instead = card.needs.features or card.needs.masks or card.needs.image
    return ", ".join(found if instead else ["logits", *found])


def link(name: str) -> str:
    """Return a link to the section of a component."""
    return f"[`{name}`](#{name})"


def year(card: Card) -> str:
    """Return the year of a card, "" where it has none."""
    return str(card.year or "")


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def outdated(folder: Path = FOLDER) -> list[str]:
    """Return the names of pages that are missing or differ from what the cards say, and of those that are too many."""
    expected = pages()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def main() -> None:
    """Write the pages."""
    make_folder(FOLDER)
    for name, text in pages().items():
        write_text(FOLDER / name, text)
    print(f"wrote {FOLDER}")


if __name__ == "__main__":
    main()
