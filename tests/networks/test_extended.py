"""Networks with heads, a further channel and dropout added: what is added, and that nothing else changes."""

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card
from strays.errors import InputError
from strays.model import Model, ModelFacts
from strays.networks.base import NETWORKS, Configuration, Normalization, SegmentationNetwork
from strays.networks.extended import ExtendedNetwork, Extension, extend
from strays.networks.huggingface import HuggingFaceNetwork
from strays.networks.python_module import UserNetwork
from strays.taxonomy import LabelClass, Taxonomy
from tiny_transformers import BUILDERS, randomized

CLASSES = 3
FULL = Extension(outlier_head=True, extra_channel=True, auxiliary=True, dropout=0.5)
HEADS = Extension(outlier_head=True, extra_channel=True)
TRANSFORMERS = ["segformer", "upernet", "mask2former", "eomt"]
LARGE = ["swiftnet-rn18", "swiftnet-rn18-pyramid", "deeplab-v3plus", "ladder-densenet-121", "pspnet", "segmenter"]
SMALL: dict[str, Configuration] = {"segmenter": {"backbone": "ti", "image_size": 64}}
NAMES = [*(name for name in NETWORKS if name not in ("extended", "huggingface", *LARGE)), *TRANSFORMERS]


def registered(name: str) -> str:
    return "huggingface" if name in BUILDERS else name


def plain(name: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    if name in BUILDERS:
        with torch.no_grad():
            return HuggingFaceNetwork(model=randomized(BUILDERS[name]()), fit="pad")
    return NETWORKS[name](classes=CLASSES, **SMALL.get(name, {})).eval()


def extended(name: str, extension: Extension) -> ExtendedNetwork:
    network = extend(plain(name), registered(name), extension)
    assert isinstance(network, ExtendedNetwork)
    return network


def image(count: int = 1, height: int = 32, width: int = 64) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height))


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(name: str) -> ExtendedNetwork:
    """A network with everything added, for tests that leave it as it is."""
    return extended(name, FULL)


# Every network


@pytest.mark.parametrize("any_name", [*NAMES, *LARGE])
@torch.no_grad()
def test_the_network_stays_what_it_is(any_name: str) -> None:
    base = plain(any_name)
    state = {key: value.clone() for key, value in base.state_dict().items()}
    seen = image(2, 45, 61)
    before = base(seen)
    network = extend(base, registered(any_name), FULL)
    assert isinstance(network, ExtendedNetwork)
    assert network.base is base
    outputs = network.outputs(seen)
    assert outputs["logits"].shape == (2, CLASSES + 1, *before.shape[2:])
    assert torch.equal(outputs["logits"][:, :CLASSES], before)
    assert torch.equal(network(seen), outputs["logits"])
    assert list(base.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in base.state_dict().items())


@torch.no_grad()
def test_what_evaluation_gives(made: ExtendedNetwork) -> None:
    assert not made.training
    prediction = made.predict(image(), taps=["decoder"])
    assert prediction.outlier_logits.shape == (1, 2, *prediction.features["decoder"].shape[2:])
    assert made.has_outlier_head
    assert not {"auxiliary_logits", "auxiliary_outlier_logits"} & set(made.outputs(image()))
    assert torch.equal(made(image()), made(image()))


@torch.no_grad()
def test_what_training_gives(made: ExtendedNetwork) -> None:
    network = copy.deepcopy(made).train()
    outputs = network.outputs(image(2))
    _, features = network.observe(image(2), network.auxiliary_taps)
    sizes = [features[tap].shape[2:] for tap in network.auxiliary_taps]
    assert [one.shape for one in outputs["auxiliary_logits"]] == [(2, CLASSES, *size) for size in sizes]
    assert [one.shape for one in outputs["auxiliary_outlier_logits"]] == [(2, 2, *size) for size in sizes]
    assert network.predict(image(2)).logits.shape[1] == CLASSES + 1


