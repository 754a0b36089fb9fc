"""Segmenter: its size, its decoders recomputed by hand, its taps, and other people's checkpoints."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf, softmax
from torch import Tensor, nn
from torch.nn import functional

from strays.errors import InputError, WeightsError
from strays.loading import load_model
from strays.networks.base import IMAGENET, NETWORKS, Configuration, Normalization, StateDict
from strays.networks.cropping import cropped_maps
from strays.networks.segmenter import LinearDecoder, MaskDecoder, Segmenter
from toy_networks import stirred

TINY: Configuration = {"classes": 5, "backbone": "ti", "image_size": 64}
Array = NDArray[np.float64]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny(**configuration: str | int | bool) -> Segmenter:
    torch.manual_seed(0)
    return stirred(Segmenter(**{**TINY, **configuration}))


@pytest.fixture(scope="module")
def linear() -> Segmenter:
    return tiny()


@pytest.fixture(scope="module")
def mask() -> Segmenter:
    return tiny(decoder="mask", distilled=True)


@pytest.mark.parametrize(
    ("backbone", "published"),
    # as torchvision (B, L) and timm (Ti, S) publish them, less the classifiers of 1000 classes
    [
        ("b", 86_567_656 - 769_000),
        ("l", 304_326_632 - 1_025_000),
        ("ti", 5_717_416 - 193_000),
        ("s", 22_050_664 - 385_000),
    ],
)
def test_encoders_have_the_published_number_of_parameters(backbone: str, published: int) -> None:
    with torch.device("meta"):
        network = Segmenter(backbone=backbone, image_size=224)
    assert sum(one.numel() for one in network.encoder.parameters()) == published


@pytest.mark.parametrize(("distilled", "decoder"), [(False, "linear"), (True, "mask")])
def test_the_default_has_as_many_parameters_as_its_layers(distilled: bool, decoder: str) -> None:
    d, k, positions = 768, 19, 48**2
    block = 2 * 2 * d + (d + 1) * 3 * d + (d + 1) * d + (d + 1) * 4 * d + (4 * d + 1) * d
    encoder = 12 * block + (3 * 16**2 + 1) * d + 2 * d + (positions + 2 * (1 + distilled)) * d
    decoders = {"linear": (d + 1) * k, "mask": 2 * block + (d + 1) * d + 2 * d**2 + 2 * d + 2 * k + k * d}
    with torch.device("meta"):
        network = Segmenter(distilled=distilled, decoder=decoder)
    assert sum(one.numel() for one in network.parameters()) == encoder + decoders[decoder]


@torch.no_grad()
def test_positions_are_resized_as_it_was_built(linear: Segmenter) -> None:
    other = tiny(interpolation="bicubic")
    square, wide = random(1, 3, 64, 64), random(1, 3, 32, 96)
    assert torch.equal(linear(square), other(square))
    assert not torch.allclose(linear(wide), other(wide), rtol=1e-3, atol=1e-3)


# Decoders and padding.


def normed(x: Array, state: Mapping[str, Array], name: str) -> Array:
    spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def projected(x: Array, state: Mapping[str, Array], name: str) -> Array:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attended(x: Array, state: Mapping[str, Array], name: str, heads: int) -> Array:
    """Attention over tokens (T, D), one head and one query after the other."""
    size = x.shape[1] // heads
    queries, keys, values = np.split(projected(x, state, f"{name}.qkv"), 3, axis=1)
    mixed = np.empty_like(x)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for token in range(len(x)):
            weights = softmax([queries[token, own] @ key / math.sqrt(size) for key in keys[:, own]])
            mixed[token, own] = sum(weight * value for weight, value in zip(weights, values[:, own], strict=True))
    return projected(mixed, state, f"{name}.proj")


def blocked(x: Array, state: Mapping[str, Array], name: str, heads: int) -> Array:
    x = x + attended(normed(x, state, f"{name}.norm1"), state, f"{name}.attn", heads)
    inner = projected(normed(x, state, f"{name}.norm2"), state, f"{name}.mlp.fc1")
    return x + projected(inner * (1 + erf(inner / math.sqrt(2))) / 2, state, f"{name}.mlp.fc2")


def class_scores(tokens: Array, state: Mapping[str, Array], heads: int) -> Array:
    """What the mask decoder says of tokens (T, D), in NumPy: one cosine for every patch and class."""
    classes = state["cls_emb"][0]
    x = np.concatenate([projected(tokens, state, "proj_dec"), classes])
    for index in range(2):
        x = blocked(x, state, f"blocks.{index}", heads)
    x = normed(x, state, "decoder_norm")
    cosines = np.empty((len(tokens), len(classes)))
    for patch, one in np.ndindex(cosines.shape):
        p, c = x[patch] @ state["proj_patch"], x[len(tokens) + one] @ state["proj_classes"]
        cosines[patch, one] = p @ c / math.sqrt((p @ p) * (c @ c))
    return normed(cosines, state, "mask_norm")


@torch.no_grad()
def test_the_mask_decoder_compares_patches_with_class_tokens() -> None:
    decoder = stirred(MaskDecoder(classes=4, width=12, heads=3))
    tokens = random(2, 6, 12) - 0.5
    state = {name: value.numpy() for name, value in decoder.state_dict().items()}
    expected = np.stack([class_scores(one, state, heads=3) for one in tokens.numpy()])
    torch.testing.assert_close(decoder(tokens), torch.from_numpy(expected))


@torch.no_grad()
def test_a_fresh_mask_decoder_gives_every_patch_mean_zero_and_variance_one() -> None:
    torch.manual_seed(0)
    logits = MaskDecoder(classes=7, width=64, heads=1).eval()(torch.randn(1, 9, 64))
    torch.testing.assert_close(logits.mean(-1), torch.zeros(1, 9), rtol=0, atol=1e-5)
    torch.testing.assert_close(logits.var(-1, correction=0), torch.ones(1, 9), rtol=0.05, atol=0)


@pytest.mark.parametrize("name", ["linear", "mask"])
@torch.no_grad()
def test_logits_lie_where_their_patches_do(name: str, request: pytest.FixtureRequest) -> None:
    network, image = request.getfixturevalue(name), random(1, 3, 32, 80)
    tokens = network.encoder(network.normalization(image))[:, network.encoder.extra_tokens :]
    expected, logits = network.decoder(tokens), network(image)
    assert logits.shape == (1, 5, 2, 5)
    for index in range(10):
        torch.testing.assert_close(logits[:, :, index // 5, index % 5], expected[:, index])


@torch.no_grad()
def test_images_are_padded_with_zeros_after_normalization_and_cropped(linear: Segmenter) -> None:
    image = random(1, 3, 36, 55)
    grey = functional.pad(image, (0, 64 - 55, 0, 48 - 36), value=0.5)  # 0 once 0.5 is subtracted
    expected = linear.predict(grey, taps=["encoder", "decoder"])
    prediction = linear.predict(image, taps=["encoder", "decoder"])
    assert prediction.logits.shape == (1, 5, 3, 4)
    torch.testing.assert_close(prediction.logits, cropped_maps(expected.logits, (36, 55), (48, 64)))
    for name, feature in prediction.features.items():
        torch.testing.assert_close(feature, cropped_maps(expected.features[name], (36, 55), (48, 64)))


@torch.no_grad()
def test_enlarged_and_cropped_as_the_authors_do_it_differs_only_by_sampling() -> None:
    """Where the padded logits are a plane, both ways give the same numbers inside: no shift, no stretching."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    plane = (2 * rows + columns)[None, None]
    theirs = functional.interpolate(plane, (96, 128), mode="bilinear")[..., :84, :119]
    ours = functional.interpolate(cropped_maps(plane, (84, 119), (96, 128)), (84, 119), mode="bilinear")
    inner = (..., slice(24, -24), slice(24, -24))
    torch.testing.assert_close(ours[inner], theirs[inner])


