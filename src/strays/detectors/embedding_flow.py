"""Learned embedding density: how improbable a normalizing flow finds the features of one layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from strays.cards import Card, Needs
from strays.detectors.base import register_detector, upsampled
from strays.detectors.fitted import FittedDetector, S, fitted
from strays.detectors.inputs import labels_at, tap_names, tapped, vectors
from strays.detectors.reported import FISHYSCAPES, SMIYC, reported
from strays.detectors.sampling import PixelSample
from strays.detectors.statistics import Accumulator, Statistics
from strays.detectors.stored import Settings
from strays.errors import InputError
from strays.flows import FlowTraining, VectorFlow
from strays.prediction import Prediction

__all__ = ["EmbeddingFlow", "FlowDetector", "FlowStatistics", "LayersFlowDetector", "flow_nll", "standardized"]


def flow_nll(features: Tensor, flow: VectorFlow) -> Tensor:
    """Return the negative log-likelihood of the feature vector at each pixel.

    Args:
        features: (N, C, h, w).
        flow: fitted on such vectors.

    Returns:
        (N, h, w) in nats, unbounded, at the size of the features.

    Raises:
        InputError: if the flow was fitted on vectors of another length, or not at all.

    Source: Blum et al., IJCV 2021.
    """
    # image by image, so that the batch an image is in changes no bit of its score
    return torch.stack([flow.nll(one.flatten(1).T).view(one.shape[1:]) for one in features])


def standardized(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (values - mean) / std.

    Example:
        >>> standardized(torch.tensor([1.0, 5.0]), torch.tensor(3.0), torch.tensor(2.0))
        tensor([-1.,  1.])
    """
    return (values - mean) / std


