"""The contract of an encoder."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from strays.networks.base import Normalization
from strays.registry import Registry

__all__ = ["ENCODERS", "STRIDES", "Encoder", "register_encoder"]

STRIDES = (4, 8, 16, 32)


class Encoder(nn.Module, ABC):
    """Normalised image (N, 3, H, W) -> features at strides 4, 8, 16 and 32.

    Attributes:
        channels: channels of the four features.
        normalization: what the encoder's weights expect to have been done to RGB in [0, 1].
        stages: paths of the submodules whose outputs the features are, finest first.
    """

    channels: ClassVar[tuple[int, int, int, int]]
    normalization: ClassVar[Normalization]
    stages: ClassVar[tuple[str, str, str, str]]

    @abstractmethod
    def forward(self, normalized: Tensor) -> list[Tensor]:
        """Return the four features, finest first."""


ENCODERS: Registry[type[Encoder]] = Registry("encoder", "strays.networks.encoders")


def register_encoder(name: str) -> Callable[[type[Encoder]], type[Encoder]]:
    """Return a decorator that enters an encoder class, built without arguments, under ``name``."""
    return ENCODERS.register(name)
