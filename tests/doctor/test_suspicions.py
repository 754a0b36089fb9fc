"""Mistakes in masks, told from the shares of their values."""

import numpy as np
import pytest

from strays.doctor.suspicions import close_shares, suspect, suspect_alone

KNOWN = {"inlier": 0.82, "anomaly": 0.05, "ignore": 0.13}


def shares(inlier: float, anomaly: float, ignore: float) -> dict[str, float]:
    return {"inlier": inlier, "anomaly": anomaly, "ignore": ignore}


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (shares(0.05, 0.82, 0.13), "exchanged"),
        (shares(0.82, 0.0, 0.18), "255 for anomalies, which means ignore here"),
        (shares(0.95, 0.0, 0.05), "255 for anomalies and 0 for pixels to ignore"),
        (shares(0.95, 0.05, 0.0), "0, inlier, for pixels to ignore"),
        (shares(0.82, 0.18, 0.0), "1, anomaly, for pixels to ignore"),
    ],
)
def test_simple_mistakes(found: dict[str, float], word: str) -> None:
    suspicion = suspect(found, KNOWN)
    assert suspicion is not None
    assert word in suspicion.found
    assert suspicion.fix.startswith("save ")


def test_other_shares_say_nothing() -> None:
    rng = np.random.default_rng(0)
    for inlier, anomaly, ignore in rng.dirichlet((1, 1, 1), 50):
        assert suspect(shares(inlier, anomaly, ignore), KNOWN) is None


def test_closeness() -> None:
    assert close_shares(shares(0.8205, 0.0495, 0.13), KNOWN)
    assert not close_shares(shares(0.822, 0.048, 0.13), KNOWN)


def test_without_known_shares() -> None:
    mostly, lost = suspect_alone(shares(0.2, 0.7, 0.1)), suspect_alone(shares(0.9, 0.0, 0.1))
    assert mostly is not None
    assert lost is not None
    assert mostly.found.startswith("70 % of all pixels anomalous")
    assert "does 255 mark the anomalies?" in lost.found
    assert suspect_alone(shares(0.5, 0.5, 0.0)) is None
    assert suspect_alone(shares(1.0, 0.0, 0.0)) is None
