"""Divergences of class probabilities that a score and a loss both are made of."""

import math

import torch
from torch import Tensor

__all__ = ["jensen_shannon_from_uniform"]

_LOG_OF_ZERO = -1000.0
"""Its exponential is 0 in float64 too, and its product with 0 is 0 instead of NaN."""


def jensen_shannon_from_uniform(logits: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence JS(softmax(z), U) = KL(p, m) / 2 + KL(U, m) / 2 with m = (p + U) / 2.

    Args:
        logits: (N, K, ...) float32 or float64 class logits; U is uniform over the K classes.

    Returns:
        (N, ...) in nats, in [0, ln 2), of the type of the logits; its gradient is finite for all finite logits.

    Source: Lin, Divergence Measures Based on the Shannon Entropy, IEEE Transactions on Information Theory 1991.

    Example:
        >>> jensen_shannon_from_uniform(torch.tensor([[0.0, 0.0], [1e4, 0.0]]))
        tensor([0.0000, 0.2158])
    """
    classes = logits.shape[1]
    # With r_c = K p_c the divergence is sum_c (r ln r - (1 + r) ln((1 + r) / 2)) / 2K. Near the uniform distribution
    # both terms nearly cancel: expm1 and log1p keep r - 1 exact there.
    log_ratio = (torch.log_softmax(logits, dim=1) + math.log(classes)).clamp_min_(_LOG_OF_ZERO)
    to_classes = (log_ratio.exp() * log_ratio).sum(dim=1)
    excess = log_ratio.expm1()
    to_both = (excess / 2).log1p_().mul_(excess + 2).sum(dim=1)
    return (to_classes - to_both) / (2 * classes)
