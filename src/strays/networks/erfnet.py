"""ERFNet: a residual encoder-decoder of factorised convolutions."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card, Published
from strays.networks.base import (
    UNIT,
    Configuration,
    NetworkOutputs,
    Normalization,
    SegmentationNetwork,
    StateDict,
    register_network,
)
from strays.networks.cropping import cropped_maps

__all__ = ["ERFNet"]

_EPS = 1e-3
_MULTIPLE = 8


class _Downsampler(nn.Module):
    """(N, C, h, w) -> (N, D, h / 2, w / 2) for even h and w: a strided convolution beside a max-pool."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2, stride=2)
        self.bn = nn.BatchNorm2d(outputs, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(torch.cat([self.conv(x), self.pool(x)], dim=1)))


class _Residual(nn.Module):
    """The non-bottleneck-1D block: two 3x3 convolutions, each split into 3x1 and 1x3; keeps the shape.

    The second pair is dilated. ``folded`` leaves out the batch norms, for weights that contain them.
    """

    def __init__(self, channels: int, dropout: float, dilation: int, folded: bool) -> None:
        super().__init__()
        d = dilation
        self.conv3x1_1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv1x3_1 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.bn1 = nn.Identity() if folded else nn.BatchNorm2d(channels, eps=_EPS)
        self.conv3x1_2 = nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1))
        self.conv1x3_2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, d), dilation=(1, d))
        self.bn2 = nn.Identity() if folded else nn.BatchNorm2d(channels, eps=_EPS)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        first = functional.relu(self.bn1(self.conv1x3_1(functional.relu(self.conv3x1_1(x)))))
        second = self.bn2(self.conv1x3_2(functional.relu(self.conv3x1_2(first))))
        return functional.relu(self.dropout(second) + x)


class _Upsampler(nn.Module):
    """(N, C, h, w) -> (N, D, 2 h, 2 w) by a transposed convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Encoder(nn.Module):
    """(N, 3, H, W) -> (N, 128, H / 8, W / 8)."""

    def __init__(self, classes: int, folded: bool) -> None:
        super().__init__()
        self.initial_block = _Downsampler(3, 16)
        self.layers = nn.Sequential(
            _Downsampler(16, 64),
            *(_Residual(64, 0.03, 1, folded) for _ in range(5)),
            _Downsampler(64, 128),
            *(_Residual(128, 0.3, dilation, folded) for dilation in (2, 4, 8, 16) * 2),
        )
        if not folded:
            # Only pre-training of the encoder alone reads it; it is here because the checkpoints hold it. Without a
            # gradient, since DistributedDataParallel refuses parameters that no loss reaches.
            self.output_conv = nn.Conv2d(128, classes, 1).requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.layers(self.initial_block(image))
        return result


class _Decoder(nn.Module):
    """(N, 128, h, w) -> (N, K, 8 h, 8 w)."""

    def __init__(self, classes: int, folded: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Upsampler(128, 64),
            *(_Residual(64, 0.0, 1, folded) for _ in range(2)),
            _Upsampler(64, 16),
            *(_Residual(16, 0.0, 1, folded) for _ in range(2)),
        )
        self.output_conv = nn.ConvTranspose2d(16, classes, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.output_conv(self.layers(x))
        return result


@register_network("erfnet")
class ERFNet(SegmentationNetwork):
    """ERFNet: residual blocks of 3x1 and 1x3 convolutions, dilated up to 16 at an eighth of the size; a light decoder.

    The parameters carry the names of the authors' PyTorch checkpoints. The network works on multiples of 8 pixels: an
    image of another size is continued to the right and below by its last column and row, and the logits are cropped, so
    that they have the size of the image. Nothing happens to sizes that are multiples of 8.

    Reference: Romera, Alvarez, Bergasa and Arroyo 2018, "ERFNet: Efficient Residual Factorized ConvNet for Real-Time
    Semantic Segmentation", table I.

    Taps, for an image (H, W), sizes rounded up: ``initial`` (16, H / 2, W / 2), ``stage1`` (64, H / 4, W / 4),
    ``stage2`` (128, H / 8, W / 8), ``stage3`` (64, H / 4, W / 4), ``stage4`` (16, H / 2, W / 2). ``encoder`` is
    ``stage2``, ``decoder`` is ``stage4``.

    Args:
        classes: the number of output channels K; 20 are the Cityscapes classes and void.
        folded: whether the batch norms of the residual blocks are part of the convolutions before them, as in
            checkpoints made for inference; those of the down- and upsamplers always stay.

    Example:
        >>> ERFNet(classes=11).eval()(torch.rand(1, 3, 32, 45)).shape
        torch.Size([1, 11, 32, 45])
    """

    card: ClassVar[Card] = Card(
        title="ERFNet",
        summary="Residual encoder-decoder of factorised convolutions with 2.1 million parameters, made for real time.",
        paper="ERFNet: Efficient Residual Factorized ConvNet for Real-Time Semantic Segmentation",
        year=2018,
        url="https://doi.org/10.1109/TITS.2017.2750080",
        published=(
            Published(
                dataset="Cityscapes val",
                metric="mIoU",
                value=0.643,
                network="float parent of erfnet_cityscapes_void_bnfolded.pth",
                protocol="512x1024, RGB / 255, void trained as the 20th class",
            ),
        ),
        notes="Input RGB / 255 without mean or std. Weights are not part of the package: erfnet@FILE.",
    )
    normalization: Normalization = UNIT
    stride: int = 1
    channels_last = True
    tap_modules: Mapping[str, str] = MappingProxyType(
        {
            "initial": "encoder.initial_block",
            "stage1": "encoder.layers.5",
            "stage2": "encoder.layers.14",
            "stage3": "decoder.layers.2",
            "stage4": "decoder.layers.5",
            "encoder": "encoder.layers.14",
            "decoder": "decoder.layers.5",
        }
    )

    def __init__(self, classes: int = 20, folded: bool = False) -> None:
        super().__init__()
        self.configuration: Configuration = {"classes": classes, "folded": folded}
        self.encoder = _Encoder(classes, folded)
        self.decoder = _Decoder(classes, folded)

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H, W) of images (N, 3, H, W) in [0, 1]."""
        height, width = normalized.shape[-2:]
        below, right = -height % _MULTIPLE, -width % _MULTIPLE
        if below or right:
            normalized = functional.pad(normalized, (0, right, 0, below), mode="replicate")
        result: Tensor = self.decoder(self.encoder(normalized))
        return result[..., :height, :width]

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return what one pass gives, and the features of the taps, those of the image alone."""
        outputs, features = super().observe(image, taps)
        content = (image.shape[-2], image.shape[-1])
        size = (content[0] + -content[0] % _MULTIPLE, content[1] + -content[1] % _MULTIPLE)
        return outputs, {name: cropped_maps(one, content, size) for name, one in features.items()}

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return ``classes`` and ``folded`` as a checkpoint has them; nothing where it is none of this network."""
        head = state.get("decoder.output_conv.weight")
        if head is None or head.ndim != 4:
            return {}
        return {"classes": head.shape[1], "folded": "encoder.layers.1.bn1.weight" not in state}
