"""What the shares of mask values say about how masks were saved wrongly."""

from collections.abc import Mapping
from typing import NamedTuple

from strays.data.paired import SHARE_TOLERANCE

__all__ = ["Suspicion", "close_shares", "suspect", "suspect_alone"]

_VOID_FIX = "save 255 for pixels to ignore, as in the original masks"


class Suspicion(NamedTuple):
    """What masks probably hold instead of what they should, and how to mend it."""

    found: str
    fix: str


def close_shares(shares: Mapping[str, float], known: Mapping[str, float]) -> bool:
    """Return whether the shares of a copy, each in [0, 1], are those that are known."""
    return all(abs(shares[kind] - share) <= SHARE_TOLERANCE for kind, share in known.items())


def suspect(shares: Mapping[str, float], known: Mapping[str, float]) -> Suspicion | None:
    """Return which mistake turns the known shares into those of a copy; None if no simple one does.

    Args:
        shares: share of ``inlier``, ``anomaly`` and ``ignore`` in the copy, each in [0, 1].
        known: the shares of the release.
    """
    inlier, anomaly, ignore = (known.get(kind, 0.0) for kind in ("inlier", "anomaly", "ignore"))
    mistakes = (
        (
            (anomaly, inlier, ignore),
            "masks with inlier and anomaly exchanged",
            "save 1 for anomalies and 0 for inliers",
        ),
        (
            (inlier, 0.0, anomaly + ignore),
            "masks with 255 for anomalies, which means ignore here",
            "save 1 for anomalies",
        ),
        (
            (inlier + ignore, 0.0, anomaly),
            "masks with 255 for anomalies and 0 for pixels to ignore",
            f"save 1 for anomalies, and {_VOID_FIX}",
        ),
        ((inlier + ignore, anomaly, 0.0), "masks with 0, inlier, for pixels to ignore", _VOID_FIX),
        ((inlier, anomaly + ignore, 0.0), "masks with 1, anomaly, for pixels to ignore", _VOID_FIX),
    )
    for expected, found, fix in mistakes:
        if close_shares(shares, dict(zip(("inlier", "anomaly", "ignore"), expected, strict=True))):
            return Suspicion(found, fix)
    return None


def suspect_alone(shares: Mapping[str, float]) -> Suspicion | None:
    """Return what the shares of masks make one suspect when nobody knows what they should be."""
    if shares["anomaly"] > 0.5:
        found = f"{100 * shares['anomaly']:.0f} % of all pixels anomalous: are inlier and anomaly exchanged?"
        return Suspicion(found, "save 1 for anomalies and 0 for inliers")
    if not shares["anomaly"] and shares["ignore"]:
        return Suspicion("masks with 255 and without a single 1: does 255 mark the anomalies?", "save 1 for anomalies")
    return None
