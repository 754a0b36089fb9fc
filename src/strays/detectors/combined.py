"""The weighted sum of two scores, each standardised on inliers."""

from collections.abc import Mapping

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, register_detector
from strays.detectors.build import spec_of
from strays.detectors.fitted import FittedDetector, fitted
from strays.detectors.statistics import ClassMoments, Statistics
from strays.detectors.stored import Settings
from strays.detectors.wrapper import as_detector
from strays.errors import InputError
from strays.prediction import Prediction
from strays.taxonomy import IGNORE

__all__ = ["Combined", "standardized_sum"]


def standardized_sum(scores: Tensor, mean: Tensor, std: Tensor, weights: Tensor) -> Tensor:
    """Return sum_d w_d (s_d - mean_d) / std_d.

    Args:
        scores: (D, N, H, W), one score per detector.
        mean, std: (D,) of each score on inlier pixels.
        weights: (D,).

    Returns:
        (N, H, W), unbounded.
    """
    gains = (weights / std).view(-1, 1, 1, 1)
    return ((scores - mean.view(-1, 1, 1, 1)) * gains).sum(0)


class _Scores(Statistics):
    """Moments of each detector's scores on inlier pixels."""

    def __init__(self, detectors: tuple[Detector, ...]) -> None:
        self.detectors = detectors
        self.moments = ClassMoments(len(detectors))

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        inlier = labels != IGNORE
        for number, detector in enumerate(self.detectors):
            values = detector(prediction)[inlier.to(prediction.logits.device)]
            self.moments.update(values, torch.full(values.shape, number))


@register_detector("combined")
class Combined(FittedDetector[_Scores]):
    """The weighted sum of two detectors' scores, each brought to mean 0 and standard deviation 1 on inlier pixels.

    Reference:
        Galesso et al., Far Away in the Deep Space: Dense Nearest-Neighbor-Based Out-of-Distribution Detection, ICCV
        workshops 2023, which adds two scaled scores

    Args:
        first, second: the detectors, or strings that describe them; one that needs fitting comes fitted.
        weights: the weight of each, with + between them.

    Example:
        >>> Combined("energy", "local-contrast", "1+0.5").settings()["weights"]
        '1.0+0.5'
    """

    card = Card(
        title="Sum of standardised scores",
        summary="The weighted sum of two detectors' scores, each standardised on inlier pixels.",
        paper="Galesso et al., Far Away in the Deep Space: Dense Nearest-Neighbor-Based OoD Detection, ICCVW 2023",
        year=2023,
        url="https://arxiv.org/abs/2211.06660",
        needs=Needs(fitting=True),
        notes="A wrapper: combined(FIRST,SECOND,weights=1+1). The standardisation is our choice; that paper scales by "
        "extremes.",
    )
    mean_: Tensor | None
    std_: Tensor | None

    def __init__(
        self, first: str | Detector = "energy", second: str | Detector = "local-contrast", weights: str = "1+1"
    ) -> None:
        super().__init__()
        self.detectors = torch.nn.ModuleList([as_detector(first), as_detector(second)])
        self.weights = _weights(weights)
        self.register_buffer("mean_", None)
        self.register_buffer("std_", None)

    def taps(self) -> frozenset[str]:
        """Return the features that either detector reads."""
        return frozenset[str]().union(*(one.taps() for one in self._inner))

    def settings(self) -> Settings:
        """Return both detectors in words, and the weights."""
        first, second = (spec_of(one) for one in self._inner)
        return {"first": first, "second": second, "weights": "+".join(map(str, self.weights))}

    @property
    def is_fitted(self) -> bool:
        """Whether it can score: what the two detectors hold does not count."""
        return self.mean_ is not None

    def expect(self, state: Mapping[str, Tensor]) -> None:
        """Let both detectors build what their saved tensors need."""
        for number, detector in enumerate(self._inner):
            prefix = f"detectors.{number}."
            detector.expect({key.removeprefix(prefix): one for key, one in state.items() if key.startswith(prefix)})

    def statistics(self) -> _Scores:
        """Return empty moments of both scores."""
        return _Scores(self._inner)

    def conclude(self, statistics: _Scores) -> None:
        """Keep mean and standard deviation of both scores.

        Raises:
            InputError: if there was no inlier pixel, or a score was the same everywhere.
        """
        deviation = statistics.moments.variance().sqrt().float()
        for detector, value in zip(self._inner, deviation, strict=True):
            if not value > 0:
                raise InputError(
                    f"the scores of {detector.name} have no spread on the fit data ({int(statistics.moments.count[0])} "
                    "inlier pixels): give images with inlier pixels"
                )
        self.mean_, self.std_ = statistics.moments.mean.float(), deviation

    def score(self, prediction: Prediction) -> Tensor:
        """Return the weighted sum (N, H, W) of the standardised scores."""
        mean, std = fitted(self, self.mean_), fitted(self, self.std_)
        scores = torch.stack([one.score(prediction) for one in self._inner])
        return standardized_sum(scores, mean, std, mean.new_tensor(self.weights))

    @property
    def _inner(self) -> tuple[Detector, ...]:
        return tuple(one for one in self.detectors if isinstance(one, Detector))


def _weights(text: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split("+"))
    except ValueError as error:
        raise InputError(f"expected two weights with + between them, such as 1+0.5, got {text!r}") from error
    return first, second
