"""What a segmentation network saw in a batch of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from strays.errors import InputError

__all__ = ["MaskPrediction", "Passes", "Prediction", "resize_maps"]


def resize_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (N, C, h, w) at (H, W) = ``size``, bilinear with ``align_corners=False``."""
    return functional.interpolate(maps, size=list(size), mode="bilinear", align_corners=False)


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """The outputs of a mask transformer for Q queries.

    Args:
        class_logits: (N, Q, K + 1), the last channel means "no object".
        mask_logits: (N, Q, h, w).
    """

    class_logits: Tensor
    mask_logits: Tensor


class Passes(Protocol):
    """Further passes of the network that made a prediction, for methods that look more than once."""

    @property
    def image(self) -> Tensor:
        """The images (N, 3, h, w), RGB in [0, 1], as the network saw them."""

    def again(self, image: Tensor) -> "Prediction":
        """Return what the network sees in other images (N, 3, h, w), with gradients where they are enabled."""

    def sampled(self, seed: int) -> "Prediction":
        """Return what the network sees in the same images with its dropout switched on.

        Raises:
            InputError: if the network has no dropout.
        """


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network saw; detectors turn it into anomaly scores.

    Args:
        logits: (N, K, h, w) class logits at the network's own stride.
        size: (H, W) of the image that the caller wants scores for.
        void: the index of the void channel of ``logits``, or None.
        image: (N, 3, H, W) RGB in [0, 1], for methods that compare with the image.
        features: the requested taps by name, each (N, C, h', w').
        samples: (S, N, K, h, w) logits of stochastic passes.
        outlier_logits: (N, 2, h, w), channel 1 = outlier.
        masks: outputs of a mask transformer.
        passes: runs the network again, over changed images or with dropout.

    Raises:
        InputError: if the logits are not four-dimensional or ``void`` is not one of their channels.
    """

    logits: Tensor
    size: tuple[int, int]
    void: int | None = None
    image: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    samples: Tensor | None = None
    outlier_logits: Tensor | None = None
    masks: MaskPrediction | None = None
    passes: Passes | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.logits.shape)
        if len(shape) != 4:
            fix = ": add a batch dimension with logits[None]" if len(shape) == 3 else ""
            raise InputError(f"expected logits (N, K, h, w), got {shape}{fix}")
        if self.void is not None and not 0 <= self.void < shape[1]:
            raise InputError(f"void channel {self.void} is not one of the {shape[1]} channels of the logits")
