"""Passes that leave out what comes before dropout: the bits of whole passes, with less to compute."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from strays.networks.base import NETWORKS, SegmentationNetwork
from strays.networks.extended import Extension, extend
from strays.networks.huggingface import HuggingFaceNetwork
from strays.networks.passes import NetworkPasses, dropout_switched_on
from strays.networks.python_module import UserNetwork
from strays.prediction import Prediction
from tiny_transformers import randomized, segformer

CLASSES, CHANNELS = 5, 8


class Convolutions(TorchDispatchMode):
    """Counts the convolutions that are computed, whoever asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation in (torch.ops.aten.convolution.default, torch.ops.aten.conv2d.default)
        return operation(*args, **(kwargs or {}))


def image(count: int = 1, height: int = 32, width: int = 64) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


def whole_pass(network: SegmentationNetwork, images: Tensor, seed: int, taps: tuple[str, ...] = ()) -> Prediction:
    """A pass with dropout from the first layer on."""
    with torch.random.fork_rng(), dropout_switched_on(network):
        torch.manual_seed(seed)
        return network.predict(images, taps=taps)


def counted(passes: NetworkPasses, seed: int) -> tuple[Tensor, int]:
    with Convolutions() as convolutions:
        logits = passes.sampled(seed).logits
    return logits, convolutions.count


def check(network: nn.Module, images: Tensor | None = None) -> list[int]:
    """Compare three passes with whole ones, bit for bit, and return how many convolutions each of them computed."""
    network = network if isinstance(network, SegmentationNetwork) else UserNetwork(network)
    images = image(2) if images is None else images
    prediction = network.predict(images)
    counts = []
    for seed in (3, 4, 3):
        logits, count = counted(prediction.passes, seed)
        expected = whole_pass(network, images, seed).logits
        assert torch.equal(logits, expected)
        assert not torch.equal(expected, prediction.logits)  # dropout drops something
        counts.append(count)
    return counts


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def registered(name: str, dropout: float = 0.0) -> SegmentationNetwork:
    network = NETWORKS[name](classes=CLASSES)
    return extend(network, name, Extension(dropout=dropout)).eval()


# The networks of the library


@pytest.mark.parametrize(("name", "before"), [("enet", 4), ("erfnet", 6)])
def test_networks_with_dropout_of_their_own(name: str, before: int) -> None:
    first, *later = check(registered(name), image(1, 33, 50))
    assert later == [first - before] * 2


@pytest.mark.parametrize(("name", "after"), [("swiftnet-mnv2", 7), ("swiftnet-rn18-pyramid", 1)])
def test_networks_with_dropout_that_was_added(name: str, after: int) -> None:
    first, *later = check(registered(name, 0.5), image(1, 33, 50))
    assert later == [after] * 2
    assert first > 20


def test_images_of_a_batch() -> None:
    assert check(registered("swiftnet-mnv2", 0.5), image(3))[1:] == [7] * 2


def test_what_is_kept_of_swiftnet() -> None:
    network = registered("swiftnet-mnv2", 0.5)
    passes = network.predict(image()).passes
    passes.sampled(0)
    names = {module: name for name, module in network.named_modules()}
    assert {names[module] for module in passes._replay._outputs} == {"base.encoder", "base.pooling"}


def test_a_network_of_transformers() -> None:
    network = HuggingFaceNetwork(model=randomized(segformer()))
    first, *later = check(network, image(2, 45, 61))
    assert later == [1] * 2  # its head drops before the classifier
    assert first > 10


def test_an_outlier_head_is_replayed_too() -> None:
    network = extend(registered("enet"), "enet", Extension(outlier_head=True, dropout=0.5)).eval()
    passes = network.predict(image()).passes
    for seed in (1, 2):
        expected = whole_pass(network, image(), seed).outlier_logits
        assert torch.equal(passes.sampled(seed).outlier_logits, expected)


# Modules of every shape


