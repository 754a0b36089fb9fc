"""What a person is told about a submission: what is not as it should be, what was written, what to do next."""

from strays.deploy.submission import MANIFEST, Submission, data_of, frames_of
from strays.journal import Record

__all__ = ["summary", "warnings"]

_TIED = 0.01
"""From this share of a frame on it is told that rounding made scores equal."""


def warnings(submission: Submission, manifest: Record) -> list[str]:
    """Return what is missing or was left out, and where rounding made many scores equal."""
    found = ((one.track.dataset, one.split, str(one.deviation)) for one in submission.batches)
    lines = [f"{dataset}, split {split}: {deviation}" for dataset, split, deviation in found if deviation]
    lines += [f"left out: {frame['error']}" for frame in frames_of(manifest) if "error" in frame]
    share, score, name = max((_tie(frame) for frame in frames_of(manifest)), default=(0.0, 0.0, ""))
    if share > _TIED:
        lines.append(
            f"float16 makes scores equal that were not: {share:.0%} of the pixels of {name} are {score:g} now, and "
            "their order is lost; a detector with smaller scores, or one that does not saturate, keeps it"
        )
    return lines


def summary(submission: Submission, manifest: Record) -> list[str]:
    """Return what was written and what to do with it."""
    written = [frame for frame in frames_of(manifest) if "files" in frame]
    lines = []
    for batch in submission.batches:
        names = {frame["frame"] for frame in written if frame["data"] == batch.track.dataset}
        count = sum(frame.name in names for frame in batch.frames)
        place = submission.out / submission.folder(batch)
        lines.append(f"{batch.track.dataset}, split {batch.split}: {count} frames in {place}, all read back")
    if not manifest["complete"]:
        lines.append(f"the submission is not complete: {submission.out / MANIFEST} says what is missing")
    parts: dict[str, set[str]] = {}
    for dataset, _, split in (one.partition(":") for one in data_of(manifest)):
        parts.setdefault(dataset, set()).add(split)
    steps = submission.format.next_steps(submission.out, submission.method, parts)
    return [*lines, *(f"next: {step}" for step in steps)]


def _tie(frame: Record) -> tuple[float, float, str]:
    """Return share, score and frame of the largest tie, for comparison."""
    tie = frame.get("tie")
    return (float(tie["share"]), float(tie["score"]), str(frame["frame"])) if isinstance(tie, dict) else (0.0, 0.0, "")
