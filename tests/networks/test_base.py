import pytest
import torch
from torch import nn

from strays.cards import Card
from strays.errors import InputError
from strays.networks.base import IMAGENET, UNIT, Normalization, SegmentationNetwork


class _Tiny(SegmentationNetwork):
    card = Card(title="Tiny", summary="One convolution after another.")
    normalization = IMAGENET
    stride = 2

    def __init__(self):
        super().__init__()
        self.configuration = {}
        self.tap_modules = {"early": "stem", "late": "head.0", "flat": "flat"}
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.head = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 1))
        self.flat = nn.Flatten()

    def logits(self, normalized):
        x = self.stem(normalized)
        self.flat(x)
        return self.head(x)


class _Outlier(_Tiny):
    def outputs(self, image):
        logits = self(image)
        return {"logits": logits[:, :3], "outlier_logits": logits[:, 3:]}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return _Tiny().eval()


@pytest.fixture
def image():
    return torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def _hooks(network):
    return sum(len(module._forward_hooks) for module in network.modules())


def test_normalization_subtracts_and_divides_per_channel(image):
    normalized = Normalization(mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.25))(image)
    for channel, (mean, std) in enumerate(((0.1, 1.0), (0.2, 0.5), (0.3, 0.25))):
        torch.testing.assert_close(normalized[:, channel], (image[:, channel] - mean) / std)


@pytest.mark.parametrize("normalization", [UNIT, IMAGENET])
def test_normalization_leaves_the_image_alone(image, normalization):
    before = image.clone()
    normalization(image).mul_(7)
    assert torch.equal(image, before)


def test_normalization_keeps_the_precision(image):
    assert IMAGENET(image.half()).dtype == torch.float16
    assert IMAGENET(image.double()).dtype == torch.float64


def test_predict_gives_logits_at_the_stride_and_the_size_of_the_image(network, image):
    prediction = network.predict(image)
    assert prediction.logits.shape == (2, 5, 4, 6)
    assert torch.equal(prediction.logits, network.logits(IMAGENET(image)))
    assert prediction.size == (8, 12)
    assert prediction.image is image
    assert prediction.void is None
    assert dict(prediction.features) == {}


def test_predict_does_not_change_the_image(network, image):
    before = image.clone()
    network.predict(image, taps=["early"])
    assert torch.equal(image, before)


def test_predict_passes_on_the_wanted_size_and_the_void_channel(network, image):
    prediction = network.predict(image, size=(100, 200), void=4)
    assert prediction.size == (100, 200)
    assert prediction.void == 4


def test_a_void_channel_that_is_none_is_refused(network, image):
    with pytest.raises(InputError, match="void channel 5 is not one of the 5 channels"):
        network.predict(image, void=5)


def test_taps_are_the_outputs_of_their_modules(network, image):
    features = network.predict(image, taps=["late", "early"]).features
    assert set(features) == {"early", "late"}
    early = network.stem(IMAGENET(image))
    assert torch.equal(features["early"], early)
    assert torch.equal(features["late"], network.head[0](early))


def test_taps_may_be_any_iterable_and_repeat(network, image):
    assert set(network.predict(image, taps=iter(["early", "early"])).features) == {"early"}
    assert set(network.predict(image, taps=frozenset({"late"})).features) == {"late"}


def test_no_hook_stays(network, image):
    network.predict(image, taps=["early", "late"])
    assert _hooks(network) == 0


def test_an_unknown_tap_names_the_known_ones_and_leaves_no_hook(network, image):
    with pytest.raises(InputError, match="_Tiny has no tap 'stem'; its taps: early, late"):
        network.predict(image, taps=["early", "stem"])
    assert _hooks(network) == 0


def test_a_failing_pass_leaves_no_hook(network):
    with pytest.raises(RuntimeError):
        network.predict(torch.rand(1, 3, 8, 12, dtype=torch.float64), taps=["early"])
    assert _hooks(network) == 0


def test_a_tap_that_is_no_feature_map_is_refused(network, image):
    with pytest.raises(InputError, match=r"tap 'flat' gives \(2, 96\), expected a feature map \(N, C, h, w\)"):
        network.predict(image, taps=["flat"])
    assert _hooks(network) == 0


@pytest.mark.parametrize("shape", [(2, 4, 8, 12), (8, 12), (2, 1, 8, 12), (1, 2, 3, 8, 12)])
def test_images_of_another_shape_are_refused(network, shape):
    with pytest.raises(InputError, match=r"expected RGB images \(N, 3, H, W\) in \[0, 1\], got"):
        network.predict(torch.rand(*shape))


def test_an_image_without_batch_dimension_gets_the_fix(network):
    with pytest.raises(InputError, match=r"got \(3, 8, 12\): add a batch dimension with image\[None\]"):
        network.predict(torch.rand(3, 8, 12))


def test_a_network_may_tell_more_than_logits(image):
    torch.manual_seed(0)
    prediction = _Outlier().eval().predict(image)
    assert prediction.logits.shape == (2, 3, 4, 6)
    assert prediction.outlier_logits.shape == (2, 2, 4, 6)


def test_defaults_of_a_network_without_checkpoints_of_others(network):
    state = network.state_dict()
    assert _Tiny.configuration_of(state) == {}
    assert _Tiny.renamed(state) is state
    assert network.taxonomy() is None