def conv(inputs: int = CHANNELS, outputs: int = CHANNELS) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Written(nn.Module):
    """A network whose forward is a function of itself and the image."""

    def __init__(self, forward: Callable[["Written", Tensor], object], **modules: nn.Module) -> None:
        super().__init__()
        self.written = forward
        self.stem, self.last, self.drop = conv(3), conv(outputs=CLASSES), nn.Dropout(0.5)
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> object:
        return self.written(self, x)


def test_a_module_that_is_called_twice_before_dropout() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.drop(self.shared(x) + self.shared(2 * x)))

    assert check(Written(forward, shared=conv())) == [4, 1, 1]


def test_a_module_that_is_called_again_after_dropout() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.shared(self.stem(x))
        return self.last(self.shared(self.drop(x)))

    assert check(Written(forward, shared=conv())) == [4, 2, 2]


def test_a_module_whose_first_call_is_within_another() -> None:
    shared = conv()

    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.shared(self.block(self.stem(x)))
        return self.last(self.shared(self.drop(x)))

    assert check(Written(forward, block=nn.Sequential(conv(), shared), shared=shared)) == [6, 2, 2]


def test_a_module_that_calls_itself() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.drop = conv(), nn.Dropout(0.5)

        def forward(self, x: Tensor, depth: int) -> Tensor:
            inner = self(x, depth - 1) if depth else x
            return self.drop(self.conv(inner)) if depth == 2 else self.conv(inner)

    def forward(self: Written, x: Tensor) -> Tensor:
        return self.last(self.nested(self.stem(x), 2))

    assert check(Written(forward, nested=Nested())) == [5, 1, 1]


def test_dropout_in_a_nested_block() -> None:
    block = nn.Sequential(nn.Sequential(conv(), nn.Sequential(conv(), nn.ReLU())), nn.Dropout2d(0.5), conv())
    assert check(nn.Sequential(conv(3), nn.Sequential(conv(), block), conv(outputs=CLASSES))) == [6, 2, 2]


def test_nothing_comes_before_dropout() -> None:
    assert check(nn.Sequential(nn.Dropout(0.5), conv(3), conv(outputs=CLASSES))) == [2] * 3


def test_dropout_that_drops_nothing_is_no_beginning() -> None:
    layers = nn.Sequential(conv(3), nn.Dropout(0.0), conv(), nn.Dropout(0.5), conv(outputs=CLASSES))
    assert check(layers) == [3, 1, 1]


def test_containers_are_handed_out_anew() -> None:
    """Whoever gets a list may take something off it, and must find it in the next pass again."""

    class Trunk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv()

        def forward(self, x: Tensor) -> dict[str, object]:
            x = self.conv(x)
            return {"z": [x, 2 * x, 3 * x], "a": (x.shape[-1], None, "name"), "m": x}

    def forward(self: Written, x: Tensor) -> Tensor:
        found = self.trunk(self.stem(x))
        assert list(found) == ["z", "a", "m"]
        assert found["a"] == (64, None, "name")
        return self.last(self.drop(found["z"].pop() + found["z"].pop(0) + found.pop("m")))

    assert check(Written(forward, trunk=Trunk())) == [3, 1, 1]


def test_what_is_below_an_object_of_unknown_kind_is_kept_instead() -> None:
    @dataclass
    class Found:
        maps: Tensor

    class Trunk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv()

        def forward(self, x: Tensor) -> Found:
            return Found(self.conv(x))

    def forward(self: Written, x: Tensor) -> Tensor:
        found = self.trunk(self.stem(x))
        found.maps = self.drop(found.maps)
        return self.last(found.maps)

    assert check(Written(forward, trunk=Trunk())) == [3, 1, 1]


def test_changes_in_place_before_dropout() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.stem(x)
        x += 0.5  # what the stem returned is another tensor than what is kept
        x = self.block(x).mul_(2)
        return self.last(self.drop(functional.relu_(self.norm(x))))

    block = nn.Sequential(conv(), nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True), conv())
    written = Written(forward, block=block, norm=nn.BatchNorm2d(CHANNELS)).eval()
    assert check(written) == [4, 4, 4]


