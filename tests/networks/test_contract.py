"""What every registered network promises; a new one is covered as soon as its file is there."""

import json
from math import ceil, floor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from strays.networks.base import NETWORKS, Configuration, SegmentationNetwork
from strays.networks.weights import load_state

CLASSES = 6
SIZES = [(32, 64), (36, 52), (45, 61)]
TINY = {
    "model_type": "segformer",
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1] * 4,
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
}
EVERYTHING = {"outlier_head": True, "extra_channel": True, "auxiliary": True, "dropout": 0.5}
SPECIAL: dict[str, Configuration] = {
    "huggingface": {"config": json.dumps(TINY)},
    "extended": {"network": "enet", **EVERYTHING},
    "segmenter": {"backbone": "ti", "image_size": 64},
}
"""Networks that are too large, or do too little, when they are built with default settings."""

PARAMETERS = {
    "enet": (20, 351_804),
    "erfnet": (20, 2_066_836),
    "espnetv2": (20, 789_242),
    "ladder-densenet-121": (19, 11_067_414 - 3_075),  # without the auxiliary heads that the specification counts
    "swiftnet-mnv2": (11, 2_904_759),
    "swiftnet-rn18": (19, 11_797_071),
    "swiftnet-rn18-pyramid": (19, 12_056_275),
}
"""Name -> classes and number of parameters, as the specification has them (section 14)."""


def build(name: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    return NETWORKS[name](classes=CLASSES, **SPECIAL.get(name, {})).eval()


@pytest.fixture(scope="module", params=list(NETWORKS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(name: str) -> SegmentationNetwork:
    return build(name)


def random(height: int, width: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_the_card_is_complete(network: SegmentationNetwork) -> None:
    card = network.card
    assert card.title
    assert card.summary.endswith(".")
    assert card.url.startswith("https://")
    assert bool(card.paper) == bool(card.year)
    assert card.year is None or 2012 <= card.year <= 2100


def test_the_docstring_names_its_arguments(network: SegmentationNetwork) -> None:
    assert "Args:\n" in (type(network).__doc__ or "")


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_has_as_many_parameters_as_the_specification_says(name: str) -> None:
    classes, parameters = PARAMETERS[name]
    assert sum(one.numel() for one in NETWORKS[name](classes=classes).parameters()) == parameters


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_logits_come_at_the_stride(network: SegmentationNetwork, size: tuple[int, int]) -> None:
    logits = network(random(*size))
    assert logits.shape[:2] == (2, CLASSES)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    for found, side in zip(logits.shape[-2:], size, strict=True):
        assert floor(side / network.stride) <= found <= ceil(side / network.stride)


@torch.no_grad()
def test_taps_are_maps_of_the_batch(network: SegmentationNetwork) -> None:
    features = network.predict(random(36, 52), taps=network.tap_modules).features
    assert set(features) == set(network.tap_modules)
    for feature in features.values():
        assert feature.ndim == 4
        assert len(feature) == 2
        assert min(feature.shape) >= 1
        assert feature.isfinite().all()


@torch.no_grad()
def test_the_image_stays_as_it_is(network: SegmentationNetwork) -> None:
    image = random(32, 64)
    network.predict(image, taps=network.tap_modules)
    assert torch.equal(image, random(32, 64))


@torch.no_grad()
def test_the_configuration_builds_it_again(name: str, network: SegmentationNetwork) -> None:
    configuration = json.loads(json.dumps(network.configuration))
    other = NETWORKS[name](**configuration)
    load_state(other, network.state_dict(), name)
    assert other.configuration == network.configuration
    assert other.stride == network.stride
    assert other.tap_modules == network.tap_modules
    assert torch.equal(other.eval()(random(32, 64)), network(random(32, 64)))


@torch.no_grad()
def test_a_checkpoint_tells_how_to_build_it(name: str, network: SegmentationNetwork) -> None:
    if name in ("huggingface", "extended"):
        pytest.skip("its checkpoints are folders that hold its configuration as well")
    state = network.state_dict()
    other = NETWORKS[name](**network.configuration_of(state))
    load_state(other, network.renamed(state), name)
    assert torch.equal(other.eval()(random(32, 64)), network(random(32, 64)))


@torch.no_grad()
def test_evaluation_is_deterministic(network: SegmentationNetwork) -> None:
    torch.manual_seed(1)
    first = network(random(32, 64))
    torch.manual_seed(2)
    assert torch.equal(network(random(32, 64)), first)


@torch.no_grad()
def test_images_of_a_batch_do_not_touch_each_other(network: SegmentationNetwork) -> None:
    image = random(32, 64)
    alone = torch.cat([network(image[:1]), network(image[1:])])
    torch.testing.assert_close(network(image), alone, rtol=1e-4, atol=1e-4)


def test_it_learns(network: SegmentationNetwork) -> None:
    """Gradients reach the first layer: the loss of every class depends on what the network sees first."""
    network.zero_grad(set_to_none=True)
    network(random(32, 64))[:, 0].mean().backward()
    first = next(iter(network.parameters()))
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.abs().max() > 0
    network.zero_grad(set_to_none=True)


@torch.no_grad()
def test_it_can_be_exported(network: SegmentationNetwork) -> None:
    image = random(32, 64, count=1)
    program = torch.export.export(network, (image,))
    torch.testing.assert_close(program.module()(image), network(image), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_it_runs_in_onnx_runtime(network: SegmentationNetwork, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    image, path = random(32, 64, count=1), tmp_path / "network.onnx"
    torch.onnx.export(network, (image,), path, dynamo=True, verbose=False, external_data=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), network(image), rtol=1e-3, atol=1e-3)
