"""Probability of the void class."""

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import class_logits, register_detector
from strays.detectors.reported import SMIYC, VOID_CHECKPOINTS, reported
from strays.detectors.tempered import TemperedDetector, checked_logits, tempered
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["Void", "void_probability"]

_ENET = "ENet trained with a void class"
_ERFNET = "ERFNet trained with a void class"


def void_probability(logits: Tensor, temperature: float = 1.0, void: int = -1) -> Tensor:
    """Return the softmax probability of the void channel over all channels.

    Args:
        logits: (N, K, ...) logits, void channel included, K >= 2.
        temperature: divides the logits, above 0.
        void: the index of the void channel, from the end if negative.

    Returns:
        (N, ...) in [0, 1], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape, the temperature or the index is wrong.

    Example:
        >>> import torch
        >>> void_probability(torch.tensor([[0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 9.0]]))
        tensor([0.2500, 0.4999])
    """
    logits = checked_logits(logits, temperature, classes=2)
    channels = logits.shape[1]
    if not -channels <= void < channels:
        raise InputError(f"void channel {void} is not one of the {channels} channels of the logits")
    probabilities = torch.softmax(tempered(logits, temperature), dim=1)
    # A copy, because a view of one channel would keep all of them in memory.
    return probabilities.select(1, void).clone()


@register_detector("void")
class Void(TemperedDetector):
    """Probability of the void class, for networks that were trained with one.

    Reference:
        Blum et al., The Fishyscapes Benchmark, IJCV 2021, https://arxiv.org/abs/1904.03215

    Args:
        temperature: divides the logits, above 0.
    """

    card = Card(
        title="Void classifier",
        summary="Probability that a network trained with a void class gives to void.",
        paper="Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        needs=Needs(void_class=True),
        published=(
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.3661, "FPR95": 0.6349, "sIoU": 0.2114, "PPV": 0.2213, "F1*": 0.0649},
                protocol=SMIYC,
            ),
            *reported(
                "RoadObstacle21 test",
                {"AP": 0.1044, "FPR95": 0.4154, "sIoU": 0.0634, "PPV": 0.2027, "F1*": 0.0541},
                protocol=SMIYC,
            ),
            *reported("RoadAnomaly21 validation", {"AP": 0.1730, "FPR95": 0.8395}, _ENET, VOID_CHECKPOINTS),
            *reported("RoadObstacle21 validation", {"AP": 0.0150, "FPR95": 0.5414}, _ENET, VOID_CHECKPOINTS),
            *reported("Fishyscapes Static validation", {"AP": 0.0737, "FPR95": 0.5658}, _ENET, VOID_CHECKPOINTS),
            *reported("RoadAnomaly", {"AP": 0.0969, "FPR95": 0.8309}, _ENET, VOID_CHECKPOINTS),
            *reported("RoadAnomaly21 validation", {"AP": 0.1931, "FPR95": 0.7829}, _ERFNET, VOID_CHECKPOINTS),
            *reported("RoadObstacle21 validation", {"AP": 0.0141, "FPR95": 0.9979}, _ERFNET, VOID_CHECKPOINTS),
            *reported("Fishyscapes Static validation", {"AP": 0.2077, "FPR95": 0.2387}, _ERFNET, VOID_CHECKPOINTS),
            *reported("RoadAnomaly", {"AP": 0.0971, "FPR95": 0.9120}, _ERFNET, VOID_CHECKPOINTS),
        ),
        notes="Says nothing about a network whose extra channel was only a place for ignored pixels.",
    )

    def channels(self, prediction: Prediction) -> Tensor:
        """Return all logits (N, K, h, w), the void channel last.

        Raises:
            InputError: if the network has no void class.
        """
        if prediction.void is None:
            raise InputError(
                "the detector 'void' reads a void class, and this network has none: use energy, max-logit or entropy, "
                "or state which channel is void in the model's taxonomy"
            )
        void = prediction.logits[:, prediction.void : prediction.void + 1]
        return torch.cat([class_logits(prediction), void], dim=1)

    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return ``void_probability`` of the last channel at this detector's temperature."""
        return void_probability(logits, self.temperature)
