"""Ladder DenseNet: its size as specified, and trunk, pooling and ladder recomputed from the tensors alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.errors import InputError
from strays.networks.base import NETWORKS, UNIT
from strays.networks.encoders.densenet import DenseNet
from strays.networks.extended import ExtendedNetwork, Extension, extend
from strays.networks.ladder_densenet import LadderDenseNet
from strays.networks.weights import load_state
from toy_networks import lived_in

SPECIFIED = 11_067_414
TRUNK = 6_951_808
TORCHVISION = {121: (7_978_856, 1024), 169: (14_149_480, 1664)}
"""Depth -> parameters of torchvision's classifier of 1000 classes, and the features that it reads."""
LAYERS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32)}
State = dict[str, Tensor]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def count(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


@pytest.fixture(scope="module")
def network() -> LadderDenseNet:
    torch.manual_seed(0)
    return lived_in(LadderDenseNet(classes=5))


def normed(x: Tensor, state: State, name: str) -> Tensor:
    """Batch norm and ReLU from the tensors of a state dict."""
    gain, shift, mean, variance = (
        state[f"{name}.{one}"].view(1, -1, 1, 1) for one in ("weight", "bias", "running_mean", "running_var")
    )
    return ((x - mean) / (variance + 1e-5).sqrt() * gain + shift).clamp(min=0)


def unit(x: Tensor, state: State, norm: str, conv: str) -> Tensor:
    kernel = state[f"{conv}.weight"]
    return functional.conv2d(normed(x, state, norm), kernel, state.get(f"{conv}.bias"), padding=kernel.shape[-1] // 2)


def brc(x: Tensor, state: State, name: str) -> Tensor:
    return unit(x, state, f"{name}.0", f"{name}.2")


def enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


def centred_means(x: Tensor) -> Tensor:
    """Means of what lies in the image of 3x3 pixels around every second one, in plain Python."""
    height, width = x.shape[-2:]
    rows = [
        [x[..., max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].mean((-2, -1)) for c in range(0, width, 2)]
        for r in range(0, height, 2)
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def cells(x: Tensor, rows: int, columns: int) -> Tensor:
    """Means over a grid of cells that overlap where it does not divide the map, in plain Python."""
    height, width = x.shape[-2:]

    def cell(row: int, column: int) -> Tensor:
        top, bottom = row * height // rows, -(-(row + 1) * height // rows)
        left, right = column * width // columns, -(-(column + 1) * width // columns)
        return x[..., top:bottom, left:right].mean((-2, -1))

    return torch.stack([torch.stack([cell(r, c) for c in range(columns)], -1) for r in range(rows)], -2)


def trunk_by_hand(x: Tensor, state: State, layers: tuple[int, ...]) -> list[Tensor]:
    x = functional.conv2d(x, state["features.conv0.weight"], stride=2, padding=3)
    x = normed(x, state, "features.norm0")
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    x = x[..., :height, :width].unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).amax((-3, -1))
    features = []
    for block, number in enumerate(layers, start=1):
        for layer in range(1, number + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            squeezed = unit(x, state, f"{name}.norm1", f"{name}.conv1")
            x = torch.cat([x, unit(squeezed, state, f"{name}.norm2", f"{name}.conv2")], 1)
        features.append(x)
        if block < len(layers):
            name = f"features.transition{block}"
            x = centred_means(unit(x, state, f"{name}.norm", f"{name}.conv"))
    return features


def test_it_is_registered_with_its_facts() -> None:
    assert NETWORKS["ladder-densenet-121"] is LadderDenseNet
    assert LadderDenseNet.normalization == UNIT
    assert LadderDenseNet.stride == 4


def test_it_has_the_specified_number_of_parameters() -> None:
    """Its number exceeds its own table by three auxiliary heads (BN-ReLU-1x1 with bias) of one channel each.

    Auxiliary heads are no part of the network here: ``Extension`` adds them, with one channel for each class.
    """
    auxiliary = sum(2 * channels + channels + 1 for channels in (512, 256, 256))
    assert count(LadderDenseNet(19)) == SPECIFIED - auxiliary
    posterior = 2 * 128 + 2 * 128 + 2
    assert count(LadderDenseNet(12)) == 11_067_025 - auxiliary - posterior


def test_its_parts_have_the_specified_numbers_of_parameters(network: LadderDenseNet) -> None:
    assert count(network.encoder) == TRUNK
    assert round(count(network.pooling) / 1e6, 2) == 1.32
    assert round(count(network.upsamplings) / 1e6, 2) == 2.79


@pytest.mark.parametrize("depth", [121, 169])
def test_the_trunk_is_the_stock_network_without_last_norm_and_classifier(depth: int) -> None:
    whole, features = TORCHVISION[depth]
    encoder = DenseNet(depth)
    assert count(encoder) == whole - (1000 * features + 1000) - 2 * features
    assert encoder.channels[-1] == features


def test_the_trunks_batch_norms_alone_are_slow(network: LadderDenseNet) -> None:
    momenta = {name: module.momentum for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {value for name, value in momenta.items() if name.startswith("encoder.")} == {0.01}
    assert {value for name, value in momenta.items() if not name.startswith("encoder.")} == {0.1}


@pytest.mark.parametrize("size", [(32, 64), (37, 50)])
@torch.no_grad()
def test_the_trunk_pools_as_specified(network: LadderDenseNet, size: tuple[int, int]) -> None:
    image = random(1, 3, *size)
    expected = trunk_by_hand(image, network.encoder.state_dict(), LAYERS[121])
    features = network.encoder(image)
    assert [one.shape[1] for one in features] == [256, 512, 1024, 1024]
    for feature, other in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, other)


@torch.no_grad()
def test_the_trunk_of_169_layers() -> None:
    torch.manual_seed(0)
    encoder, image = lived_in(DenseNet(169)), random(1, 3, 32, 32)
    for feature, other in zip(encoder(image), trunk_by_hand(image, encoder.state_dict(), LAYERS[169]), strict=True):
        torch.testing.assert_close(feature, other)


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((9, 16), [(8, 14), (4, 7), (2, 4), (1, 2)]),
        ((8, 8), [(8, 8), (4, 4), (2, 2), (1, 1)]),
        ((9, 1), [(8, 1), (4, 1), (2, 1), (1, 1)]),
    ],
)
@torch.no_grad()
def test_pooling_averages_over_square_cells(
    network: LadderDenseNet, size: tuple[int, int], grids: list[tuple[int, int]]
) -> None:
    x, state = random(2, 1024, *size) - 0.5, network.pooling.state_dict()
    reduced = brc(x, state, "reduce")
    parts = [enlarged(brc(cells(reduced, *one), state, f"levels.{index}"), size) for index, one in enumerate(grids)]
    joined = torch.cat([reduced, *parts], 1)
    assert joined.shape[1] == 1024
    torch.testing.assert_close(network.pooling(x), brc(joined, state, "fuse"))


@pytest.mark.parametrize("size", [(64, 96), (70, 99)])
@torch.no_grad()
def test_the_ladder_adds_projected_skips_from_coarse_to_fine(network: LadderDenseNet, size: tuple[int, int]) -> None:
    image, state = random(1, 3, *size), network.state_dict()
    *skips, deepest = network.encoder(image)
    x, widths = network.pooling(deepest), []
    for step, skip in enumerate(reversed(skips)):
        projected = brc(skip, state, f"upsamplings.{step}.bottleneck")
        widths.append(projected.shape[1])
        x = brc(enlarged(x, tuple(projected.shape[-2:])) + projected, state, f"upsamplings.{step}.blend")
    assert [*widths, x.shape[1]] == [512, 256, 256, 128]
    torch.testing.assert_close(network(image), brc(x, state, "classifier"))


def test_only_the_classifier_has_biases(network: LadderDenseNet) -> None:
    convolutions = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    assert [name for name, module in convolutions.items() if module.bias is not None] == ["classifier.2"]


@torch.no_grad()
def test_auxiliary_heads_read_what_each_step_is_given(network: LadderDenseNet) -> None:
    given: list[Tensor] = []
    handles = [one.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])) for one in network.upsamplings]
    features = network.predict(random(1, 3, 64, 96), taps=network.auxiliary_taps).features
    for handle in handles:
        handle.remove()
    assert [tuple(one.shape[1:]) for one in given] == [(512, 2, 3), (256, 4, 6), (256, 8, 12)]
    assert [one is other for one, other in zip(given, features.values(), strict=True)] == [True] * 3


