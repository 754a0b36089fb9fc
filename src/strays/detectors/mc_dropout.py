"""Disagreement of stochastic passes: Monte Carlo dropout, and deep ensembles where a network gives their samples."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, Settings, class_logits, register_detector, upsampled
from strays.detectors.entropy import entropy
from strays.detectors.inputs import passes_of
from strays.detectors.reported import FISHYSCAPES, SMIYC, reported
from strays.detectors.tempered import NEGLIGIBLE
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = [
    "McDropout",
    "RunningScore",
    "expected_entropy",
    "expected_pairwise_kl",
    "mutual_information",
    "predictive_entropy",
    "sample_variation",
]

_BAYESIAN = "Bayesian DeepLab"
_CHUNK = 2**20
"""How many probabilities are computed at a time."""

Means = Mapping[str, Tensor]


def _predictive_entropy(means: Means) -> Tensor:
    return -torch.xlogy(means["p"], means["p"]).sum(dim=1)


def _expected_entropy(means: Means) -> Tensor:
    return -means["p ln p"]


def _mutual_information(means: Means) -> Tensor:
    return (_predictive_entropy(means) - _expected_entropy(means)).clamp_min(0)


def _pairwise_kl(means: Means) -> Tensor:
    # The mean over pairs of sum_c p_i ln p_j falls apart into the product of two means: no pair is ever visited.
    return (means["p ln p"] - (means["p"] * means["ln p"]).sum(dim=1)).clamp_min(0)


def _uncertainty(means: Means) -> Tensor:
    return 1 - means["p"].amax(dim=1)


def _variation(means: Means) -> Tensor:
    return (means["p p"] - means["p"].square().sum(dim=1)).clamp_min(0) / means["p"].shape[1]


_TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "p": lambda p, log_p: p,
    "ln p": lambda p, log_p: log_p,
    "p ln p": lambda p, log_p: (p * log_p).sum(dim=1),
    "p p": lambda p, log_p: p.square().sum(dim=1),
}


@dataclass(frozen=True)
class _Kind:
    """What a score needs: the means over the passes of some terms, and what to make of them."""

    terms: tuple[str, ...]
    of: Callable[[Means], Tensor]
    spread: bool = True


_KINDS = {
    "mutual-information": _Kind(("p", "p ln p"), _mutual_information),
    "predictive-entropy": _Kind(("p",), _predictive_entropy, spread=False),
    "expected-entropy": _Kind(("p ln p",), _expected_entropy, spread=False),
    "pairwise-kl": _Kind(("p", "ln p", "p ln p"), _pairwise_kl),
    "variation": _Kind(("p", "p p"), _variation),
    "max-probability": _Kind(("p",), _uncertainty, spread=False),
}


class RunningScore:
    """A score of stochastic passes that are given one after another; none of them is kept.

    It holds one or two float64 maps per class, whatever the number of passes.

    Args:
        score: ``mutual-information``, ``predictive-entropy``, ``expected-entropy``, ``pairwise-kl``, ``variation`` or
            ``max-probability``.

    Raises:
        InputError: if the score is none of these.

    Example:
        >>> running = RunningScore("mutual-information")
        >>> for logits in (torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])):
        ...     running.update(torch.log_softmax(logits, dim=1))
        >>> running.compute()
        tensor([0.6919], dtype=torch.float64)
    """

    def __init__(self, score: str) -> None:
        if score not in _KINDS:
            raise InputError(f"no score of stochastic passes is called {score!r}: expected one of {', '.join(_KINDS)}")
        self._kind = _KINDS[score]
        self._sums: dict[str, Tensor] = {}
        self.passes = 0

    def update(self, log_probabilities: Tensor) -> None:
        """Count one more pass, ln p (N, K, ...)."""
        log_p = log_probabilities.double().clamp(min=NEGLIGIBLE)
        self.count(log_p.exp(), log_p)

    def count(self, p: Tensor, log_p: Tensor) -> None:
        """Count one more pass, p and ln p (N, K, ...) in float64."""
        for term in self._kind.terms:
            value = _TERMS[term](p, log_p)
            self._sums[term] = self._sums[term] + value if self.passes else value
        self.passes += 1

    def compute(self) -> Tensor:
        """Return the score (N, ...) of the passes so far, in float64.

        Raises:
            InputError: if there are none, or only one where the score is about their differences.
        """
        _check_passes(self.passes, self._kind)
        return self._kind.of({term: total / self.passes for term, total in self._sums.items()})


def predictive_entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy of the mean of sampled class probabilities.

    Args:
        probabilities: (S, N, K, ...), each adding up to 1 over the K classes.

    Returns:
        (N, ...) in [0, ln K] nats, float32, or float64 for float64 probabilities.

    Raises:
        InputError: if the shape is wrong.

    Source: Mukhoti and Gal, 2018.

    Example:
        >>> predictive_entropy(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
        tensor([0.6931])
    """
    return _scored(probabilities, "predictive-entropy")


