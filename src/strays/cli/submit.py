"""``strays submit``: the score files that a benchmark with hidden test frames asks for."""

from pathlib import Path
from typing import Annotated

import typer

from strays.cli import options

__all__ = ["submit"]

Sets = Annotated[
    list[str],
    typer.Option(
        help="Test frames: smiyc-anomaly, smiyc-obstacle or lost-and-found (SegmentMeIfYouCan; both tracks go into one "
        "submission), or fishyscapes (a folder of DDDD_*.png). Several times for several sets.",
        metavar="NAME=PATH",
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        help="test by default (lost-and-found: test-no-known); val; all is every image of a track, for the benchmark's "
        "numbers on snow and night too.",
        metavar="NAME",
    ),
]
Method = Annotated[
    str | None, typer.Option(help="What the submission is called; by default model and detector.", metavar="NAME")
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="Go on although frames are missing or foreign, and leave out those that cannot be scored.",
        metavar="",
    ),
]


def submit(
    data: Sets,
    out: options.OutFolder = Path("submission"),
    model: options.ModelName = "default",
    detector: options.DetectorName = None,
    split: Part = None,
    method: Method = None,
    network_size: options.NetworkSize = None,
    taxonomy: options.TaxonomyName = None,
    partial: Partial = False,
    device: options.DeviceName = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Write the score files that a benchmark asks for, checked against its list of frames and read back.

    The same command continues a run that was killed; with other data sets of the benchmark it adds to the submission.

    Example: strays submit --data smiyc-anomaly=dataset_AnomalyTrack --model DIR --out submission
    """
    from strays.benchmark.protocol import library_versions
    from strays.cli.progress import bar, say
    from strays.deploy import Submission, open_batches, summary, warnings
    from strays.loading import load_model
    from strays.scoring import Scorer, parse_size

    size, batches = parse_size(network_size), open_batches(data, split, partial)
    scorer = Scorer.build(load_model(model, taxonomy, device), [detector] if detector else [], size)
    submission = Submission(scorer, batches, out, method, library_versions(), partial)
    with bar("frame", quiet=quiet) as progress:
        task = progress.add_task(f"{submission.detector} by {scorer.model.name}", total=submission.total)
        progress.advance(task, submission.total - len(submission.pending))
        manifest = submission.run(lambda: progress.advance(task))
    for line in warnings(submission, manifest):
        say(line, style="yellow")
    for line in () if quiet else summary(submission, manifest):
        say(line)
