"""Further passes of a network: gradients through changed images, and dropout without anything else."""

import pytest
import torch
from torch import Tensor, nn

from strays.cards import Card
from strays.errors import InputError
from strays.networks.base import SegmentationNetwork
from strays.networks.passes import NetworkPasses, dropout_switched_on


class _Dropping(SegmentationNetwork):
    """Dropout between two convolutions, beside a batch norm and a dropout that drops nothing."""

    card = Card(title="Dropping", summary="Drops half of the channels.")
    stride = 2

    def __init__(self, p: float = 0.5, kind: type[nn.Module] = nn.Dropout2d) -> None:
        super().__init__()
        self.configuration = {}
        self.tap_modules = {"early": "first"}
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.idle = nn.Dropout(0.0)
        self.dropout = kind(p)
        self.last = nn.Conv2d(16, 5, 1)

    def logits(self, normalized: Tensor) -> Tensor:
        return self.last(self.dropout(self.idle(torch.relu(self.norm(self.first(normalized))))))


def made(p: float = 0.5, kind: type[nn.Module] = nn.Dropout2d) -> _Dropping:
    torch.manual_seed(0)
    return _Dropping(p, kind).eval()


@pytest.fixture
def network() -> _Dropping:
    return made()


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def modes(network: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in network.named_modules()}


def test_a_prediction_carries_its_network(network, image) -> None:
    passes = network.predict(image, size=(20, 30), taps=["early"], void=4).passes
    assert isinstance(passes, NetworkPasses)
    assert passes.network is network
    assert passes.image is image


@pytest.mark.parametrize("run", ["again", "sampled"])
def test_a_further_pass_keeps_size_taps_and_void(network, image, run) -> None:
    passes = network.predict(image, size=(20, 30), taps=["early"], void=4).passes
    seen = passes.again(image) if run == "again" else passes.sampled(3)
    assert seen.size == (20, 30)
    assert seen.void == 4
    assert set(seen.features) == {"early"}
    assert seen.passes is not None


def test_again_over_the_same_image_gives_the_same_logits(network, image) -> None:
    prediction = network.predict(image)
    assert torch.equal(prediction.passes.again(image).logits, prediction.logits)
    assert torch.equal(prediction.passes.again(image[1:]).logits, network(image[1:]))


def test_again_gives_gradients_where_they_are_enabled(network, image) -> None:
    network, image = network.double(), image.double()
    with torch.no_grad():
        passes = network.predict(image).passes
        assert not passes.again(image).logits.requires_grad
        with torch.enable_grad():
            wanted = image.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(passes.again(wanted).logits.square().sum(), wanted)
    assert gradient.shape == image.shape
    nudge = 1e-7 * gradient.sign()
    ahead, behind = (network(image + sign * nudge).square().sum() for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / 2, (gradient * nudge).sum(), rtol=1e-5, atol=0)
    assert all(one.grad is None for one in network.parameters())


def test_a_sampled_pass_drops_whole_channels_at_the_stated_rate(image) -> None:
    network = made(p=0.25)
    passes = network.predict(image).passes
    seen = []
    network.dropout.register_forward_hook(lambda module, given, kept: seen.append((given[0], kept)))
    for seed in range(100):
        passes.sampled(seed)
    before, after = (torch.stack(each) for each in zip(*seen, strict=True))
    alive, left = before.amax(dim=(3, 4)) > 0, after.amax(dim=(3, 4)) > 0
    assert (alive & ~left).sum().item() / alive.sum().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(after, before / 0.75 * left[..., None, None])


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_every_kind_of_dropout_counts(kind, image) -> None:
    network = made(kind=kind)
    prediction = network.predict(image)
    assert not torch.equal(prediction.passes.sampled(0).logits, prediction.logits)


def test_samples_depend_on_the_seed_and_on_nothing_else(network, image) -> None:
    passes = network.predict(image).passes
    first = passes.sampled(7).logits
    torch.rand(10)
    passes.sampled(8)
    assert torch.equal(passes.sampled(7).logits, first)
    assert not torch.equal(passes.sampled(8).logits, first)


def test_the_random_state_of_the_program_stays(network, image) -> None:
    passes = network.predict(image).passes
    torch.manual_seed(123)
    expected = torch.rand(5)
    torch.manual_seed(123)
    passes.sampled(7)
    assert torch.equal(torch.rand(5), expected)


def test_batch_norm_keeps_its_statistics(network, image) -> None:
    with torch.no_grad():
        network.norm.running_mean += 3
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inputs = []
    network.norm.register_forward_hook(lambda module, given, out: inputs.append((module.training, given[0], out)))
    network.predict(image).passes.sampled(0)
    training, given, out = inputs[-1]
    assert not training
    norm = network.norm
    expected = (given - norm.running_mean.view(1, -1, 1, 1)) / (norm.running_var.view(1, -1, 1, 1) + norm.eps).sqrt()
    torch.testing.assert_close(out, expected)
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_only_dropout_that_drops_something_is_switched_on(network) -> None:
    before = modes(network)
    with dropout_switched_on(network):
        assert modes(network) == {**before, "dropout": True}
    assert modes(network) == before


def test_a_network_in_training_mode_stays_there(network) -> None:
    network.train()
    network.norm.eval()
    before = modes(network)
    with dropout_switched_on(network):
        pass
    assert modes(network) == before


def test_a_failing_pass_switches_dropout_off_again(network, image) -> None:
    passes = NetworkPasses(network, image.double(), (8, 12), (), None)
    with pytest.raises(RuntimeError):
        passes.sampled(0)
    assert modes(network) == modes(made())


@pytest.mark.parametrize("p", [0.0, None])
def test_a_network_without_dropout_says_so(image, p) -> None:
    network = made(p=0.0)
    if p is None:
        network.dropout, network.idle = nn.Identity(), nn.Identity()
    passes = network.predict(image).passes
    with pytest.raises(InputError, match=r"_Dropping has no dropout.*choose a network that has, such as erfnet"):
        passes.sampled(0)
