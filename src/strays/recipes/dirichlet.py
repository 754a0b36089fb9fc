"""Prior networks: class logits that are the logarithms of Dirichlet concentrations."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.reported import FISHYSCAPES, reported
from strays.networks.base import TrainingOutputs
from strays.objectives.dirichlet import checked_concentration, dirichlet_loss
from strays.objectives.inputs import Direction, checked_direction, checked_weights
from strays.recipes.base import Recipe, register_recipe
from strays.specs import Value

__all__ = ["PriorNetwork"]

_DEEPLAB = "Dirichlet DeepLab"


@register_recipe("dirichlet")
class PriorNetwork(Recipe):
    """A sharp Dirichlet distribution for pixels with a class, a flat one for negatives.

    Reference:
        Malinin and Gales, Reverse KL-Divergence Training of Prior Networks, NeurIPS 2019,
        https://arxiv.org/abs/1905.13472

    Args:
        class_weights, void: see ``Recipe``; the weights count in the mean over pixels with a class only.
        direction, concentration, gamma: see ``dirichlet_loss``.

    Raises:
        InputError: if a setting is out of range.
    """

    card = Card(
        title="Prior network",
        summary="Trains Dirichlet concentrations exp(logits): sharp for known classes, flat on negatives.",
        paper="Malinin and Gales, Reverse KL-Divergence Training of Prior Networks: Improved Uncertainty and "
        "Adversarial Robustness, NeurIPS 2019",
        year=2019,
        url="https://arxiv.org/abs/1905.13472",
        needs=Needs(negatives=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.3428, "FPR95": 0.4743}, _DEEPLAB, FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.313, "FPR95": 0.846}, _DEEPLAB, FISHYSCAPES),
            *reported("Fishyscapes Web October 2020", {"AP": 0.3002, "FPR95": 0.7662}, _DEEPLAB, FISHYSCAPES),
            *reported("Cityscapes", {"mIoU": 0.705}, _DEEPLAB, "as listed beside the Fishyscapes numbers"),
        ),
        notes="The loss is that of the authors' code for image classification; the published network learnt from the "
        "void pixels of Cityscapes (--negatives void), and its training code is not public. Its mIoU is far below "
        "that of its rivals: expect a loss of closed-set quality. Starting from a network trained on the classes is "
        "our choice: logits that a softmax left far from 0 make the first steps large, which the clipping of "
        "gradients bounds. The forward divergence follows its tangent where a logit exceeds 30. Epochs are ours, for "
        "small networks and short runs. Class weights are our addition.",
    )
    detector = "dirichlet-differential-entropy"
    defaults: ClassVar[Mapping[str, object]] = {"epochs": 15}

    def __init__(
        self,
        class_weights: Tensor | None = None,
        void: int | None = None,
        direction: Direction = "reverse",
        concentration: float = 100.0,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(class_weights, void)
        checked_weights(gamma=gamma)
        self.direction: Direction = checked_direction(direction)
        self.concentration = checked_concentration(concentration)
        self.gamma = gamma

    def settings(self) -> dict[str, Value]:
        """Return direction of the divergence, concentration of the targets, and weight of the negatives."""
        return {"direction": self.direction, "concentration": self.concentration, "gamma": self.gamma}

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of ``dirichlet_loss``; see ``Recipe.losses``."""
        logits = self.class_logits(outputs["logits"])
        return dirichlet_loss(logits, labels, mask, self.direction, self.concentration, self.gamma, self.class_weights)
