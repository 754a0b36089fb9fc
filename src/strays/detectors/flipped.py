"""A score averaged over the image and its mirror image."""

from dataclasses import replace

from torch import Tensor

from strays.cards import Card
from strays.detectors.base import register_detector
from strays.detectors.inputs import passes_of
from strays.detectors.wrapper import Wrapper
from strays.prediction import Prediction

__all__ = ["Flipped"]


@register_detector("flipped")
class Flipped(Wrapper):
    """The mean of another detector's scores of the image and, mirrored back, of its mirror image.

    Reference:
        Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012, section 4.1

    Args:
        detector: the other one, or a string that describes it.

    Example:
        >>> Flipped("msp").settings()
        {'detector': 'msp(temperature=1.0)'}
    """

    card = Card(
        title="Mirror averaging",
        summary="The score of another detector, averaged over the image and its mirror image.",
        paper="Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012",
        year=2012,
        url="https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
        notes="A wrapper: flipped(DETECTOR). The network runs twice.",
    )

    def score(self, prediction: Prediction) -> Tensor:
        """Return the mean score (N, H, W) of both images."""
        passes = passes_of(prediction, "flipped")
        mirrored = passes.again(passes.image.flip(-1))
        if prediction.image is not None:
            mirrored = replace(mirrored, image=prediction.image.flip(-1))
        return (self.inner.score(prediction) + self.inner.score(mirrored).flip(-1)) / 2