def test_normalization_is_that_of_the_weights() -> None:
    def normalization(**configuration: str | bool) -> Normalization:
        with torch.device("meta"):
            return Segmenter(**TINY, **configuration).normalization

    torch.testing.assert_close(normalization()(random(1, 3, 4, 4)), 2 * random(1, 3, 4, 4) - 1)
    assert normalization(distilled=True) == normalization(normalization="imagenet") == IMAGENET
    assert normalization(distilled=True, normalization="vit") == normalization()


# Taps.


@torch.no_grad()
def test_keys_are_projected_from_the_normed_input_of_a_block(linear: Segmenter) -> None:
    image, state = random(1, 3, 32, 48), linear.state_dict()
    taps = ["hidden_10", "encoder", *(f"block_11.{part}" for part in ("queries", "keys", "values"))]
    features = linear.predict(image, taps=taps).features
    given, last = features["hidden_10"].flatten(2).transpose(1, 2), "encoder.blocks.11"
    tokens = functional.layer_norm(given, (192,), state[f"{last}.norm1.weight"], state[f"{last}.norm1.bias"], 1e-5)
    for index, part in enumerate(("queries", "keys", "values")):
        rows = slice(192 * index, 192 * (index + 1))
        expected = tokens @ state[f"{last}.attn.qkv.weight"][rows].T + state[f"{last}.attn.qkv.bias"][rows]
        torch.testing.assert_close(features[f"block_11.{part}"].flatten(2).transpose(1, 2), expected)
    assert torch.equal(features["encoder"], features["block_11.keys"])