@torch.no_grad()
def test_dropout_in_training_only_and_by_seed(made: ExtendedNetwork) -> None:
    network = copy.deepcopy(made)
    for module in network.modules():
        module.training = module in set(network.dropouts)

    def seen(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        outputs = network.outputs(image())
        return [outputs["logits"][:, :CLASSES], outputs["logits"][:, CLASSES:], outputs["outlier_logits"]]

    for first, again, other in zip(seen(0), seen(0), seen(1), strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@torch.no_grad()
def test_passes_with_dropout(made: ExtendedNetwork) -> None:
    passes = made.predict(image()).passes
    one, other = passes.sampled(0), passes.sampled(1)
    assert torch.equal(passes.sampled(0).logits, one.logits)
    assert not torch.equal(other.logits, one.logits)
    assert not torch.equal(other.outlier_logits, one.outlier_logits)


def test_every_head_and_the_network_learn(made: ExtendedNetwork) -> None:
    network = copy.deepcopy(made).train()
    outputs = network.outputs(image(2))
    terms = [outputs["logits"][:, -1], outputs["outlier_logits"], *outputs["auxiliary_logits"]]
    sum(one.square().mean() for one in terms).backward()
    added = [one for key, one in network.named_parameters() if not key.startswith("base.")]
    assert len(added) >= 3 + 4 + 4
    first = next(one for one in network.base.parameters() if one.ndim == 4)
    for parameter in (*added, first):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


@torch.no_grad()
def test_features_are_those_of_the_network(made: ExtendedNetwork) -> None:
    taps = ["encoder", "decoder"]
    _, expected = made.base.observe(image(), taps)
    _, features = made.observe(image(), (tap for tap in taps))
    assert list(features) == taps
    assert all(torch.equal(features[tap], expected[tap]) for tap in taps)
    assert set(made.tap_modules) == set(made.base.tap_modules)
    made.check_taps(taps)


def facts_of(network: ExtendedNetwork) -> ModelFacts:
    classes = tuple(LabelClass(name=f"class {index}", colour=(index, 0, 0)) for index in range(CLASSES + 1))
    return ModelFacts(
        name="made",
        network="extended",
        configuration=network.configuration,
        taxonomy=Taxonomy(name="made", classes=classes, void=CLASSES),
        mean=network.normalization.mean,
        std=network.normalization.std,
        card=Card(title="Made", summary="For tests."),
    )


@torch.no_grad()
def test_saved_and_loaded(name: str, made: ExtendedNetwork, tmp_path: Path) -> None:
    network = copy.deepcopy(made)
    network.normalization = Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    Model(network, facts_of(network)).save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model").network
    assert isinstance(loaded, ExtendedNetwork)
    assert loaded.extension == FULL
    assert loaded.configuration["network"] == registered(name)
    assert loaded.normalization == network.normalization == network.base.normalization
    expected, found = network.outputs(image()), loaded.outputs(image())
    assert torch.equal(found["logits"], expected["logits"])
    assert torch.equal(found["outlier_logits"], expected["outlier_logits"])
    assert not torch.equal(expected["logits"], made(image()))  # the normalization counts
    one, other = (each.predict(image()).passes.sampled(3) for each in (loaded, network))
    assert torch.equal(one.logits, other.logits)


@torch.no_grad()
def test_logits_of_normalized_images(made: ExtendedNetwork) -> None:
    found = made.logits(made.normalization(image(1, 45, 61)))
    torch.testing.assert_close(found, made(image(1, 45, 61)), rtol=1e-3, atol=1e-3)


# What is added


@torch.no_grad()
def test_a_head_is_batch_norm_relu_convolution() -> None:
    network = extended("enet", Extension(outlier_head=True, auxiliary=True))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    outputs, features = network.observe(image(), ["decoder", "encoder"])

    def head(module: nn.Sequential, x: Tensor) -> Tensor:
        norm, _, conv = module
        x = (x - norm.running_mean.view(1, -1, 1, 1)) / (norm.running_var.view(1, -1, 1, 1) + norm.eps).sqrt()
        x = x * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
        return torch.einsum("nchw,oc->nohw", x.relu(), conv.weight[..., 0, 0]) + conv.bias.view(1, -1, 1, 1)

    torch.testing.assert_close(outputs["outlier_logits"], head(network.outlier_head, features["decoder"]))
    network.training = True  # the network itself, none of its layers
    seen = network.outputs(image())
    both = head(network.auxiliary_heads[0], features["encoder"])
    torch.testing.assert_close(seen["auxiliary_logits"][0], both[:, :CLASSES])
    torch.testing.assert_close(seen["auxiliary_outlier_logits"][0], both[:, CLASSES:])


@torch.no_grad()
def test_the_extra_channel_is_brought_to_the_size_of_the_logits() -> None:
    network = extended("enet", Extension(extra_channel=True))
    outputs, features = network.observe(image(), ["decoder"])
    coarse = network.extra_head(features["decoder"])
    expected = functional.interpolate(coarse, size=(32, 64), mode="bilinear", align_corners=False)
    assert torch.equal(outputs["logits"][:, CLASSES:], expected)
    assert set(outputs) == {"logits"}
    assert not network.has_outlier_head


@pytest.mark.parametrize(("name", "canvas", "step"), [("mask2former", 64, 6), ("eomt", 61, 16)])
@torch.no_grad()
def test_the_extra_channel_lies_where_the_image_lies(name: str, canvas: int, step: int) -> None:
    """Transformers see padded images: features that tell the column tell it in columns of the image, 61 of them.

    EoMT sees them resized to its square, so that its canvas is as wide as the image.
    """

    def ramp(module: nn.Module, given: object, output: Tensor) -> None:
        maps = output if isinstance(output, Tensor) else output.mask_features
        across = maps.shape[-1] if maps.ndim == 4 else 4
        columns = (torch.arange(across) + 0.5) / across * canvas
        if maps.ndim == 4:
            maps.copy_(columns.expand_as(maps))
        else:  # tokens, those of the image last
            maps[:, -16:] = columns.repeat(4)[:, None]

    network = extended(name, HEADS)
    network.base._tap("decoder").register_forward_hook(ramp)
    for head in (network.extra_head, network.outlier_head):
        head[2].weight.fill_(1 / head[2].weight.shape[1])
        head[0].eps = 0.0
    network.outlier_head[2].bias.zero_()
    outputs = network.outputs(image(1, 45, 61))
    for maps in (outputs["logits"][0, -1], outputs["outlier_logits"][0, 1]):
        width = maps.shape[-1]
        expected = (torch.arange(width) + 0.5) / width * 61
        inner = (expected > step) & (expected < 61 - step)
        assert inner.sum() >= 2
        torch.testing.assert_close(maps[0][inner], expected[inner], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("extension", "added"),
    [
        (Extension(), set()),
        (Extension(outlier_head=True), {"outlier_head"}),
        (Extension(extra_channel=True), {"extra_head"}),
        (Extension(auxiliary=True), {"auxiliary_heads"}),
        (Extension(dropout=0.1), set()),
    ],
)
@torch.no_grad()
def test_only_what_is_asked_for_is_added(extension: Extension, added: set[str]) -> None:
    torch.manual_seed(0)
    network = ExtendedNetwork(CLASSES, "enet", **extension.__dict__).train()
    assert {key.partition(".")[0] for key in network.state_dict()} - {"base"} == added
    assert network.base.configuration["classes"] == CLASSES - extension.extra_channel
    outputs = network.outputs(image())
    assert outputs["logits"].shape[1] == CLASSES
    assert ("outlier_logits" in outputs) == network.has_outlier_head == extension.outlier_head
    assert ("auxiliary_logits" in outputs) == extension.auxiliary
    assert "auxiliary_outlier_logits" not in outputs
    assert len(network.dropouts) == bool(extension.dropout)


def test_a_copy_is_a_network_of_its_own() -> None:
    network = extended("enet", FULL)
    other = copy.deepcopy(network)
    other.dropouts.train()
    with torch.no_grad():
        before = network(image())
        assert not torch.equal(other(image()), other(image()))
        assert torch.equal(network(image()), before)
        for parameter in other.parameters():
            parameter.zero_()
        other.normalization = Normalization((0.5, 0.5, 0.5))
        assert torch.equal(network(image()), before)
    assert len(network.base._tap("decoder")._forward_hooks) == 1
    assert len(other.base._tap("decoder")._forward_hooks) == 1


def test_what_is_added_joins_the_network() -> None:
    base = plain("enet").double().train()
    frozen = [one for one in base.modules() if isinstance(one, nn.BatchNorm2d)][:3]
    for one in frozen:
        one.eval()
    before = {one: one.training for one in base.modules()}
    statistics = {key: value.clone() for key, value in base.state_dict().items()}
    network = extend(base, "enet", FULL)
    assert {one: one.training for one in base.modules()} == before
    assert all(torch.equal(value, statistics[key]) for key, value in base.state_dict().items())
    assert all(one.training for one in network.modules() if one not in before)
    outputs = network.outputs(image().double())
    assert outputs["logits"].dtype == outputs["outlier_logits"].dtype == torch.float64
    assert all(not one.training for one in extend(plain("enet"), "enet", FULL).modules())


def test_channels_last_and_sizes_may_change(made: ExtendedNetwork) -> None:
    with torch.no_grad():
        small = made(image())
        made(image(1, 64, 96))
        torch.testing.assert_close(made(image(1).contiguous(memory_format=torch.channels_last)), small)


# extend


def test_nothing_is_added_twice() -> None:
    base = plain("enet")
    assert extend(base, "enet", Extension()) is base
    network = extend(base, "enet", HEADS)
    assert extend(network, "extended", HEADS) is network


@pytest.mark.parametrize("extension", [Extension(), FULL, Extension(dropout=0.2)])
def test_another_extension_is_refused(extension: Extension) -> None:
    network = extend(plain("enet"), "enet", HEADS)
    message = (
        f"was extended by an outlier head and an extra channel, and {extension} is asked for: start from the plain"
    )
    with pytest.raises(InputError, match=message):
        extend(network, "extended", extension)


def test_the_number_of_classes_must_be_known() -> None:
    layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, CLASSES, 1)]
    network = UserNetwork(nn.Sequential(OrderedDict(zip(("decoder", "classifier"), layers, strict=True))))
    with pytest.raises(InputError, match="UserNetwork does not say how many classes it has: show it an image first"):
        extend(network, "python:mine", HEADS)
    assert extend(network, "python:mine", Extension()) is network
    network(image())
    assert extend(network, "python:mine", HEADS).eval()(image()).shape[1] == CLASSES + 1


