"""Scores of class logits read as the logarithms of Dirichlet concentrations."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from strays.cards import Card
from strays.detectors.base import PixelwiseDetector, Settings, register_detector
from strays.detectors.entropy import entropy
from strays.detectors.msp import msp
from strays.detectors.reported import FISHYSCAPES, reported
from strays.detectors.tempered import checked_logits
from strays.errors import InputError

__all__ = [
    "Dirichlet",
    "DirichletDifferentialEntropy",
    "DirichletMutualInformation",
    "DirichletPairwiseKl",
    "dirichlet_differential_entropy",
    "dirichlet_expected_entropy",
    "dirichlet_mutual_information",
    "dirichlet_pairwise_kl",
    "dirichlet_precision",
]

_BOUND = 80.0
"""Logits beyond +-80 count as +-80: their exponentials and the reciprocals of these still fit into float32."""
_LARGE = 100.0
"""From here on the asymptotic series of the gamma functions are exact in float64, and do not cancel."""
_CHUNK = 2**16
_NETWORK = "Dirichlet DeepLab, trained with outliers"


def dirichlet_differential_entropy(logits: Tensor) -> Tensor:
    """Return the differential entropy of the Dirichlet distribution with concentrations exp(z).

    DE = sum_c [ln G(a_c) - (a_c - 1) (psi(a_c) - psi(a_0))] - ln G(a_0), a = exp(z), a_0 = sum_c a_c.

    Args:
        logits: (N, K, ...) class logits, K >= 2; beyond +-80 they count as +-80. A common offset matters.

    Returns:
        (N, ...) in nats, largest, -ln G(K), for the flat distribution, z = 0; without a lower bound. Computed in
        float64; float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape is wrong.

    Source: Malinin and Gales, NeurIPS 2018.

    Example:
        >>> dirichlet_differential_entropy(torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0], [9.0, 0.0, 0.0]]))
        tensor([ -0.6931,  -4.9124, -16.0005])
    """
    z, z0 = _concentrations(logits)
    # Rearranged into entropies of gamma distributions. The terms of the definition grow like a ln a and cancel: from
    # z = 30 on nothing would be left of the result.
    return _as_given(_gamma_entropy(z).sum(1) - _gamma_entropy(z0) - (z.shape[1] - 1) * z0.exp().digamma(), logits)


def dirichlet_mutual_information(logits: Tensor) -> Tensor:
    """Return the mutual information of class and probabilities under the Dirichlet distribution.

    MI = H[a / a_0] - EE, with EE as in ``dirichlet_expected_entropy``. Arguments as for
    ``dirichlet_differential_entropy``.

    Returns:
        (N, ...) in [0, ln K] nats: towards (K - 1) / (2 a_0) for large concentrations, and towards the entropy of the
        mean for small ones. Computed in float64; float32, or float64 for float64 logits.

    Source: Malinin and Gales, NeurIPS 2018.

    Example:
        >>> dirichlet_mutual_information(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
        tensor([1.9315e-01, 1.1350e-05])
    """
    z, z0 = _concentrations(logits)
    # With e(a) = a (psi(a + 1) - ln a), in [0, 1/2], it is (sum_c e(a_c) - e(a_0)) / a_0: unlike two entropies that
    # are nearly the same, this keeps its digits for large concentrations.
    return _as_given(((_excess(z).sum(1) - _excess(z0)) * (-z0).exp()).clamp_min(0), logits)


def dirichlet_expected_entropy(logits: Tensor) -> Tensor:
    """Return the expected entropy of class probabilities that are drawn from the Dirichlet distribution.

    EE = -sum_c p_c (psi(a_c + 1) - psi(a_0 + 1)), p = a / a_0. Arguments as for ``dirichlet_differential_entropy``.

    Returns:
        (N, ...) in [0, ln K] nats, computed in float64; float32, or float64 for float64 logits.

    Source: Malinin and Gales, NeurIPS 2018.

    Example:
        >>> dirichlet_expected_entropy(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
        tensor([0.5000, 0.6931])
    """
    z, z0 = _concentrations(logits)
    gaps = (z0.exp() + 1).digamma()[:, None] - (z.exp() + 1).digamma()
    return _as_given(((z - z0[:, None]).exp() * gaps).sum(1).clamp_min(0), logits)


def dirichlet_pairwise_kl(logits: Tensor) -> Tensor:
    """Return the expected Kullback-Leibler divergence (K - 1) / a_0 of two draws from the Dirichlet distribution.

    Arguments as for ``dirichlet_differential_entropy``.

    Returns:
        (N, ...) above 0, float32, or float64 for float64 logits.

    Source: Malinin and Gales, NeurIPS 2019.

    Example:
        >>> dirichlet_pairwise_kl(torch.zeros(1, 5))
        tensor([0.8000])
    """
    z, z0 = _concentrations(logits)
    return _as_given((z.shape[1] - 1) * (-z0).exp(), logits)


def dirichlet_precision(logits: Tensor) -> Tensor:
    """Return minus the precision a_0 of the Dirichlet distribution; arguments as ``dirichlet_differential_entropy``.

    Returns:
        (N, ...) below 0, float32, or float64 for float64 logits. It ranks as ``energy`` does, which is -ln a_0.

    Example:
        >>> dirichlet_precision(torch.zeros(1, 5))
        tensor([-5.])
    """
    _, z0 = _concentrations(logits)
    return _as_given(-z0.exp(), logits)


def _concentrations(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithms of a_c (N, K, ...) and of a_0 (N, ...), in float64."""
    z = checked_logits(logits, 1.0, classes=2).double().clamp(-_BOUND, _BOUND)
    return z, torch.logsumexp(z, dim=1)


def _as_given(score: Tensor, logits: Tensor) -> Tensor:
    return score if logits.dtype == torch.float64 else score.float()


def _gamma_entropy(log_a: Tensor) -> Tensor:
    """Return the entropy a + ln G(a) + (1 - a) psi(a) of the gamma distribution of shape a and scale 1."""
    a = log_a.exp()
    exact = a + a.lgamma() + (1 - a) * a.digamma()
    r = (-log_a).exp()
    corrections = r * (-1 / 3 + r * (-1 / 12 + r * (-1 / 90 + r * (1 / 120 + r / 210))))
    return torch.where(a < _LARGE, exact, (log_a + math.log(2 * math.pi) + 1) / 2 + corrections)


def _excess(log_a: Tensor) -> Tensor:
    """Return e(a) = a (psi(a + 1) - ln a), which is 0 at 0 and 1/2 at infinity."""
    a = log_a.exp()
    r = (-log_a).exp()
    series = 0.5 + r * (-1 / 12 + r**2 * (1 / 120 - r**2 / 252))
    return torch.where(a < _LARGE, a * ((a + 1).digamma() - log_a), series)


_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "differential-entropy": dirichlet_differential_entropy,
    "mutual-information": dirichlet_mutual_information,
    "expected-entropy": dirichlet_expected_entropy,
    "pairwise-kl": dirichlet_pairwise_kl,
    "precision": dirichlet_precision,
    "entropy": lambda logits: entropy(logits, normalised=False),
    "max-probability": msp,
}


@register_detector("dirichlet")
class Dirichlet(PixelwiseDetector):
    """Uncertainty of the Dirichlet distribution whose concentrations are the exponentials of the class logits.

    Reference:
        Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS 2018,
        https://arxiv.org/abs/1802.10501

    Args:
        score: ``differential-entropy``, ``mutual-information``, ``expected-entropy``, ``pairwise-kl``, ``precision``
            (minus it), ``entropy`` (of the mean, in nats) or ``max-probability`` (one minus it); the functions of
            this module say what they are.

    Raises:
        InputError: if the score is none of these.
    """

    card = Card(
        title="Dirichlet scores",
        summary="Differential entropy, or another uncertainty, of a Dirichlet distribution with concentrations "
        "exp(logits).",
        paper="Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS 2018",
        year=2018,
        url="https://arxiv.org/abs/1802.10501",
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.3428, "FPR95": 0.4743}, _NETWORK, FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.3130, "FPR95": 0.8460}, _NETWORK, FISHYSCAPES),
            *reported("Fishyscapes Web October 2020", {"AP": 0.3002, "FPR95": 0.7662}, _NETWORK, FISHYSCAPES),
        ),
        notes="The published numbers belong to a network trained as a prior network, with outliers; the benchmark "
        "calls its score prior entropy, presumably the differential entropy. An ordinary network leaves a common "
        "offset of its logits open, on which all scores but entropy and max-probability depend, and its most negative "
        "logit decides the differential entropy, which came out near chance on real frames: take mutual-information.",
    )

    def __init__(self, score: str = "differential-entropy") -> None:
        super().__init__()
        if score not in _SCORES:
            raise InputError(f"no score of a Dirichlet is called {score!r}: expected one of {', '.join(_SCORES)}")
        self.kind = score

    def settings(self) -> Settings:
        """Return the score."""
        return {"score": self.kind}

    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return the chosen score (N, ...); some pixels at a time, as float64 needs room."""
        trailing = logits.shape[2:]
        pixels = logits.reshape(*logits.shape[:2], math.prod(trailing))
        group = max(1, _CHUNK // max(1, len(logits)))
        scores = [_SCORES[self.kind](some) for some in torch.split(pixels, group, dim=2)]
        return torch.cat(scores, dim=1).reshape(len(logits), *trailing)


class _OneScore(Dirichlet):
    """One of the scores under a name of its own, for networks that were trained as prior networks."""

    only: ClassVar[str]

    def __init__(self) -> None:
        super().__init__(self.only)

    def settings(self) -> Settings:
        """Return nothing: the name says it all."""
        return {}


@register_detector("dirichlet-differential-entropy")
class DirichletDifferentialEntropy(_OneScore):
    """Differential entropy of the Dirichlet distribution, see ``dirichlet_differential_entropy``.

    The flat distribution, the target of negatives in the training of a prior network, has the largest one.

    Reference:
        Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS 2018,
        https://arxiv.org/abs/1802.10501
    """

    card = Dirichlet.card.model_copy(
        update={
            "title": "Dirichlet differential entropy",
            "summary": "Differential entropy of the Dirichlet distribution with concentrations exp(logits).",
            "notes": "Reads networks of the recipe dirichlet, for which it has the largest value where the network "
            "gives the target of negatives. The benchmark calls its score prior entropy, presumably this one.",
        }
    )
    only = "differential-entropy"


@register_detector("dirichlet-mutual-information")
class DirichletMutualInformation(_OneScore):
    """Mutual information of class and probabilities, see ``dirichlet_mutual_information``.

    Reference:
        Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS 2018,
        https://arxiv.org/abs/1802.10501
    """

    card = Dirichlet.card.model_copy(
        update={
            "title": "Dirichlet mutual information",
            "summary": "Mutual information of class and probabilities under the Dirichlet distribution with "
            "concentrations exp(logits).",
            "published": (),
            "notes": "Reads networks of the recipe dirichlet; of these scores the one to take for ordinary networks.",
        }
    )
    only = "mutual-information"


@register_detector("dirichlet-pairwise-kl")
class DirichletPairwiseKl(_OneScore):
    """Expected divergence (K - 1) / a_0 of two draws, see ``dirichlet_pairwise_kl``.

    Reference:
        Malinin and Gales, Reverse KL-Divergence Training of Prior Networks, NeurIPS 2019,
        https://arxiv.org/abs/1905.13472
    """

    card = Dirichlet.card.model_copy(
        update={
            "title": "Dirichlet expected pairwise KL",
            "summary": "Expected Kullback-Leibler divergence of two draws from the Dirichlet distribution with "
            "concentrations exp(logits).",
            "paper": "Malinin and Gales, Reverse KL-Divergence Training of Prior Networks: Improved Uncertainty and "
            "Adversarial Robustness, NeurIPS 2019",
            "year": 2019,
            "url": "https://arxiv.org/abs/1905.13472",
            "published": (),
            "notes": "Reads networks of the recipe dirichlet. It ranks as energy does, which is -ln a_0.",
        }
    )
    only = "pairwise-kl"
