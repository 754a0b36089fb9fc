"""Comparing what was counted in a split with what is known about its data set, and its masks with its images."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from strays.data.base import DATASETS, DatasetReader, Facts, FrameSet
from strays.data.declaration import DECLARATION, read_declaration
from strays.doctor.alignment import copied, misplaced
from strays.doctor.checkup import Tally
from strays.doctor.diagnosis import Problem
from strays.doctor.suspicions import Suspicion, close_shares, suspect, suspect_alone

__all__ = ["compared_with_facts", "compared_with_images"]

_NAMED = 8
_FEWEST = 0.7
"""The least share of its frames that makes a folder a part of a public data set."""

_LOOSE = 0.4
"""How far the shares of such a part may lie from those of the whole, as a share of them."""


def compared_with_facts(reader: type[DatasetReader], folder: Path, frames: FrameSet, tally: Tally) -> Iterator[Problem]:
    """Yield where a split differs from what is known about its data set; such copies give other numbers."""
    where = f"{folder} ({frames.split})" if frames.split else str(folder)
    yield from _counted(reader, where, frames)
    yield from _sized(reader.facts, where, tally)
    yield from _versioned(reader.facts, where, frames, tally)
    shares = tally.mask_shares()
    known = reader.facts.shares.get(frames.split)
    if not shares:
        return
    whole = tally.readable == tally.frames  # what a frame lacks that could not be read whole is in no share
    if reader.generic and whole:
        yield from list(_of_public_set(where, frames, tally, shares)) or _undeclared(folder, where, shares)
    elif known is not None:
        yield from _shared(where, shares, known, suspect(shares, known) if whole else None)
    elif whole and not reader.generic and (suspicion := suspect_alone(shares)):
        yield Problem(where, suspicion.found, "some anomalies, fewer than inliers", suspicion.fix)


def compared_with_images(frames: FrameSet, tally: Tally) -> Iterator[Problem]:
    """Yield the masks whose outlines follow the edges of another image than their own."""
    kept = [(frame, one) for frame, one in zip(frames.frames, tally.evidence, strict=False) if one is not None]
    seen = [one for _, one in kept]
    for index, other in misplaced(seen):
        own, right = kept[index][0], kept[other][0]
        found = f"a mask whose outlines fit {own.image.name} badly; those of {right.mask} fit it well"
        fix = f"if that is the mask of {own.image.name}, exchange the files; or copy the original masks again"
        yield Problem(str(own.mask), found, "the mask of this frame", fix)
    for index, other in copied(seen):
        own, right = kept[index][0], kept[other][0]
        found = f"the same mask as {right.mask}, which fits {right.image.name} and not {own.image.name}"
        yield Problem(str(own.mask), found, "the mask of this frame", "copy the original mask of this frame again")


def _counted(reader: type[DatasetReader], where: str, frames: FrameSet) -> Iterator[Problem]:
    expected = reader.facts.frames.get(frames.split)
    if expected in (None, len(frames)) or frames.split != reader.default_split:
        return
    missing = _missing_numbers(frames.names, expected)
    named = f", {_in_words(missing)} missing" if missing else ""
    if len(frames) < expected:
        fix = "complete it, or say beside every number that it is a part"
    else:
        fix = "remove what does not belong to it"
    yield Problem(where, f"{len(frames)} frames{named}", f"{expected}", fix)


def _missing_numbers(names: list[str], expected: int) -> list[int]:
    """Return the numbers that frames lack which are called by consecutive numbers; none where they are not."""
    if not names or not all(name.isdecimal() for name in names):
        return []
    numbers = {int(name) for name in names}
    first = min(min(numbers), 1)
    missing = sorted(set(range(first, first + expected)) - numbers)
    return missing if len(missing) + len(numbers) == expected else []


def _in_words(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")
    return f"{'number' if len(numbers) == 1 else 'numbers'} {shown}"


def _sized(facts: Facts, where: str, tally: Tally) -> Iterator[Problem]:
    odd = {size: count for size, count in tally.sizes.items() if facts.sizes and size not in facts.sizes}
    if odd:
        found = ", ".join(f"{count} images of {width}x{height}" for (height, width), count in odd.items())
        known = " or ".join(f"{width}x{height}" for height, width in sorted(facts.sizes))
        yield Problem(where, found, known, "use the original files: numbers of resized copies do not compare")


def _versioned(facts: Facts, where: str, frames: FrameSet, tally: Tally) -> Iterator[Problem]:
    expected = facts.without_anomaly.get(frames.split)
    complete = facts.frames.get(frames.split) == len(frames) == tally.masked
    if complete and expected not in (None, tally.without_anomaly):
        found = f"another version: {tally.without_anomaly} frames without anomaly"
        fix = f"use {facts.version}; or say the version beside every number"
        yield Problem(where, found, f"{expected}", fix)


def _shared(
    where: str, shares: dict[str, float], known: Mapping[str, float], suspicion: Suspicion | None
) -> Iterator[Problem]:
    if close_shares(shares, known):
        return
    found = f"masks with {_percent(shares)}" if suspicion is None else f"{suspicion.found} ({_percent(shares)})"
    fix = "use the original masks, or mend the frames named here" if suspicion is None else suspicion.fix
    yield Problem(where, found, _percent(known), fix)


def _undeclared(folder: Path, where: str, shares: dict[str, float]) -> Iterator[Problem]:
    """Yield that a folder's masks are mostly anomalous, unless somebody declared what their values mean."""
    declared = read_declaration(folder)
    if shares["anomaly"] <= 0.5 or (declared is not None and "values" in declared.model_fields_set):
        return
    found = f"{100 * shares['anomaly']:.0f} % of all pixels anomalous: are inlier and anomaly exchanged?"
    fix = (
        f'then write {{"values": {{"inlier": [1], "anomaly": [0]}}}} into {DECLARATION}, else '
        '{"values": {"inlier": [0], "anomaly": [1]}}'
    )
    yield Problem(where, found, "fewer anomalies than inliers", fix)


def _of_public_set(where: str, frames: FrameSet, tally: Tally, shares: dict[str, float]) -> Iterator[Problem]:
    """Yield the public data sets that a folder of one's own is a changed or incomplete copy of."""
    for name, reader in DATASETS.items():
        for split in reader.facts.shares:
            changed = _changed(frames, reader.facts, split, shares, tally)
            if changed is not None:
                fix = f"use the original files and name them {name}=PATH"
                yield Problem(where, f"the masks of {name} {changed}", "an unchanged copy", fix)


def _changed(frames: FrameSet, facts: Facts, split: str | None, shares: dict[str, float], tally: Tally) -> str | None:
    """Return how a folder differs from the public split that it is a copy of; None if it is none."""
    known, expected = facts.shares[split], facts.frames.get(split, 0)
    if expected == len(frames):
        suspicion = suspect(shares, known)
        if close_shares(shares, known):
            return "in another size or format"
        return None if suspicion is None else f"with a mistake: {suspicion.found}"
    missing = _missing_numbers(frames.names, expected)
    similar = all(abs(shares[kind] - share) <= _LOOSE * share + 0.01 for kind, share in known.items())
    if missing and len(frames) >= _FEWEST * expected and similar and set(tally.sizes) <= facts.sizes:
        return f"with frames missing: {_in_words(missing)} of {expected}"
    return None


def _percent(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * share:.2f} % {kind}" for kind, share in shares.items())
