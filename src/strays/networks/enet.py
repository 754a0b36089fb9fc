"""ENet: a small, fast encoder-decoder of bottlenecks."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card, Published
from strays.networks.base import UNIT, Configuration, Normalization, SegmentationNetwork, StateDict, register_network

__all__ = ["ENet"]

_Activation = Callable[[], nn.Module]


def _cba(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    activation: _Activation,
    *,
    stride: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """Return convolution, batch norm, activation; odd kernels keep the size, the 2x2 one needs no padding."""
    padding = (dilation * ((kernel[0] - 1) // 2), dilation * ((kernel[1] - 1) // 2))
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(outputs),
        activation(),
    )


class _InitialBlock(nn.Module):
    """RGB (N, 3, H, W) -> (N, 16, ceil(H / 2), ceil(W / 2)): a strided convolution beside a max-pool of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.main_branch = nn.Conv2d(3, 13, 3, stride=2, padding=1, bias=False)
        self.ext_branch = nn.MaxPool2d(3, stride=2, padding=1)
        self.batch_norm = nn.BatchNorm2d(16)
        self.out_activation = nn.PReLU()

    def forward(self, image: Tensor) -> Tensor:
        joined = torch.cat([self.main_branch(image), self.ext_branch(image)], dim=1)
        result: Tensor = self.out_activation(self.batch_norm(joined))
        return result


class _Bottleneck(nn.Module):
    """A residual bottleneck that keeps its shape: (N, C, h, w) -> (N, C, h, w)."""

    def __init__(
        self,
        channels: int,
        dropout: float,
        activation: _Activation = nn.PReLU,
        *,
        dilation: int = 1,
        asymmetric: bool = False,
    ) -> None:
        super().__init__()
        inner = channels // 4
        kernels = [(5, 1), (1, 5)] if asymmetric else [(3, 3)]
        self.ext_conv1 = _cba(channels, inner, (1, 1), activation)
        self.ext_conv2 = nn.Sequential(
            *(layer for kernel in kernels for layer in _cba(inner, inner, kernel, activation, dilation=dilation))
        )
        self.ext_conv3 = _cba(inner, channels, (1, 1), activation)
        self.ext_regul = nn.Dropout2d(dropout)
        self.out_activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        extension = self.ext_regul(self.ext_conv3(self.ext_conv2(self.ext_conv1(x))))
        result: Tensor = self.out_activation(x + extension)
        return result


