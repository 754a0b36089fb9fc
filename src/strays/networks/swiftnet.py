"""SwiftNet with a single scale and spatial pyramid pooling: a light decoder on an encoder chosen by name."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card
from strays.networks.base import Configuration, SegmentationNetwork, StateDict, register_network
from strays.networks.encoders import ENCODERS
from strays.networks.norms import NormOfMeans
from strays.prediction import resize_maps

__all__ = ["SpatialPyramidPooling", "SwiftNet", "SwiftNetMobileNetV2", "Upsampling", "brc"]

_WIDTH = 128
_POOLED = 42
_GRIDS = (8, 4, 2)
_POOLING_MOMENTUM = 0.005


def brc(inputs: int, outputs: int, kernel: int, momentum: float = 0.1, bias: bool = False) -> nn.Sequential:
    """Return the unit of SwiftNet: batch norm, ReLU, convolution (padding k // 2)."""
    norm = NormOfMeans(inputs, momentum=momentum)  # the coarsest of the pooled levels may be a single cell
    return nn.Sequential(norm, nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias))


class SpatialPyramidPooling(nn.Module):
    """Averages over a few rows, as many columns as keep the cells square, beside the features themselves.

    Args:
        inputs: channels of the features.
        width: channels that they are reduced to first, and that come out.
        pooled: channels of each average.
        grids: how many rows, coarsest last.
        momentum: of the batch norms.
    """

    def __init__(
        self,
        inputs: int,
        width: int = _WIDTH,
        pooled: int = _POOLED,
        grids: tuple[int, ...] = _GRIDS,
        momentum: float = _POOLING_MOMENTUM,
    ) -> None:
        super().__init__()
        self.grids = grids
        self.reduce = brc(inputs, width, 1, momentum)
        self.levels = nn.ModuleList(brc(width, pooled, 1, momentum) for _ in grids)
        self.fuse = brc(width + pooled * len(grids), width, 1, momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width, h, w) for features (N, inputs, h, w)."""
        x = self.reduce(x)
        height, width = x.shape[-2:]
        parts = [x]
        for rows, level in zip(self.grids, self.levels, strict=True):
            columns = max(1, round(rows * width / height))
            pooled = functional.adaptive_avg_pool2d(x, (rows, columns))
            parts.append(resize_maps(level(pooled), (height, width)))
        fused: Tensor = self.fuse(torch.cat(parts, dim=1))
        return fused


class Upsampling(nn.Module):
    """One step of the decoder: enlarge, add the projected skip connection, blend.

    Args:
        skip: channels of the skip connection.
        width: channels that come out.
        inputs: channels that come in, as many by default.
    """

    def __init__(self, skip: int, width: int = _WIDTH, inputs: int | None = None) -> None:
        super().__init__()
        self.bottleneck = brc(skip, inputs or width, 1)
        self.blend = brc(inputs or width, width, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (N, width, h, w) at the size of ``skip`` (N, C, h, w)."""
        projected = self.bottleneck(skip)
        blended: Tensor = self.blend(resize_maps(x, projected.shape[-2:]) + projected)
        return blended


@register_network("swiftnet-rn18")
class SwiftNet(SegmentationNetwork):
    """SwiftNet: encoder, spatial pyramid pooling, three upsampling steps, logits at stride 4.

    Reference: Oršić et al., In Defense of Pre-Trained ImageNet Architectures for Real-Time Semantic Segmentation of
    Road-Driving Images, CVPR 2019.

    Args:
        classes: number of output channels.
        encoder: ``resnet18`` (11,797,071 parameters with 19 classes) or ``mobilenet-v2``.
    """

    card = Card(
        title="SwiftNet",
        summary="A real-time network: light encoder, spatial pyramid pooling, three lateral upsampling steps.",
        paper="In Defense of Pre-Trained ImageNet Architectures for Real-Time Semantic Segmentation",
        year=2019,
        url="https://arxiv.org/abs/1903.08469",
    )
    stride = 4
    channels_last = True
    auxiliary_taps = ("pooling", "upsampling1", "upsampling2")
    dropout_taps = ("pooling", "decoder")

    def __init__(self, classes: int = 19, encoder: str = "resnet18") -> None:
        super().__init__()
        self.configuration: Configuration = {"classes": classes, "encoder": encoder}
        self.encoder = ENCODERS[encoder]()
        self.normalization = self.encoder.normalization
        *skips, deepest = self.encoder.channels
        self.pooling = SpatialPyramidPooling(deepest)
        self.upsamplings = nn.ModuleList(Upsampling(skip) for skip in reversed(skips))
        self.classifier = brc(_WIDTH, classes, 1, bias=True)
        stages = {f"stage{index}": f"encoder.{path}" for index, path in enumerate(self.encoder.stages, start=1)}
        steps = {f"upsampling{index + 1}": f"upsamplings.{index}" for index in range(len(skips))}
        named = {"encoder": stages["stage3"], "decoder": steps["upsampling3"]}
        self.tap_modules = {**stages, "pooling": "pooling", **steps, **named}

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return classes and encoder of a checkpoint of ours."""
        classifier = state.get("classifier.2.weight")
        encoder = "mobilenet-v2" if any(key.startswith("encoder.features.") for key in state) else "resnet18"
        return {"classes": 19 if classifier is None else classifier.shape[0], "encoder": encoder}

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H / 4, W / 4) of normalised images (N, 3, H, W)."""
        *skips, deepest = self.encoder(normalized)
        x = self.pooling(deepest)
        for upsampling, skip in zip(self.upsamplings, reversed(skips), strict=True):
            x = upsampling(x, skip)
        logits: Tensor = self.classifier(x)
        return logits


@register_network("swiftnet-mnv2")
class SwiftNetMobileNetV2(SwiftNet):
    """SwiftNet on MobileNetV2: 2,904,759 parameters with 11 classes, a quarter of those of SwiftNet-RN18.

    Args:
        classes: number of output channels.
        encoder: name of the encoder.
    """

    card = SwiftNet.card.model_copy(
        update={"title": "SwiftNet-MobileNetV2", "summary": "SwiftNet on MobileNetV2: a quarter of the parameters."}
    )

    def __init__(self, classes: int = 19, encoder: str = "mobilenet-v2") -> None:
        super().__init__(classes, encoder)