def test_activations_in_place_cost_no_convolution() -> None:
    layers = [conv(3), nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True), conv(), nn.ReLU(inplace=True)]
    counts = check(nn.Sequential(*layers, conv(), nn.Dropout(0.5), conv(outputs=CLASSES)))
    assert counts == [4, 2, 2]  # the one whose output was changed is computed again


def test_changes_in_place_after_dropout() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.stem(x)
        dropped = self.drop(self.block(x))
        x += dropped
        return self.last(x)

    assert check(Written(forward, block=nn.Sequential(conv(), conv()))) == [4, 2, 2]


def test_a_block_that_is_computed_again_calls_what_it_shares() -> None:
    """Calls within it are not those that were kept."""
    shared = conv()

    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.stem(x)
        first = self.block(x)
        second = self.shared(3 * x)
        dropped = self.drop(second)
        first += dropped
        return self.last(first)

    assert check(Written(forward, block=nn.Sequential(shared, conv()), shared=shared)) == [5, 3, 3]


def test_dropout_in_place() -> None:
    layers = nn.Sequential(conv(3), conv(), nn.Dropout(0.5, inplace=True), conv(outputs=CLASSES))
    assert check(layers) == [3, 2, 2]


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.last(self.drop(self.stem(x + torch.rand_like(x)))),
        lambda self, x: self.last(functional.dropout(self.stem(x), 0.5)),  # its dropout module is never called
    ],
)
def test_other_random_numbers_make_whole_passes(forward: Callable[[Written, Tensor], object]) -> None:
    network = UserNetwork(Written(forward))
    passes = network.predict(image()).passes
    for seed in (1, 2):
        logits, count = counted(passes, seed)
        assert count == 2
        assert torch.equal(logits, whole_pass(network, image(), seed).logits)


def test_a_call_that_fails_and_is_made_up_for() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            if x.shape[-1] > 40:
                raise ValueError("too wide")
            return x

    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.stem(x)
        try:
            x = self.picky(x)
        except ValueError:
            x = self.other(x)
        return self.last(self.drop(x))

    assert check(Written(forward, picky=Picky(), other=conv())) == [4, 1, 1]


# Hooks


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(), nn.Sequential(conv(), conv())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def test_features_from_within_what_is_left_out() -> None:
    network = UserNetwork(nn.Sequential(conv(3), Trunk(), nn.Dropout(0.5), conv(outputs=CLASSES)))
    taps = ("1.first", "1.second.0", "1", "3")
    passes = network.predict(image(), taps=taps).passes
    for seed in (1, 2, 3):
        with Convolutions() as convolutions:
            seen = passes.sampled(seed)
        expected = whole_pass(network, image(), seed, taps)
        assert torch.equal(seen.logits, expected.logits)
        assert list(seen.features) == list(expected.features)
        assert all(torch.equal(seen.features[tap], expected.features[tap]) for tap in taps)
        assert convolutions.count == (5 if seed == 1 else 1)


def test_hooks_change_what_is_returned_in_every_pass() -> None:
    trunk = Trunk()
    trunk.second[0].register_forward_hook(lambda module, given, output: output * 2)
    trunk.register_forward_hook(lambda module, given, output: output.add_(1))
    trunk.first.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    assert check(nn.Sequential(conv(3), trunk, nn.Dropout(0.5), conv(outputs=CLASSES))) == [5, 2, 2]


def test_hooks_that_only_look_see_every_pass() -> None:
    trunk, seen = Trunk(), []
    trunk.second[1].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    network = UserNetwork(nn.Sequential(conv(3), trunk, nn.Dropout(0.5), conv(outputs=CLASSES)))
    passes = network.predict(image()).passes
    assert [counted(passes, seed)[1] for seed in (1, 2)] == [5, 1]
    assert len(seen) == 3
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


# Where every pass is a whole one


def simple() -> UserNetwork:
    return UserNetwork(nn.Sequential(conv(3), conv(), nn.Dropout(0.5), conv(outputs=CLASSES)))


