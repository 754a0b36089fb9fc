import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from strays.errors import InputError
from strays.networks.base import IMAGENET, NETWORKS
from strays.networks.erfnet import ERFNet
from strays.networks.espnetv2 import _EESP, ESPNetV2, _at_scale, _PyramidPooling
from strays.networks.weights import load_state, read_weights

SCALES = ("2.0", "0.5")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ESPNetV2(scale=0.5).eval()


@pytest.fixture(scope="module")
def checkpoints(shared):
    paths = {scale: shared / f"weights/espnetv2_s_{scale}_city_1024x512.pth" for scale in SCALES}
    if missing := [path for path in paths.values() if not path.is_file()]:
        pytest.skip(f"{missing[0]} is not here")
    return {scale: read_weights(path) for scale, path in paths.items()}


@pytest.fixture(scope="module")
def trained(checkpoints):
    networks = {}
    for scale, state in checkpoints.items():
        networks[scale] = ESPNetV2(**ESPNetV2.configuration_of(state)).eval()
        load_state(networks[scale], ESPNetV2.renamed(state), scale)
    return networks


def _reach(module, channels):
    """How many pixels along one axis the middle of the output depends on."""
    image = torch.rand(1, channels, 33, 33, requires_grad=True)
    module(image)[..., 16, 16].sum().backward()
    return int((image.grad.abs().sum((0, 1, 2)) > 0).sum())


def test_it_is_registered_with_its_facts():
    assert NETWORKS["espnetv2"] is ESPNetV2
    assert ESPNetV2.card.title == "ESPNetv2"
    assert ESPNetV2.card.year == 2019
    assert ESPNetV2.normalization == IMAGENET
    assert ESPNetV2.stride == 1
    assert ESPNetV2(classes=7, scale=0.5).configuration == {"classes": 7, "scale": 0.5}


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (16, 16), (17, 30), (33, 47), (64, 96), (66, 129)])
def test_logits_have_the_size_of_the_image(network, size):
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 20, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("scale", "classes", "widths"),
    [
        (0.5, 20, (16, 32, 64, 128, 10)),
        (1.25, 11, (32, 80, 160, 320, 5)),
        (2.0, 150, (32, 128, 256, 512, 16)),
        (1, 1, (32, 64, 128, 256, 1)),
    ],
)
def test_taps_have_the_documented_shapes(scale, classes, widths):
    network = ESPNetV2(classes, scale).eval()
    with torch.inference_mode():
        features = network.predict(torch.rand(1, 3, 36, 61), taps=network.tap_modules).features
    half, quarter, eighth, sixteenth = (18, 31), (9, 16), (5, 8), (3, 4)
    assert {name: tuple(tap.shape) for name, tap in features.items()} == {
        "stage1": (1, widths[0], *half),
        "stage2": (1, widths[1], *quarter),
        "stage3": (1, widths[2], *eighth),
        "stage4": (1, widths[3], *sixteenth),
        "pyramid1": (1, 64, *sixteenth),
        "pyramid2": (1, 48, *eighth),
        "pyramid3": (1, 32, *quarter),
        "encoder": (1, widths[3], *sixteenth),
        "decoder": (1, widths[4], *half),
    }


def test_the_classifier_reads_the_decoder(network):
    with torch.inference_mode():
        seen = network.predict(torch.rand(1, 3, 33, 40), taps=["decoder"])
        logits = network.bu_dec_l4.merge_layer[3](seen.features["decoder"])
        logits = functional.interpolate(logits, (33, 40), mode="bilinear", align_corners=True)
    assert torch.equal(seen.logits, logits)


@pytest.mark.parametrize("scale", [0.25, 0.75, 1.3, 0, -1, float("nan"), float("inf")])
def test_a_scale_that_cannot_be_shared_out_is_refused(scale):
    with pytest.raises(InputError, match=rf"^scale is {scale}, expected 0.5, 1, or a multiple of 0.25 above"):
        ESPNetV2(scale=scale)


def test_units_are_dilated_as_far_as_their_stage_allows(network):
    units = {name: module for name, module in network.named_modules() if isinstance(module, _EESP)}
    dilations = {name: [branch.conv.dilation[0] for branch in unit.spp_dw] for name, unit in units.items()}
    far, near = [1, 2, 3, 4], [1, 1, 2, 3]
    assert dilations == {
        "base_net.level2_0.eesp": far,
        "base_net.level3_0.eesp": far,
        **{f"base_net.level3.{index}": far for index in range(3)},
        "base_net.level4_0.eesp": far,
        **{f"base_net.level4.{index}": near for index in range(7)},
    }


@pytest.mark.parametrize(("limit", "reach"), [(3, 3), (5, 5), (7, 7), (9, 9), (13, 9)])
def test_a_unit_sees_no_farther_than_its_limit(limit, reach):
    assert _reach(_EESP(16, 16, limit).eval(), channels=16) == reach


