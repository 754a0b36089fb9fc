"""SwiftNet in both forms: sizes as specified, skips before or after the ReLU, and the decoders recomputed by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.networks.base import NETWORKS, SegmentationNetwork
from strays.networks.encoders.resnet import SWIFTNET_NORMALIZATION
from strays.networks.swiftnet import SpatialPyramidPooling, SwiftNet, SwiftNetMobileNetV2
from strays.networks.swiftnet_pyramid import SwiftNetPyramid
from toy_networks import lived_in

Build = Callable[..., SegmentationNetwork]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def single() -> SwiftNet:
    torch.manual_seed(0)
    return lived_in(SwiftNet(classes=5))


@pytest.fixture(scope="module")
def pyramid() -> SwiftNetPyramid:
    torch.manual_seed(0)
    return lived_in(SwiftNetPyramid(classes=5))


def unit(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Batch norm, ReLU, convolution, from the tensors of a state dict."""
    gain, shift, mean, variance = (
        state[f"{name}.0.{one}"].view(1, -1, 1, 1) for one in ("weight", "bias", "running_mean", "running_var")
    )
    active = ((x - mean) / (variance + 1e-5).sqrt() * gain + shift).clamp(min=0)
    kernel = state[f"{name}.2.weight"]
    return functional.conv2d(active, kernel, state.get(f"{name}.2.bias"), padding=kernel.shape[-1] // 2)


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def averages(x: Tensor, rows: int, columns: int) -> Tensor:
    """Means over a grid of cells that overlap where it does not divide the map, in plain Python."""
    height, width = x.shape[-2:]

    def cell(row: int, column: int) -> Tensor:
        top, bottom = row * height // rows, -(-(row + 1) * height // rows)
        left, right = column * width // columns, -(-(column + 1) * width // columns)
        return x[..., top:bottom, left:right].mean((-2, -1))

    return torch.stack([torch.stack([cell(r, c) for c in range(columns)], -1) for r in range(rows)], -2)


@pytest.mark.parametrize(
    ("build", "classes", "parameters"),
    [
        (SwiftNet, 19, 11_797_071),
        (SwiftNetPyramid, 19, 12_056_275),
        (SwiftNetMobileNetV2, 11, 2_904_759),
        (SwiftNet, 20, 11_797_071 + 129),
    ],
)
def test_it_has_the_specified_number_of_parameters(build: Build, classes: int, parameters: int) -> None:
    assert sum(one.numel() for one in build(classes=classes).parameters()) == parameters


def test_they_are_registered() -> None:
    found = {name: NETWORKS[name] for name in NETWORKS if name.startswith("swiftnet")}
    assert found == {
        "swiftnet-rn18": SwiftNet,
        "swiftnet-mnv2": SwiftNetMobileNetV2,
        "swiftnet-rn18-pyramid": SwiftNetPyramid,
    }


def test_the_resnet_is_normalised_as_its_authors_do_on_0_to_255() -> None:
    image = random(1, 3, 4, 5)
    mean = torch.tensor([73.15, 82.90, 72.3], dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor([47.67, 48.49, 47.73], dtype=torch.float64).view(1, 3, 1, 1)
    torch.testing.assert_close(SWIFTNET_NORMALIZATION(image), (255 * image - mean) / std)
    assert SwiftNetPyramid.normalization == SWIFTNET_NORMALIZATION == SwiftNet().normalization


def test_the_encoder_brings_its_own_normalization() -> None:
    network = SwiftNetMobileNetV2()
    torch.testing.assert_close(network.normalization(random(1, 3, 4, 5)), 2 * random(1, 3, 4, 5) - 1)


def test_batch_norms_of_the_pooling_alone_are_slow(single: SwiftNet) -> None:
    momenta = {name: module.momentum for name, module in single.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {value for name, value in momenta.items() if name.startswith("pooling.")} == {0.005}
    assert {value for name, value in momenta.items() if not name.startswith("pooling.")} == {0.1}
    assert sum(name.startswith("pooling.") for name in momenta) == 5


@torch.no_grad()
def test_single_scale_skips_are_taken_after_the_relu(single: SwiftNet) -> None:
    skips: list[Tensor] = []
    handles = [one.register_forward_pre_hook(lambda _, given: skips.append(given[1])) for one in single.upsamplings]
    handles.append(single.pooling.register_forward_pre_hook(lambda _, given: skips.append(given[0])))
    image = random(1, 3, 64, 96)
    single(image)
    for handle in handles:
        handle.remove()
    sums = single.encoder.trunk.sums(single.normalization(image))
    assert len(skips) == 4
    for skip, total in zip(sorted(skips, key=lambda one: -one.shape[-1]), sums, strict=True):
        assert (total < 0).any()
        assert torch.equal(skip, total.clamp(min=0))


@torch.no_grad()
def test_pyramid_skips_are_taken_before_the_relu(pyramid: SwiftNetPyramid) -> None:
    given: list[Tensor] = []
    handles = [one.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])) for one in pyramid.projections]
    pyramid(random(1, 3, 64, 96))
    for handle in handles:
        handle.remove()
    assert len(given) == 3 * 4
    assert all((one < 0).any() for one in given)