def expected_entropy(probabilities: Tensor) -> Tensor:
    """Return the mean entropy of sampled class probabilities; arguments and range as for ``predictive_entropy``.

    Example:
        >>> expected_entropy(torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]]))
        tensor([0.3466])
    """
    return _scored(probabilities, "expected-entropy")


def mutual_information(probabilities: Tensor) -> Tensor:
    """Return the mutual information of class and pass: ``predictive_entropy`` minus ``expected_entropy``.

    Args:
        probabilities: (S, N, K, ...), each adding up to 1 over the K classes, S >= 2.

    Returns:
        (N, ...) in [0, ln K] nats, float32, or float64 for float64 probabilities.

    Raises:
        InputError: if the shape is wrong, or there is only one sample.

    Source: Mukhoti and Gal, 2018.

    Example:
        >>> mutual_information(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
        tensor([0.6931])
    """
    return _scored(probabilities, "mutual-information")


def expected_pairwise_kl(probabilities: Tensor, pairs: str = "mean", epsilon: float = 0.0) -> Tensor:
    """Return the Kullback-Leibler divergence KL(p_i || p_j) over all ordered pairs of samples, i = j included.

    Args:
        probabilities: (S, N, K, ...), each adding up to 1 over the K classes, S >= 2.
        pairs: ``"mean"`` over the S^2 pairs, or their ``"sum"``.
        epsilon: is added to the probabilities in the logarithms, 0 or more. The code of Prior Networks has 1e-10, which
            limits what a pair can say about a class to 23 nats, and the sum.

    Returns:
        (N, ...) of 0 or more, in nats, float32, or float64 for float64 probabilities. A probability of 0 counts as
        exp(-1000).

    Raises:
        InputError: if the shape, ``pairs`` or ``epsilon`` is wrong, or there is only one sample.

    Source: Malinin and Gales, NeurIPS 2019.

    Example:
        >>> expected_pairwise_kl(torch.tensor([[[0.75, 0.25]], [[0.25, 0.75]]]))
        tensor([0.2747])
    """
    if not epsilon >= 0:
        raise InputError(f"epsilon is {epsilon}, expected 0 or more")
    return _scored(probabilities, "pairwise-kl", epsilon) * _pair_count(pairs, len(probabilities))


def sample_variation(probabilities: Tensor) -> Tensor:
    """Return the variance of sampled class probabilities over the samples (divided by S), mean over the classes.

    Args:
        probabilities: (S, N, K, ...), each adding up to 1 over the K classes, S >= 2.

    Returns:
        (N, ...) in [0, 1/K], float32, or float64 for float64 probabilities.

    Raises:
        InputError: if the shape is wrong, or there is only one sample.

    Example:
        >>> sample_variation(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
        tensor([0.2500])
    """
    return _scored(probabilities, "variation")


