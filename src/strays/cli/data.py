"""``strays data paste`` and ``strays data hold-out``: benchmarks out of one's own inlier data."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strays.cli import options

if TYPE_CHECKING:
    from strays.building import HoldOutRun, PasteRun
    from strays.journal import Record

__all__ = ["app"]

app = typer.Typer(help="Build benchmarks from your own inlier data.")

_PLACING = "How things stand on the road (fishyscapes)"

Inliers = Annotated[
    str,
    typer.Option(
        help="Inlier data: NAME=PATH, a path, or synthetic=COUNT (with --split train, which has no anomalies).",
        metavar="NAME=PATH",
    ),
]
Objects = Annotated[
    str,
    typer.Option(
        help="What is pasted: a folder as strays negatives takes it, such as COCO; objects:exclude=meta-ood=DIR leaves "
        "images with road users out.",
        metavar="DIR",
    ),
]
StyleName = Annotated[
    str,
    typer.Option(
        help="fishyscapes scales, lights and blends things, which stand on the road; cut-and-paste (AnomalyMix) or "
        "wd-pascal paste them as they are, anywhere.",
        metavar="STYLE",
    ),
]
Count = Annotated[
    int | None, typer.Option(help="Number of frames, spread over the data; by default all.", metavar="N", min=1)
]
Seed = Annotated[int, typer.Option(help="Decides what is pasted where.", metavar="N", min=0)]
Part = Annotated[str | None, typer.Option(help="Part of the data; by default the usual one.", metavar="NAME")]
Classes = Annotated[
    str, typer.Option(help="Classes of the anomalies; by default all that suit the style.", metavar="A+B")
]
Control = Annotated[
    str,
    typer.Option(
        help="Control objects, which are of the inlier data's own classes and must raise no alarm: labels cuts them "
        "out of other frames, DIR has them, none pastes none; auto is labels for fishyscapes, else none.",
        metavar="labels|DIR|none",
    ),
]
ControlClasses = Annotated[
    str, typer.Option(help="Classes of the control objects; by default all road users.", metavar="A+B")
]
PerFrame = Annotated[
    str,
    typer.Option(
        help="Anomalies in a frame, and as many control objects: a number, or LOW+HIGH.",
        metavar="N",
        rich_help_panel=_PLACING,
    ),
]
Shadow = Annotated[
    float,
    typer.Option(help="How dark the ground under a thing is, from 0 to 1.", metavar="PART", rich_help_panel=_PLACING),
]
Horizon = Annotated[
    float | None,
    typer.Option(
        help="Row of the horizon as a share of the height; by default estimated from the labels of each frame.",
        metavar="SHARE",
        rich_help_panel=_PLACING,
    ),
]
CameraHeight = Annotated[
    float, typer.Option(help="Metres of the camera above the road.", metavar="METRES", rich_help_panel=_PLACING)
]
HeldOut = Annotated[
    str, typer.Option(help="Classes that become anomalies, by their names in the data set.", metavar="A+B")
]
Labelled = Annotated[str, typer.Option(help="Data set with class labels: NAME=PATH or a path.", metavar="NAME=PATH")]
Parts = Annotated[str, typer.Option(help="Parts of the data set to take; by default all there are.", metavar="A,B")]
Link = Annotated[
    bool, typer.Option("--link", help="Hard links instead of copies, where the disk allows it.", metavar="")
]


@app.command("paste")
def paste(
    data: Inliers,
    objects: Objects,
    style: StyleName = "fishyscapes",
    out: options.OutFolder = Path("pasted"),
    count: Count = None,
    seed: Seed = 0,
    split: Part = None,
    classes: Classes = "",
    control: Control = "auto",
    control_classes: ControlClasses = "",
    per_frame: PerFrame = "1",
    shadow: Shadow = 0.6,
    horizon: Horizon = None,
    camera_height: CameraHeight = 1.3,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> None:
    """Paste anomalies into your own inlier frames: a benchmark with exact masks, like Fishyscapes Static or WD-Pascal.

    Writes images, labels_masks (0 inlier, 1 anomaly, 255 counts nowhere), control_masks (1 on control objects), a
    contact sheet and manifest.json.

    The folder appears when it is complete; the same command continues a killed one.

    Example: strays data paste --data camvid=DIR --objects coco128_seg --out pasted
    """
    from strays.building import PasteRun, read_settings
    from strays.data import open_scenes

    settings = read_settings(
        style=style,
        objects=objects,
        classes=_listed(classes),
        control=control,
        control_classes=_listed(control_classes),
        count=count,
        per_frame=per_frame,
        seed=seed,
        shadow=shadow,
        horizon=horizon,
        camera_height=camera_height,
    )
    run = PasteRun(open_scenes(data, split), settings, out, _command(), strict)
    manifest = _done(run, f"pasting: {style}", quiet)
    if not quiet:
        _tell_pasted(manifest, out)


@app.command("hold-out")
def hold_out(
    data: Labelled,
    classes: HeldOut,
    out: options.OutFolder = Path("held-out"),
    split: Parts = "",
    link: Link = False,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> None:
    """Hold classes out of training, as BDD-Anomaly does: frames that show them become the test set.

    Writes test (images, labels_masks with 1 on the held-out classes, labels with 255 there) and inliers, all other
    frames as they were: the same data set, read by the same name.

    The folder appears when it is complete; the same command continues a killed one.

    Example: strays data hold-out --data camvid=DIR --classes bicyclist --out held-out
    """
    from strays.building import HoldOutRun, HoldOutSettings

    settings = HoldOutSettings(data=data, classes=_listed(classes), splits=_listed(split, ","), link=link)
    run = HoldOutRun(settings, out, _command(), strict)
    manifest = _done(run, "sorting frames", quiet)
    if not quiet:
        _tell_held_out(manifest, out, data)


def _done(run: "PasteRun | HoldOutRun", what: str, quiet: bool) -> "Record":
    """Do what is left to do behind a progress bar, and return the manifest."""
    from strays.cli.progress import bar, say

    with bar("frame", quiet=quiet) as progress:
        task = progress.add_task(what, total=run.total)
        progress.advance(task, run.total - len(run.pending))
        manifest = run.run(lambda: progress.advance(task))
    for frame in _frames(manifest):
        if "error" in frame:
            say(f"not used: {frame['name']}: {frame['error']}", style="yellow")
    return manifest


def _tell_pasted(manifest: "Record", out: Path) -> None:
    from strays.building import pasted_kinds
    from strays.cli.progress import say

    frames = [frame for frame in _frames(manifest) if "error" not in frame]
    counts = {kind: sum(bool(pasted_kinds(one, kind)) for one in frames) for kind in ("anomaly", "control")}
    controls = f", {counts['control']} a control object" if counts["control"] else ""
    say(f"{len(frames)} frames: {counts['anomaly']} hold an anomaly{controls}; open {out / 'contact-sheet.png'}")
    say(f"next: strays bench --data {shlex.quote(f'pasted={out}')} --detectors max-logit,energy")


def _tell_held_out(manifest: "Record", out: Path, data: str) -> None:
    from strays.cli.progress import say

    parts = [frame.get("part") for frame in _frames(manifest)]
    test, inliers = (shlex.quote(f"{name}={folder}") for name, folder in _places(out, data))
    say(f"{parts.count('test')} frames to test, {parts.count('inliers')} inliers; open {out / 'contact-sheet.png'}")
    say(f"next: strays train RECIPE --data {inliers} --out RUN, then strays bench --model RUN --data {test}")


def _places(out: Path, data: str) -> list[tuple[str, Path]]:
    from strays.data.opening import parse_spec

    return [("held-out", out / "test"), (parse_spec(data)[0] or "NAME", out / "inliers")]


def _frames(manifest: "Record") -> "list[Record]":
    frames = manifest.get("frames")
    return frames if isinstance(frames, list) else []


def _listed(text: str, separator: str = "+") -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(separator) if word.strip())


def _command() -> str:
    return shlex.join(["strays", *sys.argv[1:]])
