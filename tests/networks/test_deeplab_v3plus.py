"""DeepLabV3+: parameters counted by formula, pyramid and decoder recomputed by hand, the authors' names of weights."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.errors import InputError, WeightsError
from strays.networks.base import IMAGENET, NETWORKS, StateDict
from strays.networks.deeplab_v3plus import AtrousPyramid, DeepLabV3Plus
from strays.networks.encoders.wide_resnet import WideResNet, WideStage
from strays.networks.extended import Extension, extend
from strays.networks.weights import load_state
from toy_networks import lived_in

CLASSES = 5
BACKBONES = ["resnet50", "resnet101", "wideresnet38"]
THIN = (
    WideStage(1, (6, 6), pooled=True),
    WideStage(1, (8, 8), pooled=True),
    WideStage(1, (8, 8), stride=2),
    WideStage(1, (6, 10), dilation=2),
    WideStage(1, (4, 6, 12), dilation=4, dropout=0.3),
    WideStage(1, (6, 8, 14), dilation=4, dropout=0.5),
)
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@cache
def on_meta(classes: int = CLASSES, **configuration: str | int | bool) -> DeepLabV3Plus:
    with torch.device("meta"):
        return DeepLabV3Plus(classes, **configuration)


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small() -> DeepLabV3Plus:
    torch.manual_seed(0)
    return lived_in(DeepLabV3Plus(CLASSES)).float()


# Parameters


def bottlenecks(blocks: tuple[int, ...], deep_stem: bool) -> int:
    """Parameters of a bottleneck ResNet without its classifier."""
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) + 2 * (64 + 64 + 128) if deep_stem else 49 * 3 * 64 + 2 * 64
    total, inputs = stem, 128 if deep_stem else 64
    for width, count in zip((64, 128, 256, 512), blocks, strict=True):
        total += inputs * 4 * width + 2 * 4 * width
        for _ in range(count):
            total += inputs * width + 9 * width**2 + width * 4 * width + 2 * (width + width + 4 * width)
            inputs = 4 * width
    return total


def identity_blocks() -> int:
    """Parameters of WiderResNet38-A2 without its last norm and its classifier."""
    pairs = [(128, 128, 3), (256, 256, 3), (512, 512, 6), (512, 1024, 3)]
    total, inputs = 27 * 64, 64
    for width, outputs, count in pairs:
        total += inputs * outputs
        for _ in range(count):
            total += 9 * inputs * width + 9 * width * outputs + 2 * (inputs + width)
            inputs = outputs
    for width, middle, outputs in [(512, 1024, 2048), (1024, 2048, 4096)]:
        total += inputs * outputs + inputs * width + 9 * width * middle + middle * outputs
        total += 2 * (inputs + width + middle)
        inputs = outputs
    return total


def heads(classes: int, fine: int, coarse: int, normed: bool) -> int:
    pyramid = 256 * coarse * (1 + 1 + 3 * 9) + 5 * 2 * 256
    projections = fine * 48 + 1280 * 256 + normed * 2 * (48 + 256)
    refining = 9 * 304 * 256 + 9 * 256 * 256 + 2 * 2 * 256
    return pyramid + projections + refining + 256 * classes + normed * classes


COUNTS = {
    "resnet50": bottlenecks((3, 4, 6, 3), False) + heads(19, 256, 2048, True),
    "resnet101": bottlenecks((3, 4, 23, 3), True) + heads(19, 256, 2048, True),
    "wideresnet38": identity_blocks() + heads(19, 128, 4096, False),
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_number_of_parameters_adds_up(backbone: str) -> None:
    assert sum(one.numel() for one in on_meta(19, backbone=backbone).parameters()) == COUNTS[backbone]


def test_the_wide_one_has_the_137_million_that_are_published() -> None:
    assert COUNTS["wideresnet38"] == 137_103_936


# What it computes


class Given(nn.Module):
    """A backbone that has seen the image already."""

    def __init__(self, fine: Tensor, coarse: Tensor) -> None:
        super().__init__()
        self.features = (fine, coarse)

    def forward(self, normalized: Tensor) -> tuple[Tensor, Tensor]:
        return self.features


def stretching(old: int, new: int) -> Tensor:
    """The matrix that puts ``old`` samples on ``new`` places, the first and the last where they were."""
    places = np.linspace(0, old - 1, new)
    return torch.from_numpy(np.stack([np.interp(places, np.arange(old), one) for one in np.eye(old)], axis=1))


def stretched(x: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = (stretching(old, new) for old, new in zip(x.shape[-2:], size, strict=True))
    return torch.einsum("ih,nchw,jw->ncij", rows, x, columns)


def normed(x: Tensor, state: StateDict, name: str) -> Tensor:
    gain, shift, mean, variance = (state[f"{name}.{one}"].view(1, -1, 1, 1) for one in NORM[:4])
    return ((x - mean) / (variance + 1e-5).sqrt() * gain + shift).clamp(min=0)


def unit(x: Tensor, state: StateDict, name: str, first: int = 0, rate: int = 1) -> Tensor:
    """Convolution, batch norm and ReLU, from the tensors of a state dict."""
    kernel = state[f"{name}.{first}.weight"]
    x = functional.conv2d(x, kernel, padding=rate * (kernel.shape[-1] // 2), dilation=rate)
    return normed(x, state, f"{name}.{first + 1}")


def without_backbone(fine: Tensor, coarse: Tensor, normed_projections: bool) -> DeepLabV3Plus:
    """Pyramid and decoder in float64, fed with the features of a backbone."""
    with torch.device("meta"):
        network = DeepLabV3Plus(CLASSES, normed_projections=normed_projections)
    network.encoder = Given(fine, coarse)
    network = network.double().to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.02)
    return lived_in(network)


def pyramid_by_hand(x: Tensor, state: StateDict, rates: tuple[int, ...]) -> Tensor:
    mean = unit(x.mean((2, 3), keepdim=True), state, "img_conv").expand(-1, -1, *x.shape[-2:])
    branches = [unit(x, state, f"features.{index}", rate=rate) for index, rate in enumerate((1, *rates))]
    return torch.cat([mean, *branches], 1)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18))])
@torch.no_grad()
def test_the_pyramid_is_what_comes_out_by_hand(output_stride: int, rates: tuple[int, ...]) -> None:
    pyramid = lived_in(AtrousPyramid(3, output_stride))
    x = random(2, 3, 41, 30).double() - 0.5
    torch.testing.assert_close(pyramid(x), pyramid_by_hand(x, pyramid.state_dict(), rates))


@pytest.mark.parametrize("projections_normed", [True, False])
@torch.no_grad()
def test_the_decoder_is_what_comes_out_by_hand(projections_normed: bool) -> None:
    fine, coarse = random(1, 256, 5, 7).double(), random(1, 2048, 3, 4).double() - 0.5
    network = without_backbone(fine, coarse, projections_normed)
    state, joined = network.state_dict(), network.aspp(coarse)
    if projections_normed:
        context, skip = unit(joined, state, "bot_aspp"), unit(fine, state, "bot_fine")
    else:
        context = functional.conv2d(joined, state["bot_aspp.weight"])
        skip = functional.conv2d(fine, state["bot_fine.weight"])
    x = torch.cat([skip, stretched(context, (5, 7))], 1)
    x = unit(unit(x, state, "final", 0), state, "final", 3)
    logits = functional.conv2d(x, state["final.6.weight"], state.get("final.6.bias"))
    assert ("final.6.bias" in state) == projections_normed
    found = network(random(1, 3, 18, 27).double())
    torch.testing.assert_close(found, stretched(logits, (18, 27)))
    torch.testing.assert_close(found[..., ::17, ::26], logits[..., ::4, ::6])  # corners stay corners


@torch.no_grad()
def test_the_backbone_sees_a_normalised_image(small: DeepLabV3Plus) -> None:
    seen: list[Tensor] = []
    handle = small.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    small(random(1, 3, 32, 32))
    handle.remove()
    torch.testing.assert_close(seen[0], IMAGENET(random(1, 3, 32, 32)))
    assert IMAGENET.mean == (0.485, 0.456, 0.406)


@torch.no_grad()
def test_taps(small: DeepLabV3Plus) -> None:
    prediction = small.predict(random(2, 3, 66, 101), taps=small.tap_modules)
    assert {name: tuple(one.shape[1:]) for name, one in prediction.features.items()} == {
        "layer1": (256, 17, 26), "layer2": (512, 9, 13), "layer3": (1024, 9, 13), "layer4": (2048, 9, 13),
        "aspp": (256, 9, 13), "encoder": (256, 9, 13), "decoder": (256, 17, 26),
    }  # fmt: skip
    assert torch.equal(prediction.features["encoder"], prediction.features["aspp"])
    logits = small.final[6](prediction.features["decoder"])
    torch.testing.assert_close(prediction.logits, stretched(logits.double(), (66, 101)).float(), rtol=1e-4, atol=1e-4)


def sizes(network: DeepLabV3Plus, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Channels and sizes of all taps, computed without numbers."""
    image = torch.empty(1, 3, height, width, device="meta")
    features = network.predict(image, taps=network.tap_modules).features
    return {name: tuple(one.shape[1:]) for name, one in features.items()}


