"""What the scores of class logits share: checked input, odds that keep their resolution, and a temperature."""

import math

import torch
from torch import Tensor

from strays.detectors.base import PixelwiseDetector, Settings
from strays.errors import InputError

__all__ = ["NEGLIGIBLE", "TemperedDetector", "checked_logits", "checked_temperature", "rival_log_odds", "tempered"]

NEGLIGIBLE = -1000.0
"""Stands for ln 0: its exponential is 0 in float64 too, and its product with 0 is 0 instead of NaN."""


def checked_temperature(temperature: float) -> float:
    """Return a temperature as a float.

    Raises:
        InputError: if it is not a finite number above 0.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"expected a temperature above 0, got {temperature}: 1 leaves the logits as they are")
    return float(temperature)


def checked_logits(logits: Tensor, temperature: float, classes: int = 1) -> Tensor:
    """Return class logits (N, K, ...) in float32, or in float64 if they came so.

    Args:
        logits: (N, K, ...), any real type; half precision is widened because sums of exponentials need it.
        temperature: what the caller is about to divide by.
        classes: how many channels the score needs at least.

    Raises:
        InputError: if the shape or the temperature is wrong.
    """
    checked_temperature(temperature)
    shape = tuple(logits.shape)
    if len(shape) < 2:
        raise InputError(f"expected logits (N, K, ...), got {shape}: add a batch dimension with logits[None]")
    if shape[1] < classes:
        fix = ""
        if classes > 1 and shape[1] == 1:
            fix = ": a softmax over one channel is always 1; give both with torch.cat([zeros_like(z), z], dim=1)"
        raise InputError(f"expected logits (N, K, ...) of K >= {classes} classes, got {shape}{fix}")
    return logits if logits.dtype == torch.float64 else logits.float()


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Return the logits divided by the temperature; the very tensor, not a copy, at temperature 1."""
    return logits if temperature == 1 else logits / temperature


def rival_log_odds(logits: Tensor, temperature: float) -> Tensor:
    """Return ln(p_c / p_max) for every class but the most probable one, whose place holds ``NEGLIGIBLE``.

    Scores made of these never subtract from 1, so that float32 still ranks pixels whose largest probability rounds
    to 1.

    Args:
        logits: (N, K, ...) float32 or float64; not changed.
        temperature: divides the differences of the logits.
    """
    best, winner = logits.max(dim=1, keepdim=True)
    odds = (logits - best).div_(temperature).clamp_min_(NEGLIGIBLE)
    return odds.scatter_(1, winner, NEGLIGIBLE)


class TemperedDetector(PixelwiseDetector):
    """A score of one pixel's logits that are divided by a temperature first.

    Args:
        temperature: above 0; larger flattens the softmax.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def settings(self) -> Settings:
        """Return the temperature."""
        return {"temperature": self.temperature}
