"""Published numbers in the short form in which cards list them."""

from collections.abc import Mapping

from strays.cards import Published

__all__ = ["FISHYSCAPES", "SMIYC", "STREET_HAZARDS", "STREET_HAZARDS_TEMPERED", "VOID_CHECKPOINTS", "reported"]

FISHYSCAPES = "pooled over the hidden test set, as the Fishyscapes leaderboard lists it"
SMIYC = "SegmentMeIfYouCan leaderboard, snapshot of 2026-04-08; F1* is the mean over sIoU thresholds 0.25 to 0.75"
STREET_HAZARDS = "the source does not say whether pixels are pooled or images averaged"
STREET_HAZARDS_TEMPERED = f"temperature 2; {STREET_HAZARDS}"
VOID_CHECKPOINTS = "image (bilinear) and mask (nearest) at 512x1024, images without anomaly skipped, pixels pooled"


def reported(dataset: str, values: Mapping[str, float], network: str = "", protocol: str = "") -> tuple[Published, ...]:
    """Return one ``Published`` per metric, all of the same data set, network and protocol.

    Example:
        >>> [one.value for one in reported("RoadAnomaly", {"AP": 0.1336, "FPR95": 0.7462})]
        [0.1336, 0.7462]
    """
    return tuple(
        Published(dataset=dataset, metric=metric, value=value, network=network, protocol=protocol)
        for metric, value in values.items()
    )