@torch.no_grad()
def test_branches_are_summed_up_one_after_the_other():
    """With 1, 2, 4, 8 as the middles of the four kernels, the branches give 1, 3, 7, 15 times their input."""
    unit = _EESP(16, 16, limit=7)
    for index, branch in enumerate(unit.spp_dw):
        branch.conv.weight.zero_()
        branch.conv.weight[..., 1, 1] = 2**index
    unit.proj_1x1, unit.br_after_cat, unit.conv_1x1_exp = (torch.nn.Identity() for _ in range(3))
    unit.stride = 2
    x = torch.rand(1, 4, 6, 6)
    torch.testing.assert_close(unit(x), torch.cat([x, 3 * x, 7 * x, 15 * x], dim=1))


def test_each_channel_of_the_pyramid_joins_its_own_five_sizes():
    pooling = _PyramidPooling(8, inner=6, outputs=4).eval()
    joined = torch.rand(1, 30, 7, 7, requires_grad=True)
    pooling.merge_layer[:3](joined)[0, 2].sum().backward()
    assert joined.grad.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == [2, 8, 14, 20, 26]


@pytest.mark.parametrize(
    ("scale", "seen"), [(2.0, (14, 80)), (1.5, (11, 60)), (1.0, (7, 40)), (0.5, (5, 20)), (0.1, (5, 5))]
)
def test_the_pyramid_sees_the_documented_sizes(scale, seen):
    sizes = []

    def look(x):
        sizes.append(tuple(x.shape[-2:]))
        return x

    x = torch.full((1, 2, 7, 40), 0.3)
    torch.testing.assert_close(_at_scale(x, look, scale), x)
    assert sizes == [seen]


def test_corners_stay_where_they_are():
    """A ramp stays a ramp when it is enlarged; its ends only do with corner on corner."""
    ramp = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    seen = []
    _at_scale(ramp, lambda x: seen.append(x) or x, 2.0)
    torch.testing.assert_close(seen[0][0, 0, 0], torch.linspace(0, 1, 16))


def test_every_parameter_that_asks_for_a_gradient_gets_one():
    network = ESPNetV2(classes=5, scale=0.5).train()
    functional.cross_entropy(network(torch.rand(2, 3, 32, 64)), torch.randint(5, (2, 32, 64))).backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert idle == [f"base_net.level{level}_0.eesp.module_act.weight" for level in (2, 3, 4)]
    assert not any(network.get_parameter(name).requires_grad for name in idle)


def test_an_exported_pyramid_is_the_same_function_at_any_size():
    """The one part whose code asks for the size; the contract exports the whole network, at one size."""
    pooling = _PyramidPooling(4, inner=3, outputs=6, last=True).eval()
    sizes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(pooling, (torch.rand(1, 4, 24, 36),), dynamic_shapes=(sizes,), strict=False).module()
    for size in [(24, 36), (17, 53)]:
        x = torch.rand(1, 4, *size)
        torch.testing.assert_close(program(x), pooling(x))


def test_the_configuration_is_read_off_a_state_dict(network):
    assert ESPNetV2.configuration_of(network.state_dict()) == {"classes": 20, "scale": 0.5}
    assert ESPNetV2.configuration_of(ESPNetV2(7, 1.25).state_dict()) == {"classes": 7, "scale": 1.25}
    assert ESPNetV2.configuration_of({"bu_dec_l4.merge_layer.3.weight": torch.zeros(3, 1, 1, 1)}) == {}
    assert ESPNetV2.configuration_of(ERFNet(3).state_dict()) == {}


def test_our_own_names_stay(network):
    assert list(ESPNetV2.renamed(network.state_dict())) == list(network.state_dict())


@pytest.mark.parametrize(("scale", "parameters"), [("2.0", 789_242), ("0.5", 80_342)])
def test_the_checkpoint_loads_and_is_all_there_is(checkpoints, trained, scale, parameters):
    state, network = checkpoints[scale], trained[scale]
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(value.numel() for name, value in state.items() if not name.endswith(buffers)) == parameters
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert network.configuration == {"classes": 20, "scale": float(scale)}
    renamed = ESPNetV2.renamed(state)
    assert len(renamed) == len(state)
    assert set(renamed) == set(network.state_dict())
    assert all(torch.equal(value, renamed[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("scale", "accuracy"), [("2.0", 0.9), ("0.5", 0.85)])
def test_the_trained_network_sees_a_street(trained, shared, scale, accuracy):
    image = sorted((shared / "data/cityscapes/leftImg8bit/val").rglob("*_leftImg8bit.png"))[0]
    name = image.name.replace("leftImg8bit", "gtFine_labelTrainIds")
    labels = Image.open(shared / "data/cityscapes/gtFine/val" / image.parent.name / name).resize((1024, 512), 0)
    pixels = np.asarray(Image.open(image).convert("RGB").resize((1024, 512), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        logits = trained[scale](torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255)
    known = np.asarray(labels) < 19
    assert (logits[0, :19].argmax(0).numpy() == np.asarray(labels))[known].mean() > accuracy
