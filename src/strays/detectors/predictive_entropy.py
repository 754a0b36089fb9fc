"""Entropy of the mean over passes with dropout."""

from typing import Literal

from strays.detectors.base import Settings, register_detector
from strays.detectors.mc_dropout import McDropout

__all__ = ["PredictiveEntropy"]


@register_detector("predictive-entropy")
class PredictiveEntropy(McDropout):
    """How unsure passes with dropout are on average: ``mc-dropout:score=predictive-entropy`` under its name.

    Reference:
        Mukhoti and Gal, Evaluating Bayesian Deep Learning Methods for Semantic Segmentation, 2018,
        https://arxiv.org/abs/1811.12709

    Args:
        samples: how many passes, 1 or more.
        average: what is averaged over them: ``"probabilities"``, or ``"logits"`` before one softmax.
        seed: of the first pass; pass number i has seed + i.

    Raises:
        InputError: if a setting is out of range.
    """

    card = McDropout.card.model_copy(
        update={
            "title": "Predictive entropy",
            "summary": "Entropy of the class probabilities that passes with dropout have on average.",
            "published": (),
            "notes": "Reads networks of the recipe mc-dropout, or others with dropout of their own. It counts what is "
            "ambiguous in the image as well; mutual-information counts only what the passes disagree about.",
        }
    )

    def __init__(
        self, samples: int = 50, average: Literal["probabilities", "logits"] = "probabilities", seed: int = 0
    ) -> None:
        super().__init__(samples, "predictive-entropy", average, seed=seed)

    def settings(self) -> Settings:
        """Return number of passes, what is averaged over them, and seed."""
        return {"samples": self.samples, "average": self.average, "seed": self.seed}
