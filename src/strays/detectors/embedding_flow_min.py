"""Learned embedding density over several layers: improbable is what every one of them finds improbable."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import register_detector, upsampled
from strays.detectors.embedding_flow import FlowStatistics, LayersFlowDetector
from strays.detectors.reported import FISHYSCAPES, reported
from strays.prediction import Prediction

__all__ = ["EmbeddingFlowMin", "minimum_nll"]


def minimum_nll(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Return the smallest of the standardised negative log-likelihoods at each pixel.

    Args:
        maps: one (N, h, w) per layer, each at its own size, in standard deviations above its mean.
        size: (H, W); every map is brought there bilinearly first.

    Returns:
        (N, H, W), unbounded.

    Source: Blum et al., IJCV 2021.

    Example:
        >>> minimum_nll([torch.tensor([[[0.0, 3.0]]]), torch.tensor([[[2.0]]])], (1, 2))
        tensor([[[0., 2.]]])
    """
    return reduce(torch.minimum, (upsampled(one[:, None], size)[:, 0] for one in maps))


@register_detector("embedding-flow-min")
class EmbeddingFlowMin(LayersFlowDetector[FlowStatistics]):
    """How improbable normalizing flows find the features of several layers, by the layer that is surprised least.

    Only what every layer finds improbable is anomalous; borders between classes, which surprise some layers, are not.

    Reference:
        Blum et al., The Fishyscapes Benchmark, IJCV 2021, https://arxiv.org/abs/1904.03215

    Args:
        taps: the layers, with + between them.
        samples: feature vectors per layer at most that the flows are fitted on.
        dimensions: how many principal components of each layer are kept at most.
        steps: number of couplings.
        epochs: how often every vector is seen.
        rate: learning rate of Adam at the beginning.
        seed: decides which vectors, and where the training of the flows starts.

    Example:
        >>> sorted(EmbeddingFlowMin(taps="stage2+stage3").taps())
        ['stage2', 'stage3']
    """

    card = Card(
        title="Learned embedding density, minimum over layers",
        summary="Smallest standardised negative log-likelihood of the features of several layers under normalizing "
        "flows.",
        paper="Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        needs=Needs(fitting=True, features=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.0425, "FPR95": 0.4715}, protocol=FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.6214, "FPR95": 0.1743}, protocol=FISHYSCAPES),
        ),
        notes="No code was published, so the flow is our choice: whitened principal components, then affine couplings, "
        "trained by Adam on a random sample of pixels that are not ignored. Every layer has a flow, and "
        "its mean and standard deviation over that sample, of its own. The layers are our choice, too.",
    )

    def statistics(self) -> FlowStatistics:
        """Return empty samples."""
        return FlowStatistics(self.names, self.samples, self.how.seed)

    def conclude(self, statistics: FlowStatistics) -> None:
        """Train the flows, and learn the mean and the deviation of what each says.

        Raises:
            InputError: if there is no pixel to fit on.
        """
        self.fit_flows(statistics.inliers)

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``minimum_nll`` of the layers, (N, H, W)."""
        return minimum_nll(self.standardized_nlls(self.nll_maps(prediction)), prediction.size)
