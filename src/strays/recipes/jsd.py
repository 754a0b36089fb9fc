"""Flat class probabilities on negatives, by the Jensen-Shannon divergence to the uniform distribution."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.reported import SMIYC, STREET_HAZARDS_TEMPERED, reported
from strays.networks.base import TrainingOutputs
from strays.objectives.inputs import checked_weights
from strays.objectives.jsd import jsd_to_uniform_loss
from strays.recipes.base import Recipe, register_recipe
from strays.specs import Value

__all__ = ["JsdToUniform"]


@register_recipe("jsd")
class JsdToUniform(Recipe):
    """Cross-entropy on the classes, Jensen-Shannon divergence to the uniform distribution on negatives.

    Reference:
        Grcić et al., Dense Out-of-Distribution Detection by Robust Learning on Synthetic Negative Data, Sensors 2024,
        https://arxiv.org/abs/2112.12833

    Args:
        class_weights, void: see ``Recipe``; the weights count in the cross-entropy of the classes only.
        weight: of the divergence, see ``jsd_to_uniform_loss``.

    Raises:
        InputError: if the weight is out of range.
    """

    card = Card(
        title="Jensen-Shannon divergence to uniform",
        summary="Trains class probabilities that are flat on negatives, with a loss that is bounded there.",
        paper="Grcić et al., Dense Out-of-Distribution Detection by Robust Learning on Synthetic Negative Data, "
        "Sensors 2024",
        year=2024,
        url="https://arxiv.org/abs/2112.12833",
        needs=Needs(negatives=True),
        published=(
            *reported(
                "StreetHazards test",
                {"AP": 0.1212, "FPR95": 0.2564, "AUROC": 0.9081, "mIoU": 0.6034, "open mIoU": 0.4294},
                "SwiftNet-RN18 trained with NFlowJS",
                STREET_HAZARDS_TEMPERED,
            ),
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.5692, "FPR95": 0.3471, "sIoU": 0.3694, "PPV": 0.1801, "F1*": 0.1489},
                "NFlowJS",
                SMIYC,
            ),
        ),
        notes="NFlowJS minimises the divergence on samples of a normalizing flow that is trained along with the "
        "network; this recipe takes real negatives, and the published numbers are not of it. The published schedule on "
        "StreetHazards is Adam from 1e-5 to 1e-7 on a cosine, 40 epochs, batch 16. Start from a network trained on the "
        "classes; epochs and learning rate are ours, for small networks and short runs. Class weights are ours too.",
    )
    detector = "jsd"
    defaults: ClassVar[Mapping[str, object]] = {"negative_share": 1.0, "epochs": 15, "learning_rate": 1e-4}

    def __init__(self, class_weights: Tensor | None = None, void: int | None = None, weight: float = 0.03) -> None:
        super().__init__(class_weights, void)
        checked_weights(weight=weight)
        self.weight = weight

    def settings(self) -> dict[str, Value]:
        """Return the weight of the divergence."""
        return {"weight": self.weight}

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of ``jsd_to_uniform_loss``; see ``Recipe.losses``."""
        return jsd_to_uniform_loss(self.class_logits(outputs["logits"]), labels, mask, self.weight, self.class_weights)
