"""``strays models``, ``detectors``, ``networks``, ``recipes`` and ``datasets``: the cards."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from strays.cards import Card

__all__ = ["add_to"]

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the whole cards as JSON, with papers and published numbers.", metavar="")
]


def add_to(app: typer.Typer) -> None:
    """Add one command per kind of component."""
    for kind, cards in _KINDS.items():
        table = _print_datasets if kind == "datasets" else _print_table
        app.command(kind, rich_help_panel="What there is", help=_WORDS[kind])(_listing(cards, table))


def _listing(
    cards: "Callable[[], Mapping[str, Card]]", table: "Callable[[Mapping[str, Card]], None]"
) -> Callable[[bool], None]:
    def listing(as_json: AsJson = False) -> None:
        found = cards()
        if as_json:
            entries = [{"name": name, **card.model_dump(mode="json")} for name, card in found.items()]
            typer.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        else:
            table(found)

    return listing


def _print_table(cards: "Mapping[str, Card]") -> None:
    from rich.table import Table
    from rich.text import Text

    from strays.cli.progress import show

    table = Table("name", "what it is", "needs", "year", header_style="bold")
    for name, card in cards.items():
        needs = ", ".join(need.replace("_", " ") for need, wanted in card.needs if wanted)
        table.add_row(name, Text(card.summary), needs, str(card.year or ""))
    show(table)


def _print_datasets(cards: "Mapping[str, Card]") -> None:
    from rich.table import Table
    from rich.text import Text

    from strays.cli.progress import show

    table = Table("name", "what it is", "licence", "status", header_style="bold")
    for name, card in cards.items():
        table.add_row(name, Text(card.summary), card.licence, card.status)
    show(table)


def _models() -> "Mapping[str, Card]":
    from strays.loading import DEFAULT_MODEL, builtin_models

    cards = {name: facts.card for name, facts in builtin_models().items()}
    return {"default": cards[DEFAULT_MODEL], **cards} if DEFAULT_MODEL in cards else cards


def _networks() -> "Mapping[str, Card]":
    from strays.networks import NETWORKS
    from strays.networks.wrapper import WRAPPERS

    wrappers = {f"{name}(MODEL)": wrapper.card for name, wrapper in WRAPPERS.items()}
    return {name: network.card for name, network in NETWORKS.items()} | wrappers


def _detectors() -> "Mapping[str, Card]":
    from strays.detectors.base import DETECTORS

    return {name: detector.card for name, detector in DETECTORS.items()}


def _recipes() -> "Mapping[str, Card]":
    from strays.recipes import RECIPES

    return {name: recipe.card for name, recipe in RECIPES.items()}


def _datasets() -> "Mapping[str, Card]":
    from strays.data import DATASETS

    return {name: reader.card for name, reader in DATASETS.items()}


_KINDS = {
    "models": _models,
    "networks": _networks,
    "detectors": _detectors,
    "recipes": _recipes,
    "datasets": _datasets,
}
_WORDS = {
    "models": "List the built-in models, ready for --model.",
    "networks": "List the networks that can be trained, or used as NETWORK@WEIGHTS, and wrappers around a model.",
    "detectors": "List the anomaly scores, ready for --detector and --detectors.",
    "recipes": "List the ways to train a network, ready for strays train.",
    "datasets": "List the data sets that are read, ready for --data NAME=PATH, with licence and status.",
}
