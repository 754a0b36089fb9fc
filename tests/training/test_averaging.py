"""The moving average of the weights against NumPy, and what it leaves alone."""

import numpy as np
import pytest
import torch

from strays.networks.enet import ENet
from strays.training.averaging import WeightAverage


@pytest.fixture
def network() -> ENet:
    torch.manual_seed(0)
    return ENet(classes=3)


def moved(network: ENet) -> dict[str, torch.Tensor]:
    """Weights and statistics after a random move."""
    for one in network.parameters():
        one.data += torch.randn(one.shape)
    for name, one in network.named_buffers():
        one += 1 if name.endswith("num_batches_tracked") else torch.rand(())
    return {name: one.clone() for name, one in network.state_dict().items()}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_it_is_a_mean_at_first_and_then_moves(network: ENet, decay: float) -> None:
    average = WeightAverage(network, decay)
    expected: dict[str, np.ndarray] = {}
    for step in range(5):
        share = max(1 - decay, 1 / (step + 1))
        for name, value in moved(network).items():
            before = expected.get(name, 0)
            counts = name.endswith("num_batches_tracked")
            expected[name] = value.numpy() if counts else before + share * (value.double().numpy() - before)
        average.update(network)
    for name, found in average.network.state_dict().items():
        np.testing.assert_allclose(found.numpy(), expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_network_is_left_alone_and_the_average_is_not_trained(network: ENet) -> None:
    average = WeightAverage(network, 0.9)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    average.update(network)
    moved(average.network)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert all(one.requires_grad for one in network.parameters())
    assert not any(one.requires_grad for one in average.network.parameters())


def test_it_goes_on_from_its_state(network: ENet) -> None:
    average, other = WeightAverage(network, 0.9), WeightAverage(network, 0.9)
    for _ in range(3):
        moved(network)
        average.update(network)
    other.restore({name: one.clone() for name, one in average.state().items()})
    moved(network)
    for one in (average, other):
        one.update(network)
    found = other.network.state_dict()
    assert all(torch.equal(one, found[name]) for name, one in average.network.state_dict().items())
