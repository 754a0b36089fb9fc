import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from strays.networks.base import NETWORKS, UNIT
from strays.networks.erfnet import ERFNet
from strays.networks.weights import load_state, read_weights
from toy_networks import lived_in


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ERFNet().eval()


@pytest.fixture(scope="module")
def trained(shared):
    path = shared / "weights/erfnet_cityscapes_void_bnfolded.pth"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    state = read_weights(path)
    network = ERFNet(**ERFNet.configuration_of(state))
    load_state(network, ERFNet.renamed(state), str(path))
    return network.eval()


def _folded(state):
    folded = {name: value.clone() for name, value in state.items() if "output_conv" not in name or "decoder" in name}
    for block in {name.rsplit(".", 2)[0] for name in state if ".bn1." in name}:
        for number in (1, 2):
            names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            gain, shift, mean, variance, _ = (folded.pop(f"{block}.bn{number}.{name}") for name in names)
            scale = gain / (variance + 0.001) ** 0.5
            convolution = f"{block}.conv1x3_{number}"
            folded[f"{convolution}.weight"] = folded[f"{convolution}.weight"] * scale[:, None, None, None]
            folded[f"{convolution}.bias"] = (folded[f"{convolution}.bias"] - mean) * scale + shift
    return folded


def test_it_is_registered_with_its_facts():
    assert NETWORKS["erfnet"] is ERFNet
    assert ERFNet.card.title == "ERFNet"
    assert ERFNet.card.year == 2018
    assert ERFNet.normalization == UNIT
    assert ERFNet.stride == 1
    assert ERFNet(classes=7, folded=True).configuration == {"classes": 7, "folded": True}


@pytest.mark.parametrize(
    ("classes", "folded", "parameters"),
    [
        (20, False, 2_066_836),
        (19, False, 2_066_836 - 129 - 65),
        # without the 17 batch norms of two parameters per channel, twice per block, and without the encoder's head
        (20, True, 2_066_836 - 4 * (5 * 64 + 8 * 128 + 2 * 64 + 2 * 16) - 129 * 20),
    ],
)
def test_it_has_the_specified_number_of_parameters(classes, folded, parameters):
    assert sum(parameter.numel() for parameter in ERFNet(classes, folded).parameters()) == parameters


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (17, 30), (33, 47), (64, 96), (66, 129)])
def test_logits_have_the_size_of_the_image(network, size):
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 20, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_multiples_of_eight_are_not_touched(network):
    image = torch.rand(1, 3, 24, 40)
    with torch.inference_mode():
        assert torch.equal(network(image), network.decoder(network.encoder(image)))


def test_other_sizes_are_continued_by_their_last_row_and_column(network):
    image = torch.rand(1, 3, 22, 37)
    rows, columns = torch.arange(24).clamp(max=21), torch.arange(40).clamp(max=36)
    with torch.inference_mode():
        assert torch.equal(network(image), network(image[:, :, rows][..., columns])[..., :22, :37])


def test_taps_have_the_documented_shapes(network):
    with torch.inference_mode():
        features = network.predict(torch.rand(1, 3, 60, 96), taps=network.tap_modules).features
    assert {name: tuple(tap.shape) for name, tap in features.items()} == {
        "initial": (1, 16, 30, 48),
        "stage1": (1, 64, 15, 24),
        "stage2": (1, 128, 8, 12),
        "stage3": (1, 64, 15, 24),
        "stage4": (1, 16, 30, 48),
        "encoder": (1, 128, 8, 12),
        "decoder": (1, 16, 30, 48),
    }


def test_dilations_grow_twice_in_the_encoder(network):
    blocks = [block for block in network.encoder.layers if hasattr(block, "conv3x1_2")]
    assert [block.conv3x1_2.dilation for block in blocks] == [(1, 1)] * 5 + [(2, 1), (4, 1), (8, 1), (16, 1)] * 2
    assert [block.conv1x3_2.dilation[1] for block in blocks] == [1] * 5 + [2, 4, 8, 16] * 2
    assert [block.dropout.p for block in blocks] == [0.03] * 5 + [0.3] * 8


def test_every_batch_norm_has_its_epsilon(network):
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 5 + 2 * 17
    assert {norm.eps for norm in norms} == {0.001}


def test_folding_the_batch_norms_changes_nothing():
    torch.manual_seed(1)
    whole = lived_in(ERFNet(classes=6))
    state = _folded(whole.state_dict())
    assert ERFNet.configuration_of(state) == {"classes": 6, "folded": True}
    folded = ERFNet(classes=6, folded=True).double().eval()
    load_state(folded, state, "the folded weights")
    image = torch.rand(1, 3, 40, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected, result = whole(image), folded(image)
    assert expected.std() > 1e-3
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("folded", [False, True])
def test_every_parameter_that_asks_for_a_gradient_gets_one(folded):
    network = ERFNet(classes=5, folded=folded).train()
    functional.cross_entropy(network(torch.rand(2, 3, 32, 64)), torch.randint(5, (2, 32, 64))).backward()
    learning = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in learning.items() if parameter.grad is None] == []
    assert len(learning) == len(list(network.parameters())) - 2 * (not folded)


def test_the_exported_program_is_the_same_function(network):
    image = torch.rand(1, 3, 64, 96)
    program = torch.export.export(network, (image,), strict=False)
    assert torch.equal(program.module()(image), network(image))


@pytest.mark.parametrize("folded", [False, True])
def test_the_configuration_is_read_off_a_state_dict(folded):
    state = ERFNet(classes=7, folded=folded).state_dict()
    assert ERFNet.configuration_of(state) == {"classes": 7, "folded": folded}
    assert ERFNet.configuration_of({"decoder.output_conv.weight": torch.zeros(3)}) == {}
    assert ERFNet.configuration_of({"head.weight": torch.zeros(3)}) == {}


def test_the_keys_of_the_authors_checkpoints_are_ours(network):
    keys = set(network.state_dict())
    assert {
        "encoder.initial_block.conv.weight",
        "encoder.layers.1.bn2.running_var",
        "encoder.layers.14.conv1x3_2.bias",
        "encoder.output_conv.bias",
        "decoder.layers.3.bn.weight",
        "decoder.output_conv.weight",
    } <= keys
    assert {key.split(".")[0] for key in keys} == {"encoder", "decoder"}


def test_the_folded_checkpoint_loads_and_is_all_there_is(trained, shared):
    state = read_weights(shared / "weights/erfnet_cityscapes_void_bnfolded.pth")
    assert trained.configuration == {"classes": 20, "folded": True}
    assert set(state) == set(trained.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in trained.state_dict().items())


def test_the_trained_network_sees_a_street(trained, shared):
    image = sorted((shared / "data/cityscapes/leftImg8bit/val").rglob("*_leftImg8bit.png"))[0]
    name = image.name.replace("leftImg8bit", "gtFine_labelTrainIds")
    labels = Image.open(shared / "data/cityscapes/gtFine/val" / image.parent.name / name).resize((1024, 512), 0)
    pixels = np.asarray(Image.open(image).convert("RGB").resize((1024, 512), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        logits = trained(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255)
    known = np.asarray(labels) < 19
    assert (logits[0, :19].argmax(0).numpy() == np.asarray(labels))[known].mean() > 0.9
