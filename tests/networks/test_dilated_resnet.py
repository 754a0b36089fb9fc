"""Dilated ResNets against that of transformers with its strides taken out, and against published numbers."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from strays.errors import InputError
from strays.networks.encoders.dilated_resnet import DilatedResNet
from strays.networks.huggingface_files import import_transformers
from strays.networks.weights import load_state
from toy_networks import image, lived_in

CLASSIFIER = 2048 * 1000 + 1000
TORCHVISION = {50: 25_557_032, 101: 44_549_160}
"""Depth -> parameters that torchvision states, with the classifier for ImageNet."""

DILATIONS = {8: {"layer3": 2, "layer4": 4}, 16: {"layer4": 2}}


def on_meta(*arguments: int | bool) -> DilatedResNet:
    with torch.device("meta"):
        return DilatedResNet(*arguments)


@pytest.mark.parametrize("depth", TORCHVISION)
def test_it_has_the_parameters_that_torchvision_states(depth: int) -> None:
    count = sum(one.numel() for one in on_meta(depth).parameters())
    assert count == TORCHVISION[depth] - CLASSIFIER


def test_the_deep_stem_is_three_convolutions_and_a_wider_input_of_the_first_stage() -> None:
    plain, deep = (sum(one.numel() for one in on_meta(101, 8, stem).parameters()) for stem in (False, True))
    convolutions = 9 * (3 * 64 + 64 * 64 + 64 * 128) - 49 * 3 * 64
    norms = 2 * (64 + 128)
    first_block = (128 - 64) * (64 + 256)
    assert deep - plain == convolutions + norms + first_block


def test_parameters_have_the_names_of_torchvision() -> None:
    names = set(on_meta(50).state_dict())
    assert len(names) == 320 - 2
    assert names >= {
        "conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias",
        "layer2.3.conv2.weight", "layer3.5.bn3.num_batches_tracked", "layer4.2.conv3.weight",
    }  # fmt: skip
    assert "layer1.1.downsample.0.weight" not in names
    assert {"conv3.weight", "bn3.bias", "layer3.22.conv2.weight"} <= set(on_meta(101, 8, True).state_dict())


@pytest.mark.parametrize("output_stride", DILATIONS)
@pytest.mark.parametrize("depth", TORCHVISION)
def test_every_3x3_of_a_dilated_stage_is_dilated(depth: int, output_stride: int) -> None:
    network = on_meta(depth, output_stride)
    for name in network.stages:
        expected = DILATIONS[output_stride].get(name, 1)
        convolutions = [one for one in network.get_submodule(name).modules() if isinstance(one, nn.Conv2d)]
        assert {one.dilation for one in convolutions if one.kernel_size == (3, 3)} == {(expected, expected)}
        if expected > 1:
            assert {one.stride for one in convolutions} == {(1, 1)}


def name_in_transformers(name: str) -> str:
    """What transformers calls a parameter that torchvision calls ``name``."""
    name = re.sub(r"^(conv|bn)1\.", r"embedder.embedder.\1.", name)
    name = re.sub(r"downsample\.0", "shortcut.conv", name)
    name = re.sub(r"downsample\.1", "shortcut.bn", name)
    name = re.sub(r"\.(conv|bn)(\d)\.", lambda one: f".layer.{int(one[2]) - 1}.{one[1]}.", name)
    name = re.sub(r"^layer(\d)\.(\d+)", lambda one: f"encoder.stages.{int(one[1]) - 1}.layers.{one[2]}", name)
    return name.replace(".conv.", ".convolution.").replace(".bn.", ".normalization.")


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    import_transformers()
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    with torch.no_grad():
        return lived_in(ResNetModel(ResNetConfig(layer_type="bottleneck", depths=[3, 4, 6, 3])))


def dilate(stage: nn.Module, dilation: int) -> None:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)


@torch.no_grad()
def test_it_is_that_of_transformers_without_its_last_strides(theirs: nn.Module) -> None:
    values = theirs.state_dict()
    for output_stride in (16, 8):
        ours = DilatedResNet(50, output_stride).double().eval()
        load_state(ours, {name: values[name_in_transformers(name)] for name in ours.state_dict()}, "transformers")
        for name, dilation in DILATIONS[output_stride].items():
            dilate(theirs.encoder.stages[int(name[-1]) - 1], dilation)
        x = image(50, 67, 1)
        expected = theirs(x, output_hidden_states=True).hidden_states
        fine, deep = ours(x)
        assert deep.shape == (1, 2048, -(-50 // output_stride), -(-67 // output_stride))
        torch.testing.assert_close(fine, expected[1])
        torch.testing.assert_close(deep, expected[4])


@torch.no_grad()
def test_the_deep_stem_halves_the_image_in_its_first_convolution() -> None:
    torch.manual_seed(0)
    network = lived_in(DilatedResNet(50, 8, deep_stem=True))
    state = network.state_dict()
    x = image(20, 31, 1)
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = functional.conv2d(x, state[f"conv{number}.weight"], stride=stride, padding=1)
        norm = [state[f"bn{number}.{one}"] for one in ("running_mean", "running_var", "weight", "bias")]
        x = functional.batch_norm(x, *norm).clamp(min=0)
    pooled = functional.max_pool2d(x, 3, 2, 1)
    assert pooled.shape == (1, 128, 5, 8)
    torch.testing.assert_close(network(image(20, 31, 1))[0], network.layer1(pooled))


@pytest.mark.parametrize("arguments", [(18,), (50, 32), (101, 4)])
def test_other_depths_and_strides_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="depth 50 or 101 at output stride 8 or 16, got"):
        DilatedResNet(*arguments)
