"""Scores, masks and label maps as callers have them, checked once and laid flat."""

from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = ["Floats", "Integers", "Pixels", "State", "as_array", "check_metric", "check_shapes", "read_pixels"]

Floats: TypeAlias = NDArray[np.floating]
Integers: TypeAlias = NDArray[np.integer]
State: TypeAlias = dict[str, NDArray[np.generic]]
"""What an accumulator has gathered, as arrays that ``np.savez`` stores and ``from_state`` reads back."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Scores and mask of one update, checked: flat, equally long, every score finite, the mask 0, 1 or 255.

    Args:
        scores: float (P,).
        mask: uint8 (P,).
        half: whether the scores came in a 16-bit type, so that they hold few distinct values.
    """

    scores: Floats
    mask: NDArray[np.uint8]
    half: bool

    def of(self, kind: int) -> Floats:
        """Return the scores of the pixels whose mask is ``kind``."""
        chosen: Floats = self.scores[self.mask == kind]
        return chosen


def read_pixels(scores: Tensor | Floats, mask: Tensor | NDArray[np.uint8]) -> Pixels:
    """Check scores and mask of one update and lay them flat.

    Args:
        scores: float16, bfloat16, float32 or float64 of any shape, larger = more anomalous.
        mask: uint8 (or bool) of the same shape: 0 inlier, 1 anomaly, 255 ignore.

    Raises:
        InputError: if a type, a shape or a mask value is not as stated, or a score is NaN or infinite, under
            ignored pixels too: such a score means that the network or the detector is broken.
    """
    values, kinds = as_array(scores), as_array(mask)
    check_shapes(values.shape, kinds.shape, "scores", "mask")
    half = str(getattr(scores, "dtype", "")).endswith("float16")  # bfloat16 too
    return Pixels(_finite(values.reshape(-1)), _anomaly_mask(kinds.reshape(-1)), half)


def as_array(values: Tensor | NDArray[np.generic]) -> NDArray[np.generic]:
    """Return a tensor or an array as a NumPy array; bfloat16, which NumPy lacks, becomes float32."""
    if isinstance(values, Tensor):
        values = values.detach()
        return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy())
    return np.asarray(values)


def as_integers(values: Tensor | NDArray[np.generic], what: str) -> Integers:
    """Return class indices as an array of whole numbers, refusing anything else."""
    array = as_array(values)
    if array.dtype.kind not in "iu":
        fix = ": take the argmax of the logits" if array.dtype.kind == "f" else ""
        raise InputError(f"expected {what} as integers, got {array.dtype}{fix}")
    return cast(Integers, array)


def check_classes(values: Integers, classes: int, what: str) -> NDArray[np.int64]:
    """Return class indices as int64, refusing those that are not below ``classes``."""
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < classes:
        wrong = np.unique(values[(values < 0) | (values >= classes)])[:5].tolist()
        fix = f"map them first; only the label {IGNORE} is ignored, and an argmax must not count a void channel"
        raise InputError(f"expected {what} in [0, {classes}), got {wrong} too: {fix}")
    return values.astype(np.int64)


def check_shapes(first: tuple[int, ...], second: tuple[int, ...], name: str, other: str) -> None:
    """Refuse two arrays of different shapes."""
    if first != second:
        raise InputError(f"expected {name} and {other} of one shape, got {first} and {second}: resize the {name}")


def check_metric(state: State, name: str) -> None:
    """Refuse a stored state that another accumulator wrote."""
    found = str(state["metric"]) if "metric" in state else "something else"
    if found != name:
        raise InputError(f"expected a state of {name}, got one of {found}: delete it, or read it with its own class")


def _finite(scores: NDArray[np.generic]) -> Floats:
    if scores.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"expected floating-point scores, got {scores.dtype}: convert them to float32")
    values = cast(Floats, scores)
    finite = np.isfinite(values)
    if not finite.all():
        nan = int(np.isnan(values).sum())
        infinite = values.size - int(finite.sum()) - nan
        raise InputError(
            f"expected finite scores, got {nan} NaN and {infinite} infinite among {values.size}: look for an overflow "
            "in the network (float16?) or the detector; ignored pixels need a finite score too"
        )
    return values


def _anomaly_mask(mask: NDArray[np.generic]) -> NDArray[np.uint8]:
    if mask.dtype == np.bool_:
        return mask.view(np.uint8)
    if mask.dtype != np.uint8:
        raise InputError(f"expected a uint8 mask (0 inlier, 1 anomaly, 255 ignore), got {mask.dtype}: convert it")
    kinds: NDArray[np.uint8] = mask.view(np.uint8)
    # 255 + 1 wraps to 0, so that one comparison sees every value that is none of the three.
    if kinds.size and int((kinds + np.uint8(1)).max()) > ANOMALY + 1:
        wrong = sorted(set(np.unique(kinds).tolist()) - {INLIER, ANOMALY, IGNORE})
        raise InputError(
            f"expected a mask of 0 (inlier), 1 (anomaly) and 255 (ignore), got {wrong} too: map them first"
        )
    return kinds
