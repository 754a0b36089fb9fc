"""Cards: facts that do not change and hold nothing unknown."""

import json

import pytest
from pydantic import ValidationError

from strays.cards import Card, Needs, Published

CARD = Card(
    title="Void classifier",
    summary="Probability of void.",
    year=2021,
    needs=Needs(void_class=True),
    published=(Published(dataset="RoadAnomaly", metric="AP", value=0.0969, network="ENet", protocol="pooled"),),
)


def test_only_title_and_summary_are_needed() -> None:
    card = Card(title="MSP", summary="One minus the largest class probability.")
    assert (card.paper, card.year, card.url, card.licence, card.notes, card.published) == ("", None, "", "", "", ())
    with pytest.raises(ValidationError, match="summary"):
        Card(title="MSP")  # type: ignore[call-arg]


def test_nothing_is_needed_by_default() -> None:
    assert not any(Needs().model_dump().values())
    assert Card(title="a", summary="b").needs == Needs()


@pytest.mark.parametrize("facts", [CARD, CARD.needs, CARD.published[0]])
def test_cards_are_frozen(facts: Card | Needs | Published) -> None:
    for field in type(facts).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(facts, field, None)


@pytest.mark.parametrize("kind", [Card, Needs, Published])
def test_unknown_facts_are_refused(kind: type[Card | Needs | Published]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"title": "a", "summary": "b", "dataset": "c", "metric": "AP", "value": 0.5})


def test_a_card_survives_json() -> None:
    text = CARD.model_dump_json()
    assert json.loads(text)["published"][0]["value"] == 0.0969
    assert Card.model_validate_json(text) == CARD


def test_equal_facts_are_equal_and_hashable() -> None:
    assert len({CARD, CARD.model_copy()}) == 1
    assert CARD.model_copy(update={"year": 2020}) != CARD