class FlowStatistics(Statistics):
    """A random sample of the feature vectors of pixels that are not ignored, for each of some taps.

    Args:
        names: the taps.
        samples: vectors per tap at most.
        seed: decides which pixels.

    Attributes:
        inliers: by tap; every tap has pixels of its own grid.
    """

    def __init__(self, names: tuple[str, ...], samples: int, seed: int) -> None:
        self.inliers = {name: PixelSample(samples, seed) for name in names}

    @property
    def parts(self) -> dict[str, Accumulator]:
        """The samples, numbered: names of taps may hold dots."""
        return {f"inliers{number}": sample for number, sample in enumerate(self.inliers.values())}

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Take in the features of a batch."""
        for name, sample in self.inliers.items():
            features = tapped(prediction, name)
            size = (features.shape[2], features.shape[3])
            sample.update(vectors(features), labels_at(labels, size).flatten(1), index)


class FlowDetector(FittedDetector[S]):
    """What the detectors with a flow per tap share.

    Args:
        names: the taps.
        samples: vectors per tap at most that the flows are fitted on.
        how: the shape of the flows, and how they are trained.

    Attributes:
        flows: one per tap, in the order of their names.
        mean_, std_: (T,), of the negative log-likelihoods of the sample; std_ is 1 where they are all the same.
    """

    mean_: Tensor | None
    std_: Tensor | None

    def __init__(self, names: tuple[str, ...], samples: int, how: FlowTraining) -> None:
        super().__init__()
        if samples < 1:
            raise InputError(f"expected samples of at least 1, got {samples}: leave it out for the default")
        self.names, self.samples, self.how = names, samples, how
        self.flows = nn.ModuleList(VectorFlow() for _ in names)
        self.register_buffer("mean_", None)
        self.register_buffer("std_", None)

    def taps(self) -> frozenset[str]:
        """Return the taps of the flows."""
        return frozenset(self.names)

    def settings(self) -> Settings:
        """Return samples, shape and training of the flows."""
        how = self.how
        shape: Settings = {"samples": self.samples, "dimensions": how.dimensions, "steps": how.steps}
        return {**shape, "epochs": how.epochs, "rate": how.rate, "seed": how.seed}

    def fit_flows(self, inliers: dict[str, PixelSample]) -> list[Tensor]:
        """Fit every flow on its sample, and the moments of what it says about that.

        Returns:
            What it says: for each flow the negative log-likelihoods (n,) of its sample.

        Raises:
            InputError: if a sample is empty.
        """
        self.require_inliers(inliers)
        for flow, sample in zip(self._vector_flows(), inliers.values(), strict=True):
            flow.fit(sample.vectors, self.how)
        nlls = self.sample_nlls(inliers)
        deviations = torch.stack([each.double().std(correction=0) for each in nlls]).float()
        self.mean_ = torch.stack([each.double().mean() for each in nlls]).float()
        self.std_ = torch.where(deviations > 0, deviations, 1.0)
        return nlls

    def require_inliers(self, inliers: dict[str, PixelSample]) -> None:
        """Check that there is something to fit on.

        Raises:
            InputError: if a sample is empty.
        """
        if not all(len(sample.vectors) for sample in inliers.values()):
            raise InputError(f"no pixel to fit {self.name} on: give images whose labels are not all 255 (ignored)")

    def sample_nlls(self, samples: dict[str, PixelSample]) -> list[Tensor]:
        """Return the negative log-likelihoods (n,) of the vectors of each tap."""
        pairs = zip(self._vector_flows(), samples.values(), strict=True)
        return [flow.nll(sample.vectors) for flow, sample in pairs]

    def nll_maps(self, prediction: Prediction) -> list[Tensor]:
        """Return the negative log-likelihoods (N, h, w) of each tap at its own size.

        Raises:
            InputError: if nothing was fitted yet, or features are missing, NaN or of another network.
        """
        fitted(self, self.mean_)
        pairs = zip(self.names, self._vector_flows(), strict=True)
        return [flow_nll(tapped(prediction, name), flow) for name, flow in pairs]

    def standardized_nlls(self, nlls: Sequence[Tensor]) -> list[Tensor]:
        """Return the negative log-likelihoods of each tap in standard deviations above the mean of its sample."""
        moments = zip(fitted(self, self.mean_), fitted(self, self.std_), strict=True)
        return [standardized(one, mean, std) for one, (mean, std) in zip(nlls, moments, strict=True)]

    def _vector_flows(self) -> list[VectorFlow]:
        return [flow for flow in self.flows if isinstance(flow, VectorFlow)]


class LayersFlowDetector(FlowDetector[S]):
    """What the detectors with flows for several layers share.

    Args:
        taps: the layers, with + between them.
        samples: feature vectors per layer at most that the flows are fitted on.
        dimensions: how many principal components of each layer are kept at most.
        steps: number of couplings.
        epochs: how often every vector is seen.
        rate: learning rate of Adam at the beginning.
        seed: decides which vectors, and where the training of the flows starts.
    """

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
        how = FlowTraining(dimensions=dimensions, steps=steps, epochs=epochs, rate=rate, seed=seed)
        super().__init__(tap_names(taps), samples, how)

    def settings(self) -> Settings:
        """Return the taps, and samples, shape and training of the flows."""
        return {"taps": "+".join(self.names), **super().settings()}


@register_detector("embedding-flow")
class EmbeddingFlow(FlowDetector[FlowStatistics]):
    """How improbable a normalizing flow finds the features of one layer.

    A ``VectorFlow`` learns the density of single feature vectors, without their surroundings.

    Reference:
        Blum et al., The Fishyscapes Benchmark, IJCV 2021, https://arxiv.org/abs/1904.03215

    Args:
        tap: the layer.
        samples: feature vectors at most that the flow is fitted on.
        dimensions: how many principal components are kept at most.
        steps: number of couplings.
        epochs: how often every vector is seen.
        rate: learning rate of Adam at the beginning.
        seed: decides which vectors, and where the training of the flow starts.

    Example:
        >>> EmbeddingFlow(tap="decoder").settings()["tap"]
        'decoder'
    """

    card = Card(
        title="Learned embedding density, single layer",
        summary="Negative log-likelihood of the features of one layer under a normalizing flow.",
        paper="Blum et al., The Fishyscapes Benchmark: Measuring Blind Spots in Semantic Segmentation, IJCV 2021",
        year=2021,
        url="https://arxiv.org/abs/1904.03215",
        needs=Needs(fitting=True, features=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.0301, "FPR95": 0.329}, protocol=FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.4086, "FPR95": 0.2129}, protocol=FISHYSCAPES),
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.3752, "FPR95": 0.7076, "sIoU": 0.3386, "PPV": 0.2054, "F1*": 0.0790},
                protocol=SMIYC,
            ),
            *reported(
                "RoadObstacle21 test",
                {"AP": 0.0082, "FPR95": 0.4638, "sIoU": 0.3564, "PPV": 0.0287, "F1*": 0.0231},
                protocol=SMIYC,
            ),
            *reported(
                "LostAndFound-NoKnown test",
                {"AP": 0.6170, "FPR95": 0.1036, "sIoU": 0.3775, "PPV": 0.3521, "F1*": 0.2755},
                protocol=SMIYC,
            ),
        ),
        notes="No code was published, so the flow is our choice: whitened principal components, then affine couplings, "
        "trained by Adam on a random sample of pixels that are not ignored. Where principal components are left "
        "out, the density is that of the projection. The leaderboard of SegmentMeIfYouCan does not say which of the "
        "variants its line is.",
    )

    def __init__(
        self,
        tap: str = "encoder",
        samples: int = 100_000,
        dimensions: int = 128,
        steps: int = 32,
        epochs: int = 8,
        rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        how = FlowTraining(dimensions=dimensions, steps=steps, epochs=epochs, rate=rate, seed=seed)
        super().__init__((tap,), samples, how)
        self.tap = tap

    def settings(self) -> Settings:
        """Return the tap, and samples, shape and training of the flow."""
        return {"tap": self.tap, **super().settings()}

    def statistics(self) -> FlowStatistics:
        """Return an empty sample."""
        return FlowStatistics(self.names, self.samples, self.how.seed)

    def conclude(self, statistics: FlowStatistics) -> None:
        """Train the flow.

        Raises:
            InputError: if there is no pixel to fit on.
        """
        self.fit_flows(statistics.inliers)

    def score(self, prediction: Prediction) -> Tensor:
        """Return negative log-likelihoods (N, H, W) in nats, upsampled bilinearly."""
        (nll,) = self.nll_maps(prediction)
        return upsampled(nll[:, None], prediction.size)[:, 0]
