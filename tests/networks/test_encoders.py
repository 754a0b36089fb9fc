"""Encoders against other people's implementations, and the ImageNet weights that MobileNetV2 starts from."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from strays.networks.base import IMAGENET
from strays.networks.encoders import ENCODERS, Encoder, MobileNetV2, ResNet18
from strays.networks.encoders.base import STRIDES
from strays.networks.encoders.mobilenet import _Convolution
from strays.networks.huggingface_files import import_transformers
from strays.networks.weights import load_state, read_weights

NAMES = list(ENCODERS)


def lived_in(network: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, as after a training."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
            module.weight.data.copy_(0.5 + torch.rand(module.num_features, generator=generator))
            module.bias.data.copy_(0.3 * torch.randn(module.num_features, generator=generator))
    return network.eval()


def image(height: int, width: int, count: int = 1) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def parameters_in_order(network: nn.Module) -> list[Tensor]:
    """Weights and running statistics in the order in which the network was built."""
    return [value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")]


@pytest.fixture(scope="module", params=NAMES)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[request.param]().eval()


@torch.no_grad()
def test_features_have_the_promised_channels_and_strides(encoder: Encoder) -> None:
    features = encoder(image(64, 96, count=2))
    expected = [(2, c, 64 // s, 96 // s) for c, s in zip(encoder.channels, STRIDES, strict=True)]
    assert [tuple(one.shape) for one in features] == expected


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (31, 31), (33, 47), (45, 60)])
@torch.no_grad()
def test_any_size_will_do(encoder: Encoder, size: tuple[int, int]) -> None:
    features = encoder(image(*size))
    assert all(one.isfinite().all() and min(one.shape) >= 1 for one in features)


@torch.no_grad()
def test_stages_are_the_submodules_that_give_the_features(encoder: Encoder) -> None:
    seen: dict[str, Tensor] = {}

    def keep(path: str) -> RemovableHandle:
        hook = encoder.get_submodule(path).register_forward_hook
        return hook(lambda _, __, output: seen.update({path: output}))

    handles = [keep(path) for path in encoder.stages]
    features = encoder(image(32, 64))
    for handle in handles:
        handle.remove()
    assert all(seen[path] is one for path, one in zip(encoder.stages, features, strict=True))


def test_resnet_has_the_parameters_of_resnet18_without_its_classifier() -> None:
    assert sum(one.numel() for one in ResNet18().parameters()) == 11_689_512 - (512 * 1000 + 1000)


def name_in_transformers(name: str) -> str:
    """What transformers calls a parameter of our ResNet-18."""
    places = {
        r"trunk\.(conv1|bn1)": "embedder.embedder.1",
        r"trunk\.layers\.(\d)\.(\d)\.downsample\.(\d)": r"encoder.stages.\1.layers.\2.shortcut.\3",
        r"trunk\.layers\.(\d)\.(\d)\.(conv|bn)(\d)": r"encoder.stages.\1.layers.\2.layer.\4.\3",
    }
    (found,) = [re.sub(ours, theirs, name) for ours, theirs in places.items() if re.match(ours, name)]
    kind = "convolution" if re.search(r"conv\d|downsample\.0", name) else "normalization"
    layer = re.sub(r"layer\.(\d)", lambda one: f"layer.{int(one[1]) - 1}", found)
    place = re.sub(r"\.(conv|bn|0|1)(\.0)?\.(\w+)$", r".KIND.\3", layer)
    return place.replace("embedder.1", "embedder").replace("KIND", kind)


@torch.no_grad()
def test_resnet_is_that_of_transformers() -> None:
    import_transformers()
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(layer_type="basic", depths=[2] * 4, hidden_sizes=[64, 128, 256, 512])
    theirs, ours = lived_in(ResNetModel(config)), ResNet18().eval()
    values = theirs.state_dict()
    load_state(ours, {name: values[name_in_transformers(name)] for name in ours.state_dict()}, "transformers")
    x = image(64, 96)
    expected = theirs(x, output_hidden_states=True).hidden_states[1:]
    for feature, other in zip(ours(x), expected, strict=True):
        torch.testing.assert_close(feature, other)


@torch.no_grad()
def test_the_sums_of_the_trunk_are_taken_before_the_last_relu() -> None:
    torch.manual_seed(0)
    encoder = lived_in(ResNet18())
    sums, features = encoder.trunk.sums(image(64, 64)), encoder(image(64, 64))
    for total, feature in zip(sums, features, strict=True):
        assert (total < 0).any()
        assert torch.equal(feature, total.clamp(min=0))


@torch.no_grad()
def test_mobilenet_is_that_of_transformers_with_tensorflow_padding() -> None:
    import_transformers()
    from transformers import MobileNetV2Config, MobileNetV2Model

    torch.manual_seed(0)
    config = MobileNetV2Config(tf_padding=True, layer_norm_eps=1e-3, finegrained_output=True)
    theirs, ours = lived_in(MobileNetV2Model(config, add_pooling_layer=False)), MobileNetV2().eval()
    for mine, other in zip(parameters_in_order(ours), parameters_in_order(theirs), strict=True):
        mine.copy_(other)
    x = image(64, 96)
    outputs = theirs(x, output_hidden_states=True)
    expected = [outputs.hidden_states[index] for index in (1, 4, 11)] + [outputs.last_hidden_state]
    for feature, other in zip(ours(x), expected, strict=True):
        torch.testing.assert_close(feature, other, rtol=1e-4, atol=1e-5)


def test_a_stride_of_two_pads_right_and_bottom_only() -> None:
    convolution = _Convolution(1, 1, 3, stride=2)
    nn.init.ones_(convolution.weight)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    expected = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), torch.ones(1, 1, 3, 3), stride=2)
    assert torch.equal(convolution(x), expected)
    assert expected.flatten().tolist() == [45, 39, 66, 50]


@pytest.fixture(scope="module")
def pretrained(shared: Path) -> MobileNetV2:
    path = shared / "weights/mobilenet_v2_imagenet.pth"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    state = read_weights(path)
    encoder = MobileNetV2()
    assert len(state) == 312
    assert set(state) == set(encoder.state_dict())
    load_state(encoder, {key: value.float() for key, value in state.items()}, str(path))
    return encoder.eval()


@pytest.fixture(scope="module")
def photographs(shared: Path) -> Tensor:
    paths = sorted((shared / "data/coco128_seg/images/train2017").glob("*.jpg"))[:8]
    if not paths:
        pytest.skip("the photographs of coco128_seg are not here")
    images = [
        np.asarray(Image.open(path).convert("RGB").resize((160, 160), Image.Resampling.BILINEAR)) for path in paths
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


@torch.no_grad()
def test_pretrained_features_are_those_of_relu6(pretrained: MobileNetV2, photographs: Tensor) -> None:
    features = pretrained(MobileNetV2.normalization(photographs))
    last = features[-1]
    assert all(one.isfinite().all() for one in features)
    assert last.min() == 0
    assert 3 < last.max() <= 6
    assert 0.02 < float((last > 0).float().mean()) < 0.5
    assert all((one < 0).any() for one in features[:-1])  # linear bottlenecks


@torch.no_grad()
def drift(encoder: MobileNetV2, normalized: Tensor) -> float:
    """How far the variances that its batch norms meet are from those that they expect: mean absolute log ratio."""
    found: list[float] = []

    def compare(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        ratio = (inputs[0].var((0, 2, 3)) + norm.eps) / (norm.running_var + norm.eps)
        found.append(float(ratio.log().abs().mean()))

    norms = [one for one in encoder.modules() if isinstance(one, nn.BatchNorm2d)]
    handles = [one.register_forward_pre_hook(compare) for one in norms]
    encoder(normalized)
    for handle in handles:
        handle.remove()
    assert len(found) == 52
    return float(np.mean(found))


def test_pretrained_batch_norms_meet_what_they_expect(pretrained: MobileNetV2, photographs: Tensor) -> None:
    right = drift(pretrained, MobileNetV2.normalization(photographs))
    assert right < 0.25
    assert right < drift(pretrained, photographs) - 0.05
    assert right < drift(pretrained, IMAGENET(photographs)) - 0.05