def test_output_stride_16_has_coarser_last_features() -> None:
    found = sizes(on_meta(output_stride=16), 66, 101)
    assert [found[name][1:] for name in ("layer2", "layer3", "layer4", "aspp")] == [(9, 13), (5, 7), (5, 7), (5, 7)]
    assert found["decoder"] == (256, 17, 26)


def test_taps_of_the_wide_one() -> None:
    assert sizes(on_meta(backbone="wideresnet38"), 34, 29) == {
        "mod2": (128, 17, 15), "mod3": (256, 9, 8), "mod4": (512, 5, 4), "mod5": (1024, 5, 4), "mod6": (2048, 5, 4),
        "mod7": (4096, 5, 4), "aspp": (256, 5, 4), "encoder": (256, 5, 4), "decoder": (256, 17, 15),
    }  # fmt: skip


@torch.no_grad()
def test_the_wide_one_has_dropout_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strays.networks.deeplab_v3plus.WideResNet", partial(WideResNet, THIN))
    torch.manual_seed(0)
    network = DeepLabV3Plus(CLASSES, "wideresnet38").eval()
    prediction = network.predict(random(1, 3, 34, 29))
    assert prediction.logits.shape == (1, CLASSES, 34, 29)
    one, again, other = (prediction.passes.sampled(seed).logits for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(network(random(1, 3, 34, 29)), prediction.logits)


# Training


def test_one_image_can_be_trained_on() -> None:
    pyramid = AtrousPyramid(4, 8).train()
    norm = pyramid.img_conv[1]
    before = norm.running_mean.clone()
    expected = AtrousPyramid(4, 8).eval()
    expected.load_state_dict(pyramid.state_dict())
    pooled = pyramid.img_conv(random(1, 4, 1, 1))
    torch.testing.assert_close(pooled, expected.img_conv(random(1, 4, 1, 1)))
    assert torch.equal(norm.running_mean, before)
    pyramid(random(1, 4, 6, 5)).sum().backward()
    assert pyramid.img_conv[0].weight.grad.abs().sum() > 0


@torch.no_grad()
def test_dropout_and_auxiliary_heads_are_added_where_the_papers_have_them(small: DeepLabV3Plus) -> None:
    network = extend(small, "deeplab-v3plus", Extension(auxiliary=True, dropout=0.5))
    try:
        assert network.dropout_taps == ("aspp", "decoder")
        assert network.auxiliary_taps == ("layer3",)
        assert len(network.dropouts) == 2
        passes = network.predict(random(1, 3, 32, 48)).passes
        assert not torch.equal(passes.sampled(0).logits, passes.sampled(1).logits)
        assert torch.equal(passes.sampled(0).logits, passes.sampled(0).logits)
        outputs = network.train().outputs(random(2, 3, 32, 48))
        assert [tuple(one.shape) for one in outputs["auxiliary_logits"]] == [(2, CLASSES, 4, 6)]
    finally:
        network.eval()
        small.bot_aspp._forward_hooks.clear()
        small.final[5]._forward_hooks.clear()


# Other people's weights


def nvidia_wide_names() -> set[str]:
    """The names in NVIDIA's WideResNet-38 checkpoints, ``module.`` taken off."""
    names = {"mod1.conv1.weight", "bot_fine.weight", "bot_aspp.weight", "final.0.weight", "final.3.weight"}
    names |= {"final.6.weight", *(f"final.{index}.{one}" for index in (1, 4) for one in NORM)}
    for branch in (*(f"features.{index}" for index in range(4)), "img_conv"):
        names |= {f"aspp.{branch}.0.weight", *(f"aspp.{branch}.1.{one}" for one in NORM)}
    for mod, count, convolutions in ((2, 3, 2), (3, 3, 2), (4, 6, 2), (5, 3, 2), (6, 1, 3), (7, 1, 3)):
        names.add(f"mod{mod}.block1.proj_conv.weight")
        for block in (f"mod{mod}.block{number + 1}" for number in range(count)):
            names |= {f"{block}.bn1.0.{one}" for one in NORM}
            names |= {f"{block}.convs.bn{number}.0.{one}" for number in range(2, convolutions + 1) for one in NORM}
            names |= {f"{block}.convs.conv{number}.weight" for number in range(1, convolutions + 1)}
    return names


def nvidia_wide() -> StateDict:
    own = on_meta(20, backbone="wideresnet38").state_dict()
    places = {name.removeprefix("encoder."): value for name, value in own.items()}
    return {name: places[name] for name in nvidia_wide_names()}


@pytest.mark.parametrize("prefix", ["", "branch1."], ids=["nvidia", "pebal"])
def test_the_names_of_nvidia_and_pebal(prefix: str) -> None:
    state = {prefix + name: value for name, value in nvidia_wide().items()}
    network = on_meta(**DeepLabV3Plus.configuration_of(state))
    assert network.configuration == {
        "classes": 20, "backbone": "wideresnet38", "output_stride": 8, "deep_stem": False, "normed_projections": False,
    }  # fmt: skip
    renamed = DeepLabV3Plus.renamed(state)
    assert set(renamed) == set(network.state_dict())
    load_state(network, renamed, "nvidia")


STEM = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}