class _Downsampling(nn.Module):
    """(N, C, h, w) -> (N, D, h // 2, w // 2), and the places (N, C, h // 2, w // 2) that the maxima came from."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        inner = inputs // 4
        self.ext_conv1 = _cba(inputs, inner, (2, 2), nn.PReLU, stride=2)
        self.ext_conv2 = _cba(inner, inner, (3, 3), nn.PReLU)
        self.ext_conv3 = _cba(inner, outputs, (1, 1), nn.PReLU)
        self.ext_regul = nn.Dropout2d(dropout)
        self.out_activation = nn.PReLU()
        self.added_channels = outputs - inputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        main, places = functional.max_pool2d_with_indices(x, [2, 2])
        main = functional.pad(main, (0, 0, 0, 0, 0, self.added_channels))
        extension = self.ext_regul(self.ext_conv3(self.ext_conv2(self.ext_conv1(x))))
        return self.out_activation(main + extension), places


class _Upsampling(nn.Module):
    """(N, C, h, w), the places of a down-sampling and the size (H, W) before it -> (N, D, H, W)."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        inner = inputs // 4
        self.main_conv1 = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.ext_conv1 = _cba(inputs, inner, (1, 1), nn.ReLU)
        self.ext_tconv1 = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
        self.ext_tconv1_bnorm = nn.BatchNorm2d(inner)
        self.ext_conv2 = nn.Sequential(nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.ext_regul = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        main = _unpooled(self.main_conv1(x), places, size)
        extension = self.ext_tconv1(self.ext_conv1(x), output_size=size)
        extension = self.ext_regul(self.ext_conv2(functional.relu(self.ext_tconv1_bnorm(extension))))
        return functional.relu(main + extension)


def _unpooled(x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    """Put values (N, C, h, w) at their places in maps of zeros (N, C, H, W).

    The same as ``max_unpool2d``, whose CUDA kernel is not deterministic; here no place occurs twice.
    """
    empty = x.new_zeros((*x.shape[:2], size[0] * size[1]))
    return empty.scatter(2, places.flatten(2), x.flatten(2)).view(*x.shape[:2], *size)


def _context(stage: int, first: int) -> dict[str, nn.Module]:
    """Return the eight bottlenecks of stage 2 or 3 by name; each sees farther than the one before."""
    blocks: dict[str, nn.Module] = {}
    for number, dilation in zip(range(first, first + 8, 2), (2, 4, 8, 16), strict=True):
        plain = "asymmetric" if dilation in (4, 16) else "regular"
        blocks[f"{plain}{stage}_{number}"] = _Bottleneck(128, 0.1, asymmetric=plain == "asymmetric")
        blocks[f"dilated{stage}_{number + 1}"] = _Bottleneck(128, 0.1, dilation=dilation)
    return blocks


@register_network("enet")
class ENet(SegmentationNetwork):
    """ENet: initial block, two down-samplings, two stages of dilated and asymmetric context, two up-samplings.

    The parameters carry the names of the public PyTorch checkpoints. The encoder has PReLU, the decoder ReLU. Images
    may have any size of at least 7 x 7 pixels; the logits have the size of the image.

    Reference: Paszke, Chaurasia, Kim and Culurciello 2016, "ENet: A Deep Neural Network Architecture for Real-Time
    Semantic Segmentation", tables 1 and 2, figure 2.

    Taps, for an image (H, W) with multiples of 8: ``initial`` (16, H / 2, W / 2), ``stage1`` (64, H / 4, W / 4),
    ``stage2`` and ``stage3`` (128, H / 8, W / 8), ``stage4`` (64, H / 4, W / 4), ``stage5`` (16, H / 2, W / 2).
    ``encoder`` is ``stage3``, ``decoder`` is ``stage5``.

    Args:
        classes: the number of output channels K; 20 are the Cityscapes classes and void.

    Example:
        >>> ENet(classes=11).eval()(torch.rand(1, 3, 32, 45)).shape
        torch.Size([1, 11, 32, 45])
    """

    card: ClassVar[Card] = Card(
        title="ENet",
        summary="Encoder-decoder of bottlenecks with 0.35 million parameters, made for real time.",
        paper="ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation",
        year=2016,
        url="https://arxiv.org/abs/1606.02147",
        published=(
            Published(
                dataset="Cityscapes val",
                metric="mIoU",
                value=0.636,
                network="enet_cityscapes_void.pth",
                protocol="512x1024, RGB / 255, void trained as the 20th class",
            ),
        ),
        notes="Input RGB / 255 without mean or std. Weights are not part of the package: enet@FILE.",
    )
    normalization: Normalization = UNIT
    stride: int = 1
    tap_modules: Mapping[str, str] = MappingProxyType(
        {
            "initial": "initial_block",
            "stage1": "regular1_4",
            "stage2": "dilated2_8",
            "stage3": "dilated3_7",
            "stage4": "regular4_2",
            "stage5": "regular5_1",
            "encoder": "dilated3_7",
            "decoder": "regular5_1",
        }
    )

    def __init__(self, classes: int = 20) -> None:
        super().__init__()
        self.configuration: Configuration = {"classes": classes}
        self.initial_block = _InitialBlock()
        self.downsample1_0 = _Downsampling(16, 64, dropout=0.01)
        self._at_quarter = self._add({f"regular1_{number}": _Bottleneck(64, 0.01) for number in range(1, 5)})
        self.downsample2_0 = _Downsampling(64, 128, dropout=0.1)
        self._at_eighth = self._add(_context(stage=2, first=1) | _context(stage=3, first=0))
        self.upsample4_0 = _Upsampling(128, 64, dropout=0.1)
        self.regular4_1 = _Bottleneck(64, 0.1, nn.ReLU)
        self.regular4_2 = _Bottleneck(64, 0.1, nn.ReLU)
        self.upsample5_0 = _Upsampling(64, 16, dropout=0.1)
        self.regular5_1 = _Bottleneck(16, 0.1, nn.ReLU)
        self.transposed_conv = nn.ConvTranspose2d(16, classes, 3, stride=2, padding=1, bias=False)

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H, W) of images (N, 3, H, W) in [0, 1]."""
        half = self.initial_block(normalized)
        quarter, half_places = self.downsample1_0(half)
        quarter = self._through(self._at_quarter, quarter)
        eighth, quarter_places = self.downsample2_0(quarter)
        eighth = self._through(self._at_eighth, eighth)
        x = self.upsample4_0(eighth, quarter_places, quarter.shape[-2:])
        x = self.regular4_2(self.regular4_1(x))
        x = self.regular5_1(self.upsample5_0(x, half_places, half.shape[-2:]))
        result: Tensor = self.transposed_conv(x, output_size=normalized.shape[-2:])
        return result

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return ``classes`` as a checkpoint has them; nothing where it is none of this network."""
        head = state.get("transposed_conv.weight")
        return {} if head is None or head.ndim != 4 else {"classes": head.shape[1]}

    def _add(self, blocks: Mapping[str, nn.Module]) -> tuple[str, ...]:
        # Side by side, not in an nn.Sequential: the checkpoints name every block at the top level.
        for name, block in blocks.items():
            self.add_module(name, block)
        return tuple(blocks)

    def _through(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names:
            x = self.get_submodule(name)(x)
        return x
