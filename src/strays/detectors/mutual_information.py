"""Mutual information of class and dropout mask, what the recipe for Bayesian networks is read by."""

from strays.detectors.base import Settings, register_detector
from strays.detectors.mc_dropout import McDropout
from strays.detectors.reported import FISHYSCAPES

__all__ = ["MutualInformation"]


@register_detector("mutual-information")
class MutualInformation(McDropout):
    """How much passes with dropout disagree about the class: ``mc-dropout:score=mutual-information`` under its name.

    Reference:
        Mukhoti and Gal, Evaluating Bayesian Deep Learning Methods for Semantic Segmentation, 2018,
        https://arxiv.org/abs/1811.12709

    Args:
        samples: how many passes, 2 or more.
        seed: of the first pass; pass number i has seed + i.

    Raises:
        InputError: if there are fewer than 2 samples.
    """

    card = McDropout.card.model_copy(
        update={
            "title": "Mutual information",
            "summary": "Entropy of the mean over passes with dropout, minus the mean of their entropies.",
            "published": tuple(one for one in McDropout.card.published if one.protocol == FISHYSCAPES),
            "notes": "Reads networks of the recipe mc-dropout, or others with dropout of their own. The leaderboard "
            "does not say which score of Bayesian DeepLab it lists.",
        }
    )

    def __init__(self, samples: int = 50, seed: int = 0) -> None:
        super().__init__(samples, "mutual-information", seed=seed)

    def settings(self) -> Settings:
        """Return number of passes and seed."""
        return {"samples": self.samples, "seed": self.seed}
