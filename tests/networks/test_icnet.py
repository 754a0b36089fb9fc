"""ICNet: its branches and fusions recomputed from the tensors alone, and what auxiliary heads read."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.networks.base import IMAGENET, NETWORKS
from strays.networks.extended import Extension, extend
from strays.networks.icnet import ICNet
from toy_networks import lived_in

CLASSES = 5
State = dict[str, Tensor]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def count(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


@pytest.fixture(scope="module")
def network() -> ICNet:
    torch.manual_seed(0)
    return lived_in(ICNet(classes=CLASSES))


@pytest.fixture(scope="module")
def state(network: ICNet) -> State:
    return network.state_dict()


def unit(x: Tensor, state: State, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
    """Convolution and batch norm from the tensors of a state dict."""
    kernel = state[f"{name}.0.weight"]
    x = functional.conv2d(x, kernel, None, stride, dilation * (kernel.shape[-1] // 2), dilation)
    gain, shift, mean, variance = (
        state[f"{name}.1.{one}"].view(1, -1, 1, 1) for one in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * gain + shift


def active(x: Tensor, state: State, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
    return unit(x, state, name, stride, dilation).clamp(min=0)


def bottleneck(x: Tensor, state: State, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
    inner = active(active(x, state, f"{name}.path.0"), state, f"{name}.path.1", stride, dilation)
    if f"{name}.shortcut.0.weight" in state:
        x = unit(x, state, f"{name}.shortcut", stride)
    return (unit(inner, state, f"{name}.path.2") + x).clamp(min=0)


def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


def half(x: Tensor) -> Tensor:
    return resized(x, tuple((side + 1) // 2 for side in x.shape[-2:]))


def means(x: Tensor, grid: int) -> Tensor:
    """Means over a grid of cells that overlap where it does not divide the map, in plain Python."""
    height, width = x.shape[-2:]

    def cell(row: int, column: int) -> Tensor:
        top, bottom = row * height // grid, -(-(row + 1) * height // grid)
        left, right = column * width // grid, -(-(column + 1) * width // grid)
        return x[..., top:bottom, left:right].mean((-2, -1))

    return torch.stack([torch.stack([cell(r, c) for c in range(grid)], -1) for r in range(grid)], -2)


def medium_by_hand(image: Tensor, state: State) -> Tensor:
    """The medium branch: half of the image through the stem, the first stage, and one block of the second."""
    x = half(image)
    for place, stride in enumerate((2, 1, 1)):
        x = active(x, state, f"encoder.medium.{place}", stride)
    x = functional.max_pool2d(x, 3, 2, 1)
    for place, stride in ((4, 1), (5, 1), (6, 1), (7, 2)):
        x = bottleneck(x, state, f"encoder.medium.{place}", stride)
    return x


def coarse_by_hand(medium: Tensor, state: State) -> Tensor:
    x = half(medium)
    for place, dilation in enumerate([1] * 3 + [2] * 6 + [4] * 3):
        x = bottleneck(x, state, f"encoder.coarse.{place}", 1, dilation)
    return x


def fused_by_hand(coarse: Tensor, fine: Tensor, state: State, name: str) -> Tensor:
    refined = unit(resized(coarse, tuple(fine.shape[-2:])), state, f"{name}.refine", dilation=2)
    return (refined + unit(fine, state, f"{name}.project")).clamp(min=0)


def test_it_is_registered_with_its_facts() -> None:
    assert NETWORKS["icnet"] is ICNet
    assert ICNet.normalization == IMAGENET
    assert ICNet.stride == 4


def test_the_unhalved_trunk_is_resnet_50_with_three_convolutions_at_the_start() -> None:
    with torch.device("meta"):
        network = ICNet(halved=False)
    resnet = 25_557_032 - (2048 * 1000 + 1000)  # torchvision's ResNet-50 without its classifier
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) + 2 * (64 + 64 + 128)
    widened = 64 * (64 + 256)  # two convolutions of the first block are given 128 channels in place of 64
    assert count(network.encoder) == resnet - (49 * 3 * 64 + 2 * 64) + stem + widened


def test_the_documented_numbers_of_parameters() -> None:
    with torch.device("meta"):
        numbers = [f"{count(ICNet(19, halved)):,}" for halved in (True, False)]
    assert all(one in ICNet.__doc__ for one in numbers)


def test_halving_halves_the_kernels_of_both_branches_on_smaller_images(network: ICNet) -> None:
    with torch.device("meta"):
        whole = ICNet(CLASSES, halved=False).encoder
    for (name, one), other in zip(network.encoder.named_parameters(), whole.parameters(), strict=True):
        assert 2 * one.shape[0] == other.shape[0], name


def test_the_two_branches_share_17_convolutions(network: ICNet) -> None:
    assert sum(isinstance(one, nn.Conv2d) for one in network.encoder.medium.modules()) == 17


@pytest.mark.parametrize("size", [(128, 192), (45, 61), (36, 52)])
@torch.no_grad()
def test_the_branches_see_the_image_at_three_sizes(network: ICNet, state: State, size: tuple[int, int]) -> None:
    image = random(1, 3, *size)
    features = network.predict(image, taps=network.tap_modules).features
    normalized = IMAGENET(image)
    medium = medium_by_hand(normalized, state)
    torch.testing.assert_close(features["medium"], medium)
    coarse = coarse_by_hand(medium, state)
    torch.testing.assert_close(features["coarse"], coarse)
    summed = coarse + sum(resized(means(coarse, grid), tuple(coarse.shape[-2:])) for grid in (1, 2, 3, 6))
    torch.testing.assert_close(features["pooling"], active(summed, state, "pooling.project"))
    fine = normalized
    for place in range(3):
        fine = active(fine, state, f"fine.{place}", 2)
    torch.testing.assert_close(features["fine"], fine)


@pytest.mark.parametrize("size", [(128, 192), (45, 61), (36, 52)])
@torch.no_grad()
def test_features_are_fused_in_cascade(network: ICNet, state: State, size: tuple[int, int]) -> None:
    prediction = network.predict(random(1, 3, *size), taps=network.tap_modules)
    features = prediction.features
    first = fused_by_hand(features["pooling"], features["medium"], state, "fusion1")
    torch.testing.assert_close(features["encoder"], first)
    second = fused_by_hand(first, features["fine"], state, "fusion2")
    torch.testing.assert_close(features["fusion2"], second)
    quarter = resized(second, tuple(-(-side // 4) for side in size))
    torch.testing.assert_close(features["decoder"], quarter)
    expected = functional.conv2d(quarter, state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(prediction.logits, expected)


@torch.no_grad()
def test_strides_and_channels_of_the_taps(network: ICNet) -> None:
    features = network.predict(random(1, 3, 128, 192), taps=network.tap_modules).features
    assert {name: (one.shape[1], 192 // one.shape[-1]) for name, one in features.items()} == {
        "coarse": (1024, 32),
        "pooling": (256, 32),
        "medium": (256, 16),
        "enlarged1": (256, 16),
        "fusion1": (128, 16),
        "encoder": (128, 16),
        "fine": (64, 8),
        "enlarged2": (128, 8),
        "fusion2": (128, 8),
        "decoder": (128, 4),
    }


@torch.no_grad()
def test_auxiliary_heads_read_what_the_fusions_have_enlarged(network: ICNet) -> None:
    features = network.predict(random(1, 3, 64, 96), taps=["pooling", "fusion1", *network.auxiliary_taps]).features
    assert network.auxiliary_taps == ("enlarged1", "enlarged2")
    torch.testing.assert_close(features["enlarged1"], resized(features["pooling"], (4, 6)))
    torch.testing.assert_close(features["enlarged2"], resized(features["fusion1"], (8, 12)))


def test_auxiliary_logits_come_in_training() -> None:
    network = extend(ICNet(3), "icnet", Extension(auxiliary=True)).train()
    outputs = network.outputs(random(2, 3, 64, 96).float())
    assert [tuple(one.shape) for one in outputs["auxiliary_logits"]] == [(2, 3, 4, 6), (2, 3, 8, 12)]


def test_every_parameter_learns_from_a_single_image() -> None:
    network = ICNet(3).train()
    functional.cross_entropy(network(random(1, 3, 64, 96).float()), torch.randint(3, (1, 16, 24))).backward()
    assert [name for name, one in network.named_parameters() if one.grad is None or not one.grad.isfinite().all()] == []


@pytest.mark.parametrize("size", [(1, 1), (3, 40)])
@torch.no_grad()
def test_any_size_will_do(network: ICNet, size: tuple[int, int]) -> None:
    logits = network(random(1, 3, *size))
    assert tuple(logits.shape[-2:]) == tuple(-(-side // 4) for side in size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("halved", [True, False])
def test_a_checkpoint_tells_its_classes_and_width(halved: bool) -> None:
    with torch.device("meta"):
        network = ICNet(7, halved)
    assert ICNet.configuration_of(network.state_dict()) == {"classes": 7, "halved": halved}
    assert ICNet.configuration_of({"classifier.weight": torch.zeros(3)}) == {}
