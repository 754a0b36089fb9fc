"""DenseHybrid: an outlier head, and class logits whose log-sum-exp is low on negatives."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.reported import FISHYSCAPES, SMIYC, STREET_HAZARDS, reported
from strays.networks.base import TrainingOutputs
from strays.networks.extended import Extension
from strays.objectives.densehybrid import PosteriorVoid, densehybrid_loss
from strays.objectives.inputs import checked_weights
from strays.recipes.base import Recipe, register_recipe
from strays.specs import Value

__all__ = ["DenseHybrid"]

_DEEPLAB = "DeepLabV3+ WideResNet-38"


@register_recipe("densehybrid")
class DenseHybrid(Recipe):
    """An outlier head, and class logits whose log-sum-exp is a density: low on negatives.

    Reference:
        Grcić, Bevandić and Šegvić, DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition, ECCV 2022,
        https://arxiv.org/abs/2207.02606

    Args:
        class_weights, void: see ``Recipe``; the weights count in the cross-entropy of the classes only.
        beta, posterior_weight, negative_posterior_weight, posterior_void, margin: see ``densehybrid_loss``.

    Raises:
        InputError: if a weight is out of range.
    """

    card = Card(
        title="DenseHybrid",
        summary="Trains an outlier head, and class logits whose log-sum-exp is low on negatives.",
        paper="Grcić, Bevandić and Šegvić, DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition, "
        "ECCV 2022",
        year=2022,
        url="https://arxiv.org/abs/2207.02606",
        needs=Needs(negatives=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.439, "FPR95": 0.062}, _DEEPLAB, FISHYSCAPES),
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.7796, "FPR95": 0.0981, "sIoU": 0.5417, "PPV": 0.2413, "F1*": 0.3108},
                "LDN-121",
                SMIYC,
            ),
            *reported(
                "StreetHazards test",
                {"AP": 0.2381, "FPR95": 0.1876, "AUROC": 0.9369, "mIoU": 0.5752, "open mIoU": 0.3759},
                "SwiftNet-RN18",
                STREET_HAZARDS,
            ),
            *reported("Cityscapes test", {"mIoU": 0.8206}, _DEEPLAB, "test server, as the RPL repository lists it"),
        ),
        notes="Start from a network trained on the classes. Published: objects of ADE20K without any exclusion, one in "
        "every crop, half of them rectangles and half the pixels of two labels; Adam, batch 12; DeepLabV3+ 10 epochs "
        "at a constant 1e-6, LDN-121 40 epochs from 1e-5 to 1e-7 on a cosine. Epochs and learning rate are ours, for "
        "small networks and short runs. Terms and weights are those of the released code: posterior_weight is 10 beta, "
        "and void counts as inlier to the outlier head, which decides what happens around the own vehicle. The loss "
        "may be negative. Class weights are our addition.",
    )
    detector = "densehybrid"
    extension = Extension(outlier_head=True)
    defaults: ClassVar[Mapping[str, object]] = {"negative_share": 1.0, "epochs": 15, "learning_rate": 1e-4}

    def __init__(
        self,
        class_weights: Tensor | None = None,
        void: int | None = None,
        beta: float = 0.03,
        posterior_weight: float | None = None,
        negative_posterior_weight: float | None = None,
        posterior_void: PosteriorVoid = "inlier",
        margin: float | None = None,
    ) -> None:
        super().__init__(class_weights, void)
        checked_weights(
            beta=beta, posterior_weight=posterior_weight, negative_posterior_weight=negative_posterior_weight
        )
        self.beta = beta
        self.posterior_weight = posterior_weight
        self.negative_posterior_weight = negative_posterior_weight
        self.posterior_void: PosteriorVoid = posterior_void
        self.margin = margin

    def settings(self) -> dict[str, Value]:
        """Return the weights of the terms, what void is to the outlier head, and the margin."""
        return {
            "beta": self.beta,
            "posterior_weight": self.posterior_weight,
            "negative_posterior_weight": self.negative_posterior_weight,
            "posterior_void": self.posterior_void,
            "margin": self.margin,
        }

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of ``densehybrid_loss``; see ``Recipe.losses``.

        Raises:
            InputError: if the network has no outlier head.
        """
        return densehybrid_loss(
            self.class_logits(outputs["logits"]),
            self.outlier_logits(outputs),
            labels,
            mask,
            self.beta,
            self.posterior_weight,
            self.negative_posterior_weight,
            self.posterior_void,
            self.margin,
            self.class_weights,
        )
