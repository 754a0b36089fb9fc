"""A second head that tells inliers from outliers, trained together with the classes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.reported import STREET_HAZARDS_TEMPERED, reported
from strays.networks.base import TrainingOutputs
from strays.networks.extended import Extension
from strays.objectives.outlier_head import outlier_head_loss
from strays.recipes.base import Recipe, register_recipe
from strays.specs import Value

__all__ = ["OutlierHead"]


@register_recipe("outlier-head")
class OutlierHead(Recipe):
    """Classes, and inliers against negatives in a head of their own, both at full size and on coarser features.

    Reference:
        Bevandić et al., Simultaneous Semantic Segmentation and Outlier Detection in Presence of Domain Shift, GCPR
        2019, https://arxiv.org/abs/1908.01098

    Args:
        class_weights, void: see ``Recipe``; the weights count in the cross-entropy of the classes only.
        outlier_weight: weight of the outlier head beside the classes.
        auxiliary_weight: share of the auxiliary terms, in [0, 1], for classes and outliers alike.
        outlier_auxiliary: whether the outlier head has an auxiliary term: the released code's has, the paper's not.
    """

    card = Card(
        title="Outlier head",
        summary="Trains a two-way head, inlier or outlier, beside the classes, with auxiliary losses on coarser maps.",
        paper="Bevandić et al., Simultaneous Semantic Segmentation and Outlier Detection in Presence of Domain Shift, "
        "GCPR 2019",
        year=2019,
        url="https://arxiv.org/abs/1908.01098",
        needs=Needs(negatives=True),
        published=reported(
            "StreetHazards test",
            {"AP": 0.2252, "FPR95": 0.1906, "AUROC": 0.9354, "mIoU": 0.5851, "open mIoU": 0.4013},
            "SwiftNet-RN18 trained with ADE20K (OODHead)",
            STREET_HAZARDS_TEMPERED,
        ),
        notes="Takes objects or patches as negatives. The weights of the terms are those of the released code, where "
        "every crop holds a negative; its Adam has amsgrad, eps 1e-5 and a cosine by epochs to 1e-10, ours the "
        "settings of the other recipes. That code leaves the last layers of the outlier and auxiliary heads out of the "
        "optimiser; here they are trained. One auxiliary head per tap gives class and outlier logits, and "
        "class weights are our addition, as is the tenfold rate of the new heads where training starts from a network "
        "that knows its classes. OODHead is published with SwiftNet, outlier_weight=1 and "
        "auxiliary_weight=0; void is an inlier to its outlier head.",
    )
    detector = "outlier-probability-msp"
    extension = Extension(outlier_head=True, auxiliary=True)
    defaults: ClassVar[Mapping[str, object]] = {"negative_share": 1.0, "optimizer": "adam", "head_rate": 10.0}

    def __init__(
        self,
        class_weights: Tensor | None = None,
        void: int | None = None,
        outlier_weight: float = 0.2,
        auxiliary_weight: float = 0.4,
        outlier_auxiliary: bool = True,
    ) -> None:
        super().__init__(class_weights, void)
        self.outlier_weight = outlier_weight
        self.auxiliary_weight = auxiliary_weight
        self.outlier_auxiliary = outlier_auxiliary

    def settings(self) -> dict[str, Value]:
        """Return the weights of the terms, and whether the outlier head has an auxiliary one."""
        return {
            "outlier_weight": self.outlier_weight,
            "auxiliary_weight": self.auxiliary_weight,
            "outlier_auxiliary": self.outlier_auxiliary,
        }

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of ``outlier_head_loss``; see ``Recipe.losses``.

        Raises:
            InputError: if the network has no outlier head.
        """
        outlier_maps: Sequence[Tensor] = outputs.get("auxiliary_outlier_logits", ())
        return outlier_head_loss(
            self.class_logits(outputs["logits"]),
            self.outlier_logits(outputs),
            labels,
            mask,
            [self.class_logits(one) for one in outputs.get("auxiliary_logits", ())],
            outlier_maps if self.outlier_auxiliary else (),
            self.class_weights,
            self.outlier_weight,
            self.auxiliary_weight,
        )
