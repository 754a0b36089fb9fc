"""The choices behind a number."""

import numpy
import pytest
import torch
from pydantic import ValidationError

from strays import __version__
from strays.benchmark import Protocol
from strays.benchmark.protocol import PROTOCOLS, library_versions
from strays.errors import InputError


def test_the_usual_choices() -> None:
    assert Protocol().model_dump() == {
        "name": "default",
        "size": None,
        "network_size": None,
        "anomaly_free": "include",
        "aggregation": "pooled",
        "fpr_rule": "first",
        "exact": False,
        "ranking": "scores",
        "components": "none",
        "instances": False,
        "classes": False,
    }


def test_a_named_protocol_tells_what_was_changed_in_it() -> None:
    plain = Protocol.named("half-resolution")
    assert (plain.name, plain.size, plain.anomaly_free) == ("half-resolution", (512, 1024), "skip")
    same = Protocol.named("half-resolution", size=(512, 1024))
    assert same == plain
    changed = Protocol.named("half-resolution", size=(256, 512), fpr_rule="strict")
    assert changed.name == "half-resolution with size=256x512, fpr_rule=strict"
    assert changed.model_dump(exclude={"name"}) == {
        **plain.model_dump(exclude={"name"}),
        "size": (256, 512),
        "fpr_rule": "strict",
    }


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_can_be_built_from_its_name(name: str) -> None:
    protocol = Protocol.named(name)
    assert protocol.name == name
    assert all(getattr(protocol, key) == value for key, value in PROTOCOLS[name].items())


def test_an_unknown_protocol_is_refused_with_the_closest_one() -> None:
    with pytest.raises(InputError, match="did you mean 'fishyscapes'"):
        Protocol.named("fishscapes")


@pytest.mark.parametrize("choice", [{"aggregation": "per-image", "components": "none"}, {"exact": True}])
def test_bins_of_smiyc_are_pooled_and_not_exact(choice) -> None:
    with pytest.raises(ValidationError, match="leave --aggregation and --exact out"):
        Protocol.named("smiyc", **choice)


@pytest.mark.parametrize(
    "choice",
    [{"aggregation": "mean"}, {"anomaly_free": "drop"}, {"fpr_rule": "last"}, {"components": "all"}, {"smooth": True}],
)
def test_other_choices_are_refused(choice) -> None:
    with pytest.raises(ValidationError):
        Protocol(**choice)


def test_component_metrics_need_one_threshold() -> None:
    with pytest.raises(ValidationError, match="--aggregation pooled"):
        Protocol(components="anomaly-track", aggregation="per-image")


def test_versions() -> None:
    versions = library_versions()
    assert versions["strays"] == __version__
    assert versions["torch"] == torch.__version__
    assert versions["numpy"] == numpy.__version__
    assert {"pillow", "transformers"} <= set(versions)
