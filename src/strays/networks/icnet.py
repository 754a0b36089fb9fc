"""ICNet: one image at three sizes, the smaller the deeper, fused in cascade; made for real time."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card
from strays.networks.base import (
    IMAGENET,
    Configuration,
    Normalization,
    SegmentationNetwork,
    StateDict,
    register_network,
)
from strays.prediction import resize_maps

__all__ = ["CascadeFeatureFusion", "ICNet"]

_STEM = 64
_FINE = (32, 32, 64)
_POOLED = 256
_FUSED = 128
_GRIDS = (1, 2, 3, 6)


def _cbr(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(*_normed(inputs, outputs, kernel, stride, dilation), nn.ReLU())


def _normed(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class _Bottleneck(nn.Module):
    """(N, C, h, w) -> (N, 4 * width, h / stride, w / stride): 1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.path = nn.Sequential(
            _cbr(inputs, width, 1), _cbr(width, width, 3, stride, dilation), _normed(width, outputs, 1)
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _normed(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.path(x) + self.shortcut(x))


def _stage(inputs: int, width: int, blocks: int, dilation: int = 1) -> Iterator[_Bottleneck]:
    yield _Bottleneck(inputs, width, dilation=dilation)
    yield from (_Bottleneck(4 * width, width, dilation=dilation) for _ in range(blocks - 1))


class _Trunk(nn.Module):
    """ResNet-50 with a stem of three convolutions, cut where the medium branch ends.

    Args:
        width: channels of the first convolution, 64 in ResNet-50 itself.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.medium = nn.Sequential(
            _cbr(3, width, 3, stride=2),
            _cbr(width, width, 3),
            _cbr(width, 2 * width, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
            *_stage(2 * width, width, 3),
            _Bottleneck(4 * width, 2 * width, stride=2),
        )
        self.coarse = nn.Sequential(
            *(_Bottleneck(8 * width, 2 * width) for _ in range(3)),
            *_stage(8 * width, 4 * width, 6, dilation=2),
            *_stage(16 * width, 8 * width, 3, dilation=4),
        )
        _initialise(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, 8 width, h / 8, w / 8) and (N, 32 width, h / 16, w / 16) of images (N, 3, h, w)."""
        medium = self.medium(image)
        return medium, self.coarse(_halved(medium))


class _SummedPyramid(nn.Module):
    """(N, C, h, w) -> (N, 256, h, w): the features plus their averages over 1, 2, 3 and 6 cells a side, projected."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.project = _cbr(inputs, _POOLED, 1)

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for grid in _GRIDS:
            total = total + resize_maps(functional.adaptive_avg_pool2d(x, grid), x.shape[-2:])
        projected: Tensor = self.project(total)
        return projected


class _Enlarging(nn.Module):
    """Bilinear, at a size that it is told; a module, so that it can be a tap."""

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return resize_maps(x, size)


class CascadeFeatureFusion(nn.Module):
    """Features of a small image, enlarged and passed through a dilated 3x3, plus projected ones of the next size up.

    Auxiliary heads read the output of ``enlarging``.

    Args:
        coarse: channels of the coarser features.
        fine: channels of the finer ones.
    """

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.enlarging = _Enlarging()
        self.refine = _normed(coarse, _FUSED, 3, dilation=2)
        self.project = _normed(fine, _FUSED, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return (N, 128, h, w) for features (N, C, h', w') and finer ones (N, D, h, w)."""
        enlarged = self.enlarging(coarse, fine.shape[-2:])
        return functional.relu(self.refine(enlarged) + self.project(fine))


@register_network("icnet")
class ICNet(SegmentationNetwork):
    """ICNet: a deep branch on a quarter of the image, a lighter one on half of it, three convolutions on all of it.

    From the paper: the three branches, at strides 32, 16 and 8 of the image; that the deep one is PSPNet-50, dilated
    to an eighth of what it is given, and shares its first 17 convolutions, weights and results, with the medium one;
    the cascade feature fusion units (figure 3) and where their auxiliary heads read; that the fused features are
    enlarged twofold before the classifier; half of the kernels (``halved``), which compression left there.

    Our choices: the deep branch goes on from the medium features at half their size, which stands for a quarter of the
    image; pyramid pooling adds the pooled features to the others, where PSPNet sets them side by side, and projects
    to 256 channels (this and the widths 32, 32, 64 and 128 are those of the authors' released network as we know it,
    not checked against it); halved kernels are built and trained as such, not pruned in steps; auxiliary heads are
    those of the library (BN-ReLU-1x1 with ``Extension(auxiliary=True)``), in the paper a 1x1 alone; mean and standard
    deviation of ImageNet; bilinear with ``align_corners=False``. Checkpoints of others cannot be loaded.

    Reference: Zhao, Qi, Shen, Shi and Jia, ICNet for Real-Time Semantic Segmentation on High-Resolution Images, ECCV
    2018, figures 2 and 3.

    Taps: ``coarse`` (1024 channels, 2048 if not halved) and ``pooling`` (256) at stride 32; ``medium`` (256 or 512),
    ``enlarged1`` (256) and ``fusion1`` (128) at stride 16; ``fine`` (64), ``enlarged2`` and ``fusion2`` (128) at stride
    8. ``encoder`` is ``fusion1``; ``decoder``, what the classifier reads, is ``fusion2`` enlarged to stride 4.

    Args:
        classes: number of output channels.
        halved: whether the branches on smaller images have half the channels of ResNet-50: 6,699,987 parameters with 19
            classes in place of 24,704,947.

    Example:
        >>> import torch
        >>> ICNet(classes=11).eval()(torch.rand(1, 3, 64, 96)).shape
        torch.Size([1, 11, 16, 24])
    """

    card: ClassVar[Card] = Card(
        title="ICNet",
        summary="A real-time network that sees the image at three sizes and fuses them in cascade.",
        paper="ICNet for Real-Time Semantic Segmentation on High-Resolution Images",
        year=2018,
        url="https://arxiv.org/abs/1704.08545",
        notes="The light version of SynBoost segments with it.",
    )
    normalization: Normalization = IMAGENET
    stride: int = 4
    auxiliary_taps: tuple[str, ...] = ("enlarged1", "enlarged2")
    tap_modules: Mapping[str, str] = MappingProxyType(
        {
            "coarse": "encoder.coarse",
            "pooling": "pooling",
            "medium": "encoder.medium",
            "enlarged1": "fusion1.enlarging",
            "fusion1": "fusion1",
            "fine": "fine.2",
            "enlarged2": "fusion2.enlarging",
            "fusion2": "fusion2",
            "encoder": "fusion1",
            "decoder": "enlarging",
        }
    )

    def __init__(self, classes: int = 19, halved: bool = True) -> None:
        super().__init__()
        self.configuration: Configuration = {"classes": classes, "halved": halved}
        width = _STEM // 2 if halved else _STEM
        self.encoder = _Trunk(width)
        self.pooling = _SummedPyramid(32 * width)
        self.fine = nn.Sequential(
            *(_cbr(inputs, outputs, 3, stride=2) for inputs, outputs in zip((3, *_FINE[:-1]), _FINE, strict=True))
        )
        self.fusion1 = CascadeFeatureFusion(_POOLED, 8 * width)
        self.fusion2 = CascadeFeatureFusion(_FUSED, _FINE[-1])
        self.enlarging = _Enlarging()
        self.classifier = nn.Conv2d(_FUSED, classes, 1)

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return classes and width of a checkpoint of ours; nothing where it is none of this network."""
        stem, classifier = state.get("encoder.medium.0.0.weight"), state.get("classifier.weight")
        if stem is None or classifier is None:
            return {}
        return {"classes": classifier.shape[0], "halved": stem.shape[0] < _STEM}

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, H / 4, W / 4) of normalised images (N, 3, H, W)."""
        medium, coarse = self.encoder(_halved(normalized))
        quarter = self.fine[1](self.fine[0](normalized))
        fused = self.fusion1(self.pooling(coarse), medium)
        fused = self.fusion2(fused, self.fine[2](quarter))
        logits: Tensor = self.classifier(self.enlarging(fused, quarter.shape[-2:]))
        return logits


def _halved(maps: Tensor) -> Tensor:
    """Return maps (N, C, h, w) at half their size, rounded up."""
    return resize_maps(maps, [-(-side // 2) for side in maps.shape[-2:]])


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
