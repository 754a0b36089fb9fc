"""Entropy maximisation of Chan et al., made for whole images of foreign objects among those of the scenes."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.reported import reported
from strays.networks.base import TrainingOutputs
from strays.objectives.meta_entropy import checked_alpha, meta_entropy_loss
from strays.recipes.base import Recipe, register_recipe
from strays.specs import Value

__all__ = ["MetaEntropy"]


@register_recipe("meta-entropy")
class MetaEntropy(Recipe):
    """One cross-entropy for all pixels, in which negatives have a uniform target and nine times the weight.

    Reference:
        Chan, Rottmann and Gottschalk, Entropy Maximization and Meta Classification for Out-of-Distribution Detection in
        Semantic Segmentation, ICCV 2021, https://arxiv.org/abs/2012.06575

    Args:
        class_weights, void: see ``Recipe``; the weights count in the cross-entropy of the classes only.
        alpha, separate: see ``meta_entropy_loss``.

    Raises:
        InputError: if alpha is out of range.
    """

    card = Card(
        title="Entropy maximization",
        summary="Trains class probabilities towards uniform ones on negatives, in one sum with the cross-entropy.",
        paper="Chan, Rottmann and Gottschalk, Entropy Maximization and Meta Classification for Out-of-Distribution "
        "Detection in Semantic Segmentation, ICCV 2021",
        year=2021,
        url="https://arxiv.org/abs/2012.06575",
        needs=Needs(negatives=True),
        published=reported(
            "Cityscapes test",
            {"mIoU": 0.8151},
            "DeepLabV3+, WideResNet-38",
            "test server, as the RPL repository lists it",
        ),
        notes="Start from a network trained on the classes. Published: whole COCO images, a tenth as many as there are "
        "scenes and drawn anew every epoch (--negatives whole=DIR); Adam at a constant 1e-5 that is created anew every "
        "epoch, 1 epoch, batch 8, crops of 480; pixels around the objects of a negative count as road, as its label is "
        "0. Here they count nowhere, a tenth of the crops are negatives, and epochs, learning rate and schedule are "
        "ours, for small networks and short runs. With objects that are pasted, which cover less, "
        "a negative_share of 1 comes nearer to the published balance. The loss is that of the released code, divided "
        "by all entries of the logits. Class weights are our addition.",
    )
    detector = "entropy"
    defaults: ClassVar[Mapping[str, object]] = {
        "negative_share": 0.1,
        "epochs": 15,
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
    }

    def __init__(
        self,
        class_weights: Tensor | None = None,
        void: int | None = None,
        alpha: float = 0.9,
        separate: bool = False,
    ) -> None:
        super().__init__(class_weights, void)
        self.alpha = checked_alpha(alpha)
        self.separate = separate

    def settings(self) -> dict[str, Value]:
        """Return the weight of a negative, and whether the two populations have a mean each."""
        return {"alpha": self.alpha, "separate": self.separate}

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of ``meta_entropy_loss``; see ``Recipe.losses``."""
        logits = self.class_logits(outputs["logits"])
        return meta_entropy_loss(logits, labels, mask, self.alpha, self.separate, self.class_weights)
