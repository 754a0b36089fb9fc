"""PSPNet: a dilated ResNet-50 and pyramid pooling, with the layers and names of the CSAIL checkpoints."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from strays.cards import Card
from strays.networks.base import (
    IMAGENET,
    Configuration,
    Normalization,
    SegmentationNetwork,
    StateDict,
    register_network,
)
from strays.networks.encoders.dilated_resnet import DilatedResNet
from strays.networks.norms import NormOfMeans
from strays.prediction import resize_maps

__all__ = ["PSPNet", "PyramidPooling"]

_GRIDS = (1, 2, 3, 6)
_WIDTH = 512
_DROPOUT = 0.1
_DECODER = ("ppm.", "conv_last.")
# the classifier of ImageNet and the head of the deep supervision: nothing that this network has
_LEFT_OUT = ("fc.", "cbr_deepsup.", "conv_last_deepsup.")


class PyramidPooling(nn.ModuleList):
    """Averages over grids of 1, 2, 3 and 6 cells a side, 512 channels of each, behind the features themselves.

    Args:
        inputs: channels of the features.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(grid),
                nn.Conv2d(inputs, _WIDTH, 1, bias=False),
                NormOfMeans(_WIDTH),
                nn.ReLU(),
            )
            for grid in _GRIDS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, inputs + 2048, h, w) for features (N, inputs, h, w)."""
        return torch.cat([x, *(resize_maps(level(x), x.shape[-2:]) for level in self)], dim=1)


class _Decoder(nn.Module):
    """(N, 2048, h, w) -> (N, K, h, w)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.ppm = PyramidPooling(inputs)
        self.conv_last = nn.Sequential(
            nn.Conv2d(inputs + _WIDTH * len(_GRIDS), _WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(),  # not in place: what stands before it is a tap
            nn.Dropout2d(_DROPOUT),
            nn.Conv2d(_WIDTH, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv_last(self.ppm(x))
        return result


@register_network("pspnet")
class PSPNet(SegmentationNetwork):
    """PSPNet: dilated ResNet-50 with a stem of three convolutions, pyramid pooling, logits at stride 8.

    It is the network of the CSAIL code, which the StreetHazards baselines, SynthCP and DiCNet use. Its checkpoints are
    two files; ``torch.save(encoder | decoder, path)`` of their state dicts makes one that loads. The head of its deep
    supervision is left out: auxiliary heads of the library (``Extension(auxiliary=True)``, BN-ReLU-1x1 where that one
    has a 3x3 convolution first) read ``stage3``. In training a batch must hold two images or more, since the mean of
    the whole image is one value per channel, of which a batch norm cannot learn.

    Reference: Zhao, Shi, Qi, Wang and Jia, Pyramid Scene Parsing Network, CVPR 2017, figure 3.

    Taps: ``stage1`` (256 channels, stride 4), ``stage2`` (512), ``stage3`` (1024) and ``stage4`` (2048), those and all
    that follow at stride 8; ``pooling`` (4096), the features with what was pooled behind them, which SynthCP compares;
    ``fused`` (512), the batch norm of the 3x3 convolution **before** its ReLU, which students in DiCNet learn.
    ``encoder`` is ``stage4``, ``decoder`` is ``fused`` after its ReLU.

    Args:
        classes: number of output channels.

    Example:
        >>> network = PSPNet(classes=13).eval()
        >>> prediction = network.predict(torch.rand(1, 3, 32, 64), taps=["pooling", "fused"])
        >>> [tuple(one.shape[1:]) for one in (prediction.logits, *prediction.features.values())]
        [(13, 4, 8), (4096, 4, 8), (512, 4, 8)]
    """

    card: ClassVar[Card] = Card(
        title="PSPNet",
        summary="Dilated ResNet-50 with pyramid pooling: the network of DiCNet, SynthCP and StreetHazards' baselines.",
        paper="Pyramid Scene Parsing Network",
        year=2017,
        url="https://arxiv.org/abs/1612.01105",
        notes="Weights are not part of the package: pspnet@FILE reads CSAIL checkpoints, encoder and decoder in one.",
    )
    normalization: Normalization = IMAGENET
    stride: int = 8
    auxiliary_taps: tuple[str, ...] = ("stage3",)
    tap_modules: Mapping[str, str] = MappingProxyType(
        {
            **{f"stage{number}": f"encoder.layer{number}" for number in range(1, 5)},
            "pooling": "decoder.ppm",
            "fused": "decoder.conv_last.1",
            "encoder": "encoder.layer4",
            "decoder": "decoder.conv_last.2",
        }
    )

    def __init__(self, classes: int = 19) -> None:
        super().__init__()
        self.configuration: Configuration = {"classes": classes}
        self.encoder = DilatedResNet(50, output_stride=8, deep_stem=True, dilated_first=False)
        self.decoder = _Decoder(self.encoder.channels[-1], classes)

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return ``classes`` as a checkpoint has them; nothing where it is none of this network."""
        head = cls.renamed(state).get("decoder.conv_last.4.weight")
        return {} if head is None or head.ndim != 4 else {"classes": head.shape[0]}

    @classmethod
    def renamed(cls, state: StateDict) -> StateDict:
        """Return a CSAIL checkpoint, its two halves in one, without what serves training alone."""
        plain = {key.removeprefix("encoder.").removeprefix("decoder."): value for key, value in state.items()}
        return {_placed(key): value for key, value in plain.items() if not key.startswith(_LEFT_OUT)}

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H / 8, W / 8) of normalised images (N, 3, H, W)."""
        _, deepest = self.encoder(normalized)
        logits: Tensor = self.decoder(deepest)
        return logits


def _placed(key: str) -> str:
    return f"{'decoder' if key.startswith(_DECODER) else 'encoder'}.{key}"
