"""WiderResNet38-A2: a wide, shallow trunk of pre-activation blocks at stride 8."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["WIDER_RESNET_38", "WideResNet", "WideStage"]

_STEM = 64


@dataclass(frozen=True)
class WideStage:
    """One stage of the trunk.

    Args:
        blocks: the number of residual blocks.
        widths: channels that the convolutions of a block give: two of them (3x3, 3x3) or three (1x1, 3x3, 1x1).
        pooled: whether a max-pool 3x3 with stride 2 stands in front of the stage.
        stride: stride of the first convolution and of the shortcut of the first block.
        dilation: dilation of all 3x3 convolutions.
        dropout: probability with which whole channels are dropped in front of the last convolution of a block.
    """

    blocks: int
    widths: tuple[int, ...]
    pooled: bool = False
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0


WIDER_RESNET_38 = (
    WideStage(3, (128, 128), pooled=True),
    WideStage(3, (256, 256), pooled=True),
    WideStage(6, (512, 512), stride=2),
    WideStage(3, (512, 1024), dilation=2),
    WideStage(1, (512, 1024, 2048), dilation=4, dropout=0.3),
    WideStage(1, (1024, 2048, 4096), dilation=4, dropout=0.5),
)
"""The stages ``mod2`` to ``mod7`` of WiderResNet38-A2 with output stride 8."""


class WideResNet(nn.Module):
    """WiderResNet-A2: a 3x3 convolution at full size, then stages of identity-mapping blocks (norm, ReLU, convolution).

    The parameters carry the names of NVIDIA's checkpoints, whose every batch norm is the first of a pair with its ReLU
    (``mod2.block1.bn1.0.weight``). As there, no norm follows the last stage: its output is a plain sum.

    Reference: Wu, Shen and van den Hengel 2016, "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition";
    Rota Bulò, Porzi and Kontschieder 2018, "In-Place Activated BatchNorm"; Zhu et al. 2019, "Improving Semantic
    Segmentation via Video Propagation and Label Relaxation".

    Args:
        layout: the stages ``mod2`` to ``mod7``; those of WiderResNet38-A2 by default.
    """

    stages: ClassVar[tuple[str, ...]] = ("mod2", "mod3", "mod4", "mod5", "mod6", "mod7")
    """The submodules whose outputs are the features of the stages, none of them behind a ReLU."""

    auxiliary: ClassVar[str] = "mod5"
    """The stage that auxiliary heads read: as wide as the one of a ResNet that they do, 1024 channels."""

    def __init__(self, layout: Sequence[WideStage] = WIDER_RESNET_38) -> None:
        super().__init__()
        self.channels = (layout[0].widths[-1], layout[-1].widths[-1])
        self.mod1 = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, _STEM, 3, padding=1, bias=False)))
        self._pooled = [stage.pooled for stage in layout]
        inputs = _STEM
        for name, stage in zip(self.stages, layout, strict=True):
            self.add_module(name, _blocks(inputs, stage))
            inputs = stage.widths[-1]

    def forward(self, normalized: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of ``mod2`` (N, 128, H / 2, W / 2) and of ``mod7`` (N, 4096, H / 8, W / 8)."""
        x = fine = self.mod1(normalized)
        for name, pooled in zip(self.stages, self._pooled, strict=True):
            x = functional.max_pool2d(x, 3, stride=2, padding=1) if pooled else x
            x = self.get_submodule(name)(x)
            fine = x if name == self.stages[0] else fine
        return fine, x


class _IdentityBlock(nn.Module):
    """Pre-activation block: the sum of a branch of convolutions and of what came in, or of its projection."""

    def __init__(self, inputs: int, stage: WideStage, stride: int) -> None:
        super().__init__()
        self.bn1 = _norm_relu(inputs)
        self.convs = nn.Sequential(OrderedDict(_branch(inputs, stage, stride)))
        outputs = stage.widths[-1]
        changes = stride != 1 or inputs != outputs
        self.proj_conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.bn1(x)
        shortcut = x if self.proj_conv is None else self.proj_conv(active)
        total: Tensor = shortcut + self.convs(active)
        return total


def _branch(inputs: int, stage: WideStage, stride: int) -> dict[str, nn.Module]:
    """Return the layers of a block's branch by name, from its first convolution on."""
    kernels = (3, 3) if len(stage.widths) == 2 else (1, 3, 1)
    layers: dict[str, nn.Module] = {}
    for number, (outputs, kernel) in enumerate(zip(stage.widths, kernels, strict=True), start=1):
        if number > 1:
            layers[f"bn{number}"] = _norm_relu(inputs)
        if number == len(kernels) and stage.dropout:
            layers["dropout"] = nn.Dropout2d(stage.dropout)
        dilation = stage.dilation if kernel == 3 else 1
        padding = dilation * (kernel // 2)
        step = stride if number == 1 else 1
        layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, kernel, step, padding, dilation, bias=False)
        inputs = outputs
    return layers


def _blocks(inputs: int, stage: WideStage) -> nn.Sequential:
    first = _IdentityBlock(inputs, stage, stage.stride)
    rest = [_IdentityBlock(stage.widths[-1], stage, 1) for _ in range(stage.blocks - 1)]
    return nn.Sequential(OrderedDict((f"block{number}", one) for number, one in enumerate([first, *rest], start=1)))


def _norm_relu(channels: int) -> nn.Sequential:
    # In place, as nothing else reads what the norm gives, and there is a lot of it at these widths.
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
