"""The options of ``strays score`` and ``strays bench``, and how ``--help`` explains them."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Aggregation",
    "AnomalyFree",
    "Classes",
    "Components",
    "DataSets",
    "DetectorName",
    "DetectorNames",
    "DeviceName",
    "Exact",
    "FprRule",
    "Instances",
    "ModelName",
    "ModelNames",
    "NetworkSize",
    "OutFolder",
    "ProtocolName",
    "Quiet",
    "Scale",
    "Size",
    "Sources",
    "Split",
    "Strict",
    "TaxonomyName",
    "Threshold",
    "Verbose",
]

_MODEL = (
    "Built-in name, folder that strays train wrote, NETWORK@WEIGHTS (enet@w.pth), hf:ORG/ID, onnx:FILE, "
    "torchscript:FILE or python:MODULE:FACTORY; or one of these in a wrapper, as in mirrored(MODEL) or "
    "sliding-window(MODEL,window=768)."
)
_DETECTOR = "(`strays detectors` lists them); by default the one that the model names."
_PROTOCOL, _RUN = "How it is measured", "How it runs"

Sources = Annotated[
    list[str],
    typer.Argument(help="Images, folders with their subfolders, or globs such as 'day*/*.jpg'.", metavar="SOURCES..."),
]
DataSets = Annotated[
    list[str],
    typer.Option(
        help="Data set with anomaly masks: a name for the results, and its folder. Several times for several sets.",
        metavar="NAME=PATH",
    ),
]
OutFolder = Annotated[Path, typer.Option(help="Folder for the results.", metavar="FOLDER")]
ModelName = Annotated[str, typer.Option(help=_MODEL, metavar="MODEL")]
ModelNames = Annotated[list[str], typer.Option(help=f"{_MODEL} Several times to compare models.", metavar="MODEL")]
DetectorName = Annotated[
    str | None, typer.Option(help=f"Such as energy or energy:temperature=2 {_DETECTOR}", metavar="NAME")
]
DetectorNames = Annotated[
    str | None, typer.Option(help=f"Such as energy,msp,entropy:temperature=2 {_DETECTOR}", metavar="A,B")
]
NetworkSize = Annotated[
    str | None,
    typer.Option(
        help="Height x width at which the network sees the images; scores keep the images' own. Smaller is faster.",
        metavar="HxW",
    ),
]
TaxonomyName = Annotated[
    str | None,
    typer.Option(
        help="Classes of a model that does not tell them: cityscapes, camvid, ... or a JSON file.", metavar="NAME"
    ),
]
Threshold = Annotated[float | None, typer.Option(help="Draw the contour of this score.", metavar="SCORE")]
Scale = Annotated[
    str | None,
    typer.Option(
        help="Scores of the first and the last colour; by default chosen from 8 of the images.", metavar="LOW,HIGH"
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        help="Height x width that images and masks are resized to; by default their own.",
        metavar="HxW",
        rich_help_panel=_PROTOCOL,
    ),
]
ProtocolName = Annotated[
    str,
    typer.Option(
        help="The choices below that publications share: default (own size, pooled, every image), half-resolution "
        "(512x1024, images without anomaly skipped), fishyscapes, smiyc (bins and component metrics of "
        "SegmentMeIfYouCan), oodis (instances) or caos (StreetHazards, BDD-Anomaly: per image). Options beside it "
        "change single choices.",
        metavar="NAME",
        rich_help_panel=_PROTOCOL,
    ),
]
AnomalyFree = Annotated[
    str | None,
    typer.Option(
        help="Whether images without any anomaly count; they do unless the protocol says otherwise.",
        metavar="include|skip",
        rich_help_panel=_PROTOCOL,
    ),
]
Aggregation = Annotated[
    str | None,
    typer.Option(
        help="pooled ranks all pixels of a set together; per-image averages over images.",
        metavar="pooled|per-image",
        rich_help_panel=_PROTOCOL,
    ),
]
FprRule = Annotated[
    str | None,
    typer.Option(
        help="Which point of the ROC curve FPR95 means: first, strict, argmin or interpolated.",
        metavar="RULE",
        rich_help_panel=_PROTOCOL,
    ),
]
Components = Annotated[
    str | None,
    typer.Option(
        help="Component metrics too, by the rules of SegmentMeIfYouCan's anomaly-track or obstacle-track; by-data-set "
        "takes the one that suits each set. The network then sees each image twice, as they need the threshold of the "
        "whole set.",
        metavar="TRACK",
        rich_help_panel=_PROTOCOL,
    ),
]
Instances = Annotated[
    bool,
    typer.Option(
        "--instances",
        help="Average precision of instances too where a data set tells its anomalies apart (anomaly-instances). The "
        "network sees each image twice.",
        metavar="",
        rich_help_panel=_PROTOCOL,
    ),
]
Classes = Annotated[
    bool,
    typer.Option(
        "--classes",
        help="Metrics of classes too where a data set has labels: mIoU, open-set mIoU and failure detection (AP-Error, "
        "AP-Success). The network sees each image twice.",
        metavar="",
        rich_help_panel=_PROTOCOL,
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Keep every score instead of counts: equal to scikit-learn, but memory grows with the images.",
        metavar="",
        rich_help_panel=_PROTOCOL,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="Part of the data sets, such as val; by default the usual one.", metavar="NAME", rich_help_panel=_PROTOCOL
    ),
]
DeviceName = Annotated[
    str,
    typer.Option(
        help="auto takes a GPU where there is one; or cpu, cuda, cuda:1, ...", metavar="DEVICE", rich_help_panel=_RUN
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Stop at the first image that cannot be used instead of reporting it and going on.",
        metavar="",
        rich_help_panel=_RUN,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print only results and errors.", metavar="", rich_help_panel=_RUN)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        help="Print a line per image: size, milliseconds, peak score.",
        metavar="",
        rich_help_panel=_RUN,
    ),
]
