"""The vision transformer against that of transformers, its positions and its dropping of branches by hand."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from strays.networks.base import StateDict
from strays.networks.encoders.vision_transformer import Block, VisionTransformer, resized_positions
from strays.networks.huggingface_files import import_transformers
from toy_networks import stirred

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_transformers()

from transformers import DeiTConfig, DeiTModel, ViTConfig, ViTModel

WIDTH, HEADS, DEPTH, SIDE = 32, 4, 3, 48
EMBEDDINGS = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
LAYERS = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}

Array = NDArray[np.float64]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ours_from(theirs: StateDict) -> StateDict:
    """Weights of a ViT or DeiT of transformers under our names, the three projections of a block in one."""
    state = {ours: theirs[name] for ours, name in EMBEDDINGS.items() if name in theirs}
    for index in range(DEPTH):
        for part in ("weight", "bias"):
            layer = {one: theirs[f"layers.{index}.{name}.{part}"] for one, name in LAYERS.items()}
            three = [theirs[f"layers.{index}.attention.{one}_proj.{part}"] for one in "qkv"]
            layer["attn.qkv"] = torch.cat(three)
            state |= {f"blocks.{index}.{name}.{part}": value for name, value in layer.items()}
    return state


@pytest.mark.parametrize(("model", "config"), [(ViTModel, ViTConfig), (DeiTModel, DeiTConfig)])
@pytest.mark.parametrize(("size", "eps"), [((SIDE, SIDE), 1e-5), ((32, 80), 1e-2)])
@torch.no_grad()
def test_the_encoder_is_that_of_transformers(
    model: type[nn.Module], config: Callable[..., object], size: tuple[int, int], eps: float
) -> None:
    sizes = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": DEPTH, "image_size": SIDE}
    theirs = stirred(model(config(**sizes, intermediate_size=4 * WIDTH, layer_norm_eps=eps), add_pooling_layer=False))
    distilled = model is DeiTModel
    ours = VisionTransformer(WIDTH, HEADS, DEPTH, 16, SIDE, distilled, eps, "bicubic").double().eval()
    ours.load_state_dict(ours_from(theirs.state_dict()))
    image = random(2, 3, *size) - 0.5
    expected = theirs(image, interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(ours(image), expected, rtol=1e-9, atol=1e-9)


def sampled(table: Array, rows: int, columns: int) -> Array:
    """A square table (S, S, D) read bilinearly at the centres of rows x columns cells, in plain Python."""
    side = len(table)

    def around(index: int, count: int) -> tuple[int, int, float]:
        place = min(max((index + 0.5) * side / count - 0.5, 0), side - 1)
        return math.floor(place), min(math.floor(place) + 1, side - 1), place % 1

    found = np.empty((rows, columns, table.shape[2]))
    for row, column in np.ndindex(rows, columns):
        top, bottom, y = around(row, rows)
        left, right, x = around(column, columns)
        upper = (1 - x) * table[top, left] + x * table[top, right]
        found[row, column] = (1 - y) * upper + y * ((1 - x) * table[bottom, left] + x * table[bottom, right])
    return found


@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("grid", [(5, 7), (2, 3), (2, 8), (4, 4)])
def test_positions_of_patches_are_resized_bilinearly(extra: int, grid: tuple[int, int]) -> None:
    table = random(1, extra + 16, 3)
    found = resized_positions(table, extra, grid)
    assert torch.equal(found[:, :extra], table[:, :extra])
    expected = sampled(table[0, extra:].numpy().reshape(4, 4, 3), *grid)
    torch.testing.assert_close(found[0, extra:], torch.from_numpy(expected).reshape(-1, 3))


def test_another_grid_of_as_many_patches_is_another_grid() -> None:
    table = random(1, 1 + 16, 3)
    assert not torch.allclose(resized_positions(table, 1, (2, 8)), table)
    assert resized_positions(table, 1, (4, 4)) is table


def test_branches_are_left_out_image_by_image() -> None:
    torch.manual_seed(0)
    block = Block(8, 2, drop_path=0.75).double()
    block.norm1, block.norm2, block.mlp = nn.Identity(), nn.Identity(), _Zero()
    block.attn = nn.Identity()
    tokens = random(4000, 2, 8) + 1
    factors = block(tokens) / tokens
    torch.testing.assert_close(factors, factors[:, :1, :1].expand_as(factors))
    kept = (factors[:, 0, 0] - 5).abs() < 1e-9  # 1 + 1 / (1 - 0.75)
    assert ((factors[:, 0, 0] - 1).abs() < 1e-9).logical_or(kept).all()
    assert abs(kept.double().mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    torch.testing.assert_close(block.eval()(tokens), 2 * tokens)


class _Zero(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return torch.zeros_like(tokens)


@torch.no_grad()
def test_attention_with_dropout_is_attention_on_the_average() -> None:
    block = stirred(Block(8, 2, dropout=1e-12))
    tokens = random(1, 5, 8)
    expected = block(tokens)
    torch.testing.assert_close(block.train()(tokens), expected)


@pytest.mark.parametrize("distilled", [False, True])
@torch.no_grad()
def test_an_encoder_starts_from_a_classifier_of_imagenet(distilled: bool) -> None:
    torch.manual_seed(0)
    classifier = VisionTransformer(WIDTH, HEADS, DEPTH, image_size=32, distilled=distilled).state_dict()
    heads = {"head.weight": torch.zeros(1000, WIDTH), "head_dist.bias": torch.zeros(1000)}
    encoder = VisionTransformer(WIDTH, HEADS, DEPTH, image_size=64, distilled=distilled)
    given = classifier | heads
    encoder.load_state_dict(encoder.adapted(given))
    assert given["pos_embed"].shape == (1, 4 + 1 + distilled, WIDTH), "what was given is not changed"
    extra, found = 1 + distilled, encoder.pos_embed
    expected = sampled(classifier["pos_embed"][0, extra:].double().numpy().reshape(2, 2, WIDTH), 4, 4)
    torch.testing.assert_close(found[0, extra:].double(), torch.from_numpy(expected).reshape(-1, WIDTH))
    assert torch.equal(found[:, :extra], classifier["pos_embed"][:, :extra])