def _scored(probabilities: Tensor, score: str, epsilon: float = 0.0) -> Tensor:
    shape = tuple(probabilities.shape)
    if len(shape) < 3:
        raise InputError(f"expected probabilities (S, N, K, ...), got {shape}: one of S samples is (N, K, ...)")
    running = RunningScore(score)
    for one in probabilities:
        p = one.double()
        running.count(p, (p + epsilon).where(p + epsilon > 0, 1).log().where(p + epsilon > 0, NEGLIGIBLE))
    return running.compute().to(torch.float64 if probabilities.dtype == torch.float64 else torch.float32)


def _check_passes(count: int, kind: _Kind) -> None:
    least = 2 if kind.spread else 1
    if count < least:
        wish = "a score of what differs between passes is always 0 for one" if kind.spread else "nothing was sampled"
        raise InputError(f"expected {least} or more stochastic passes, got {count}: {wish}; 50 are usual")


def _pair_count(pairs: str, samples: int) -> int:
    if pairs not in ("mean", "sum"):
        raise InputError(f"pairs is {pairs!r}: expected 'mean' or 'sum' over the pairs of samples")
    return samples**2 if pairs == "sum" else 1


class _Image:
    """The running scores of one image, row by row in bands, so that intermediate results stay small."""

    def __init__(self, score: str, classes: int, size: tuple[int, int]) -> None:
        self._rows = max(1, _CHUNK // (classes * size[1]))
        self._bands = [RunningScore(score) for _ in range(0, size[0], self._rows)]

    def update(self, logits: Tensor) -> None:
        """Count the logits (1, K, H, W) of one more pass."""
        for running, band in zip(self._bands, torch.split(logits, self._rows, dim=2), strict=True):
            running.update(torch.log_softmax(band.double(), dim=1))

    def compute(self) -> Tensor:
        """Return the score (1, H, W), in float32."""
        return torch.cat([running.compute().float() for running in self._bands], dim=1)


@register_detector("mc-dropout")
class McDropout(Detector):
    """How much passes with dropout disagree; or the samples of a prediction, such as those of an ensemble.

    Where ``Prediction.samples`` is given, it is used; otherwise the network runs ``samples`` times with its dropout
    switched on and everything else, batch norm included, as in evaluation. One pass is held at a time, and of each
    image of the batch one or two maps per class. What a pass drops depends on the place of an image in its batch, so
    that only scores of single images, as the library makes them, do not depend on what they were scored with.

    Reference:
        Mukhoti and Gal, Evaluating Bayesian Deep Learning Methods for Semantic Segmentation, 2018,
        https://arxiv.org/abs/1811.12709

    Args:
        samples: how many passes, 2 or more for a score of what differs between them.
        score: ``mutual-information``, ``predictive-entropy``, ``expected-entropy``, ``pairwise-kl`` or ``variation``;
            the functions of this module say what they are. Or ``max-probability``: one minus the largest mean
            probability.
        average: what is averaged for ``predictive-entropy``: ``"probabilities"``, or ``"logits"`` before one softmax.
        pairs: of ``pairwise-kl``, see ``expected_pairwise_kl``.
        seed: of the first pass; pass number i has seed + i.

    Raises:
        InputError: if a setting is out of range.
    """

    card = Card(
        title="MC dropout",
        summary="Mutual information between class and dropout mask, over passes with dropout switched on.",
        paper="Mukhoti and Gal, Evaluating Bayesian Deep Learning Methods for Semantic Segmentation, 2018",
        year=2018,
        url="https://arxiv.org/abs/1811.12709",
        needs=Needs(dropout=True),
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.0981, "FPR95": 0.3846}, _BAYESIAN, FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.4870, "FPR95": 0.1505}, _BAYESIAN, FISHYSCAPES),
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.2887, "FPR95": 0.6947, "sIoU": 0.2049, "PPV": 0.1726, "F1*": 0.0426},
                protocol=SMIYC,
            ),
            *reported(
                "RoadObstacle21 test",
                {"AP": 0.0488, "FPR95": 0.5031, "sIoU": 0.0549, "PPV": 0.0577, "F1*": 0.0105},
                protocol=SMIYC,
            ),
            *reported(
                "LostAndFound-NoKnown test",
                {"AP": 0.3678, "FPR95": 0.3555, "sIoU": 0.1735, "PPV": 0.3471, "F1*": 0.1299},
                protocol=SMIYC,
            ),
        ),
        notes="The published numbers belong to networks trained with dropout of one half; a network with little "
        "dropout, such as ERFNet, disagrees less with itself. They do not all say which score was read.",
    )

    def __init__(
        self,
        samples: int = 50,
        score: str = "mutual-information",
        average: Literal["probabilities", "logits"] = "probabilities",
        pairs: Literal["mean", "sum"] = "mean",
        seed: int = 0,
    ) -> None:
        super().__init__()
        RunningScore(score)
        _pair_count(pairs, samples)
        _check_average(average, score)
        _check_passes(samples, _KINDS[score])
        self.samples, self.kind, self.average, self.pairs, self.seed = samples, score, average, pairs, seed

    def settings(self) -> Settings:
        """Return number of passes, score, what is averaged, what pairs count, and seed."""
        return {
            "samples": self.samples,
            "score": self.kind,
            "average": self.average,
            "pairs": self.pairs,
            "seed": self.seed,
        }

    def score(self, prediction: Prediction) -> Tensor:
        """Return the score (N, H, W) of the samples of a prediction, or of passes with dropout.

        Raises:
            InputError: if there are no samples, and the network cannot run again or has no dropout.
        """
        if self.average == "logits":
            return self._of_mean_logits(prediction)
        images: list[_Image] = []
        for logits in self._sampled(prediction):
            images = images or [_Image(self.kind, logits.shape[1], prediction.size) for _ in logits]
            for image, one in zip(images, torch.split(logits, 1), strict=True):
                image.update(upsampled(one, prediction.size))
        score = torch.cat([image.compute() for image in images])
        return score * _pair_count(self.pairs, self._count(prediction)) if self.kind == "pairwise-kl" else score

    def _of_mean_logits(self, prediction: Prediction) -> Tensor:
        # Upsampling is linear, so the mean may come first.
        total = torch.zeros(())
        for logits in self._sampled(prediction):
            total = total.to(logits.device) + logits.double()
        mean = total / self._count(prediction)
        images = [entropy(upsampled(one, prediction.size), normalised=False) for one in torch.split(mean, 1)]
        return torch.cat(images)

    def _count(self, prediction: Prediction) -> int:
        return self.samples if prediction.samples is None else len(prediction.samples)

    def _sampled(self, prediction: Prediction) -> Iterator[Tensor]:
        """Yield the logits (N, K, h, w) of one pass after another, the void channel dropped."""
        if prediction.samples is not None:
            for logits in _checked_samples(prediction):
                yield class_logits(replace(prediction, logits=logits))
            return
        passes = passes_of(prediction, self.name)
        for number in range(self.samples):
            yield class_logits(passes.sampled(self.seed + number))


def _check_average(average: str, score: str) -> None:
    if average not in ("probabilities", "logits"):
        raise InputError(f"average is {average!r}: expected 'probabilities' or 'logits'")
    if average == "logits" and score != "predictive-entropy":
        raise InputError(
            f"mean logits have no {score}, which is about the passes one by one: take average=probabilities, or "
            "score=predictive-entropy"
        )


def _checked_samples(prediction: Prediction) -> Tensor:
    samples = prediction.samples
    if samples is None or samples.ndim != 5 or not len(samples) or samples.shape[1:3] != prediction.logits.shape[:2]:
        found = None if samples is None else tuple(samples.shape)
        images, channels = prediction.logits.shape[:2]
        raise InputError(f"expected samples (S, {images}, {channels}, h, w) to go with the logits, got {found}")
    return samples