@pytest.mark.parametrize(
    ("size", "grids"),
    [((9, 16), [(8, 14), (4, 7), (2, 4)]), ((8, 8), [(8, 8), (4, 4), (2, 2)]), ((20, 1), [(8, 1), (4, 1), (2, 1)])],
)
@torch.no_grad()
def test_pooling_averages_over_square_cells(size: tuple[int, int], grids: list[tuple[int, int]]) -> None:
    pooling = lived_in(SpatialPyramidPooling(6))
    x, state = random(2, 6, *size) - 0.5, pooling.state_dict()
    reduced = unit(x, state, "reduce")
    parts = [unit(averages(reduced, *grid), state, f"levels.{index}") for index, grid in enumerate(grids)]
    joined = torch.cat([reduced, *(enlarged(one, reduced) for one in parts)], 1)
    assert joined.shape[1] == 128 + 3 * 42
    torch.testing.assert_close(pooling(x), unit(joined, state, "fuse"))


@pytest.mark.parametrize("size", [(64, 96), (66, 101)])
@torch.no_grad()
def test_the_decoder_adds_projected_skips_from_coarse_to_fine(single: SwiftNet, size: tuple[int, int]) -> None:
    image, state = random(1, 3, *size), single.state_dict()
    *skips, deepest = single.encoder(single.normalization(image))
    x = single.pooling(deepest)
    for step, skip in enumerate(reversed(skips)):
        projected = unit(skip, state, f"upsamplings.{step}.bottleneck")
        x = unit(enlarged(x, projected) + projected, state, f"upsamplings.{step}.blend")
    torch.testing.assert_close(single(image), unit(x, state, "classifier"))


@pytest.mark.parametrize("size", [(64, 96), (70, 99)])
@torch.no_grad()
def test_the_pyramid_sums_equal_strides_before_each_step(pyramid: SwiftNetPyramid, size: tuple[int, int]) -> None:
    image, state = random(1, 3, *size), pyramid.state_dict()
    normalized = pyramid.normalization(image)
    bins: dict[int, list[Tensor]] = {index: [] for index in range(6)}
    for level in range(3):
        shape = [round(side / 2**level) for side in size]
        shrunk = functional.interpolate(normalized, shape, mode="bicubic", align_corners=False) if level else normalized
        for stage, total in enumerate(pyramid.trunk.sums(shrunk, level)):
            bins[level + stage].append(functional.conv2d(total, state[f"projections.{stage}.weight"]))
    assert [len(one) for one in bins.values()] == [1, 2, 3, 3, 2, 1]
    sums = [sum(enlarged(one, same[0]) for one in same) for same in bins.values()]
    x = sums[5]
    for step, total in enumerate(reversed(sums[:5])):
        x = unit(enlarged(x, total) + total, state, f"blends.{step}")
    torch.testing.assert_close(pyramid(image), unit(x, state, "classifier"))


def test_every_level_of_the_pyramid_has_its_norms_but_that_of_the_shortcut(pyramid: SwiftNetPyramid) -> None:
    norms = {name for name, module in pyramid.trunk.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {name for name in norms if name.startswith("bn1")} == {"bn1.0", "bn1.1", "bn1.2"}
    assert sum("downsample" in name for name in norms) == 3
    assert len(norms) == 3 + 3 * 2 * 8 + 3


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet-v2"])
def test_a_checkpoint_tells_its_classes_and_encoder(encoder: str) -> None:
    state = SwiftNet(7, encoder).state_dict()
    assert SwiftNet.configuration_of(state) == {"classes": 7, "encoder": encoder}


def test_a_checkpoint_of_the_pyramid_tells_its_classes() -> None:
    assert SwiftNetPyramid.configuration_of(SwiftNetPyramid(7).state_dict()) == {"classes": 7}


@torch.no_grad()
def test_taps_are_what_the_decoder_sees(single: SwiftNet, pyramid: SwiftNetPyramid) -> None:
    image = random(2, 3, 64, 96)
    features = single.predict(image, taps=single.tap_modules).features
    expected = single.encoder(single.normalization(image))
    assert [torch.equal(features[f"stage{index}"], one) for index, one in enumerate(expected, start=1)] == [True] * 4
    assert features["pooling"].shape == (2, 128, 2, 3)
    torch.testing.assert_close(single.classifier(features["decoder"]), single(image))
    found = pyramid.predict(image, taps=pyramid.tap_modules).features
    assert {name: one.shape[-1] for name, one in found.items()} == {
        "bin0": 24, "bin1": 12, "bin2": 6, "bin3": 3, "bin4": 2, "encoder": 6, "decoder": 24,
    }  # fmt: skip
    assert torch.equal(found["bin0"], found["decoder"])
    assert torch.equal(found["bin2"], found["encoder"])
    assert torch.equal(features["stage3"], features["encoder"])
