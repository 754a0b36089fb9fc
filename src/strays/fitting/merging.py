"""Merging the statistics of shards into one detector."""

from pathlib import Path

from strays.detectors.base import DETECTORS
from strays.detectors.fitted import FittedDetector
from strays.detectors.statistics import State, Statistics
from strays.errors import InputError
from strays.fitting.shards import Gathered, Shard, conclude, read_gathered
from strays.scoring.continuing import changes

__all__ = ["merge_shards"]


def merge_shards(out: Path) -> FittedDetector[Statistics]:
    """Merge the shards that lie beside ``out``, write the detector there and return it; the shards stay.

    Raises:
        InputError: if shards are missing or unfinished, or belong to different fits.
        WeightsError: if one is damaged.
    """
    found = [(path, *read_gathered(path)) for path in sorted(out.parent.glob(f"{out.stem}.shard-*-of-*{out.suffix}"))]
    if not found:
        example = Shard(number=1, count=8).file(out).name
        raise InputError(f"no shards beside {out}, such as {example}: write them with strays fit ... --shard 1/8")
    _check(out, [(path, gathered) for path, gathered, _ in found])
    (_, first, _), *_ = found
    detector = DETECTORS[first.detector.name](**first.detector.settings)
    if not isinstance(detector, FittedDetector):
        raise InputError(f"{first.detector.name} needs no fitting, so there is nothing to merge")
    statistics = _merged(detector, [state for *_, state in found])
    unreadable = {name: reason for _, one, _ in found for name, reason in one.unreadable.items()}
    conclude(detector, statistics, first.model_copy(update={"unreadable": unreadable}))
    detector.save(out)
    return detector


def _merged(detector: FittedDetector[Statistics], states: list[State]) -> Statistics:
    merged = detector.statistics()
    merged.restore(states[0])
    for state in states[1:]:
        other = detector.statistics()
        other.restore(state)
        merged.merge(other)
    return merged


def _check(out: Path, shards: list[tuple[Path, Gathered]]) -> None:
    first_path, first = shards[0]
    for path, gathered in shards:
        if changed := changes(first.settings(), gathered.settings()):
            raise InputError(f"{path} is of another fit than {first_path.name} ({changed}): move it elsewhere")
        if gathered.shard.count != first.shard.count:
            counts = f"{first.shard} and {gathered.shard}"
            raise InputError(f"{out.parent} holds shards of two partitions ({counts}): move those of one elsewhere")
        if not gathered.complete:
            raise InputError(
                f"{path} is unfinished ({gathered.shown} of {gathered.total}): run strays fit with --shard "
                f"{gathered.shard} again, it continues"
            )
    present = {gathered.shard.number for _, gathered in shards}
    missing = [number for number in range(1, first.shard.count + 1) if number not in present]
    if missing:
        example = Shard(number=missing[0], count=first.shard.count)
        raise InputError(f"{len(missing)} of {first.shard.count} shards are missing, such as {example.file(out).name}")
