"""Ladder DenseNet: a dense trunk, spatial pyramid pooling, and a light ladder back up to a quarter of the size."""

from torch import Tensor, nn

from strays.cards import Card
from strays.networks.base import UNIT, Configuration, SegmentationNetwork, StateDict, register_network
from strays.networks.encoders.densenet import DENSENET_LAYERS, DenseNet
from strays.networks.swiftnet import SpatialPyramidPooling, Upsampling, brc

__all__ = ["LadderDenseNet"]

_POOLED = 512
_LEVEL = 128
_GRIDS = (8, 4, 2, 1)
_LADDER = (256, 256, 128)
_MOMENTUM = 0.1


@register_network("ladder-densenet-121")
class LadderDenseNet(SegmentationNetwork):
    """LDN: DenseNet trunk, spatial pyramid pooling, three upsampling steps with skip connections, logits at stride 4.

    It takes RGB in [0, 1] as it is, without mean and standard deviation. Sides that are multiples of 32 suit it best;
    any from 3 pixels on will do. In training a batch must hold two images or more unless they are at least half as
    wide again as high, since the coarsest pooling leaves one value per image and channel, of which a batch norm cannot
    learn.

    Auxiliary heads, as ``Extension(auxiliary=True)`` adds them (BN-ReLU-1x1), read what each upsampling step is given:
    ``pooling`` (512 channels, stride 32), ``upsampling1`` (256, stride 16) and ``upsampling2`` (256, stride 8).

    Reference: Krešo, Krapac and Šegvić 2020, "Efficient Ladder-Style DenseNets for Semantic Segmentation of Large
    Images"; widths and poolings as in the code of DenseHybrid (Grcić, Bevandić and Šegvić, ECCV 2022). The batch norms
    of the trunk have momentum 0.01; ours is the choice of PyTorch's 0.1 for the others.

    Args:
        classes: number of output channels.
        depth: of the trunk: 121 (11,064,339 parameters with 19 classes) or 169, the one of the outlier head of 2019.

    Raises:
        InputError: if there is no trunk of that depth.

    Example:
        >>> import torch
        >>> LadderDenseNet(classes=12).eval()(torch.rand(1, 3, 64, 96)).shape
        torch.Size([1, 12, 16, 24])
    """

    card = Card(
        title="Ladder DenseNet",
        summary="DenseNet-121 or -169 with spatial pyramid pooling and a light ladder-style decoder.",
        paper="Efficient Ladder-Style DenseNets for Semantic Segmentation of Large Images",
        year=2020,
        url="https://arxiv.org/abs/1905.05661",
        notes="LDN-121 is the network of DenseHybrid and NFlowJS, LDN-169 (depth=169) that of the outlier head of "
        "2019. Input RGB / 255 without mean or std.",
    )
    normalization = UNIT
    stride = 4
    channels_last = True
    auxiliary_taps = ("pooling", "upsampling1", "upsampling2")

    def __init__(self, classes: int = 19, depth: int = 121) -> None:
        super().__init__()
        self.configuration: Configuration = {"classes": classes, "depth": depth}
        self.encoder = DenseNet(depth)
        *skips, deepest = self.encoder.channels
        self.pooling = SpatialPyramidPooling(deepest, _POOLED, _LEVEL, _GRIDS, _MOMENTUM)
        widths = zip(reversed(skips), _LADDER, (_POOLED, *_LADDER[:-1]), strict=True)
        self.upsamplings = nn.ModuleList(Upsampling(*one) for one in widths)
        self.classifier = brc(_LADDER[-1], classes, 1, bias=True)
        stages = {f"stage{index}": f"encoder.{path}" for index, path in enumerate(self.encoder.stages, start=1)}
        steps = {f"upsampling{index + 1}": f"upsamplings.{index}" for index in range(len(_LADDER))}
        named = {"encoder": stages["stage3"], "decoder": steps["upsampling3"]}
        self.tap_modules = {**stages, "pooling": "pooling", **steps, **named}

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return classes and depth of a checkpoint of ours."""
        classifier = state.get("classifier.2.weight")
        deeper = f"encoder.features.denseblock3.denselayer{DENSENET_LAYERS[169][2]}.conv2.weight" in state
        return {"classes": 19 if classifier is None else classifier.shape[0], "depth": 169 if deeper else 121}

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H / 4, W / 4) of images (N, 3, H, W) in [0, 1]."""
        *skips, deepest = self.encoder(normalized)
        x = self.pooling(deepest)
        for upsampling, skip in zip(self.upsamplings, reversed(skips), strict=True):
            x = upsampling(x, skip)
        logits: Tensor = self.classifier(x)
        return logits
