import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from strays.errors import WeightsError
from strays.networks.base import NETWORKS, UNIT
from strays.networks.enet import ENet, _unpooled
from strays.networks.erfnet import ERFNet
from strays.networks.weights import load_state, read_weights


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ENet().eval()


@pytest.fixture(scope="module")
def trained(shared):
    path = shared / "weights/enet_cityscapes_void.pth"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    state = read_weights(path)
    network = ENet(**ENet.configuration_of(state))
    load_state(network, ENet.renamed(state), str(path))
    return network.eval()


def test_it_is_registered_with_its_facts():
    assert NETWORKS["enet"] is ENet
    assert ENet.card.title == "ENet"
    assert ENet.card.year == 2016
    assert ENet.normalization == UNIT
    assert ENet.stride == 1
    assert ENet(classes=7).configuration == {"classes": 7}


@pytest.mark.parametrize(("classes", "parameters"), [(20, 351_804), (19, 351_804 - 16 * 9)])
def test_it_has_the_specified_number_of_parameters(classes, parameters):
    assert sum(parameter.numel() for parameter in ENet(classes).parameters()) == parameters


@pytest.mark.parametrize("size", [(7, 7), (16, 16), (17, 30), (33, 47), (64, 96), (66, 129)])
def test_logits_have_the_size_of_the_image(network, size):
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 20, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_taps_have_the_documented_shapes(network):
    with torch.inference_mode():
        features = network.predict(torch.rand(1, 3, 64, 96), taps=network.tap_modules).features
    assert {name: tuple(tap.shape) for name, tap in features.items()} == {
        "initial": (1, 16, 32, 48),
        "stage1": (1, 64, 16, 24),
        "stage2": (1, 128, 8, 12),
        "stage3": (1, 128, 8, 12),
        "stage4": (1, 64, 16, 24),
        "stage5": (1, 16, 32, 48),
        "encoder": (1, 128, 8, 12),
        "decoder": (1, 16, 32, 48),
    }


def test_tapped_features_lead_to_the_logits(network):
    with torch.inference_mode():
        seen = network.predict(torch.rand(1, 3, 33, 40), taps=["stage5"])
        logits = network.transposed_conv(seen.features["stage5"], output_size=(33, 40))
    assert torch.equal(seen.logits, logits)


@pytest.mark.parametrize("size", [(8, 12), (9, 13)])
def test_unpooling_is_the_inverse_of_pooling(size):
    pooled, places = functional.max_pool2d(torch.randn(2, 3, *size), 2, return_indices=True)
    expected = functional.max_unpool2d(pooled, places, 2, output_size=size)
    assert torch.equal(_unpooled(pooled, places, size), expected)


def test_context_grows_in_both_stages(network):
    blocks = dict(network.named_children())
    dilations = [block.ext_conv2[0].dilation for name, block in blocks.items() if name.startswith("dilated")]
    kernels = [block.ext_conv2[0].kernel_size for name, block in blocks.items() if name.startswith("asymmetric")]
    assert dilations == [(2, 2), (4, 4), (8, 8), (16, 16)] * 2
    assert kernels == [(5, 1)] * 4


def test_every_parameter_learns():
    network = ENet(classes=5).train()
    functional.cross_entropy(network(torch.rand(2, 3, 32, 64)), torch.randint(5, (2, 32, 64))).backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert idle == []


def test_the_exported_program_is_the_same_function(network):
    image = torch.rand(1, 3, 64, 96)
    program = torch.export.export(network, (image,), strict=False)
    assert torch.equal(program.module()(image), network(image))


def test_the_configuration_is_read_off_a_state_dict():
    assert ENet.configuration_of(ENet(classes=7).state_dict()) == {"classes": 7}
    assert ENet.configuration_of({"transposed_conv.weight": torch.zeros(3)}) == {}
    assert ENet.configuration_of({"head.weight": torch.zeros(3)}) == {}


def test_the_checkpoint_loads_and_is_all_there_is(trained, shared):
    state = read_weights(shared / "weights/enet_cityscapes_void.pth")
    assert trained.configuration == {"classes": 20}
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


def test_the_weights_of_another_network_are_refused_by_name():
    other = ERFNet(classes=3).state_dict()
    with pytest.raises(WeightsError) as caught:
        load_state(ENet(**ENet.configuration_of(other)), ENet.renamed(other), "erfnet.pth")
    message = str(caught.value)
    assert message.startswith("erfnet.pth holds the weights of another network than ENet")
    assert "missing: initial_block.main_branch.weight, initial_block.batch_norm.weight" in message
    assert "unexpected: encoder.initial_block.conv.weight, encoder.initial_block.conv.bias" in message
