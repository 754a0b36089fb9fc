"""SwiftNet over an interleaved image pyramid: one shared trunk sees the image at scales 1, 1/2 and 1/4."""

from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card
from strays.networks.base import Configuration, SegmentationNetwork, StateDict, register_network
from strays.networks.encoders.resnet import SWIFTNET_NORMALIZATION, ResNet18Trunk
from strays.networks.swiftnet import brc
from strays.prediction import resize_maps

__all__ = ["SwiftNetPyramid"]

_WIDTH = 128
_SCALES = (1.0, 0.5, 0.25)
_STAGES = (64, 128, 256, 512)
_BINS = len(_STAGES) + len(_SCALES) - 1


@register_network("swiftnet-rn18-pyramid")
class SwiftNetPyramid(SegmentationNetwork):
    """SwiftNet-RN18 with an interleaved pyramid; 12,056,275 parameters with 19 classes, logits at stride 4.

    Features of equal stride are summed across the pyramid before each upsampling step. Skips are taken before the
    last ReLU of their stage.

    Reference: Oršić and Šegvić, Efficient semantic segmentation with pyramidal fusion, Pattern Recognition 2021.

    Args:
        classes: number of output channels.
    """

    card = Card(
        title="SwiftNet, interleaved pyramid",
        summary="SwiftNet-RN18 that fuses features of three image scales seen by one shared trunk.",
        paper="Efficient semantic segmentation with pyramidal fusion",
        year=2021,
        url="https://github.com/orsic/swiftnet",
    )
    normalization = SWIFTNET_NORMALIZATION
    stride = 4
    channels_last = True

    def __init__(self, classes: int = 19) -> None:
        super().__init__()
        self.configuration: Configuration = {"classes": classes}
        self.trunk = ResNet18Trunk(levels=len(_SCALES))
        self.projections = nn.ModuleList(nn.Conv2d(channels, _WIDTH, 1, bias=False) for channels in _STAGES)
        self.blends = nn.ModuleList(brc(_WIDTH, _WIDTH, 3) for _ in range(_BINS - 1))
        self.classifier = brc(_WIDTH, classes, 1, bias=True)
        bins = {f"bin{index}": f"blends.{_BINS - 2 - index}" for index in range(_BINS - 1)}
        self.tap_modules = {**bins, "encoder": bins["bin2"], "decoder": bins["bin0"]}

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return the number of classes of a checkpoint of ours."""
        classifier = state.get("classifier.2.weight")
        return {"classes": 19 if classifier is None else classifier.shape[0]}

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H / 4, W / 4) of normalised images (N, 3, H, W)."""
        *finer, x = self._bins(normalized)
        for blend, total in zip(self.blends, reversed(finer), strict=True):
            x = blend(resize_maps(x, total.shape[-2:]) + total)
        logits: Tensor = self.classifier(x)
        return logits

    def _bins(self, normalized: Tensor) -> list[Tensor]:
        """Return the sums of projected features by stride 4, 8, ..., 128."""
        bins: list[Tensor | None] = [None] * _BINS
        for level, scale in enumerate(_SCALES):
            for stage, total in enumerate(self.trunk.sums(_shrunk(normalized, scale), level)):
                projected = self.projections[stage](total)
                present = bins[level + stage]
                bins[level + stage] = projected if present is None else present + _fitted(projected, present)
        return [one for one in bins if one is not None]


def _shrunk(image: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return functional.interpolate(image, size=size, mode="bicubic", align_corners=False)


def _fitted(x: Tensor, like: Tensor) -> Tensor:
    """Return ``x`` at the size of ``like``: at odd image sizes the levels of the pyramid differ by a pixel."""
    return x if x.shape == like.shape else resize_maps(x, like.shape[-2:])