@pytest.mark.parametrize("extension", [HEADS, Extension(dropout=0.5), Extension(auxiliary=True)])
def test_a_network_without_the_features_is_refused(extension: Extension) -> None:
    base = UserNetwork(nn.Sequential(nn.Conv2d(3, CLASSES, 1)))
    with pytest.raises(InputError, match=r"UserNetwork has no tap '(de|en)coder'; its taps: 0"):
        ExtendedNetwork(CLASSES, "mine", base=base, **extension.__dict__)
    assert not base.module[0]._forward_hooks


def test_a_users_module_with_these_features_may_be_extended_in_memory() -> None:
    class Mine(nn.Sequential):
        def __len__(self) -> int:  # what an empty container has must not pass for no network
            return 0

    layers: dict[str, Callable[[], nn.Module]] = {
        "encoder": lambda: nn.Conv2d(3, 8, 3, stride=4, padding=1),
        "decoder": lambda: nn.Conv2d(8, 8, 1),
        "classifier": lambda: nn.Conv2d(8, CLASSES, 1),
    }
    mine = Mine()
    for key, layer in layers.items():
        mine.add_module(key, layer())
    network = ExtendedNetwork(CLASSES + 1, "mine", base=UserNetwork(mine), **FULL.__dict__)
    outputs = network.train().outputs(image(2))
    assert outputs["logits"].shape == (2, CLASSES + 1, 8, 16)
    assert outputs["auxiliary_logits"][0].shape == (2, CLASSES, 8, 16)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 7.0])
def test_dropout_is_a_probability(dropout: float) -> None:
    with pytest.raises(InputError, match=f"dropout is {dropout}, expected a probability"):
        Extension(dropout=dropout)


def test_a_broken_description_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected the configuration of enet as JSON, got '\{broken'"):
        ExtendedNetwork(network="enet", configuration="{broken")
    with pytest.raises(InputError, match="no network is called 'enett'"):
        ExtendedNetwork(network="enett")


def test_the_configuration_is_json() -> None:
    configuration = extended("segformer", FULL).configuration
    assert json.loads(json.dumps(configuration)) == configuration
    assert json.loads(configuration["configuration"]).keys() == {"config", "normalization", "fit"}


@pytest.mark.parametrize(
    ("extension", "words"),
    [
        (Extension(), "nothing"),
        (Extension(outlier_head=True), "an outlier head"),
        (FULL, "an outlier head and an extra channel and auxiliary heads and dropout"),
    ],
)
def test_an_extension_in_words(extension: Extension, words: str) -> None:
    assert str(extension) == words
    assert bool(extension) == (words != "nothing")
