"""ESPNetv2: pyramids of depth-wise dilated convolutions, and a decoder that pools at five scales."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card, Published
from strays.errors import InputError
from strays.networks.base import (
    IMAGENET,
    Configuration,
    Normalization,
    SegmentationNetwork,
    StateDict,
    register_network,
)

__all__ = ["ESPNetV2"]

_BASE = 32
_BRANCHES = 4
_KERNELS = (3, 5, 7, 9)
_DECODER = (64, 48, 32)
_POOLED = 16
_SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
_SMALLEST = 5
_PUBLISHED_NAMES = {
    ".cbr.0.": ".conv.",
    ".cbr.1.": ".bn.",
    ".cbr.2.": ".act.",
    ".br.0.": ".bn.",
    ".br.1.": ".act.",
    "bu_br_l2.0.": "bu_br_l2.bn.",
    "bu_br_l2.1.": "bu_br_l2.act.",
    "bu_br_l3.0.": "bu_br_l3.bn.",
    "bu_br_l3.1.": "bu_br_l3.act.",
    "bu_br_l4.0.": "bu_br_l4.bn.",
    "bu_br_l4.1.": "bu_br_l4.act.",
}
"""Parts of names in the public checkpoints, which number in the decoder what they name in the encoder -> ours."""


def _cb(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> OrderedDict[str, nn.Module]:
    """Return convolution and batch norm by name; odd kernels keep the size."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return OrderedDict(conv=convolution, bn=nn.BatchNorm2d(outputs))


