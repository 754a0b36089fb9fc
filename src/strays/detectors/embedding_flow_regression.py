"""Learned embedding density over several layers, weighted so as to tell void pixels from the others."""

from collections.abc import Sequence

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import register_detector, upsampled
from strays.detectors.embedding_flow import FlowStatistics, LayersFlowDetector
from strays.detectors.fitted import fitted
from strays.detectors.inputs import labels_at, tapped, vectors
from strays.detectors.reported import FISHYSCAPES, reported
from strays.detectors.sampling import PixelSample
from strays.detectors.statistics import Accumulator
from strays.errors import InputError
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = ["EmbeddingFlowRegression", "PairedFlowStatistics", "regressed_nll"]


def regressed_nll(maps: Sequence[Tensor], weights: Tensor, bias: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the probability of an anomaly by logistic regression on standardised negative log-likelihoods.

    Args:
        maps: T of them, each (N, h, w) at its own size, in standard deviations above its mean.
        weights: (T,).
        bias: ().
        size: (H, W); every map is brought there bilinearly first.

    Returns:
        (N, H, W) in [0, 1].

    Source: Blum et al., IJCV 2021.

    Example:
        >>> maps = [torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[1.0, 1.0]]])]
        >>> regressed_nll(maps, torch.tensor([1.0, 0.5]), torch.tensor(-0.5), (1, 2))
        tensor([[[0.5000, 0.8808]]])
    """
    weighted = [upsampled(one[:, None], size)[:, 0] * weight for one, weight in zip(maps, weights, strict=True)]
    return torch.sigmoid(sum(weighted, start=bias))


class PairedFlowStatistics(FlowStatistics):
    """Random samples of the feature vectors of inlier and of void pixels, those of all taps at the same pixels.

    The pixels are those of the finest tap; the others are read there by nearest neighbour.

    Args:
        names: the taps.
        samples: pixels of each kind at most.
        seed: decides which pixels.

    Attributes:
        inliers, void: by tap; row i of every tap is the same pixel.
    """

    def __init__(self, names: tuple[str, ...], samples: int, seed: int) -> None:
        super().__init__(names, samples, seed)
        # the same seed on the same grid: samples of all taps draw the same pixels in the same order
        self.void = {name: PixelSample(samples, seed) for name in names}

    @property
    def parts(self) -> dict[str, Accumulator]:
        """The samples, numbered."""
        return {**super().parts, **{f"void{number}": sample for number, sample in enumerate(self.void.values())}}

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in the features of a batch, image by image: at the finest size they are large."""
        features = {name: tapped(prediction, name) for name in self.inliers}
        size = max(((one.shape[2], one.shape[3]) for one in features.values()), key=lambda grid: grid[0] * grid[1])
        its_labels = labels_at(labels, size).flatten(1)
        for name, maps in features.items():
            for offset, one in enumerate(maps):
                read = vectors(functional.interpolate(one[None], size=size, mode="nearest"))
                here = its_labels[offset : offset + 1]
                self.inliers[name].update(read, here, index + offset)
                self.void[name].update(read, here, index + offset, valid=here == IGNORE)


@register_detector("embedding-flow-regression")
class EmbeddingFlowRegression(LayersFlowDetector[PairedFlowStatistics]):
    """How improbable normalizing flows find the features of several layers, weighted by logistic regression.

    The weights are those that best tell void pixels (labelled 255) from the others.

    Reference:
        Blum et al., The Fishyscapes Benchmark, IJCV 2021, https://arxiv.org/abs/1904.03215

    Args:
        taps: the layers, with + between them.
        samples: pixels of each kind, inlier and void, at most that flows and weights are fitted on.
        dimensions: how many principal components of each layer are kept at most.
        steps: number of couplings.
        epochs: how often every vector is seen.
        rate: learning rate of Adam at the beginning.
        seed: decides which pixels, and where the training of the flows starts.

    Example:
        >>> sorted(EmbeddingFlowRegression(taps="stage2+stage3").taps())
        ['stage2', 'stage3']
    """

    card = Card(
        title="Learned embedding density, logistic regression over layers",
        summary="Logistic regression from negative log-likelihoods of the features of several layers to void pixels.",
        paper="Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        needs=Needs(fitting=True, features=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.0465, "FPR95": 0.2436}, protocol=FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.5716, "FPR95": 0.1339}, protocol=FISHYSCAPES),
        ),
        notes="No code was published, so the flow is our choice: whitened principal components, then affine couplings, "
        "trained by Adam on a random sample of pixels that are not ignored. The out-of-distribution "
        "pixels of the regression are those labelled 255 in the fit data; both kinds weigh the same, so that it does "
        "not matter how much of a data set was left unlabelled. The layers are our choice, too.",
    )
    weights_: Tensor | None
    bias_: Tensor | None

    def __init__(
        self,
        taps: str = "encoder+decoder",
        samples: int = 100_000,
        dimensions: int = 128,
        steps: int = 32,
        epochs: int = 8,
        rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(taps, samples, dimensions, steps, epochs, rate, seed)
        self.register_buffer("weights_", None)
        self.register_buffer("bias_", None)

    def statistics(self) -> PairedFlowStatistics:
        """Return empty samples."""
        return PairedFlowStatistics(self.names, self.samples, self.how.seed)

    def conclude(self, statistics: PairedFlowStatistics) -> None:
        """Train the flows, then the weights.

        Raises:
            InputError: if there is no pixel to fit on, or no void pixel.
        """
        self.require_inliers(statistics.inliers)
        if not all(len(sample.vectors) for sample in statistics.void.values()):
            raise InputError(
                f"no void pixel to fit {self.name} on: it learns its weights from pixels labelled 255, so give a data "
                "set whose labels leave some out, or use embedding-flow-min, which needs none"
            )
        levels = [self._levels(self.fit_flows(statistics.inliers)), self._levels(self.sample_nlls(statistics.void))]
        kinds = torch.cat([torch.full((len(one),), kind) for kind, one in enumerate(levels)])
        # balanced: how many pixels were left out when a data set was labelled says nothing about anomalies
        regression = LogisticRegression(class_weight="balanced", max_iter=1000)
        regression.fit(torch.cat(levels).numpy(), kinds.numpy())
        self.weights_ = torch.from_numpy(regression.coef_[0]).float()
        self.bias_ = torch.tensor(float(regression.intercept_[0]))

    def _levels(self, nlls: list[Tensor]) -> Tensor:
        return torch.stack(self.standardized_nlls(nlls), dim=1).double()

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``regressed_nll`` of the layers, (N, H, W)."""
        weights, bias = fitted(self, self.weights_), fitted(self, self.bias_)
        levels = self.standardized_nlls(self.nll_maps(prediction))
        return regressed_nll(levels, weights, bias, prediction.size)
