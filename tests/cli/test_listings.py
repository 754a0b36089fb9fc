"""The cards, as tables and as JSON."""

import json

import pytest

from strays.cards import Card
from strays.data import DATASETS
from strays.detectors import DETECTORS
from strays.loading import builtin_models
from strays.networks import NETWORKS
from strays.networks.wrapper import WRAPPERS
from strays.recipes import RECIPES

WRAPPED = {f"{name}(MODEL)": wrapper for name, wrapper in WRAPPERS.items()}
KINDS = {"detectors": DETECTORS, "networks": {**NETWORKS, **WRAPPED}, "recipes": RECIPES, "datasets": DATASETS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_cards_of_everything_there_is(strays, kind) -> None:
    answer = strays(kind, "--json")
    assert (answer.code, answer.err) == (0, "")
    found = {entry.pop("name"): Card(**entry) for entry in json.loads(answer.out)}
    assert found == {name: one.card for name, one in KINDS[kind].items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_for_people(strays, kind) -> None:
    answer = strays(kind)
    assert answer.code == 0
    for name, one in KINDS[kind].items():
        (line,) = [line for line in answer.out.splitlines() if line.startswith(f"│ {name} ")]
        assert one.card.summary[:40] in line
        told = (one.card.status, one.card.licence) if kind == "datasets" else (str(one.card.year or ""),)
        assert all(fact[:15] in line for fact in told)
        assert "void class" in line or not one.card.needs.void_class


def test_the_models(strays) -> None:
    found = {entry["name"]: entry for entry in json.loads(strays("models", "--json").out)}
    assert set(found) == {"default", *builtin_models()}
    for entry in found.values():
        assert entry["title"]
        assert entry["summary"]
    assert "default" in strays("models").out