def _cba(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution, batch norm, PReLU."""
    return nn.Sequential(_cb(inputs, outputs, kernel, stride=stride, groups=groups) | {"act": nn.PReLU(outputs)})


def _ba(channels: int) -> nn.Sequential:
    """Return batch norm, PReLU."""
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(channels), act=nn.PReLU(channels)))


def _halved(x: Tensor) -> Tensor:
    """Return averages of 3x3 pixels at every second pixel; zeros around the image count."""
    return functional.avg_pool2d(x, 3, stride=2, padding=1)


def _stretched(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (N, C, h, w) at (H, W), corner on corner, which is how the published weights were trained."""
    return functional.interpolate(x, size=list(size), mode="bilinear", align_corners=True)


def _dilations(limit: int) -> list[int]:
    """Return the dilations of the branches, ascending; a branch that would see more than ``limit`` pixels sees 3."""
    return sorted((kernel if kernel <= limit else 3) // 2 for kernel in _KERNELS)


class _EESP(nn.Module):
    """Four depth-wise convolutions that see ever farther, on one reduced input: (N, C, h, w) -> (N, D, h / s, w / s).

    Each branch adds what the ones before it gave, which hides the grid of the dilated ones.
    """

    def __init__(self, inputs: int, outputs: int, limit: int, stride: int = 1) -> None:
        super().__init__()
        inner = outputs // _BRANCHES
        self.proj_1x1 = _cba(inputs, inner, 1, groups=_BRANCHES)
        self.spp_dw = nn.ModuleList(_dilated(inner, dilation, stride) for dilation in _dilations(limit))
        self.br_after_cat = _ba(outputs)
        self.conv_1x1_exp = nn.Sequential(_cb(outputs, outputs, 1, groups=_BRANCHES))
        # The one of a down-sampler is never called, but checkpoints hold it. Without a gradient there, since
        # DistributedDataParallel refuses parameters that no loss reaches.
        self.module_act = nn.PReLU(outputs).requires_grad_(stride == 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.proj_1x1(x)
        branches = [self.spp_dw[0](reduced)]
        for branch in self.spp_dw[1:]:
            branches.append(branches[-1] + branch(reduced))
        result: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(branches, dim=1)))
        return result if self.stride > 1 else self.module_act(x + result)


def _dilated(channels: int, dilation: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(
        channels, channels, 3, stride, padding=dilation, dilation=dilation, groups=channels, bias=False
    )
    return nn.Sequential(OrderedDict(conv=convolution))


class _Downsampler(nn.Module):
    """(N, C, h, w) and the image at half that size -> (N, D, h / 2, w / 2), sizes rounded up.

    The input's average stands beside a strided EESP unit; what the image itself says is added to both.
    """

    def __init__(self, inputs: int, outputs: int, limit: int) -> None:
        super().__init__()
        self.eesp = _EESP(inputs, outputs - inputs, limit, stride=2)
        self.inp_reinf = nn.Sequential(_cba(3, 3, 3), nn.Sequential(_cb(3, outputs, 1)))
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        joined = torch.cat([_halved(x), self.eesp(x)], dim=1)
        result: Tensor = self.act(joined + self.inp_reinf(image))
        return result


class _Encoder(nn.Module):
    """(N, 3, H, W) -> four maps, at a half, a quarter, an eighth and a sixteenth of the size (rounded up)."""

    def __init__(self, first: int, second: int, third: int, fourth: int) -> None:
        super().__init__()
        self.level1 = _cba(3, first, 3, stride=2)
        self.level2_0 = _Downsampler(first, second, limit=13)
        self.level3_0 = _Downsampler(second, third, limit=11)
        self.level3 = nn.Sequential(*(_EESP(third, third, limit=9) for _ in range(3)))
        self.level4_0 = _Downsampler(third, fourth, limit=9)
        self.level4 = nn.Sequential(*(_EESP(fourth, fourth, limit=7) for _ in range(7)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        small = _halved(_halved(image))
        half = self.level1(image)
        quarter = self.level2_0(half, small)
        small = _halved(small)
        eighth = self.level3(self.level3_0(quarter, small))
        sixteenth = self.level4(self.level4_0(eighth, _halved(small)))
        return half, quarter, eighth, sixteenth


class _PyramidPooling(nn.Module):
    """Efficient pyramid pooling: (N, C, h, w) -> (N, D, h, w), from depth-wise convolutions at five sizes.

    Args:
        inputs: C.
        inner: channels at each of the five sizes.
        outputs: D.
        last: whether this gives the logits, with a bias instead of batch norm and PReLU.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, last: bool = False) -> None:
        super().__init__()
        levels = len(_SCALES)
        self.projection_layer = _cba(inputs, inner, 1)
        self.stages = nn.ModuleList(
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False) for _ in range(levels)
        )
        self.merge_layer = nn.Sequential(
            _ba(inner * levels),
            nn.ChannelShuffle(levels),
            _cba(inner * levels, inner, 3, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=last),
        )
        self.br = nn.Identity() if last else _ba(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection_layer(x)
        seen = [_at_scale(x, stage, scale) for stage, scale in zip(self.stages, _SCALES, strict=True)]
        result: Tensor = self.br(self.merge_layer(torch.cat(seen, dim=1)))
        return result


def _at_scale(x: Tensor, convolution: nn.Module, scale: float) -> Tensor:
    """Return what a convolution sees in maps (N, C, h, w) of another size, brought back to (h, w)."""
    height, width = size = (x.shape[-2], x.shape[-1])
    other = (max(_SMALLEST, math.ceil(scale * height)), max(_SMALLEST, math.ceil(scale * width)))
    if scale > 1:
        return functional.adaptive_avg_pool2d(convolution(_stretched(x, other)), size)
    if scale < 1:
        return _stretched(convolution(functional.adaptive_avg_pool2d(x, other)), size)
    seen: Tensor = convolution(x)
    return seen


class _Skip(nn.Module):
    """(N, C, h, w) of the encoder -> (N, D, h, w) for the decoder, each channel weighted by what the image holds."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        weight = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.wt_layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), weight, nn.Sigmoid())
        self.expansion_layer = _cba(inputs, outputs, 3, groups=math.gcd(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.expansion_layer(x) * self.wt_layer(x)
        return result


@register_network("espnetv2")
class ESPNetV2(SegmentationNetwork):
    """ESPNetv2: EESP units down to a sixteenth of the size, and a decoder with efficient pyramid pooling at each step.

    Images may have any size; the logits, made at half of it, are enlarged to the size of the image. The parameters
    carry the names of the authors' PyTorch checkpoints, with ``conv``, ``bn`` and ``act`` in the decoder too.

    Reference: Mehta, Rastegari, Shapiro and Hajishirzi 2019, "ESPNetv2: A Light-weight, Power Efficient, and General
    Purpose Convolutional Neural Network", section 3.

    Taps, for an image (H, W), sizes rounded up and s = ``scale``: ``stage1`` (min(32, 32 s), H / 2, W / 2), ``stage2``
    (64 s, H / 4, W / 4), ``stage3`` (128 s, H / 8, W / 8), ``stage4`` (256 s, H / 16, W / 16); ``pyramid1``
    (64, H / 16, W / 16), ``pyramid2`` (48, H / 8, W / 8), ``pyramid3`` (32, H / 4, W / 4); ``decoder``
    (K / 2 rounded down, at most 16 and at least 1, H / 2, W / 2). ``encoder`` is ``stage4``.

    Args:
        classes: the number of output channels K; 20 are the Cityscapes classes and void.
        scale: how wide the encoder is: 0.5, 1, or a multiple of 0.25 above.

    Raises:
        InputError: if the channels of that scale cannot be shared out among the branches.

    Example:
        >>> ESPNetV2(classes=11, scale=0.5).eval()(torch.rand(1, 3, 32, 45)).shape
        torch.Size([1, 11, 32, 45])
    """

    card: ClassVar[Card] = Card(
        title="ESPNetv2",
        summary="Light encoder of depth-wise dilated convolutions with a pyramid decoder; 0.79 million parameters.",
        paper="ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural Network",
        year=2019,
        url="https://arxiv.org/abs/1811.11431",
        published=tuple(
            Published(
                dataset="Cityscapes val",
                metric="mIoU",
                value=value,
                network=f"espnetv2_s_{scale}_city_1024x512.pth",
                protocol="512x1024, ImageNet mean and std, 20 outputs",
            )
            for scale, value in (("2.0", 0.664), ("0.5", 0.539))
        ),
        notes="Weights are not part of the package: espnetv2@FILE; the file tells the scale.",
    )
    normalization: Normalization = IMAGENET
    stride: int = 1
    channels_last = True
    tap_modules: Mapping[str, str] = MappingProxyType(
        {
            "stage1": "base_net.level1",
            "stage2": "base_net.level2_0",
            "stage3": "base_net.level3",
            "stage4": "base_net.level4",
            "pyramid1": "bu_dec_l1",
            "pyramid2": "bu_dec_l2",
            "pyramid3": "bu_dec_l3",
            "encoder": "base_net.level4",
            "decoder": "bu_dec_l4.merge_layer.2",
        }
    )

    def __init__(self, classes: int = 20, scale: float = 2.0) -> None:
        super().__init__()
        self.configuration: Configuration = {"classes": classes, "scale": scale}
        first, second, third, fourth = _widths(scale)
        inner = max(1, min(classes // 2, _POOLED))
        self.base_net = _Encoder(first, second, third, fourth)
        self.bu_dec_l1 = _PyramidPooling(fourth, inner, _DECODER[0])
        self.bu_dec_l2 = _PyramidPooling(_DECODER[0], inner, _DECODER[1])
        self.bu_dec_l3 = _PyramidPooling(_DECODER[1], inner, _DECODER[2])
        self.bu_dec_l4 = _PyramidPooling(_DECODER[2], inner, classes, last=True)
        self.merge_enc_dec_l2 = _Skip(third, _DECODER[0])
        self.merge_enc_dec_l3 = _Skip(second, _DECODER[1])
        self.merge_enc_dec_l4 = _Skip(first, _DECODER[2])
        self.bu_br_l2, self.bu_br_l3, self.bu_br_l4 = (_ba(channels) for channels in _DECODER)

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H, W) of normalised images (N, 3, H, W)."""
        half, quarter, eighth, sixteenth = self.base_net(normalized)
        x = self.bu_dec_l1(sixteenth)
        x = self.bu_dec_l2(self.bu_br_l2(self.merge_enc_dec_l2(eighth) + _stretched(x, eighth.shape[-2:])))
        x = self.bu_dec_l3(self.bu_br_l3(self.merge_enc_dec_l3(quarter) + _stretched(x, quarter.shape[-2:])))
        x = self.bu_dec_l4(self.bu_br_l4(self.merge_enc_dec_l4(half) + _stretched(x, half.shape[-2:])))
        return _stretched(x, normalized.shape[-2:])

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return ``classes`` and ``scale`` as a checkpoint has them; nothing where it is none of this network."""
        head, deepest = state.get("bu_dec_l4.merge_layer.3.weight"), state.get("base_net.level4_0.act.weight")
        if head is None or head.ndim != 4 or deepest is None or deepest.ndim != 1:
            return {}
        return {"classes": head.shape[0], "scale": len(deepest) / (8 * _BASE)}

    @classmethod
    def renamed(cls, state: StateDict) -> StateDict:
        """Return a checkpoint of the authors with ``conv``, ``bn`` and ``act`` for the numbers in its decoder."""
        return {_our_name(name): value for name, value in state.items()}


def _widths(scale: float) -> tuple[int, int, int, int]:
    """Return the channels of the four stages; each is a multiple of the branches, so is what a down-sampler adds."""
    if scale not in (0.5, 1) and not (scale > 1 and scale % 0.25 == 0):
        raise InputError(f"scale is {scale}, expected 0.5, 1, or a multiple of 0.25 above: the published are 0.5 to 2")
    base = int(_BASE * scale)
    return min(base, _BASE), 2 * base, 4 * base, 8 * base


def _our_name(name: str) -> str:
    for theirs, ours in _PUBLISHED_NAMES.items():
        name = name.replace(theirs, ours)
    return name
