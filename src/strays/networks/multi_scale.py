"""Any network over an image at several scales."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor

from strays.cards import Card
from strays.errors import InputError
from strays.networks.base import Configuration, NetworkOutputs, SegmentationNetwork
from strays.networks.wrapper import NetworkWrapper, register_wrapper
from strays.prediction import resize_maps
from strays.specs import parsed_scales

__all__ = ["MultiScale"]

Average = Literal["logits", "probabilities"]


@register_wrapper("multi-scale")
class MultiScale(NetworkWrapper):
    """The mean of what a network gives for the image at several scales.

    The image is resized bilinearly (``align_corners=False``, no antialiasing) to its sides times each scale, rounded.
    Logits and outlier logits are resized bilinearly to the size of the image and averaged; features are resized to
    those of the largest scale and averaged.

    Reference:
        Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017, section 4, for the scales

    Args:
        base: the network.
        scales: with + between them, such as ``1`` or ``1/2+1+1.5``.
        average: ``"logits"``, or ``"probabilities"``: the logits are then the logarithms of the mean probabilities.

    Raises:
        InputError: if a scale is no number above 0, or ``average`` is neither of the two.

    Example:
        >>> from strays.networks.enet import ENet
        >>> MultiScale(ENet(classes=5).eval(), scales="0.5+1")(torch.rand(1, 3, 64, 96)).shape
        torch.Size([1, 5, 64, 96])
    """

    card: ClassVar[Card] = Card(
        title="Multi-scale inference",
        summary="The logits of another network, averaged over the image at several scales.",
        paper="Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, arXiv 2017",
        year=2017,
        url="https://arxiv.org/abs/1706.05587",
        notes="A wrapper: multi-scale(MODEL,scales=0.5+1+1.5). The network runs once for every scale.",
    )

    def __init__(
        self, base: SegmentationNetwork, scales: str = "0.5+0.75+1+1.25+1.5+1.75", average: Average = "logits"
    ) -> None:
        super().__init__(base)
        if average not in get_args(Average):
            raise InputError(f"average is {average!r}, expected one of {', '.join(get_args(Average))}")
        self.scales = "+".join(part.strip() for part in scales.split("+"))
        self.average = average
        # The largest comes first: its features say how large the means are.
        self._factors = sorted(parsed_scales(scales), reverse=True)

    def settings(self) -> Configuration:
        """Return the scales and what is averaged."""
        return {"scales": self.scales, "average": self.average}

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return the means over all scales; see ``NetworkWrapper.observe``."""
        taps = tuple(taps)
        outputs: dict[str, Tensor] = {}
        features: dict[str, Tensor] = {}
        for factor in self._factors:
            seen, found = self.seen(_scaled(image, factor), taps)
            for name, maps in seen.items():
                self._add(outputs, name, resize_maps(maps, image.shape[-2:]))
            for name, maps in found.items():
                features[name] = features[name] + _resized(maps, features[name]) if name in features else maps
        averaged = {name: self._mean(total) for name, total in outputs.items()}
        return cast(NetworkOutputs, averaged), {name: one / len(self._factors) for name, one in features.items()}

    def _add(self, totals: dict[str, Tensor], name: str, logits: Tensor) -> None:
        """Add the logits (N, K, H, W) of one scale: sums of logits, or logarithms of sums of probabilities."""
        if self.average == "logits":
            totals[name] = totals[name] + logits if name in totals else logits
        else:
            logs = torch.log_softmax(logits, dim=1)
            totals[name] = torch.logaddexp(totals[name], logs) if name in totals else logs

    def _mean(self, total: Tensor) -> Tensor:
        count = total.new_tensor(len(self._factors))
        return total / count if self.average == "logits" else total - count.log()


def _scaled(image: Tensor, factor: Fraction) -> Tensor:
    return resize_maps(image, [max(1, round(side * factor)) for side in image.shape[-2:]])


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return maps if maps.shape == like.shape else resize_maps(maps, like.shape[-2:])