def test_every_block_is_tapped() -> None:
    with torch.device("meta"):
        taps = set(Segmenter(backbone="l").tap_modules)
    parts = ("queries", "keys", "values")
    blocks = {f"block_{index}.{part}" for index in range(24) for part in parts}
    assert taps == blocks | {f"hidden_{index}" for index in range(24)} | {"encoder", "decoder"}


@torch.no_grad()
def test_the_decoder_tap_is_what_the_last_layer_reads(linear: Segmenter, mask: Segmenter) -> None:
    image = random(2, 3, 32, 48)
    prediction = linear.predict(image, taps=["decoder"])
    head = linear.decoder.head
    logits = functional.conv2d(prediction.features["decoder"], head.weight[..., None, None], head.bias)
    torch.testing.assert_close(prediction.logits, logits)
    seen: list[Tensor] = []
    handle = mask.decoder.decoder_norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    feature = mask.predict(image, taps=["decoder"]).features["decoder"]
    handle.remove()
    assert seen[0].shape == (2, 6 + 5, 192)
    assert torch.equal(feature.flatten(2).transpose(1, 2), seen[0][:, :6])


@torch.no_grad()
def test_tokens_beside_the_patches_are_no_part_of_maps(mask: Segmenter) -> None:
    image = random(1, 3, 32, 48)
    seen: list[Tensor] = []
    handle = mask.encoder.blocks[4].register_forward_hook(lambda module, inputs, output: seen.append(output))
    feature = mask.predict(image, taps=["hidden_4"]).features["hidden_4"]
    handle.remove()
    assert seen[0].shape == (1, 2 + 6, 192)
    assert torch.equal(feature[0, :, 1, 2], seen[0][0, 2 + 5])
    assert torch.equal(feature[0, :, 0, 1], seen[0][0, 2 + 1])


# Training.


def test_deeper_blocks_are_left_out_more_often() -> None:
    encoder = Segmenter(**TINY, drop_path=0.22).encoder
    rates = [block.drop_path.rate for block in encoder.blocks]
    np.testing.assert_allclose(rates, [0.02 * index for index in range(12)], atol=1e-7)
    assert [block.drop_path.rate for block in Segmenter(**TINY, decoder="mask").decoder.blocks] == [0, 0]


@pytest.mark.parametrize("configuration", [{}, {"decoder": "mask", "distilled": True}])
def test_every_parameter_learns(configuration: Configuration) -> None:
    torch.manual_seed(0)
    network = Segmenter(**TINY, **configuration, drop_path=0.0)
    functional.cross_entropy(network(torch.rand(2, 3, 40, 64)), torch.randint(5, (2, 3, 4))).backward()
    assert [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()] == []


