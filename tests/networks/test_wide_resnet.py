"""WiderResNet38-A2: its layers as specified, and a thin one recomputed by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.networks.encoders.wide_resnet import WIDER_RESNET_38, WideResNet, WideStage
from toy_networks import lived_in

SPECIFIED = {
    "mod2": (3, (128, 128), 1, 1, 0.0),
    "mod3": (3, (256, 256), 1, 1, 0.0),
    "mod4": (6, (512, 512), 2, 1, 0.0),
    "mod5": (3, (512, 1024), 1, 2, 0.0),
    "mod6": (1, (512, 1024, 2048), 1, 4, 0.3),
    "mod7": (1, (1024, 2048, 4096), 1, 4, 0.5),
}
"""Stage -> blocks, channels, stride of the first block, dilation, dropout: section 14.4 of the specification."""

THIN = (
    WideStage(2, (6, 6), pooled=True),
    WideStage(1, (8, 8), pooled=True),
    WideStage(2, (8, 8), stride=2),
    WideStage(1, (6, 10), dilation=2),
    WideStage(1, (4, 6, 12), dilation=4, dropout=0.3),
    WideStage(1, (6, 8, 14), dilation=4, dropout=0.5),
)


@pytest.fixture(scope="module")
def full() -> WideResNet:
    with torch.device("meta"):
        return WideResNet()


@pytest.fixture
def thin() -> WideResNet:
    torch.manual_seed(0)
    return lived_in(WideResNet(THIN))


def image(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def parameters_of_a_block(inputs: int, widths: tuple[int, ...], projected: bool) -> int:
    areas = (9, 9) if len(widths) == 2 else (1, 9, 1)
    given = (inputs, *widths)
    convolutions = sum(area * one * other for area, one, other in zip(areas, given, widths, strict=False))
    norms = 2 * sum(given[:-1])
    return convolutions + norms + projected * inputs * widths[-1]


def test_the_number_of_parameters_adds_up(full: WideResNet) -> None:
    total, inputs = 27 * 64, 64
    for blocks, widths, stride, _, _ in SPECIFIED.values():
        total += parameters_of_a_block(inputs, widths, projected=stride > 1 or inputs != widths[-1])
        inputs = widths[-1]
        total += (blocks - 1) * parameters_of_a_block(inputs, widths, projected=False)
    assert sum(one.numel() for one in full.parameters()) == total


@pytest.mark.parametrize("name", SPECIFIED)
def test_stages_are_those_of_the_specification(full: WideResNet, name: str) -> None:
    blocks, widths, stride, dilation, dropout = SPECIFIED[name]
    stage = full.get_submodule(name)
    assert [key for key, _ in stage.named_children()] == [f"block{number + 1}" for number in range(blocks)]
    for number, block in enumerate(stage):
        layers = [one for one in block.convs if isinstance(one, nn.Conv2d)]
        assert [one.out_channels for one in layers] == list(widths)
        assert [one.kernel_size[0] for one in layers] == ([3, 3] if len(widths) == 2 else [1, 3, 1])
        assert [one.dilation[0] for one in layers] == [dilation if one.kernel_size == (3, 3) else 1 for one in layers]
        assert [one.stride[0] for one in layers] == [stride if number == 0 else 1] + [1] * (len(layers) - 1)
        assert all(one.bias is None for one in layers)
        dropped = [(key, type(one), one.p) for key, one in block.convs.named_children() if key == "dropout"]
        assert dropped == ([("dropout", nn.Dropout2d, dropout)] if dropout else [])


def test_dropout_stands_in_front_of_the_last_convolution(full: WideResNet) -> None:
    names = ["conv1", "bn2", "conv2", "bn3", "dropout", "conv3"]
    assert [key for key, _ in full.mod6.block1.convs.named_children()] == names
    assert [key for key, _ in full.mod7.block1.convs.named_children()] == names


def test_only_the_first_block_of_a_stage_projects(full: WideResNet) -> None:
    projected = {key for key in full.state_dict() if "proj_conv" in key}
    assert projected == {f"{name}.block1.proj_conv.weight" for name in SPECIFIED}


def convolved(x: Tensor, state: dict[str, Tensor], name: str, stride: int = 1, dilation: int = 1) -> Tensor:
    kernel = state[f"{name}.weight"]
    dilation = dilation if kernel.shape[-1] == 3 else 1
    padding = dilation * (kernel.shape[-1] // 2)
    return functional.conv2d(x, kernel, None, stride, padding, dilation)


def active(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    gain, shift, mean, variance = (
        state[f"{name}.0.{one}"].view(1, -1, 1, 1) for one in ("weight", "bias", "running_mean", "running_var")
    )
    return ((x - mean) / (variance + 1e-5).sqrt() * gain + shift).clamp(min=0)


def by_hand(x: Tensor, state: dict[str, Tensor], name: str, stride: int, dilation: int) -> Tensor:
    """A block in evaluation."""
    seen = active(x, state, f"{name}.bn1")
    projection = f"{name}.proj_conv"
    shortcut = convolved(seen, state, projection, stride) if f"{projection}.weight" in state else x
    branch = convolved(seen, state, f"{name}.convs.conv1", stride, dilation)
    for number in (2, 3):
        if f"{name}.convs.conv{number}.weight" in state:
            branch = active(branch, state, f"{name}.convs.bn{number}")
            branch = convolved(branch, state, f"{name}.convs.conv{number}", 1, dilation)
    return shortcut + branch


@pytest.mark.parametrize("size", [(32, 48), (37, 50)])
@torch.no_grad()
def test_a_thin_one_is_what_comes_out_by_hand(thin: WideResNet, size: tuple[int, int]) -> None:
    state, seen = thin.state_dict(), {}
    x = convolved(image(*size), state, "mod1.conv1")
    for name, stage in zip(SPECIFIED, THIN, strict=True):
        x = functional.max_pool2d(x, 3, 2, 1) if name in ("mod2", "mod3") else x
        for number in range(stage.blocks):
            x = by_hand(x, state, f"{name}.block{number + 1}", stage.stride if number == 0 else 1, stage.dilation)
        seen[name] = x
    fine, deep = thin(image(*size))
    torch.testing.assert_close(fine, seen["mod2"])
    torch.testing.assert_close(deep, seen["mod7"])
    assert fine.shape == (2, 6, *(-(-side // 2) for side in size))
    assert deep.shape == (2, 14, *(-(-side // 8) for side in size))
    assert thin.channels == (6, 14)
    assert (deep < 0).any()  # no norm and no ReLU behind the last sum


@torch.no_grad()
def test_it_leaves_the_image_alone(thin: WideResNet) -> None:
    x = image(16, 16)
    thin(x)
    assert torch.equal(x, image(16, 16))


def test_whole_channels_are_dropped_in_training(thin: WideResNet) -> None:
    given: list[Tensor] = []
    thin.mod7.block1.convs.dropout.train().register_forward_hook(lambda *seen: given.append(seen[2]))
    torch.manual_seed(3)
    thin(image(64, 64))
    kept = given[0].flatten(2).abs().sum(-1) > 0
    assert not kept.all()
    assert kept.any()


def test_the_default_is_the_specified_one() -> None:
    found = {
        name: (one.blocks, one.widths, one.stride, one.dilation, one.dropout)
        for name, one in zip(WideResNet.stages, WIDER_RESNET_38, strict=True)
    }
    assert found == SPECIFIED
    assert [one.pooled for one in WIDER_RESNET_38] == [True, True, False, False, False, False]