def of_nvidia(name: str) -> str:
    """A name of ours in NVIDIA's networks with a ResNet."""
    first, _, rest = name.removeprefix("encoder.").partition(".")
    if name.startswith("encoder.") and first in STEM:
        return f"layer0.{STEM[first]}.{rest}"
    return f"{first}.{rest}"


def of_sml(name: str) -> str:
    """A name of ours in the networks of SML: the decoder in front of the classifier is ``final1``, that ``final2``."""
    name = of_nvidia(name)
    return name.replace("final.6.", "final2.0.").replace("final.", "final1.")


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_the_names_of_sml(backbone: str) -> None:
    source = on_meta(19, backbone=backbone)
    own = source.state_dict()
    state = {of_sml(name): value for name, value in own.items()}
    assert {"layer0.0.weight", "layer4.2.bn3.bias", "final1.4.running_var", "final2.0.bias", "bot_fine.1.bias"} <= {
        *state
    }
    assert ("layer0.7.running_mean" in state) == (backbone == "resnet101")
    state |= {"dsn.0.weight": random(1), "dsn.4.bias": random(1), "multi_scale.first_conv.weight": random(1)}
    assert on_meta(**DeepLabV3Plus.configuration_of(state)).configuration == source.configuration
    found = DeepLabV3Plus.renamed(state)
    assert list(found) == list(own)
    assert all(found[name] is value for name, value in own.items())


