"""The outlier head trained on boxes and whole images of a foreign collection, inlier classes among them or not."""

from strays.detectors.reported import FISHYSCAPES, reported
from strays.recipes.base import register_recipe
from strays.recipes.outlier_head import OutlierHead

__all__ = ["NoisyNegatives"]

_LADDER = "Ladder DenseNet trained with ImageNet boxes"


@register_recipe("noisy-negatives")
class NoisyNegatives(OutlierHead):
    """The outlier head, for negatives that nobody sorted: ``--negatives patches=DIR`` with any folder of images.

    Reference:
        Bevandić et al., Dense Open-set Recognition Based on Training with Noisy Negative Images, Image and Vision
        Computing 2022, https://arxiv.org/abs/2101.09193

    Args:
        class_weights, void, outlier_weight, auxiliary_weight, outlier_auxiliary: see ``OutlierHead``.
    """

    card = OutlierHead.card.model_copy(
        update={
            "title": "Noisy negatives",
            "summary": "The outlier head, trained on boxes of random size and whole images of any foreign collection.",
            "paper": "Bevandić et al., Dense Open-set Recognition Based on Training with Noisy Negative Images, "
            "Image and Vision Computing 2022",
            "year": 2022,
            "url": "https://arxiv.org/abs/2101.09193",
            "notes": "Meant for negatives of the kind patches, which gives boxes of 0.1 to 10 % of the crop"
            " and whole images; objective and settings are those of outlier-head.",
            "published": (
                *reported("Fishyscapes Lost & Found test", {"AP": 0.3131, "FPR95": 0.1902}, _LADDER, FISHYSCAPES),
                *reported("Fishyscapes Static test", {"AP": 0.9676, "FPR95": 0.0029}, _LADDER, FISHYSCAPES),
            ),
        }
    )
