"""The moving average of a network's weights over the steps of a run, steadier than the last of them."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from strays.networks.base import SegmentationNetwork

__all__ = ["WeightAverage"]


class WeightAverage:
    """An exponential moving average of weights and statistics; over the first steps it is their mean.

    Args:
        network: what is averaged; a copy of it holds the average.
        decay: share that the average keeps at every step, in [0, 1); 0 follows the network.
    """

    def __init__(self, network: SegmentationNetwork, decay: float) -> None:
        self._model = AveragedModel(network, multi_avg_fn=_moving(decay), use_buffers=True)
        self._model.requires_grad_(False)

    @property
    def network(self) -> SegmentationNetwork:
        """The average, a network of its own."""
        return cast(SegmentationNetwork, self._model.module)

    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self._model.update_parameters(network)

    def state(self) -> dict[str, Tensor]:
        """Return everything that it takes to go on."""
        return self._model.state_dict()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        self._model.load_state_dict(state)


def _moving(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], int | Tensor], None]:
    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: int | Tensor) -> None:
        share = max(1 - decay, 1 / (int(count) + 1))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    return update
