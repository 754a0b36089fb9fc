"""How well a network tells the known classes apart."""

from collections.abc import Sequence

import torch

from strays.data.base import SceneSet
from strays.detectors.base import upsampled
from strays.metrics import ClosedSetResult, ConfusionMatrix
from strays.networks.base import SegmentationNetwork
from strays.scene import Scene
from strays.scoring import as_tensor

__all__ = ["closed_set_metrics"]


@torch.no_grad()
def closed_set_metrics(
    network: SegmentationNetwork, scenes: SceneSet | Sequence[Scene], classes: int, device: torch.device
) -> ClosedSetResult:
    """Return mIoU, accuracy and IoU per class over all labelled pixels of the scenes, each at its own size."""
    training = network.training
    network.eval()
    matrix = ConfusionMatrix(classes)
    for scene in scenes:
        image = as_tensor(scene.image).to(device)
        labels = upsampled(network(image), scene.size).argmax(1)[0]
        if scene.labels is not None:
            matrix.update(labels.cpu(), scene.labels)
    network.train(training)
    return matrix.compute()
