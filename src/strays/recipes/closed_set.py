"""Plain training on the known classes: the base that every other recipe is compared with."""

from collections.abc import Mapping

from torch import Tensor

from strays.cards import Card
from strays.networks.base import TrainingOutputs
from strays.objectives.cross_entropy import cross_entropy_loss
from strays.recipes.base import Recipe, register_recipe

__all__ = ["ClosedSet"]


@register_recipe("closed-set")
class ClosedSet(Recipe):
    """Cross-entropy on the labelled pixels, nothing about anomalies."""

    card = Card(
        title="Closed set",
        summary="Cross-entropy on the known classes; anomalies show up as low confidence or not at all.",
        url="https://arxiv.org/abs/1411.4038",
        paper="Fully Convolutional Networks for Semantic Segmentation",
        year=2015,
    )
    detector = "energy"

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the classes; see ``Recipe.losses``."""
        return cross_entropy_loss(self.class_logits(outputs["logits"]), labels, self.class_weights)
