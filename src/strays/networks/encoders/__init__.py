"""Encoders: image trunks that give features at strides 4, 8, 16 and 32, by name."""

from strays.networks.encoders.base import ENCODERS, Encoder
from strays.networks.encoders.mobilenet import MobileNetV2
from strays.networks.encoders.resnet import ResNet18

__all__ = ["ENCODERS", "Encoder", "MobileNetV2", "ResNet18"]
