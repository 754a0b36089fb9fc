"""DeepLabV3+ on a dilated ResNet or on WiderResNet38, with the layers and names of NVIDIA's and SML's checkpoints."""

import re
from collections.abc import Sequence
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
from strays.networks.encoders.dilated_resnet import DilatedResNet
from strays.networks.encoders.wide_resnet import WideResNet
from strays.networks.norms import NormOfMeans

__all__ = ["AtrousPyramid", "DeepLabV3Plus"]

_WIDTH = 256
_SKIP = 48
_RATES = (6, 12, 18)
_DEPTHS = {"resnet50": 50, "resnet101": 101}
_WIDE = "wideresnet38"
# place in the authors' ``layer0`` -> name of that layer in the stem of a ResNet
_STEM = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
# SML's auxiliary head, and the filters of its post-processing: nothing that inference with this network needs
_LEFT_OUT = ("dsn.", "multi_scale.")


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: the mean of the image, a 1x1 and three dilated 3x3 convolutions side by side.

    Reference: Chen et al. 2017, "Rethinking Atrous Convolution for Semantic Image Segmentation", figure 5.

    Args:
        inputs: channels of the features.
        output_stride: their stride, 8 or 16; the dilations 6, 12 and 18 of stride 16 are doubled for 8.
    """

    def __init__(self, inputs: int, output_stride: int) -> None:
        super().__init__()
        rates = [rate * 16 // output_stride for rate in _RATES]
        dilated = [_unit(inputs, _WIDTH, 3, rate) for rate in rates]
        self.features = nn.ModuleList([_unit(inputs, _WIDTH, 1), *dilated])
        self.img_conv = _unit(inputs, _WIDTH, 1, norm=NormOfMeans(_WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 1280, h, w) for features (N, inputs, h, w): the mean first, the largest dilation last."""
        mean = self.img_conv(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return torch.cat([mean, *(branch(x) for branch in self.features)], dim=1)


@register_network("deeplab-v3plus")
class DeepLabV3Plus(SegmentationNetwork):
    """DeepLabV3+: a dilated backbone, atrous spatial pyramid pooling, and a decoder that adds one finer feature.

    The backbone's last feature passes the pyramid (1280 channels) and a projection to 256; enlarged to the size of the
    backbone's first stage it stands beside 48 channels of that one, and two 3x3 convolutions and the classifier follow.
    As in the authors' code, everything is enlarged with ``align_corners=True``; that is why the logits come at the size
    of the image: the detectors, which enlarge with ``align_corners=False``, find nothing left to enlarge.

    Weights are read under the names that the public code of NVIDIA (WideResNet-38 and ResNet), SMIYC, PEBAL and SML
    (ResNet) gives them; SML's auxiliary head is left out. Whether a ResNet was trained at output stride 8 or 16 is not
    to be seen in its weights: they are taken for 8.

    Reference: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
    here with ordinary convolutions, as in Zhu et al. 2019, "Improving Semantic Segmentation via Video Propagation and
    Label Relaxation", and Jung et al. 2021, "Standardized Max Logits".

    Taps: the stages ``layer1`` to ``layer4`` or ``mod2`` to ``mod7``, ``aspp`` (256 channels, behind the projection) at
    the output stride, and ``decoder`` (256) at stride 4, that of WideResNet-38 at stride 2. ``encoder`` is ``aspp``, as
    the paper has it. Auxiliary heads read ``layer3`` or ``mod5``. WideResNet-38 has dropout of its own, in ``mod6`` and
    ``mod7``, which drops whole channels.

    Args:
        classes: number of output channels.
        backbone: ``resnet50``, ``resnet101`` or ``wideresnet38``.
        output_stride: input pixels per pixel of the backbone's last feature, 8 or 16; 8 with ``wideresnet38``.
        deep_stem: whether a ResNet starts with three 3x3 convolutions; by default only ``resnet101`` does, as in SML.
        normed_projections: whether batch norm and ReLU follow both projections and the classifier has a bias, as in SML
            (by default so with a ResNet), or neither, as in NVIDIA's networks (so with ``wideresnet38``).

    Raises:
        InputError: if there is no such backbone, or it does not come with that output stride or stem.

    Example:
        >>> DeepLabV3Plus(classes=11).eval()(torch.rand(1, 3, 32, 45)).shape
        torch.Size([1, 11, 32, 45])
    """

    card: ClassVar[Card] = Card(
        title="DeepLabV3+",
        summary="A dilated backbone with atrous spatial pyramid pooling and a light decoder; large and accurate.",
        paper="Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
        year=2018,
        url="https://arxiv.org/abs/1802.02611",
        published=(
            Published(
                dataset="Cityscapes test",
                metric="mIoU",
                value=0.835,
                network="WideResNet-38, cityscapes_best.pth of NVIDIA/semantic-segmentation (sdcnet)",
                protocol="test server, several scales, trained with labels propagated along the videos",
            ),
        ),
        notes="With backbone=wideresnet38 (137 million parameters) the network behind most published numbers of the "
        "field, with resnet101 that of SML. Weights are not part of the package: deeplab-v3plus@FILE, which tells the "
        "backbone by them.",
    )
    normalization: Normalization = IMAGENET
    stride: int = 1
    channels_last = True
    dropout_taps = ("aspp", "decoder")

    def __init__(
        self,
        classes: int = 19,
        backbone: str = "resnet50",
        output_stride: int = 8,
        deep_stem: bool | None = None,
        normed_projections: bool | None = None,
    ) -> None:
        super().__init__()
        deep = backbone == "resnet101" if deep_stem is None else deep_stem
        normed = backbone != _WIDE if normed_projections is None else normed_projections
        self.configuration: Configuration = {
            "classes": classes,
            "backbone": backbone,
            "output_stride": output_stride,
            "deep_stem": deep,
            "normed_projections": normed,
        }
        self.encoder = _backbone(backbone, output_stride, deep)
        fine, coarse = self.encoder.channels
        self.aspp = AtrousPyramid(coarse, output_stride)
        self.bot_fine = _projection(fine, _SKIP, normed)
        self.bot_aspp = _projection(_WIDTH * (2 + len(_RATES)), _WIDTH, normed)
        refining = [*_unit(_WIDTH + _SKIP, _WIDTH, 3), *_unit(_WIDTH, _WIDTH, 3)]
        self.final = nn.Sequential(*refining, nn.Conv2d(_WIDTH, classes, 1, bias=normed))
        _initialise(self.aspp, self.bot_fine, self.bot_aspp, self.final)
        stages = {name: f"encoder.{name}" for name in self.encoder.stages}
        self.tap_modules = {**stages, "aspp": "bot_aspp", "encoder": "bot_aspp", "decoder": "final.5"}
        self.auxiliary_taps = (self.encoder.auxiliary,)

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H, W) of normalised images (N, 3, H, W)."""
        fine, coarse = self.encoder(normalized)
        skip = self.bot_fine(fine)  # first, so that passes with dropout behind the pyramid need not compute it again
        context = _enlarged(self.bot_aspp(self.aspp(coarse)), skip.shape[-2:])
        return _enlarged(self.final(torch.cat([skip, context], dim=1)), normalized.shape[-2:])

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return the configuration of a checkpoint as far as it tells; nothing where it is none of this network."""
        state = cls.renamed(state)
        classifier = state.get("final.6.weight")
        if classifier is None or classifier.ndim != 4:
            return {}
        return {
            "classes": classifier.shape[0],
            "backbone": _backbone_of(state),
            "deep_stem": "encoder.conv3.weight" in state,
            "normed_projections": "final.6.bias" in state,
        }

    @classmethod
    def renamed(cls, state: StateDict) -> StateDict:
        """Return a checkpoint of NVIDIA, SMIYC, PEBAL or SML under our names, without what serves training alone."""
        plain = {key.removeprefix("branch1."): value for key, value in state.items()}
        return {_renamed(key): value for key, value in plain.items() if not key.startswith(_LEFT_OUT)}


