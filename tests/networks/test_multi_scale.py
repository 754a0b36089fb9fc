"""Means over scales, computed anew in float64 with matrices for the resizing."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax

from strays.errors import InputError
from strays.networks.multi_scale import MultiScale
from strays.networks.wrapper import NetworkWrapper
from toy_networks import Toy, bilinear, image, looked_at

TAPS = ("encoder", "decoder")
SIZES = {"0.6": (10, 13), "1": (16, 22), "1.5": (24, 33)}
"""Scale -> the size of an image of 16x22 there."""


def looks(base: Toy) -> list[dict]:
    images = (torch.from_numpy(bilinear(image(16, 22).numpy(), size)) for size in SIZES.values())
    return [looked_at(base, one, TAPS) for one in images]


def built(base: Toy, average: str = "logits") -> NetworkWrapper:
    return MultiScale(base, "0.6+1+1.5", average)


def test_logits_are_averaged_at_the_size_of_the_image() -> None:
    base = Toy(outlier=True)
    found = looked_at(built(base), image(16, 22))
    for name in ("logits", "outlier_logits"):
        expected = np.mean([bilinear(one[name], (16, 22)) for one in looks(base)], axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-11, atol=1e-11)


def test_probabilities_are_averaged_as_such() -> None:
    base = Toy(outlier=True)
    found = looked_at(built(base, "probabilities"), image(16, 22))
    for name in ("logits", "outlier_logits"):
        expected = np.mean([softmax(bilinear(one[name], (16, 22)), axis=1) for one in looks(base)], axis=0)
        np.testing.assert_allclose(np.exp(found[name]), expected, rtol=1e-11, atol=1e-11)
        assert abs(softmax(found[name], axis=1) - softmax(looked_at(built(base), image(16, 22))[name], 1)).max() > 1e-3


def test_vanishing_probabilities_have_finite_logarithms() -> None:
    base = Toy()
    with torch.no_grad():
        base.classifier.weight.mul_(1000)
    found = looked_at(built(base.float(), "probabilities"), image(16, 22).float())["logits"]
    resized = [bilinear(one["logits"], (16, 22)) for one in looks(base.double())]
    logs = [log_softmax(one, axis=1) for one in resized]
    assert np.exp(np.float32(np.min(logs))) == 0
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, logsumexp(logs, axis=0) - np.log(3), rtol=1e-3, atol=0.05)


def test_features_are_averaged_at_the_size_of_the_finest() -> None:
    base = Toy()
    found = looked_at(built(base), image(16, 22), TAPS)
    for name in TAPS:
        maps = [one[name] for one in looks(base)]
        expected = np.mean([bilinear(one, maps[-1].shape[-2:]) for one in maps], axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-11, atol=1e-11)


def test_one_scale_is_the_plain_network() -> None:
    plain = looked_at(Toy(), image(16, 22), TAPS)
    found = looked_at(MultiScale(Toy(), scales="1"), image(16, 22), TAPS)
    np.testing.assert_allclose(found["logits"], bilinear(plain["logits"], (16, 22)), rtol=1e-12, atol=1e-12)
    for name in TAPS:
        assert (found[name] == plain[name]).all()


def test_settings_are_kept_as_they_were_written() -> None:
    assert MultiScale(Toy(), " 300/720 + 1 ").settings() == {"scales": "300/720+1", "average": "logits"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"scales": "0.5+x"}, r"expected scales such as 1 or 300/720\+1, got '0.5\+x'"),
        ({"scales": ""}, "expected scales such as"),
        ({"scales": "1/0"}, "expected scales such as"),
        ({"scales": "0+1"}, r"expected scales above 0, got '0\+1'"),
        ({"average": "scores"}, "average is 'scores', expected one of logits, probabilities"),
    ],
)
def test_wrong_settings(settings: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        MultiScale(Toy(), **settings)
