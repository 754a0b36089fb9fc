"""DenseNet-121 and -169 with the pooling of Ladder DenseNet: features at strides 4, 8, 16 and 32."""

import re
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.errors import InputError
from strays.networks.base import StateDict

__all__ = ["DENSENET_LAYERS", "DenseNet"]

DENSENET_LAYERS: Mapping[int, tuple[int, int, int, int]] = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32)}
"""Depth -> layers of each of the four dense blocks (Huang et al. 2017, table 1)."""

_STEM = 64
_GROWTH = 32
_SQUEEZED = 4 * _GROWTH
_MOMENTUM = 0.01
_CLASSIFICATION = ("features.norm5.", "classifier.")
_LEGACY = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.")


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=_MOMENTUM)


class _DenseLayer(nn.Module):
    """(N, C, h, w) -> (N, C + 32, h, w): what it is given, and behind it what it makes of that."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = _norm(inputs)
        self.conv1 = nn.Conv2d(inputs, _SQUEEZED, 1, bias=False)
        self.norm2 = _norm(_SQUEEZED)
        self.conv2 = nn.Conv2d(_SQUEEZED, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.conv1(functional.relu(self.norm1(x)))
        grown = self.conv2(functional.relu(self.norm2(squeezed)))
        return torch.cat([x, grown], dim=1)


class _Transition(nn.Module):
    """(N, C, h, w) -> (N, C / 2, ceil(h / 2), ceil(w / 2))."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = _norm(inputs)
        self.conv = nn.Conv2d(inputs, inputs // 2, 1, bias=False)
        # The stock network averages over 2x2; these means are centred, and the border counts in none of them.
        self.pool = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.pool(self.conv(functional.relu(self.norm(x))))
        return halved


class DenseNet(nn.Module):
    """DenseNet without its last norm and classifier; normalised images (N, 3, H, W) -> four features, finest first.

    The features are what the three transitions are given, at strides 4, 8 and 16, and what the last dense block gives,
    at stride 32. The parameters carry the names of torchvision. Two poolings, which have no weights, are not those of
    the stock network: the max-pool of the stem is 2x2, the means of the transitions are taken over 3x3. Images must
    have 3 x 3 pixels or more.

    Reference: Huang, Liu, van der Maaten and Weinberger 2017, "Densely Connected Convolutional Networks"; the poolings
    are those of Krešo, Krapac and Šegvić 2020, "Efficient Ladder-Style DenseNets for Semantic Segmentation".

    Args:
        depth: 121 (6,951,808 parameters) or 169 (12,481,152).

    Attributes:
        channels: of the four features.
        stages: paths of the submodules whose outputs they are.

    Raises:
        InputError: if there is no network of that depth.

    Example:
        >>> [tuple(one.shape[1:]) for one in DenseNet(121).eval()(torch.rand(1, 3, 32, 64))]
        [(256, 8, 16), (512, 4, 8), (1024, 2, 4), (1024, 1, 2)]
    """

    def __init__(self, depth: int = 121) -> None:
        super().__init__()
        if depth not in DENSENET_LAYERS:
            known = " or ".join(map(str, DENSENET_LAYERS))
            raise InputError(f"there is no DenseNet of depth {depth!r}: choose {known}")
        modules, channels = _stem(), _STEM
        widths = []
        for number, layers in enumerate(DENSENET_LAYERS[depth], start=1):
            modules[f"denseblock{number}"] = _block(channels, layers)
            channels += layers * _GROWTH
            widths.append(channels)
            if number < len(DENSENET_LAYERS[depth]):
                modules[f"transition{number}"] = _Transition(channels)
                channels //= 2
        self.features = nn.Sequential(modules)
        self.channels = tuple(widths)
        self.stages = tuple(f"features.denseblock{number}" for number, _ in enumerate(widths, start=1))
        _initialise(self)

    def forward(self, normalized: Tensor) -> list[Tensor]:
        """Return the four features, finest first."""
        features, x = [], normalized
        for name, module in self.features.named_children():
            x = module(x)
            if name.startswith("denseblock"):
                features.append(x)
        return features

    @staticmethod
    def adapted(state: StateDict) -> StateDict:
        """Return what a checkpoint of torchvision's DenseNet holds for this trunk, under its names.

        The last norm and the classifier are left out; files from before 2018, which write ``norm.1`` for ``norm1``, are
        read as well.
        """
        kept = {key: value for key, value in state.items() if not key.startswith(_CLASSIFICATION)}
        return {_LEGACY.sub(r"\1\2.", key): value for key, value in kept.items()}


def _stem() -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        conv0=nn.Conv2d(3, _STEM, 7, stride=2, padding=3, bias=False),
        norm0=_norm(_STEM),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(2, stride=2),
    )


def _block(inputs: int, layers: int) -> nn.Sequential:
    numbered = ((f"denselayer{index + 1}", _DenseLayer(inputs + index * _GROWTH)) for index in range(layers))
    return nn.Sequential(OrderedDict(numbered))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
