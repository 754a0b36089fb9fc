"""A void class behind the known ones, learnt from negatives."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.reported import FISHYSCAPES, SMIYC, reported
from strays.networks.base import TrainingOutputs
from strays.networks.extended import Extension
from strays.objectives.void_class import void_class_loss
from strays.recipes.base import Recipe, register_recipe

__all__ = ["VoidClass"]

_DEEPLAB = "DeepLabV3+"


@register_recipe("void-class")
class VoidClass(Recipe):
    """One channel more, to which negatives belong; its probability is the score.

    Reference:
        Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021,
        https://arxiv.org/abs/1904.03215

    Args:
        class_weights, void: see ``Recipe``; void has the weight 1 beside those of the classes.
    """

    card = Card(
        title="Void class",
        summary="Trains one class more, void, to which negatives belong.",
        paper="Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        needs=Needs(negatives=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.1029, "FPR95": 0.2211}, _DEEPLAB, FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.45, "FPR95": 0.194}, _DEEPLAB, FISHYSCAPES),
            *reported("Cityscapes", {"mIoU": 0.704}, _DEEPLAB, "as listed beside the Fishyscapes numbers"),
            *reported("RoadAnomaly21 test", {"AP": 0.3661, "FPR95": 0.6349}, protocol=SMIYC),
            *reported("RoadObstacle21 test", {"AP": 0.1044, "FPR95": 0.4154}, protocol=SMIYC),
            *reported("LostAndFound-NoKnown test", {"AP": 0.048, "FPR95": 0.47}, protocol=SMIYC),
        ),
        notes="The published networks learnt from the void pixels of Cityscapes (--negatives void). Their training "
        "code is not public: the loss is our reading, one mean over pixels with a class and negatives. Other kinds of "
        "negatives may be added. The own vehicle and image borders are no negatives where the data say what is that "
        "(Cityscapes with its labelIds), as they would teach a place. "
        "Start from a network trained on the classes; epochs and learning rate are ours, for small networks and short "
        "runs. Class weights are our addition.",
    )
    detector = "void"
    extension = Extension(extra_channel=True)
    defaults: ClassVar[Mapping[str, object]] = {"epochs": 15, "learning_rate": 1e-4}

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of ``void_class_loss``; see ``Recipe.losses``."""
        return void_class_loss(outputs["logits"], labels, mask, self.class_weights)
