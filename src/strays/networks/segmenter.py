"""Segmenter: a vision transformer, and a linear layer or a transformer of class tokens that tells the classes."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card, Published
from strays.errors import InputError
from strays.networks.base import (
    IMAGENET,
    Configuration,
    NetworkOutputs,
    Normalization,
    SegmentationNetwork,
    StateDict,
    register_network,
)
from strays.networks.cropping import cropped_maps
from strays.networks.encoders.vision_transformer import Block, Interpolation, VisionTransformer, initialise

__all__ = ["LinearDecoder", "MaskDecoder", "Segmenter"]


class _Size(NamedTuple):
    width: int
    heads: int
    depth: int


_BACKBONES = MappingProxyType(
    {"ti": _Size(192, 3, 12), "s": _Size(384, 6, 12), "b": _Size(768, 12, 12), "l": _Size(1024, 16, 24)}
)
_NORMALIZATIONS = MappingProxyType({"vit": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), "imagenet": IMAGENET})
_DECODERS = ("linear", "mask")
_INTERPOLATIONS = ("bilinear", "bicubic")
_TAPPED = ("queries", "keys", "values")
_HEAD_WIDTH = 64
_CLASSIFIERS = ("encoder.head.", "encoder.head_dist.")

_MMSEG = "backbone."
_FROM_MMSEG = (
    (".ffn.layers.0.0.", ".mlp.fc1."),
    (".ffn.layers.1.", ".mlp.fc2."),
    (".attn.attn.in_proj_", ".attn.qkv."),
    (".attn.attn.out_proj.", ".attn.proj."),
    ("backbone.patch_embed.projection.", "encoder.patch_embed.proj."),
    ("backbone.layers.", "encoder.blocks."),
    ("backbone.ln1.", "encoder.norm."),
    ("backbone.", "encoder."),
    (".ln1.", ".norm1."),
    (".ln2.", ".norm2."),
    ("decode_head.conv_seg.", "decoder.head."),
)
"""Parts of names in checkpoints of mmsegmentation, and what they are called here; to be replaced in this order."""


class LinearDecoder(nn.Module):
    """Tokens of patches (N, T, D) -> class logits (N, T, K), for every patch by itself.

    Args:
        classes: number of classes, K.
        width: values per token, D.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)
        initialise(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return class logits (N, T, K)."""
        logits: Tensor = self.head(tokens)
        return logits


class MaskDecoder(nn.Module):
    """Tokens of patches (N, T, D) -> class logits (N, T, K): cosines with class tokens that saw the same image.

    Cosines go through a layer norm **over the classes**, so that the logits of every patch have mean 0 and variance 1
    before gains and offsets of the classes: their size says little about how sure the network is.

    Reference: Strudel et al., Segmenter: Transformer for Semantic Segmentation, ICCV 2021, section 3.2.

    Args:
        classes: number of classes, K.
        width: values per token, D.
        heads: heads of the attention.
        depth: number of blocks.
        dropout: probability of dropout in the blocks.
    """

    def __init__(self, classes: int, width: int, heads: int, depth: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.classes = classes
        self.cls_emb = nn.Parameter(torch.zeros(1, classes, width))
        self.proj_dec = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(depth))
        self.decoder_norm = nn.LayerNorm(width)
        self.proj_patch = nn.Parameter(torch.randn(width, width) / math.sqrt(width))
        self.proj_classes = nn.Parameter(torch.randn(width, width) / math.sqrt(width))
        self.mask_norm = nn.LayerNorm(classes)
        initialise(self)
        nn.init.trunc_normal_(self.cls_emb, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return class logits (N, T, K)."""
        x = torch.cat([self.proj_dec(tokens), self.cls_emb.expand(len(tokens), -1, -1)], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_norm(x)
        patches = functional.normalize(x[:, : -self.classes] @ self.proj_patch, dim=-1)
        classes = functional.normalize(x[:, -self.classes :] @ self.proj_classes, dim=-1)
        logits: Tensor = self.mask_norm(patches @ classes.transpose(1, 2))
        return logits


@register_network("segmenter")
class Segmenter(SegmentationNetwork):
    """Segmenter: class logits at the stride of the patches, from a vision transformer and a light decoder.

    An image is padded with zeros, after its normalisation, to the right and below to multiples of the patch size, and
    what comes out is cropped. The authors enlarge the logits first and crop then: for sizes that are multiples this is
    the same, for others the logits are sampled anew over the image, as in all networks of the library.

    The parameters carry the names of the authors' checkpoints. Those of mmsegmentation with a linear decoder are
    understood too, and set up as Galesso et al. 2023 run theirs: without the distillation token and its position, layer
    norms with 1e-6, positions resized bicubically.

    Reference: Strudel, Garcia, Laptev and Schmid, Segmenter: Transformer for Semantic Segmentation, ICCV 2021.

    Taps, all at the stride of the patches, those of tokens beside the patches left out: ``hidden_I``, what block I
    gives; ``block_I.queries``, ``block_I.keys`` and ``block_I.values``, as the block projects its layer-normed input,
    all heads one after the other. ``encoder`` are the keys of the last block, ``decoder`` is what the linear decoder or
    the last projection of the mask decoder reads.

    Args:
        classes: number of output channels.
        backbone: ``ti``, ``s``, ``b`` or ``l``: ViT-Tiny, -Small, -Base (12 blocks each) or -Large (24).
        decoder: ``linear`` or ``mask``.
        image_size: side in pixels of the square that the positions are learned for, the crop in training.
        patch_size: side of a patch in pixels.
        distilled: whether the transformer is a DeiT with a distillation token.
        normalization: ``vit`` (mean and deviation 0.5) or ``imagenet``; None = ``imagenet`` if distilled, else ``vit``.
        interpolation: how positions are resized to other grids: ``bilinear`` (authors) or ``bicubic`` (mmsegmentation).
        eps: what the layer norms of the transformer add to the variance: 1e-5 (authors) or 1e-6 (mmsegmentation).
        drop_path: probability with which a branch of the last block is left out in training, less in earlier blocks.
        dropout: probability of dropout in the mask decoder, in training.

    Raises:
        InputError: if there is no such backbone, decoder, normalisation or interpolation, the image size is no multiple
            of the patch size, or a probability is not in [0, 1).

    Example:
        >>> network = Segmenter(classes=11, backbone="ti", image_size=64).eval()
        >>> prediction = network.predict(torch.rand(1, 3, 32, 48), taps=["block_11.keys"])
        >>> prediction.logits.shape, prediction.features["block_11.keys"].shape
        (torch.Size([1, 11, 2, 3]), torch.Size([1, 192, 2, 3]))
    """

    card: ClassVar[Card] = Card(
        title="Segmenter",
        summary="A vision transformer with a linear decoder, or one that compares patches with class tokens.",
        paper="Segmenter: Transformer for Semantic Segmentation",
        year=2021,
        url="https://arxiv.org/abs/2105.05633",
        published=(
            Published(
                dataset="Cityscapes val",
                metric="mIoU",
                value=0.791,
                network="Seg-L-Mask/16",
                protocol="one scale, windows of 768 every 512 pixels",
            ),
        ),
        notes=(
            "Logits of the mask decoder are normalised over the classes: read them by differences, not by their size. "
            "Weights are not part of the package: segmenter@FILE."
        ),
    )

    def __init__(
        self,
        classes: int = 19,
        backbone: str = "b",
        decoder: str = "linear",
        image_size: int = 768,
        patch_size: int = 16,
        distilled: bool = False,
        normalization: str | None = None,
        interpolation: str = "bilinear",
        eps: float = 1e-5,
        drop_path: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        chosen = normalization or ("imagenet" if distilled else "vit")
        _check_choices(backbone=backbone, decoder=decoder, normalization=chosen, interpolation=interpolation)
        _check_numbers(image_size, patch_size, drop_path=drop_path, dropout=dropout)
        self.configuration: Configuration = {
            "classes": classes,
            "backbone": backbone,
            "decoder": decoder,
            "image_size": image_size,
            "patch_size": patch_size,
            "distilled": distilled,
            "normalization": chosen,
            "interpolation": interpolation,
            "eps": eps,
            "drop_path": drop_path,
            "dropout": dropout,
        }
        size = _BACKBONES[backbone]
        resizing = cast(Interpolation, interpolation)
        self.encoder = VisionTransformer(*size, patch_size, image_size, distilled, eps, resizing, drop_path)
        self.decoder = _decoder(decoder, classes, size.width, dropout)
        self.normalization = _NORMALIZATIONS[chosen]
        self.stride = patch_size
        self.tap_modules = _tap_modules(size.depth, decoder)
        self.auxiliary_taps = (f"hidden_{2 * size.depth // 3}",)

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return what the tensors of a checkpoint tell; nothing where it is none of this network.

        Checkpoints with a distillation token are taken for DeiT, which has the normalisation of ImageNet, as all of
        mmsegmentation have.
        """
        names = cls.renamed(state)
        patches, table = names.get("encoder.patch_embed.proj.weight"), names.get("encoder.pos_embed")
        backbones = {size.width: name for name, size in _BACKBONES.items()}
        if patches is None or table is None or (patches.ndim, table.ndim) != (4, 3) or len(patches) not in backbones:
            return {}
        distilled = "encoder.dist_token" in names
        mmseg = any(name.startswith(_MMSEG) for name in state)
        return {
            "backbone": backbones[len(patches)],
            "image_size": math.isqrt(table.shape[1] - 1 - distilled) * patches.shape[-1],
            "patch_size": patches.shape[-1],
            "distilled": distilled,
            "normalization": "imagenet" if distilled or mmseg else "vit",
            **_decoder_of(names),
            **({"interpolation": "bicubic", "eps": 1e-6} if mmseg else {}),
        }

    @classmethod
    def renamed(cls, state: StateDict) -> StateDict:
        """Return a checkpoint of the authors or of mmsegmentation under our names, without classifiers of ImageNet."""
        if any(name.startswith(_MMSEG) for name in state):
            return _from_mmseg(state)
        return {name: value for name, value in state.items() if not name.startswith(_CLASSIFIERS)}

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H / P, W / P), rounded up, of normalised images (N, 3, H, W)."""
        content, size = self._sizes(normalized)
        padded = functional.pad(normalized, (0, size[1] - content[1], 0, size[0] - content[0]))
        tokens = self.encoder(padded)[:, self.encoder.extra_tokens :]
        return cropped_maps(self._maps(self.decoder(tokens), size), content, size)

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return what one pass gives, and the features of the taps, those of the image alone."""
        outputs, features = super().observe(image, taps)
        content, size = self._sizes(image)
        maps = {name: self._maps(self._patches(name, tokens, size), size) for name, tokens in features.items()}
        return outputs, {name: cropped_maps(one, content, size) for name, one in maps.items()}

    def _as_map(self, name: str, output: object) -> Tensor:
        # The tokens as they are: ``observe`` makes maps of them, as it knows how many rows and columns there are.
        return cast(Tensor, output)

    def _sizes(self, image: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the size (H, W) of an image, and that to which it is padded."""
        height, width = image.shape[-2:]
        return (height, width), (height + -height % self.stride, width + -width % self.stride)

    def _patches(self, name: str, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        # The mask decoder has its class tokens behind those of the patches, the encoder has its own in front.
        start = 0 if self.tap_modules[name].startswith("decoder.") else self.encoder.extra_tokens
        return tokens[:, start : start + (size[0] // self.stride) * (size[1] // self.stride)]

    def _maps(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        """Return maps (N, C, H / P, W / P) of tokens (N, H W / P^2, C)."""
        grid = (size[0] // self.stride, size[1] // self.stride)
        return patches.transpose(1, 2).reshape(len(patches), -1, *grid)


def _decoder(kind: str, classes: int, width: int, dropout: float) -> LinearDecoder | MaskDecoder:
    if kind == "linear":
        return LinearDecoder(classes, width)
    return MaskDecoder(classes, width, width // _HEAD_WIDTH, dropout=dropout)


def _tap_modules(depth: int, decoder: str) -> dict[str, str]:
    hidden = {f"hidden_{index}": f"encoder.blocks.{index}" for index in range(depth)}
    attention = {
        f"block_{index}.{part}": f"encoder.blocks.{index}.attn.{part}" for index in range(depth) for part in _TAPPED
    }
    read = "encoder.norm" if decoder == "linear" else "decoder.decoder_norm"
    return {**hidden, **attention, "encoder": attention[f"block_{depth - 1}.keys"], "decoder": read}


def _check_choices(**given: str) -> None:
    known = {
        "backbone": _BACKBONES,
        "decoder": _DECODERS,
        "normalization": _NORMALIZATIONS,
        "interpolation": _INTERPOLATIONS,
    }
    for name, value in given.items():
        if value not in known[name]:
            raise InputError(f"{name} is {value!r}, expected one of {', '.join(known[name])}")


def _check_numbers(image_size: int, patch_size: int, **probabilities: float) -> None:
    if patch_size < 1 or image_size < patch_size or image_size % patch_size:
        raise InputError(f"image_size is {image_size}, expected a multiple of the patch size, {patch_size}")
    for name, value in probabilities.items():
        if not 0 <= value < 1:
            raise InputError(f"{name} is {value}, expected a probability of 0 or more and below 1")


def _decoder_of(names: StateDict) -> Configuration:
    """Return decoder and classes of a checkpoint, as far as it tells."""
    if "decoder.cls_emb" in names:
        return {"decoder": "mask", "classes": names["decoder.cls_emb"].shape[1]}
    head = names.get("decoder.head.weight")
    return {"decoder": "linear"} if head is None else {"decoder": "linear", "classes": len(head)}


def _from_mmseg(state: StateDict) -> StateDict:
    """Return a checkpoint of mmsegmentation under our names, without a distillation token and its position.

    Its vision transformer knows no such token: Galesso et al. 2023 leave it out when they load a DeiT.
    """
    result: StateDict = {}
    for name, value in state.items():
        for theirs, ours in _FROM_MMSEG:
            name = name.replace(theirs, ours)
        result[name] = value.flatten(1) if name == "decoder.head.weight" else value
    if result.pop("encoder.dist_token", None) is not None and "encoder.pos_embed" in result:
        table = result["encoder.pos_embed"]
        result["encoder.pos_embed"] = torch.cat([table[:, :1], table[:, 2:]], dim=1)
    return result
