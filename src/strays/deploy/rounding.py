"""Scores as float16: what does not fit is refused, and what becomes equal is told."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from strays.errors import InputError

__all__ = ["Tie", "as_float16", "largest_tie"]

_LARGEST = float(np.finfo(np.float16).max)


class Tie(BaseModel):
    """Pixels that had different scores and have one now.

    Args:
        score: what all of them have now.
        share: how many they are, as a share of the frame in [0, 1], without those that were equal before.
    """

    model_config = ConfigDict(frozen=True)

    score: float
    share: float


def as_float16(score: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return scores rounded to float16; nothing is clipped or rescaled.

    Raises:
        InputError: if one is NaN or infinite, or larger than float16 can hold: 65504.

    Example:
        >>> as_float16(np.array([[0.1, 1000.3]], np.float32)).tolist()
        [[0.0999755859375, 1000.5]]
    """
    broken = int(np.count_nonzero(~np.isfinite(score)))
    if broken:
        raise InputError(f"{broken} of {score.size} scores are NaN or infinite: look for damaged weights")
    lowest, highest = float(score.min()), float(score.max())
    if max(-lowest, highest) > _LARGEST:
        raise InputError(
            f"scores from {lowest:.6g} to {highest:.6g} do not fit float16, which ends at {_LARGEST:.0f} and which is "
            "asked for: choose a detector with smaller scores, as they are never clipped or rescaled here"
        )
    return score.astype(np.float16)


def largest_tie(score: NDArray[np.float32]) -> Tie:
    """Return the largest group of pixels that float16 gives one score and float32 did not.

    A saturating score, or a small range far from zero, loses its ranking so.

    Args:
        score: (H, W), fit for ``as_float16``.

    Example:
        >>> largest_tie(np.array([[0.0, 1000.1, 1000.2, 1000.2]], np.float32))
        Tie(score=1000.0, share=0.25)
    """
    rounded = as_float16(score).ravel()
    codes = rounded.view(np.uint16)
    largest = int(np.bincount(codes, minlength=1).argmax())
    together = score.ravel()[codes == largest]
    alike = int(np.unique(together, return_counts=True)[1].max())
    return Tie(score=float(rounded[codes == largest][0]), share=(together.size - alike) / score.size)
