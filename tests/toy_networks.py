"""A segmentation network small enough to be run in float64, for tests of what stands around a network."""

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from strays.cards import Card
from strays.networks.base import NetworkOutputs, Normalization, SegmentationNetwork
from strays.prediction import MaskPrediction

__all__ = ["Toy", "bilinear", "image", "lived_in", "looked_at", "stirred"]

N = TypeVar("N", bound=nn.Module)


class Toy(SegmentationNetwork):
    """Logits and the tap ``decoder`` at stride 2, the tap ``encoder`` at stride 4; it sees two pixels to each side."""

    card: ClassVar[Card] = Card(title="Toy", summary="A network of the tests.")
    stride = 2
    tap_modules: Mapping[str, str] = {"encoder": "encoder", "decoder": "decoder"}

    def __init__(self, classes: int = 3, outlier: bool = False, masks: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.configuration = {"classes": classes}
        self.normalization = Normalization((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
        self.decoder = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Tanh())
        self.encoder = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(4, classes, 1)
        self.outlier = nn.Conv2d(4, 2, 1) if outlier else None
        self.masks = masks
        self.double().eval()

    @property
    def has_outlier_head(self) -> bool:
        return self.outlier is not None

    def logits(self, normalized: Tensor) -> Tensor:
        return self._logits(self.decoder(normalized))

    def outputs(self, image: Tensor) -> NetworkOutputs:
        features = self.decoder(self.normalization(image))
        outputs: NetworkOutputs = {"logits": self._logits(features)}
        if self.outlier is not None:
            outputs["outlier_logits"] = self.outlier(features)
        if self.masks:
            outputs["masks"] = MaskPrediction(image.new_zeros(len(image), 2, 4), image.new_zeros(len(image), 2, 3, 3))
        return outputs

    def _logits(self, features: Tensor) -> Tensor:
        return 5 * self.classifier(self.dropout(features)) + self.encoder(features).mean(dim=(1, 2, 3), keepdim=True)


def image(height: int, width: int, count: int = 2) -> Tensor:
    """Images (N, 3, H, W) in [0, 1], float64."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height), dtype=torch.float64)


def looked_at(network: SegmentationNetwork, seen: Tensor, taps: tuple[str, ...] = ()) -> dict[str, NDArray[np.float64]]:
    """All maps of one pass, as arrays."""
    with torch.no_grad():
        outputs, features = network.observe(seen, taps)
    return {name: one.numpy() for name, one in (*outputs.items(), *features.items()) if isinstance(one, Tensor)}


def bilinear(maps: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Maps (N, C, h, w) at another size, pixels being areas: one matrix for each side."""
    rows, columns = (_weights(before, after) for before, after in zip(maps.shape[-2:], size, strict=True))
    return np.einsum("Hh,nchw,Ww->ncHW", rows, maps, columns)


def _weights(before: int, after: int) -> NDArray[np.float64]:
    hat: Callable[[float, int], float] = lambda place, cell: max(0.0, 1 - abs(place - cell))  # noqa: E731
    places = [min(max((index + 0.5) * before / after - 0.5, 0), before - 1) for index in range(after)]
    return np.array([[hat(place, cell) for cell in range(before)] for place in places])


def lived_in(network: N) -> N:
    """The network in float64 and evaluation mode, with batch norms that have seen something."""
    torch.manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.double().eval()


def stirred(network: N) -> N:
    """The network in float64 and evaluation mode, every parameter far from where it began."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.double().named_parameters():
        spread = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            parameter.copy_(0.1 * spread + (name.endswith("weight") and parameter.ndim == 1))
    return network.eval()