def test_gradients_flow_through_whole_passes() -> None:
    network = simple()
    passes = network.predict(image()).passes
    for enabled, count in ((True, 3), (False, 3), (True, 3), (False, 1)):
        with torch.set_grad_enabled(enabled):
            assert counted(passes, 1)[1] == count
    with torch.enable_grad():
        logits = passes.sampled(1).logits
        logits.sum().backward()
    assert all(one.grad is not None for one in network.parameters())
    assert torch.equal(logits, whole_pass(network, image(), 1).logits)


def test_batch_norm_that_is_being_trained_sees_every_pass() -> None:
    def trained() -> UserNetwork:
        torch.manual_seed(0)
        network = UserNetwork(nn.Sequential(conv(3), nn.BatchNorm2d(CHANNELS), nn.Dropout(0.5), conv(outputs=CLASSES)))
        network.module[1].train()
        return network

    one, other = trained(), trained()
    passes = one.predict(image()).passes
    other.predict(image())
    for seed in (1, 2):
        assert torch.equal(passes.sampled(seed).logits, whole_pass(other, image(), seed).logits)
    assert torch.equal(one.module[1].running_mean, other.module[1].running_mean)


def test_compiled_and_parallel_networks() -> None:
    compiled = simple()
    compiled.module[1]._compiled_call_impl = compiled.module[1]._call_impl
    parallel = UserNetwork(nn.DataParallel(simple().module))
    for network in (compiled, parallel):
        assert check(network) == [3] * 3


def test_inference_mode_makes_no_difference() -> None:
    network = simple()
    with torch.inference_mode():
        assert check(network) == [3, 1, 1]
    with torch.inference_mode():
        passes = simple().predict(image()).passes  # weights and images of a kind that no change is counted of
    assert [counted(passes, seed)[1] for seed in (1, 2)] == [3, 1]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_scripted_parts() -> None:
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.ModuleList([conv(3), conv()])

        def forward(self, x: Tensor) -> Tensor:
            for stage in self.stages:
                x = stage(x)
            return x

    scripted = torch.jit.script(Stages().eval())
    assert check(nn.Sequential(scripted, nn.Dropout(0.5), conv(outputs=CLASSES))) == [3, 1, 1]


# What is left behind


@contextmanager
def nothing_changes(network: nn.Module) -> Iterator[None]:
    before: list[Mapping[str, object]] = [dict(one.__dict__) for one in network.modules()]
    yield
    assert [dict(one.__dict__) for one in network.modules()] == before


def test_the_network_stays_as_it_is() -> None:
    network = simple()
    first = network.module[0]
    first.forward = first.forward  # as libraries do that change single modules
    passes = network.predict(image()).passes
    for seed in (1, 2):
        with nothing_changes(network):
            passes.sampled(seed)


def test_a_pass_that_fails_leaves_nothing_behind() -> None:
    network = simple()
    passes = network.predict(image()).passes
    handle = network.module[3].register_forward_pre_hook(lambda module, given: 1 / 0)
    with nothing_changes(network), pytest.raises(ZeroDivisionError):
        passes.sampled(1)
    handle.remove()
    assert counted(passes, 1)[1] == 3
    handle = network.module[3].register_forward_pre_hook(lambda module, given: 1 / 0)
    with nothing_changes(network), pytest.raises(ZeroDivisionError):
        passes.sampled(1)
    handle.remove()
    logits, count = counted(passes, 1)
    assert count == 1
    assert torch.equal(logits, whole_pass(network, image(), 1).logits)


def test_what_is_kept_goes_with_the_prediction() -> None:
    network = simple()
    prediction = network.predict(image())
    prediction.passes.sampled(1)
    kept = prediction.passes._replay._outputs[network.module[1]][0].value()
    gone = weakref.ref(kept)
    del kept
    assert gone() is not None
    del prediction
    assert gone() is None


def test_predictions_keep_what_is_theirs() -> None:
    network = simple()
    one, other = (network.predict(image(count)).passes for count in (1, 2))
    for seed in (1, 2):
        for passes, count in ((one, 1), (other, 2)):
            assert torch.equal(passes.sampled(seed).logits, whole_pass(network, image(count), seed).logits)