def test_the_names_of_nvidia_with_a_resnet() -> None:
    source = on_meta(19, backbone="resnet50", normed_projections=False)
    state = {of_nvidia(name): value for name, value in source.state_dict().items()}
    assert {"layer0.1.running_mean", "final.6.weight", "bot_fine.weight"} <= set(state)
    network = on_meta(**DeepLabV3Plus.configuration_of(state))
    assert network.configuration == source.configuration
    load_state(network, DeepLabV3Plus.renamed(state), "nvidia")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_checkpoint_of_ours_tells_its_configuration(backbone: str) -> None:
    network = on_meta(7, backbone=backbone)
    found = DeepLabV3Plus.configuration_of(network.state_dict())
    assert on_meta(**found).configuration == network.configuration
    assert list(DeepLabV3Plus.renamed(network.state_dict())) == list(network.state_dict())


def test_foreign_checkpoints_are_refused_by_name() -> None:
    assert DeepLabV3Plus.configuration_of({"classifier.2.weight": random(3, 3, 1, 1)}) == {}
    state = nvidia_wide()
    state["mod8.block1.bn1.0.weight"] = random(1)
    with pytest.raises(WeightsError, match=r"1 unexpected: mod8\.block1\.bn1\.0\.weight"):
        load_state(on_meta(20, backbone="wideresnet38"), DeepLabV3Plus.renamed(state), "file")


# Its arguments


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_goes_with_a_backbone_by_default(backbone: str) -> None:
    configuration = on_meta(backbone=backbone).configuration
    assert configuration["deep_stem"] == (backbone == "resnet101")
    assert configuration["normed_projections"] == (backbone != "wideresnet38")
    assert NETWORKS["deeplab-v3plus"] is DeepLabV3Plus


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"backbone": "xception"}, "no backbone is called 'xception'; known: resnet50, resnet101, wideresnet38"),
        ({"backbone": "wideresnet38", "output_stride": 16}, "output stride 8 and one stem only, got output_stride=16"),
        ({"backbone": "wideresnet38", "deep_stem": True}, "one stem only, got output_stride=8 and deep_stem=True"),
        ({"output_stride": 32}, "at output stride 8 or 16, got 50 and 32"),
    ],
)
def test_what_does_not_exist_is_refused(configuration: dict[str, str | int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        on_meta(**configuration)
