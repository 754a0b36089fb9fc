"""The vision transformer, plain or distilled, whose blocks show their queries, keys and values."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.networks.base import StateDict

__all__ = ["Block", "Interpolation", "VisionTransformer", "initialise", "resized_positions"]

Interpolation = Literal["bilinear", "bicubic"]
"""How a table of positions is brought to another grid."""

_SPREAD = 0.02
_EXPANSION = 4
_CLASSIFIERS = ("head.", "head_dist.", "pre_logits.")


class _DropPath(nn.Module):
    """Stochastic depth: in training, tokens (N, T, D) of some images become zero, those of the others are scaled up.

    Reference: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.rate)
        return branch * kept / (1 - self.rate)


class _Attention(nn.Module):
    """Self-attention of several heads over tokens (N, T, D), from one projection to queries, keys and values."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        # These three only pass on what they are given, so that a hook can read it.
        self.queries, self.keys, self.values = (nn.Identity() for _ in range(3))
        self.attn_drop = nn.Dropout(dropout)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        queries, keys, values = self.qkv(tokens).chunk(3, dim=-1)
        seen = (self.queries(queries), self.keys(keys), self.values(values))
        mixed = self._mixed(*(one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in seen))
        result: Tensor = self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))
        return result

    def _mixed(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (N, heads, T, D / heads) of three such."""
        if not (self.attn_drop.training and self.attn_drop.p):
            return functional.scaled_dot_product_attention(queries, keys, values)
        # Written out: passes with dropout watch modules, and would miss what is dropped within the fused function.
        weights = (queries @ keys.transpose(-2, -1) / math.sqrt(keys.shape[-1])).softmax(dim=-1)
        mixed: Tensor = self.attn_drop(weights) @ values
        return mixed


class _FeedForward(nn.Module):
    """Two layers with GELU, for every token (N, T, D) by itself."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _EXPANSION * width)
        self.fc2 = nn.Linear(_EXPANSION * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.drop(self.fc2(self.drop(functional.gelu(self.fc1(tokens)))))
        return result


class Block(nn.Module):
    """A block of a transformer with the layer norms in front: attention and two layers, each added to its input.

    Reference: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, equations 2 and 3.

    Args:
        width: values per token, D.
        heads: heads of the attention; they divide the width.
        eps: what the layer norms add to the variance.
        dropout: probability with which attention weights, and outputs of linear layers behind the first, are dropped.
        drop_path: probability with which either branch is left out in training, for each image by itself.
    """

    def __init__(self, width: int, heads: int, eps: float = 1e-5, dropout: float = 0.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = _Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = _FeedForward(width, dropout)
        self.drop_path = _DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (N, T, D) for tokens of that shape."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        result: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return result


class _PatchEmbedding(nn.Module):
    """(N, 3, H, W) -> tokens (N, H W / P^2, D), row by row."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, normalized: Tensor) -> Tensor:
        maps: Tensor = self.proj(normalized)
        return maps.flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Normalised image (N, 3, H, W) -> tokens (N, T, D): the class token, if distilled another, then those of patches.

    The parameters carry the names of timm, of DeiT and of the authors of Segmenter. The table of positions is learned
    for one square, and resized to the grid of any other image.

    Reference: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; the distillation token is that of Touvron
    et al., Training Data-Efficient Image Transformers & Distillation through Attention, ICML 2021.

    Args:
        width: values per token, D.
        heads: heads of the attention; they divide the width.
        depth: number of blocks.
        patch_size: side of a patch in pixels.
        image_size: side in pixels of the square that the positions are learned for; a multiple of the patch size.
        distilled: whether there is a distillation token, which has a position too.
        eps: what the layer norms add to the variance.
        interpolation: how positions are resized, ``bilinear`` or ``bicubic``.
        drop_path: probability with which a branch of the last block is left out in training; those before it have
            evenly smaller ones, the first has 0.

    Example:
        >>> transformer = VisionTransformer(width=8, heads=2, depth=1, image_size=64)
        >>> transformer(torch.rand(1, 3, 32, 48)).shape
        torch.Size([1, 7, 8])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        depth: int,
        patch_size: int = 16,
        image_size: int = 224,
        distilled: bool = False,
        eps: float = 1e-5,
        interpolation: Interpolation = "bilinear",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch_size, self.interpolation = patch_size, interpolation
        self.extra_tokens = 2 if distilled else 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.extra_tokens + (image_size // patch_size) ** 2, width))
        self.patch_embed = _PatchEmbedding(width, patch_size)
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(Block(width, heads, eps, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps)
        initialise(self)
        for table in (self.pos_embed, *self._extras()):
            nn.init.trunc_normal_(table, std=_SPREAD)

    def forward(self, normalized: Tensor) -> Tensor:
        """Return tokens (N, ``extra_tokens`` + H W / P^2, D) of images whose sides are multiples of the patch size."""
        grid = (normalized.shape[-2] // self.patch_size, normalized.shape[-1] // self.patch_size)
        extras = [token.expand(len(normalized), -1, -1) for token in self._extras()]
        tokens = torch.cat([*extras, self.patch_embed(normalized)], dim=1)
        tokens = tokens + resized_positions(self.pos_embed, self.extra_tokens, grid, self.interpolation)
        for block in self.blocks:
            tokens = block(tokens)
        result: Tensor = self.norm(tokens)
        return result

    def adapted(self, state: StateDict) -> StateDict:
        """Return the weights of a classifier of ImageNet for this encoder.

        The layers behind the transformer are left out, and the table of positions is resized to that of this one.
        """
        kept = {name: value for name, value in state.items() if not name.startswith(_CLASSIFIERS)}
        if "pos_embed" in kept:
            extra = 2 if "dist_token" in kept else 1
            side = math.isqrt(self.pos_embed.shape[1] - self.extra_tokens)
            kept["pos_embed"] = resized_positions(kept["pos_embed"], extra, (side, side), self.interpolation)
        return kept

    def _extras(self) -> list[Tensor]:
        return [self.cls_token] if self.extra_tokens == 1 else [self.cls_token, self.dist_token]


def resized_positions(
    table: Tensor, extra: int, grid: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Return a table of positions for another grid of patches; the rows of tokens beside the patches stay as they are.

    Args:
        table: (1, E + S^2, D), row by row for a square of S x S patches.
        extra: E, the number of rows in front that belong to no patch.
        grid: rows and columns (h, w) of patches that are wanted.
        interpolation: ``bilinear`` or ``bicubic``, corners not aligned.

    Returns:
        (1, E + h w, D); the table itself if that is its grid.

    Example:
        >>> resized_positions(torch.tensor([[[9.0], [1.0], [1.0], [3.0], [3.0]]]), 1, (4, 1)).flatten()
        tensor([9.0000, 1.0000, 1.5000, 2.5000, 3.0000])
    """
    side = math.isqrt(table.shape[1] - extra)
    if grid == (side, side):
        return table
    maps = table[:, extra:].transpose(1, 2).reshape(1, -1, side, side)
    maps = functional.interpolate(maps, size=grid, mode=interpolation, align_corners=False)
    return torch.cat([table[:, :extra], maps.flatten(2).transpose(1, 2)], dim=1)


def initialise(network: nn.Module) -> None:
    """Set linear layers of a network to a truncated normal distribution of deviation 0.02, their biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=_SPREAD)
            nn.init.zeros_(module.bias)