def test_auxiliary_logits_come_in_training() -> None:
    network = extend(LadderDenseNet(3), "ladder-densenet-121", Extension(auxiliary=True)).train()
    assert isinstance(network, ExtendedNetwork)
    assert count(network) == count(network.base) + 2 * 1024 + 3 * (1024 + 3)
    outputs = network.outputs(random(2, 3, 64, 64).float())
    assert [tuple(one.shape) for one in outputs["auxiliary_logits"]] == [(2, 3, 2, 2), (2, 3, 4, 4), (2, 3, 8, 8)]


@torch.no_grad()
def test_taps_are_what_the_classifier_and_the_ladder_see(network: LadderDenseNet) -> None:
    image = random(1, 3, 64, 96)
    features = network.predict(image, taps=network.tap_modules).features
    stages = network.encoder(image)
    assert [torch.equal(features[f"stage{index}"], one) for index, one in enumerate(stages, start=1)] == [True] * 4
    assert torch.equal(features["encoder"], stages[2])
    torch.testing.assert_close(network.classifier(features["decoder"]), network(image))


@pytest.mark.parametrize("depth", [121, 169])
def test_a_checkpoint_tells_its_classes_and_depth(depth: int) -> None:
    with torch.device("meta"):
        network = LadderDenseNet(7, depth)
    assert LadderDenseNet.configuration_of(network.state_dict()) == {"classes": 7, "depth": depth}
    assert network.configuration == {"classes": 7, "depth": depth}


def test_a_depth_that_there_is_not_is_said() -> None:
    with pytest.raises(InputError, match=r"no DenseNet of depth 201: choose 121 or 169"):
        LadderDenseNet(depth=201)


def new(key: str) -> str:
    return key


def old(key: str) -> str:
    """The name as files from before 2018 write it."""
    for part in ("norm1", "norm2", "conv1", "conv2"):
        key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.") if "denselayer" in key else key
    return key


@pytest.mark.parametrize("written", [new, old])
def test_a_trunk_of_torchvision_can_be_loaded(network: LadderDenseNet, written: Callable[[str], str]) -> None:
    keys = {
        "features.conv0.weight",
        "features.norm0.running_var",
        "features.denseblock1.denselayer1.norm1.weight",
        "features.denseblock4.denselayer16.conv2.weight",
        "features.transition3.conv.weight",
        "features.transition1.norm.bias",
    }
    state = network.encoder.state_dict()
    assert keys <= set(state)
    head = {"features.norm5.weight": torch.ones(1024), "classifier.bias": torch.zeros(1000)}
    found = DenseNet.adapted({written(key): value for key, value in state.items()} | head)
    load_state(network.encoder, found, "torchvision")
    assert set(found) == set(state)
