"""Class labels as the channels of the class logits, and how often each class occurred."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from strays.detectors.inputs import labels_at
from strays.detectors.statistics import Accumulator, State
from strays.errors import InputError
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = ["ClassCounts", "channel_labels"]


def channel_labels(prediction: Prediction, labels: Tensor, size: tuple[int, int] | None = None) -> tuple[Tensor, int]:
    """Return labels in the numbering of ``class_logits``, and how many classes that has.

    Args:
        prediction: tells the classes of the network and which of them is void.
        labels: (N, H, W) class indices in the taxonomy of the network, 255 = ignore.
        size: (h, w) that labels are brought to by nearest neighbour; their own by default.

    Returns:
        (N, h, w) int64, 255 also for void pixels; and K.

    Raises:
        InputError: if a label is no class of the network.
    """
    channels, void = prediction.logits.shape[1], prediction.void
    labels = labels_at(labels, size or (labels.shape[-2], labels.shape[-1]))
    outside = (labels != IGNORE) & ((labels < 0) | (labels >= channels))
    if outside.any():
        raise InputError(
            f"the label {int(labels[outside][0])} is none of the {channels} classes of the network: translate labels "
            "into its taxonomy, 255 where it has no such class"
        )
    if void is None:
        return labels, channels
    later = (labels > void) & (labels != IGNORE)
    return torch.where(labels == void, IGNORE, labels - later.long()), channels - 1


class ClassCounts(Accumulator):
    """How many labelled pixels of each class there were.

    Attributes:
        count: (K,) int64, without the void class; empty until something was taken in.
        channels: (K,) int64, which channels of the network the classes are.

    Example:
        >>> counts = ClassCounts()
        >>> counts.update(torch.tensor([0, 2, 2, 255]), Prediction(torch.zeros(1, 5, 1, 1), (1, 1), void=1))
        >>> counts.count.tolist(), counts.absent
        ([1, 0, 2, 0], (2, 4))
    """

    def __init__(self) -> None:
        self.count = self.channels = torch.zeros(0, dtype=torch.long)

    @property
    def absent(self) -> tuple[int, ...]:
        """The channels of the network whose class did not occur."""
        return tuple(self.channels[self.count == 0].tolist())

    def update(self, labels: Tensor, prediction: Prediction) -> None:
        """Take in labels of any shape that ``channel_labels`` gave for a prediction of the same network."""
        channels = [one for one in range(prediction.logits.shape[1]) if one != prediction.void]
        found = torch.bincount(labels[labels != IGNORE].cpu(), minlength=len(channels))
        self._add(found, torch.tensor(channels))

    def merge(self, other: Self) -> None:
        """Take in the counts of other images."""
        if len(other.count):
            self._add(other.count, other.channels)

    def _add(self, count: Tensor, channels: Tensor) -> None:
        if len(self.count) and len(self.count) != len(count):
            raise InputError(f"counts of {len(self.count)} and {len(count)} classes cannot be added: fit one network")
        self.count = self.count + count if len(self.count) else count
        self.channels = channels

    def require(self) -> None:
        """Complain where there was nothing.

        Raises:
            InputError: if no pixel was labelled.
        """
        if not int(self.count.sum()):
            raise InputError(
                "no labelled pixel to fit on: give images with class labels that the network knows, not all of them "
                "ignored"
            )

    def state(self) -> State:
        """Return counts and channels."""
        return {"count": self.count, "channels": self.channels}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up counts and channels."""
        self.count, self.channels = state["count"], state["channels"]
