"""ResNet-18, also with batch norms of its own for every level of an image pyramid."""

from torch import Tensor, nn
from torch.nn import functional

from strays.networks.base import Normalization
from strays.networks.encoders.base import Encoder, register_encoder

__all__ = ["SWIFTNET_NORMALIZATION", "BasicBlock", "ResNet18", "ResNet18Trunk"]

SWIFTNET_NORMALIZATION = Normalization(
    mean=(73.15 / 255, 82.90 / 255, 72.3 / 255),
    std=(47.67 / 255, 48.49 / 255, 47.73 / 255),
)
_STAGES = (64, 128, 256, 512)
_BLOCKS = 2


def _norms(channels: int, levels: int) -> nn.ModuleList:
    return nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; returns the sum **before** its last ReLU (He et al. 2016, figure 2).

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: stride of the first convolution.
        levels: number of batch norms to choose from; the one of the shortcut is shared by all levels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, levels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = _norms(outputs, levels)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = _norms(outputs, levels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        """Return features before the last ReLU."""
        inner = functional.relu(self.bn1[level](self.conv1(x)))
        total: Tensor = self.downsample(x) + self.bn2[level](self.conv2(inner))
        return total


class ResNet18Trunk(nn.Module):
    """The stem and four stages of ResNet-18; gives each stage's last sum before its ReLU."""

    def __init__(self, levels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STAGES[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = _norms(_STAGES[0], levels)
        self.layers = nn.ModuleList()
        inputs = _STAGES[0]
        for index, outputs in enumerate(_STAGES):
            first = BasicBlock(inputs, outputs, stride=1 if index == 0 else 2, levels=levels)
            rest = [BasicBlock(outputs, outputs, levels=levels) for _ in range(_BLOCKS - 1)]
            self.layers.append(nn.ModuleList([first, *rest]))
            inputs = outputs
        _initialise(self)

    def sums(self, normalized: Tensor, level: int = 0) -> list[Tensor]:
        """Return the four stage outputs before their last ReLU, strides 4 to 32, with the norms of ``level``."""
        x = functional.relu(self.bn1[level](self.conv1(normalized)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        sums = []
        for stage in self.layers:
            for block in stage:  # type: ignore[attr-defined]
                total = block(x, level)
                x = functional.relu(total)
            sums.append(total)
        return sums


@register_encoder("resnet18")
class ResNet18(Encoder):
    """ResNet-18 from random weights; its features are the stage outputs **after** their ReLU (He et al. 2016)."""

    channels = _STAGES
    normalization = SWIFTNET_NORMALIZATION
    stages = ("taps.0", "taps.1", "taps.2", "taps.3")

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet18Trunk()
        self.taps = nn.ModuleList(nn.ReLU() for _ in _STAGES)

    def forward(self, normalized: Tensor) -> list[Tensor]:
        """Return the four features, finest first."""
        return [relu(total) for relu, total in zip(self.taps, self.trunk.sums(normalized), strict=True)]


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
