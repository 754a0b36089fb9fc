"""MobileNetV2 as TensorFlow pads it, for encoders pre-trained on ImageNet."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from strays.networks.base import Normalization
from strays.networks.encoders.base import Encoder, register_encoder

__all__ = ["MobileNetV2"]

_EPSILON = 1e-3
_STEM = 32
_HEAD = 1280
# expansion, output channels, repetitions, stride of the first (Sandler et al. 2018, table 2)
_LAYOUT = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_TAPS = (3, 6, 13, 18)


class _Convolution(nn.Conv2d):
    """A convolution without bias; with stride 2 a 3x3 kernel is padded right and bottom only, as TensorFlow does."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.stride == (2, 2):
            # of a map that is one pixel wide or high there must be three for the kernel all the same
            bottom, right = (max(1, 3 - side) for side in input.shape[-2:])
            input = functional.pad(input, (0, right, 0, bottom))
        return super().forward(input)


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = _Convolution(inputs, outputs, kernel, stride, groups)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, _EPSILON), nn.ReLU6())


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [_unit(inputs, hidden, 1)] if expansion > 1 else []
        depthwise = _unit(hidden, hidden, 3, stride, groups=hidden)
        narrow = [_Convolution(hidden, outputs, 1), nn.BatchNorm2d(outputs, _EPSILON)]
        self.conv = nn.Sequential(*widen, depthwise, *narrow)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        narrow: Tensor = self.conv(x)
        return x + narrow if self.shortcut else narrow


@register_encoder("mobilenet-v2")
class MobileNetV2(Encoder):
    """MobileNetV2 1.0 without its classifier (Sandler et al. 2018); parameter names as torchvision gives them."""

    channels = (24, 32, 96, _HEAD)
    normalization = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    stages = ("features.3", "features.6", "features.13", "features.18")

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(3, _STEM, 3, 2)]
        inputs = _STEM
        for expansion, outputs, repetitions, stride in _LAYOUT:
            for index in range(repetitions):
                layers.append(_InvertedResidual(inputs, outputs, stride if index == 0 else 1, expansion))
                inputs = outputs
        layers.append(_unit(inputs, _HEAD, 1))
        self.features = nn.Sequential(OrderedDict((str(index), layer) for index, layer in enumerate(layers)))

    def forward(self, normalized: Tensor) -> list[Tensor]:
        """Return the four features, finest first."""
        features, x = [], normalized
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS:
                features.append(x)
        return features
