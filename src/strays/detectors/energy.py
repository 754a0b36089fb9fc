"""Free energy of the class logits."""

import torch
from torch import Tensor

from strays.cards import Card
from strays.detectors.base import register_detector
from strays.detectors.tempered import TemperedDetector, checked_logits, tempered

__all__ = ["Energy", "energy"]


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the free energy -T ln sum_c exp(z_c / T).

    Args:
        logits: (N, K, ...) class logits.
        temperature: T, above 0; towards 0 the score becomes ``max_logit``.

    Returns:
        (N, ...), unbounded, float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape or the temperature is wrong.

    Source: Liu et al., NeurIPS 2020, equation 4. It is their E itself: high energy is anomalous.

    Example:
        >>> import torch
        >>> energy(torch.tensor([[0.0, 0.0], [10.0, 0.0]]))
        tensor([ -0.6931, -10.0000])
    """
    logits = checked_logits(logits, temperature)
    return -temperature * torch.logsumexp(tempered(logits, temperature), dim=1)


@register_detector("energy")
class Energy(TemperedDetector):
    """Free energy of the class logits.

    Reference:
        Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, https://arxiv.org/abs/2010.03759

    Args:
        temperature: T, above 0.
    """

    card = Card(
        title="Energy",
        summary="Minus the log-sum-exp of the class logits.",
        paper="Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020",
        year=2020,
        url="https://arxiv.org/abs/2010.03759",
        notes="Equals minus the log-precision of the Dirichlet distribution with concentrations exp(logits).",
    )

    def pixelwise(self, logits: Tensor) -> Tensor:
        """Return ``energy`` at this detector's temperature."""
        return energy(logits, self.temperature)
