"""Maskomaly without chosen queries: what the confident masks of a network leave over."""

from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, Settings, register_detector
from strays.detectors.maskomaly import rejection
from strays.detectors.masks import mask_probabilities, scored_by_masks
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["MaskomalyAll", "maskomaly_all"]


def maskomaly_all(class_logits: Tensor, mask_logits: Tensor, confidence: float = 0.7, overlap: float = 0.1) -> Tensor:
    """Return ``rejection`` of the masks of all queries: the first two steps of Maskomaly, the same for every network.

    Args:
        class_logits: (N, Q, K + 1), the last channel means "no object".
        mask_logits: (N, Q, ...), at the size at which scores are wanted.
        confidence: how sure of its class a query must be to reject an anomaly.
        overlap: from which probability on two masks meet.

    Returns:
        (N, ...) in [0, 1], float32, or float64 for float64 logits.

    Raises:
        InputError: if the shapes do not belong together.

    Source: Ackermann et al., Maskomaly, BMVC 2023, and its code.

    Example:
        >>> import torch
        >>> classes = torch.tensor([[[9.0, 0.0]]])
        >>> maskomaly_all(classes, torch.tensor([[[9.0, -9.0]]]))
        tensor([[2.4676e-04, 9.9988e-01]])
    """
    classes, masks = mask_probabilities(class_logits, mask_logits)
    return rejection(classes, masks, confidence, overlap)


@register_detector("maskomaly-all")
class MaskomalyAll(Detector):
    """What the confident masks of a mask network leave over: Maskomaly over all queries alike, nothing fitted.

    Reference:
        Ackermann, Sakaridis, Yu, Maskomaly: Zero-Shot Mask Anomaly Segmentation, BMVC 2023,
        https://arxiv.org/abs/2305.16972

    Args:
        confidence: how sure of its class a query must be to reject an anomaly, in [0, 1).
        overlap: from which probability on two masks meet, in [0, 1).
    """

    card = Card(
        title="Maskomaly over all queries",
        summary="One minus the strongest claim of a confident mask, zero where two masks meet.",
        paper="Ackermann, Sakaridis, Yu, Maskomaly: Zero-Shot Mask Anomaly Segmentation, BMVC 2023",
        year=2023,
        url="https://arxiv.org/abs/2305.16972",
        needs=Needs(masks=True),
        notes="Our reading of the name, which the authors' repository does not use: the rejection map with its border "
        "suppression, over all queries alike, without the chosen ground and anomaly queries. So it needs neither "
        "fitting nor anomalies and goes with every checkpoint. Masks are resized to the image before the sigmoid. A "
        "void class of the network counts as no object.",
    )

    def __init__(self, confidence: float = 0.7, overlap: float = 0.1) -> None:
        super().__init__()
        for name, value in (("confidence", confidence), ("overlap", overlap)):
            if not 0 <= value < 1:
                raise InputError(f"{name} is {value}, expected a number in [0, 1)")
        self.confidence, self.overlap = float(confidence), float(overlap)

    def settings(self) -> Settings:
        """Return both thresholds."""
        return {"confidence": self.confidence, "overlap": self.overlap}

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``maskomaly_all`` of the masks at the size of the image, (N, H, W)."""

        def score(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
            return maskomaly_all(class_logits, mask_logits, self.confidence, self.overlap)

        return scored_by_masks(prediction, "maskomaly-all", score)
