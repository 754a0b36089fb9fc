"""The mean over an image and its mirror image."""

import numpy as np
import pytest
import torch

from strays.networks.mirrored import Mirrored
from toy_networks import Toy, image, looked_at

TAPS = ("encoder", "decoder")


@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_it_is_the_mean_of_both_looks(size: tuple[int, int]) -> None:
    base, seen = Toy(outlier=True), image(*size)
    plain = looked_at(base, seen, TAPS)
    turned = looked_at(base, torch.from_numpy(seen.numpy()[..., ::-1].copy()), TAPS)
    found = looked_at(Mirrored(base), seen, TAPS)
    assert set(found) == {"logits", "outlier_logits", *TAPS}
    for name, maps in found.items():
        np.testing.assert_allclose(maps, (plain[name] + turned[name][..., ::-1]) / 2, rtol=1e-12, atol=1e-12)
        assert maps.shape == plain[name].shape


def test_a_mirrored_image_has_mirrored_maps() -> None:
    network, seen = Mirrored(Toy(outlier=True)), image(8, 12)
    maps, mirrored = looked_at(network, seen, TAPS), looked_at(network, seen.flip(-1), TAPS)
    for name, one in maps.items():
        np.testing.assert_allclose(mirrored[name], one[..., ::-1], rtol=1e-12, atol=1e-12)


def test_the_stride_is_that_of_the_network() -> None:
    assert Mirrored(Toy()).stride == 2
