"""PSPNet: trunk, pooling and head recomputed from the tensors alone, its taps, and checkpoints of CSAIL."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.networks.base import IMAGENET, NETWORKS
from strays.networks.pspnet import PSPNet
from strays.networks.weights import load_state
from toy_networks import lived_in

CLASSES = 5
BLOCKS = (3, 4, 6, 3)
DILATIONS = {"layer1": (1, 1), "layer2": (1, 1), "layer3": (1, 2), "layer4": (2, 4)}
"""Stage -> dilation of its first 3x3 convolution, and of all others."""
State = dict[str, Tensor]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def network() -> PSPNet:
    torch.manual_seed(0)
    return lived_in(PSPNet(classes=CLASSES))


@pytest.fixture(scope="module")
def state(network: PSPNet) -> State:
    return network.state_dict()


def normed(x: Tensor, state: State, name: str) -> Tensor:
    gain, shift, mean, variance = (
        state[f"{name}.{one}"].view(1, -1, 1, 1) for one in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * gain + shift


def unit(x: Tensor, state: State, conv: str, norm: str, stride: int = 1, dilation: int = 1) -> Tensor:
    """Convolution and batch norm from the tensors of a state dict."""
    kernel = state[f"{conv}.weight"]
    padding = dilation * (kernel.shape[-1] // 2)
    return normed(functional.conv2d(x, kernel, None, stride, padding, dilation), state, norm)


def bottleneck(x: Tensor, state: State, name: str, stride: int, dilation: int) -> Tensor:
    inner = unit(x, state, f"{name}.conv1", f"{name}.bn1").clamp(min=0)
    inner = unit(inner, state, f"{name}.conv2", f"{name}.bn2", stride, dilation).clamp(min=0)
    inner = unit(inner, state, f"{name}.conv3", f"{name}.bn3")
    if f"{name}.downsample.0.weight" in state:
        x = unit(x, state, f"{name}.downsample.0", f"{name}.downsample.1", stride)
    return (inner + x).clamp(min=0)


def trunk_by_hand(x: Tensor, state: State) -> list[Tensor]:
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = unit(x, state, f"encoder.conv{number}", f"encoder.bn{number}", stride).clamp(min=0)
    x, stages = functional.max_pool2d(x, 3, 2, 1), []
    for (layer, (first, others)), blocks in zip(DILATIONS.items(), BLOCKS, strict=True):
        for block in range(blocks):
            stride = 2 if layer == "layer2" and block == 0 else 1
            x = bottleneck(x, state, f"encoder.{layer}.{block}", stride, first if block == 0 else others)
        stages.append(x)
    return stages


def cells(x: Tensor, grid: int) -> Tensor:
    """Means over a grid of cells that overlap where it does not divide the map, in plain Python."""
    height, width = x.shape[-2:]

    def cell(row: int, column: int) -> Tensor:
        top, bottom = row * height // grid, -(-(row + 1) * height // grid)
        left, right = column * width // grid, -(-(column + 1) * width // grid)
        return x[..., top:bottom, left:right].mean((-2, -1))

    return torch.stack([torch.stack([cell(r, c) for c in range(grid)], -1) for r in range(grid)], -2)


def pooled_by_hand(x: Tensor, state: State) -> Tensor:
    parts = [x]
    for level, grid in enumerate((1, 2, 3, 6)):
        part = unit(cells(x, grid), state, f"decoder.ppm.{level}.1", f"decoder.ppm.{level}.2").clamp(min=0)
        parts.append(functional.interpolate(part, tuple(x.shape[-2:]), mode="bilinear", align_corners=False))
    return torch.cat(parts, 1)


def count(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def test_it_is_registered_with_its_facts() -> None:
    assert NETWORKS["pspnet"] is PSPNet
    assert PSPNet.normalization == IMAGENET
    assert PSPNet.stride == 8


def test_it_has_the_parameters_of_its_parts(network: PSPNet) -> None:
    resnet = 25_557_032 - (2048 * 1000 + 1000)  # torchvision's ResNet-50 without its classifier
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) + 2 * (64 + 64 + 128)
    widened = 64 * (64 + 256)  # two convolutions of the first block are given 128 channels in place of 64
    assert count(network.encoder) == resnet - (49 * 3 * 64 + 2 * 64) + stem + widened
    pooling = 4 * (2048 * 512 + 2 * 512)
    assert count(network.decoder) == pooling + 9 * 4096 * 512 + 2 * 512 + (512 + 1) * CLASSES


@pytest.mark.parametrize("size", [(64, 96), (45, 61)])
@torch.no_grad()
def test_the_trunk_is_dilated_as_in_csail(network: PSPNet, state: State, size: tuple[int, int]) -> None:
    image = random(1, 3, *size)
    names = [f"stage{number}" for number in range(1, 5)]
    features = network.predict(image, taps=names).features
    for name, expected in zip(names, trunk_by_hand(IMAGENET(image), state), strict=True):
        torch.testing.assert_close(features[name], expected)


@pytest.mark.parametrize("size", [(64, 96), (45, 61)])
@torch.no_grad()
def test_taps_and_logits_are_what_the_detectors_take_them_for(
    network: PSPNet, state: State, size: tuple[int, int]
) -> None:
    prediction = network.predict(random(1, 3, *size), taps=network.tap_modules)
    features = prediction.features
    x = features["encoder"]
    pooled = pooled_by_hand(x, state)
    assert pooled.shape[1] == 4096
    torch.testing.assert_close(features["pooling"], pooled)
    fused = unit(pooled, state, "decoder.conv_last.0", "decoder.conv_last.1")
    assert (fused < 0).any()
    torch.testing.assert_close(features["fused"], fused)
    torch.testing.assert_close(features["decoder"], fused.clamp(min=0))
    kernel, bias = state["decoder.conv_last.4.weight"], state["decoder.conv_last.4.bias"]
    torch.testing.assert_close(prediction.logits, functional.conv2d(fused.clamp(min=0), kernel, bias))


def test_dropout_stands_before_the_classifier_alone(network: PSPNet) -> None:
    found = {name: one.p for name, one in network.named_modules() if isinstance(one, nn.Dropout2d)}
    assert found == {"decoder.conv_last.3": 0.1}


@torch.no_grad()
def test_auxiliary_heads_read_the_third_stage(network: PSPNet) -> None:
    _, features = network.observe(random(1, 3, 32, 64), network.auxiliary_taps)
    assert network.auxiliary_taps == ("stage3",)
    assert tuple(features["stage3"].shape) == (1, 1024, 4, 8)


CSAIL = {
    "conv1.weight": (64, 3, 3, 3),
    "conv3.weight": (128, 64, 3, 3),
    "bn3.running_var": (128,),
    "layer1.0.conv1.weight": (64, 128, 1, 1),
    "layer1.0.downsample.1.weight": (256,),
    "layer3.5.bn2.bias": (256,),
    "layer4.2.conv3.weight": (2048, 512, 1, 1),
    "ppm.3.1.weight": (512, 2048, 1, 1),
    "ppm.0.2.running_mean": (512,),
    "conv_last.0.weight": (512, 4096, 3, 3),
    "conv_last.1.weight": (512,),
    "conv_last.4.bias": (CLASSES,),
}
"""Some keys of the two files of a CSAIL checkpoint, with their shapes."""
TRAINING_ALONE = {
    "cbr_deepsup.0.weight": (1024, 1024, 3, 3),
    "conv_last_deepsup.weight": (CLASSES, 1024, 1, 1),
    "fc.weight": (1000, 2048),
}


def halves(state: State) -> State:
    """A checkpoint of two files in one, as CSAIL would have written this network."""
    plain = {key.split(".", 1)[1]: value for key, value in state.items()}
    return plain | {key: torch.zeros(1).expand(shape) for key, shape in TRAINING_ALONE.items()}


@pytest.mark.parametrize("whole", [False, True])
def test_a_checkpoint_of_csail_loads(network: PSPNet, state: State, whole: bool) -> None:
    given = halves(state)
    assert {key: tuple(given[key].shape) for key in CSAIL} == CSAIL
    if whole:  # as the module of both halves is saved
        decoder = ("ppm.", "cbr_deepsup.", "conv_last")
        given = {f"{'decoder' if key.startswith(decoder) else 'encoder'}.{key}": one for key, one in given.items()}
    assert PSPNet.configuration_of(given) == {"classes": CLASSES}
    found = PSPNet.renamed(given)
    load_state(network, found, "CSAIL")
    assert set(found) == set(state)


def test_another_networks_checkpoint_tells_nothing() -> None:
    assert PSPNet.configuration_of({"head.weight": torch.zeros(3)}) == {}
    assert PSPNet.configuration_of({"conv_last.4.weight": torch.zeros(3)}) == {}
