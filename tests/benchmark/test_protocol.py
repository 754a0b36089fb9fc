"""The choices behind a number."""

import numpy
import pytest
import torch
from pydantic import ValidationError

from strays import __version__
from strays.benchmark import Protocol
from strays.benchmark.protocol import library_versions


def test_the_usual_choices() -> None:
    assert Protocol().model_dump() == {
        "size": None,
        "network_size": None,
        "anomaly_free": "include",
        "aggregation": "pooled",
        "fpr_rule": "first",
        "exact": False,
        "components": "none",
    }


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
