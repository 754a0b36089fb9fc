"""``strays fit`` from the command line, and what ``strays bench`` does with its file."""

import json

import pytest

from strays.detectors import Detector


@pytest.fixture
def fit(strays, tiny, town, tmp_path):
    """Run ``strays fit`` on a miniature of CamVid."""

    def run(*words: object, out: str = "fits/bank.safetensors", **data):
        return strays("fit", *words, "--model", tiny.spec, "--data", town(**data), "--out", tmp_path / out)

    return run


def test_fit_then_bench(fit, strays, street, tiny, tmp_path) -> None:
    answer = fit("mahalanobis:tap=layer")
    assert answer.code == 0, answer.err
    file = tmp_path / "fits/bank.safetensors"
    assert "mahalanobis fitted on 5 images" in answer.err
    assert f"next: strays bench --model {tiny.spec} --detectors mahalanobis@{file}" in answer.err
    words = ("--detectors", f"energy,mahalanobis@{file}", "--data", f"street={street()}", "--out", tmp_path / "out")
    measured = strays("bench", "--model", tiny.spec, *words)
    assert measured.code == 0, measured.err
    rows = json.loads((tmp_path / "out/results.json").read_text())["rows"]
    assert [row["detector"] for row in rows] == ["energy", "mahalanobis@bank"]
    assert rows[0]["protocol"]["fit"] is None
    assert rows[1]["protocol"]["fit"]["on"]["images"] == 5
    refused = strays("bench", "--model", tiny.factory("other"), *words[:-1], tmp_path / "other")
    assert "was fitted on" in refused.error


def test_shards_are_merged(fit, strays, tmp_path) -> None:
    for part in ("1/2", "2/2"):
        assert "strays fit --merge --out" in fit("combined(energy,msp)", "--shard", part).err
    merged = strays("fit", "--merge", "--out", tmp_path / "fits/bank.safetensors")
    assert merged.code == 0, merged.err
    assert fit("combined(energy,msp)", out="fits/whole.safetensors").code == 0
    whole, parts = (Detector.load(tmp_path / f"fits/{name}.safetensors") for name in ("whole", "bank"))
    assert whole.fitted_on == parts.fitted_on
    other = strays("fit", "msp", "--merge", "--out", tmp_path / "fits/bank.safetensors")
    assert "are of combined, not of msp" in other.error


def test_classes_that_never_occur_are_named(fit) -> None:
    assert "no pixel of pedestrian, bicyclist: their statistics" in fit("mahalanobis:tap=layer", classes=9).err


def test_quiet_is_quiet(fit) -> None:
    answer = fit("combined(energy,msp)", "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_what_is_missing_is_said(strays, fit, street, tmp_path) -> None:
    assert "name a detector and its data" in strays("fit", "--out", tmp_path / "x").error
    assert "needs no fitting" in fit("energy").error
    assert "did you mean 'energy'?" in fit("energie").error
    unlabelled = ("--data", f"street={street()}", "--out", tmp_path / "x")
    assert "is fitted on class labels, and street has none" in strays("fit", "mahalanobis", *unlabelled).error
