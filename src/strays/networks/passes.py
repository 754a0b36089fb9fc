"""Further passes of a network: over changed images, or with its dropout switched on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from strays.errors import InputError
from strays.networks.replay import Replay, drops
from strays.prediction import Prediction

if TYPE_CHECKING:
    from strays.networks.base import SegmentationNetwork

__all__ = ["NetworkPasses", "dropout_switched_on"]


@dataclass(frozen=True, eq=False)
class NetworkPasses:
    """A network and what it was asked for, ready to be asked again; see ``strays.prediction.Passes``.

    Args:
        network: the network.
        image: (N, 3, h, w) RGB in [0, 1], as the network saw it.
        size: (H, W) that scores are wanted for.
        taps: the features to keep.
        void: the index of the void channel, or None.
    """

    network: "SegmentationNetwork"
    image: Tensor
    size: tuple[int, int]
    taps: Sequence[str]
    void: int | None
    _replay: Replay = field(default_factory=Replay, init=False, repr=False)

    def again(self, image: Tensor) -> Prediction:
        """Return what the network sees in other images (N, 3, h, w), with gradients where they are enabled."""
        return self.network.predict(image, self.size, self.taps, self.void)

    def sampled(self, seed: int) -> Prediction:
        """Return what the network sees in the same images with its dropout switched on.

        What it computes before the first dropout it computes once for all such passes, and keeps as long as this
        object lives; see ``Replay``. With gradients enabled every pass is a whole one.

        Raises:
            InputError: if the network has no dropout.
        """
        devices = [self.image.device] if self.image.is_cuda else []
        with torch.random.fork_rng(devices), dropout_switched_on(self.network):
            torch.manual_seed(seed)
            with self._replay.of(self.network, self.image.device):
                return self.again(self.image)


@contextmanager
def dropout_switched_on(network: nn.Module) -> Iterator[None]:
    """Set the dropout modules of a network to training mode, and nothing else: batch norm keeps its statistics.

    Raises:
        InputError: if it has none that drops anything.
    """
    dropouts = [one for one in network.modules() if drops(one)]
    if not dropouts:
        name = type(network).__name__
        raise InputError(f"{name} has no dropout, so every pass is the same: choose a network that has, such as erfnet")
    before = [one.training for one in dropouts]
    try:
        for one in dropouts:
            one.train()
        yield
    finally:
        for one, training in zip(dropouts, before, strict=True):
            one.train(training)
