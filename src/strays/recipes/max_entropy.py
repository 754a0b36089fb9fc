"""Flat class probabilities on negatives, by maximising their entropy."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from strays.cards import Card, Needs
from strays.networks.base import TrainingOutputs
from strays.objectives.inputs import Direction, checked_direction, checked_weights
from strays.objectives.max_entropy import max_entropy_loss
from strays.recipes.base import Recipe, register_recipe
from strays.specs import Value

__all__ = ["MaxEntropy"]


@register_recipe("max-entropy")
class MaxEntropy(Recipe):
    """Cross-entropy on the classes, and as much entropy as there can be on negatives.

    Reference:
        Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021,
        https://arxiv.org/abs/1904.03215

    Args:
        class_weights, void: see ``Recipe``; the weights count in the cross-entropy of the classes only.
        weight, direction: see ``max_entropy_loss``.

    Raises:
        InputError: if a setting is out of range.
    """

    card = Card(
        title="Max-entropy",
        summary="Trains class probabilities of the largest entropy on negatives.",
        paper="Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        needs=Needs(negatives=True),
        notes="The published network learnt from the void pixels of Cityscapes (--negatives void). Its training code "
        "is not public: weight 1 is our choice, and so is KL(p, U), which is ln K minus the entropy, as the default; "
        "direction=forward takes KL(U, p), which is not bounded. Other kinds of negatives may be added. Start from a "
        "network trained on the classes; epochs and learning rate are ours, for small networks and short runs. Class "
        "weights are our addition.",
    )
    detector = "entropy"
    defaults: ClassVar[Mapping[str, object]] = {"epochs": 15, "learning_rate": 1e-4}

    def __init__(
        self,
        class_weights: Tensor | None = None,
        void: int | None = None,
        weight: float = 1.0,
        direction: Direction = "reverse",
    ) -> None:
        super().__init__(class_weights, void)
        checked_weights(weight=weight)
        self.weight = weight
        self.direction: Direction = checked_direction(direction)

    def settings(self) -> dict[str, Value]:
        """Return weight and direction of the divergence."""
        return {"weight": self.weight, "direction": self.direction}

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of ``max_entropy_loss``; see ``Recipe.losses``."""
        logits = self.class_logits(outputs["logits"])
        return max_entropy_loss(logits, labels, mask, self.weight, self.direction, self.class_weights)
