"""ResNet-50 and ResNet-101 that stop shrinking at stride 8 or 16 and are dilated from there on."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from strays.errors import InputError
from strays.networks.base import StateDict

__all__ = ["DilatedResNet"]

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_WIDTHS = (64, 128, 256, 512)
_EXPANSION = 4
# by output stride: stride of the first block and dilation of all blocks, stage by stage
_SPACING = {8: ((1, 1), (2, 1), (1, 2), (1, 4)), 16: ((1, 1), (2, 1), (2, 1), (1, 2))}


class DilatedResNet(nn.Module):
    """The stem and four stages of a bottleneck ResNet; its last stages are dilated in place of being strided.

    The parameters carry the names of torchvision, those of the deep stem ``conv1``, ``bn1`` to ``conv3``, ``bn3``. All
    3x3 convolutions of a dilated stage have its dilation, the first one too, as in the DeepLab of NVIDIA and SML; with
    ``dilated_first=False`` the first one has that of the stage before, as in torchvision and CSAIL's PSPNet.

    Reference: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1; Chen et al. 2017, "Rethinking
    Atrous Convolution for Semantic Image Segmentation".

    Args:
        depth: 50 or 101.
        output_stride: 8 (dilations 2 and 4 in stages 3 and 4) or 16 (dilation 2 in stage 4).
        deep_stem: three 3x3 convolutions (64, 64 and 128 channels) at the start instead of one 7x7 with 64.
        dilated_first: whether the first block of a dilated stage is dilated like the others.

    Raises:
        InputError: if there is no such depth or output stride.
    """

    channels: ClassVar[tuple[int, int]] = (_WIDTHS[0] * _EXPANSION, _WIDTHS[-1] * _EXPANSION)
    """Channels of the two features that it gives."""

    stages: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3", "layer4")
    """The submodules whose outputs are the features of the stages, each behind its last ReLU."""

    auxiliary: ClassVar[str] = "layer3"
    """The stage that auxiliary heads read."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self, depth: int = 50, output_stride: int = 8, deep_stem: bool = False, dilated_first: bool = True
    ) -> None:
        super().__init__()
        if depth not in _BLOCKS or output_stride not in _SPACING:
            raise InputError(
                f"expected a ResNet of depth 50 or 101 at output stride 8 or 16, got {depth} and {output_stride}"
            )
        inputs = self._add_stem(deep_stem)
        plan = zip(self.stages, _WIDTHS, _BLOCKS[depth], _SPACING[output_stride], strict=True)
        before = 1
        for name, width, count, (stride, dilation) in plan:
            dilations = (dilation if dilated_first else before, *(dilation,) * (count - 1))
            self.add_module(name, _stage(inputs, width, stride, dilations))
            inputs, before = width * _EXPANSION, dilation
        _initialise(self)

    def _add_stem(self, deep: bool) -> int:
        """Add the layers before the first stage and return how many channels they give."""
        self.deep_stem = deep
        self.conv1 = nn.Conv2d(3, 64, 3 if deep else 7, stride=2, padding=1 if deep else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        if not deep:
            return 64
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128)
        return 128

    @staticmethod
    def adapted(state: StateDict) -> StateDict:
        """Return what a checkpoint of a classifier of ImageNet holds for this trunk."""
        return {name: value for name, value in state.items() if not name.startswith("fc.")}

    def forward(self, normalized: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the first stage (N, 256, H / 4, W / 4) and of the last, 2048 at the output stride."""
        x = functional.relu(self.bn1(self.conv1(normalized)))
        if self.deep_stem:
            x = functional.relu(self.bn2(self.conv2(x)))
            x = functional.relu(self.bn3(self.conv3(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        fine: Tensor = self.layer1(x)
        deep: Tensor = self.layer4(self.layer3(self.layer2(fine)))
        return fine, deep


class _Bottleneck(nn.Module):
    """1x1, 3x3 (strided, dilated) and 1x1 convolution beside a shortcut, as in figure 5 of the paper."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        inner = functional.relu(self.bn2(self.conv2(inner)))
        return functional.relu(self.bn3(self.conv3(inner)) + self.downsample(x))


def _stage(inputs: int, width: int, stride: int, dilations: tuple[int, ...]) -> nn.Sequential:
    first, *others = dilations
    blocks = (_Bottleneck(width * _EXPANSION, width, 1, dilation) for dilation in others)
    return nn.Sequential(_Bottleneck(inputs, width, stride, first), *blocks)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
