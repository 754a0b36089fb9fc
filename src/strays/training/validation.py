"""How well a network tells the known classes apart, and anomalies from them, while it is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from strays.data.base import SceneSet
from strays.detectors.base import Detector, upsampled
from strays.errors import InputError
from strays.metrics import ClosedSetResult, ConfusionMatrix, PixelMetrics
from strays.networks.base import SegmentationNetwork
from strays.scene import Scene
from strays.scoring import as_tensor
from strays.taxonomy import Taxonomy, named_classes

__all__ = ["Validation", "anomaly_metrics", "closed_set_metrics"]


@dataclass(frozen=True)
class Validation:
    """What was found after an epoch.

    Args:
        closed: mIoU, accuracy and IoU per class on the validation scenes; empty without any.
        anomalies: AP and FPR95 by the name of the set with anomaly masks.
    """

    closed: ClosedSetResult = field(default_factory=lambda: ClosedSetResult({}, ()))
    anomalies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def scalars(self) -> dict[str, float]:
        """Return the numbers to plot, by name."""
        plotted = {name: value for name, value in self.closed.items() if name != "pixels"}
        for data, numbers in self.anomalies.items():
            plotted |= {f"{data} {name}": value for name, value in numbers.items()}
        return plotted


@torch.no_grad()
def closed_set_metrics(
    network: SegmentationNetwork,
    scenes: SceneSet | Sequence[Scene],
    taxonomy: Taxonomy,
    device: torch.device,
    labels: NDArray[np.uint8] | None = None,
) -> ClosedSetResult:
    """Return mIoU, accuracy and IoU per class over all labelled pixels of the scenes, each at its own size.

    Args:
        network: left in the mode that it was in.
        scenes: what it is tried on.
        taxonomy: its classes; the void channel, where there is one, is no prediction.
        device: where the network computes.
        labels: (256,) uint8, the network's label of each label of the scenes; the same by default. Classes that it
            never leads to have no IoU.
    """
    training = network.training
    network.eval()
    known = len(taxonomy) - (taxonomy.void is not None)
    matrix = ConfusionMatrix(known)
    for scene in scenes:
        logits = network(as_tensor(scene.image).to(device))[:, :known]
        predicted = upsampled(logits, scene.size).argmax(1)[0]
        if scene.labels is not None:
            matrix.update(predicted.cpu(), scene.labels if labels is None else labels[scene.labels])
    network.train(training)
    return matrix.compute(None if labels is None else named_classes(labels))


def anomaly_metrics(
    network: SegmentationNetwork, detector: Detector, scenes: SceneSet, taxonomy: Taxonomy, device: torch.device
) -> dict[str, float]:
    """Return AP and FPR95 in [0, 1] of a detector over all pixels of a set with anomaly masks.

    Raises:
        InputError: if a scene has no mask, or the set no anomaly.
    """
    training = network.training
    network.eval()
    metrics = PixelMetrics()
    for scene in scenes:
        if scene.mask is None:
            raise InputError(f"{scenes.name}/{scene.name} has no anomaly mask: validate on a set that has")
        with torch.no_grad():
            prediction = network.predict(as_tensor(scene.image).to(device), taps=detector.taps(), void=taxonomy.void)
        metrics.update(detector(prediction)[0].cpu(), scene.mask)
    network.train(training)
    found = metrics.compute()
    return {name: found[name] for name in ("AP", "FPR95")}