@torch.no_grad()
def test_the_mask_decoder_has_dropout_and_nothing_else_becomes_random(linear: Segmenter, mask: Segmenter) -> None:
    image = random(1, 3, 32, 48)
    prediction = mask.predict(image, taps=["encoder"])
    first, second = (prediction.passes.sampled(seed) for seed in (1, 2))
    assert not torch.allclose(first.logits, second.logits)
    assert torch.equal(first.features["encoder"], prediction.features["encoder"])
    with pytest.raises(InputError, match="no dropout"):
        linear.predict(image).passes.sampled(1)


@torch.no_grad()
def test_passes_with_dropout_run_the_encoder_once(mask: Segmenter) -> None:
    calls: list[int] = []
    image = random(1, 3, 32, 48)
    passes = mask.predict(image).passes
    block = mask.encoder.blocks[0].mlp.fc1
    forward = block.forward
    with replaced(block, lambda x: (calls.append(1), forward(x))[1]):
        for seed in range(4):
            passes.sampled(seed)
    assert len(calls) == 1


@contextmanager
def replaced(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


# Checkpoints.


def authors_names(decoder: str, distilled: bool) -> set[str]:
    """The names in a checkpoint of rstrudel/segmenter with a transformer of 12 blocks."""

    def both(*names: str) -> set[str]:
        return {f"{name}.{part}" for name in names for part in ("weight", "bias")}

    def blocks(prefix: str, depth: int) -> set[str]:
        parts = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        return both(*(f"{prefix}.blocks.{index}.{part}" for index in range(depth) for part in parts))

    names = {"encoder.cls_token", "encoder.pos_embed"} | blocks("encoder", 12)
    names |= both("encoder.patch_embed.proj", "encoder.norm", "encoder.head")
    if distilled:
        names |= {"encoder.dist_token"} | both("encoder.head_dist")
    if decoder == "linear":
        return names | both("decoder.head")
    names |= {"decoder.cls_emb", "decoder.proj_patch", "decoder.proj_classes"} | blocks("decoder", 2)
    return names | both("decoder.proj_dec", "decoder.decoder_norm", "decoder.mask_norm")


def checkpoint_of(network: Segmenter) -> StateDict:
    """Its weights as the authors save them: with the classifiers of ImageNet, which Segmenter does not use."""
    state = {name: value.float() for name, value in network.state_dict().items()}
    heads = ("encoder.head", "encoder.head_dist") if network.configuration["distilled"] else ("encoder.head",)
    for head in heads:
        state |= {f"{head}.weight": torch.zeros(1000, 192), f"{head}.bias": torch.zeros(1000)}
    return state


@pytest.mark.parametrize("name", ["linear", "mask"])
@torch.no_grad()
def test_checkpoints_of_the_authors_are_loaded(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    network = request.getfixturevalue(name)
    state = checkpoint_of(network)
    assert set(state) == authors_names(name, network.configuration["distilled"])
    torch.save({"model": state, "n_cls": 5, "epoch": 215}, tmp_path / "checkpoint.pth")
    loaded = load_model(f"segmenter@{tmp_path / 'checkpoint.pth'}", device="cpu").network
    assert loaded.configuration == network.configuration
    assert loaded.normalization == network.normalization
    image = random(1, 3, 48, 80)
    torch.testing.assert_close(loaded(image.float()), network(image).float(), rtol=1e-3, atol=1e-3)


def mmseg_of(state: StateDict) -> StateDict:
    """Weights of a Segmenter with a linear decoder as mmsegmentation 0.25 names them."""
    layers = {"norm1": "ln1", "norm2": "ln2", "attn.proj": "attn.attn.out_proj"}
    layers |= {"mlp.fc1": "ffn.layers.0.0", "mlp.fc2": "ffn.layers.1"}
    result = {f"backbone.{name}": state[f"encoder.{name}"] for name in ("cls_token", "dist_token", "pos_embed")}
    for part in ("weight", "bias"):
        result[f"backbone.patch_embed.projection.{part}"] = state[f"encoder.patch_embed.proj.{part}"]
        result[f"backbone.ln1.{part}"] = state[f"encoder.norm.{part}"]
        for index in range(12):
            ours, theirs = f"encoder.blocks.{index}", f"backbone.layers.{index}"
            result[f"{theirs}.attn.attn.in_proj_{part}"] = state[f"{ours}.attn.qkv.{part}"]
            result |= {f"{theirs}.{new}.{part}": state[f"{ours}.{old}.{part}"] for old, new in layers.items()}
    result["decode_head.conv_seg.weight"] = state["decoder.head.weight"][..., None, None]
    return result | {"decode_head.conv_seg.bias": state["decoder.head.bias"]}


@torch.no_grad()
def test_checkpoints_of_mmsegmentation_are_set_up_as_nearest_neighbours_need_them(
    linear: Segmenter, tmp_path: Path
) -> None:
    deit = tiny(distilled=True)
    state = {name: value.float() for name, value in deit.state_dict().items()}
    torch.save({"state_dict": mmseg_of(state)}, tmp_path / "deit.pth")
    loaded = load_model(f"segmenter@{tmp_path / 'deit.pth'}", device="cpu").network
    assert loaded.configuration == {
        **linear.configuration, "normalization": "imagenet", "interpolation": "bicubic", "eps": 1e-6,
    }  # fmt: skip
    assert loaded.normalization == IMAGENET
    found = loaded.state_dict()
    assert "encoder.dist_token" not in found
    table = state["encoder.pos_embed"]
    assert torch.equal(found["encoder.pos_embed"], torch.cat([table[:, 0:1], table[:, 2:]], 1))
    for name in found.keys() - {"encoder.pos_embed"}:
        assert torch.equal(found[name], state[name]), name


@pytest.mark.parametrize(
    "configuration",
    [
        {"decoder": "mask", "distilled": True, "classes": 12},
        {"backbone": "s", "normalization": "vit", "image_size": 96},
        {"backbone": "l", "patch_size": 32, "image_size": 512},
        {"patch_size": 8, "image_size": 480, "distilled": True},
    ],
)
def test_a_checkpoint_tells_its_configuration(configuration: Configuration) -> None:
    with torch.device("meta"):
        network = Segmenter(**{**TINY, **configuration})
    state = network.state_dict()
    with torch.device("meta"):
        assert Segmenter(**Segmenter.configuration_of(state)).configuration == network.configuration


def test_checkpoints_of_other_networks_are_refused(linear: Segmenter, tmp_path: Path) -> None:
    assert Segmenter.configuration_of(NETWORKS["enet"]().state_dict()) == {}
    assert Segmenter.configuration_of({"backbone.layers.0.ln1.weight": torch.zeros(4)}) == {}
    broken = checkpoint_of(linear)
    broken.pop("encoder.blocks.7.attn.qkv.bias")
    torch.save({"model": broken}, tmp_path / "broken.pth")
    with pytest.raises(WeightsError, match=r"1 missing: encoder\.blocks\.7\.attn\.qkv\.bias"):
        load_model(f"segmenter@{tmp_path / 'broken.pth'}", device="cpu")


# Bad input.


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"backbone": "xl"}, "backbone is 'xl', expected one of ti, s, b, l"),
        ({"decoder": "fpn"}, "decoder is 'fpn', expected one of linear, mask"),
        ({"normalization": "none"}, "normalization is 'none', expected one of vit, imagenet"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest', expected one of bilinear, bicubic"),
        ({"image_size": 100}, "image_size is 100, expected a multiple of the patch size, 16"),
        ({"image_size": 0}, "image_size is 0, expected a multiple"),
        ({"drop_path": 1.0}, "drop_path is 1.0, expected a probability"),
        ({"dropout": -0.1}, "dropout is -0.1, expected a probability"),
    ],
)
def test_bad_configurations_say_what_was_expected(configuration: Configuration, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Segmenter(**{**TINY, **configuration})


def test_it_is_registered_with_its_facts() -> None:
    assert NETWORKS["segmenter"] is Segmenter
    with torch.device("meta"):
        assert isinstance(Segmenter().decoder, LinearDecoder)
        assert Segmenter(patch_size=8).stride == 8
    assert Segmenter.card.published[0].value == 0.791