def _unit(inputs: int, outputs: int, kernel: int, dilation: int = 1, norm: nn.Module | None = None) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs) if norm is None else norm, nn.ReLU())


def _projection(inputs: int, outputs: int, normed: bool) -> nn.Module:
    return _unit(inputs, outputs, 1) if normed else nn.Conv2d(inputs, outputs, 1, bias=False)


def _enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(x, list(size), mode="bilinear", align_corners=True)


def _backbone(name: str, output_stride: int, deep_stem: bool) -> DilatedResNet | WideResNet:
    if name in _DEPTHS:
        return DilatedResNet(_DEPTHS[name], output_stride, deep_stem)
    if name != _WIDE:
        raise InputError(f"no backbone is called {name!r}; known: {', '.join([*_DEPTHS, _WIDE])}")
    if output_stride != 8 or deep_stem:
        found = f"output_stride={output_stride} and deep_stem={deep_stem}"
        raise InputError(f"{_WIDE} has output stride 8 and one stem only, got {found}: leave both out")
    return WideResNet()


def _backbone_of(state: StateDict) -> str:
    if any(key.startswith("encoder.mod7.") for key in state):
        return _WIDE
    return "resnet101" if any(key.startswith("encoder.layer3.22.") for key in state) else "resnet50"


def _renamed(key: str) -> str:
    if found := re.fullmatch(r"layer0\.(\d)\.(.+)", key):
        return f"encoder.{_STEM.get(found[1], found[1])}.{found[2]}"
    if re.match(r"(mod|layer)[1-7]\.", key):
        return f"encoder.{key}"
    return re.sub(r"^final1\.", "final.", re.sub(r"^final2\.0\.", "final.6.", key))


def _initialise(*parts: nn.Module) -> None:
    for module in (one for part in parts for one in part.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
