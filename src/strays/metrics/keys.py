"""An order-preserving integer key of a float, fine where anomaly scores live."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXACT_BELOW", "KEYS", "TOP_KEY", "float_key", "key_floor", "single_valued"]

# The bits of a non-negative float32, read as an integer, grow with it: 2**23 steps per octave. A unit is 2**9 of them.
_UNIT = 9
_OCTAVE = 23 - _UNIT  # 2**14 units per octave
_COARSE = 6  # keys of 2**6 units, 256 per octave, where scores are rare

_HALF, _ONE = (int(np.float32(x).view(np.int32)) for x in (0.5, 1.0))
# In [0.5, 1) the key follows the bits of (1 - |x|) + 2**-11, mirrored, so that probabilities that saturate at 1 are
# told apart as finely as those near 0. Both operations are exact there: their results are multiples of 2**-24 below 1.
_OFFSET = np.float32(2.0**-11)
_MIRROR = np.int32(_HALF + int((np.float32(0.5) + _OFFSET).view(np.int32)))
_GAP = np.int32(10 << _OCTAVE)  # the mirrored octave takes ten more octaves of units
_LOW = np.int32((127 - 15) << _OCTAVE)  # fine from 2**-15 ...
_HIGH = np.int32((127 + 8 + 10) << _OCTAVE)  # ... to 2**8
_BASE = _LOW - (_LOW >> _COARSE)

EXACT_BELOW = 256.0
"""Float16 and bfloat16 scores of smaller magnitude have one key each."""


def float_key(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the key of every finite score: ``a <= b`` implies ``float_key(a) <= float_key(b)``.

    Keys lie in [-``TOP_KEY``, ``TOP_KEY``], and ``float_key(-a) == -float_key(a)``, so -0.0 and 0.0 share a key.
    There are 16,384 keys per octave of magnitudes between 2**-15 and 2**8, as many per octave of 1 - magnitude where
    that is below one half, and 256 per octave elsewhere. Keys are closed at their larger magnitude, so exactly 0 and
    exactly 1 or -1, where saturated scores pile up, have keys of their own.

    Args:
        scores: float32 of any shape, finite.

    Example:
        >>> float_key(np.float32([-1.5, -0.0, 0.0, 1e-3, 1 - 2**-24, 1])).tolist()
        [-446464, 0, 0, 110986, 421902, 438272]
    """
    bits = scores.view(np.int32)
    magnitude = bits & np.int32(0x7FFFFFFF)
    units = _ceil_shift(magnitude, _UNIT)
    np.add(units, _GAP, out=units, where=magnitude >= _ONE)
    mirrored = np.float32(1) - magnitude.view(np.float32)
    mirrored += _OFFSET
    # As unsigned numbers, what lies below one half wraps round to something large.
    near_one = (magnitude - np.int32(_HALF)).view(np.uint32) < np.uint32(_ONE - _HALF)
    np.copyto(units, _ceil_shift(_MIRROR - mirrored.view(np.int32), _UNIT), where=near_one)
    key = _thin_out(units)
    sign = bits >> 31
    key ^= sign
    key -= sign
    return key


def _ceil_shift(values: NDArray[np.int32], by: int) -> NDArray[np.int32]:
    shifted = values + np.int32((1 << by) - 1)
    shifted >>= by
    return shifted


def _thin_out(units: NDArray[np.int32]) -> NDArray[np.int32]:
    """Merge 2**6 neighbouring units outside [``_LOW``, ``_HIGH``] into one key."""
    fine = np.clip(units, _LOW, _HIGH)
    key = _ceil_shift(units, _COARSE)
    key += fine
    key -= _ceil_shift(fine, _COARSE)
    key -= _BASE
    return key


_LARGEST = np.float32(np.finfo(np.float32).max)
TOP_KEY = int(float_key(np.array([_LARGEST]))[0])
KEYS = 2 * TOP_KEY + 1
"""How many keys there are: 1,200,129."""

_ONE_KEY = int(float_key(np.ones(1, np.float32))[0])
# 1 - x is a multiple of 2**-24, and a unit of the mirrored octave is no larger than that up to here.
_SINGLE_FROM = int(float_key(np.array([1 - 2.0**-10], np.float32))[0])


def single_valued(keys: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which keys belong to one float32 alone, so that scores that share it are truly equal."""
    size = np.abs(keys)
    alone: NDArray[np.bool_] = (size == 0) | ((size >= _SINGLE_FROM) & (size <= _ONE_KEY))
    return alone


def key_floor(keys: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the smallest float32 of every key: ``score >= key_floor(k)`` exactly where ``float_key(score) >= k``."""
    # Bisection over the floats in order, so that there is no second formula that could disagree with float_key.
    farthest = int(_LARGEST.view(np.int32))
    low, high = (np.full(keys.shape, end, np.int64) for end in (-farthest, farthest))
    for _ in range(32):
        middle = (low + high) >> 1
        reached = float_key(_ordered_float(middle)) >= keys
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle + 1)
    return _ordered_float(high)


def _ordered_float(rank: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the float32 that is ``rank`` steps away from zero."""
    return np.copysign(np.abs(rank).astype(np.int32).view(np.float32), rank.astype(np.float32))
