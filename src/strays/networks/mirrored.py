"""Any network over an image and its mirror image."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, cast

from torch import Tensor

from strays.cards import Card
from strays.networks.base import NetworkOutputs, SegmentationNetwork
from strays.networks.wrapper import NetworkWrapper, register_wrapper

__all__ = ["Mirrored"]


@register_wrapper("mirrored")
class Mirrored(NetworkWrapper):
    """The mean of what a network gives for the image and, mirrored back, for its mirror image (left and right swapped).

    Logits, outlier logits and features are averaged alike, at the size that they have.

    Reference:
        Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012, section 4.1,
        who average probabilities

    Args:
        base: the network.

    Example:
        >>> import torch
        >>> from strays.networks.enet import ENet
        >>> network, image = Mirrored(ENet(classes=5).eval()), torch.rand(1, 3, 32, 64)
        >>> bool(torch.allclose(network(image), network(image.flip(-1)).flip(-1), atol=1e-4))
        True
    """

    card: ClassVar[Card] = Card(
        title="Mirror averaging",
        summary="The logits of another network, averaged over the image and its mirror image.",
        paper="Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012",
        year=2012,
        url="https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
        notes="A wrapper: mirrored(MODEL). The network runs twice. The detector flipped(DETECTOR) averages scores.",
    )

    def __init__(self, base: SegmentationNetwork) -> None:
        super().__init__(base)
        self.stride = base.stride

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return the means of both passes; see ``NetworkWrapper.observe``."""
        taps = tuple(taps)
        outputs, features = self.seen(image, taps)
        mirrored, mirrored_features = self.seen(image.flip(-1), taps)
        return cast(NetworkOutputs, _means(outputs, mirrored)), _means(features, mirrored_features)


def _means(maps: Mapping[str, Tensor], mirrored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: (one + mirrored[name].flip(-1)) / 2 for name, one in maps.items()}
