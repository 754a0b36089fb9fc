"""The options of ``strays train``, and how ``--help`` explains them."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Accumulate",
    "AnomalySets",
    "Average",
    "Batch",
    "Camera",
    "ClassWeights",
    "Clip",
    "Colour",
    "Crop",
    "DataSets",
    "EncoderRate",
    "EncoderWeights",
    "Epochs",
    "FinalLearningRate",
    "FrozenNorm",
    "HeadRate",
    "Init",
    "LearningRate",
    "NegativeShare",
    "NegativeSources",
    "NetworkName",
    "Optimizer",
    "Out",
    "Precision",
    "Quiet",
    "Recipe",
    "Schedule",
    "Seed",
    "Style",
    "TrainedBlocks",
    "TrainingDevice",
    "ValidateEvery",
    "WeightDecay",
    "Workers",
    "Zoom",
]

_NETWORK, _IMAGES, _SCHEDULE, _RUN = "What is trained", "What it is shown", "How long and how fast", "How it runs"

Recipe = Annotated[str, typer.Argument(help="Such as densehybrid or pebal:margins=fixed; `strays recipes` lists them.")]
DataSets = Annotated[
    list[str],
    typer.Option(help="NAME=PATH or synthetic=COUNT; several times for several sets.", metavar="NAME=PATH"),
]
Out = Annotated[Path, typer.Option(help="Folder for the model, checkpoint and TensorBoard logs.", metavar="FOLDER")]
NegativeSources = Annotated[
    list[str] | None,
    typer.Option(help="objects=DIR, patches=DIR, whole=DIR or void; several times to mix.", metavar="KIND=DIR"),
]
NegativeShare = Annotated[
    float | None, typer.Option(help="Probability that a crop gets a negative.", show_default="0.5")
]
NetworkName = Annotated[
    str | None,
    typer.Option(
        help="From random weights; `strays networks` lists them.", metavar="NAME", show_default="swiftnet-rn18"
    ),
]
Init = Annotated[
    str | None,
    typer.Option(help="Model to start from instead: a folder, default, NETWORK@FILE or hf:ID.", metavar="MODEL"),
]
EncoderWeights = Annotated[
    Path | None,
    typer.Option(help="Weights for the encoder; random by default.", metavar="FILE", rich_help_panel=_NETWORK),
]
TrainedBlocks = Annotated[
    str | None,
    typer.Option(
        help="Blocks that are trained, the others frozen; all by default.", metavar="A,B", rich_help_panel=_NETWORK
    ),
]
FrozenNorm = Annotated[
    str | None,
    typer.Option(
        help="Whether batch norm in frozen blocks keeps its statistics.",
        metavar="eval|train",
        show_default="eval",
        rich_help_panel=_NETWORK,
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(help="Size of a crop.", metavar="HxW", show_default="256x320", rich_help_panel=_IMAGES),
]
Zoom = Annotated[
    str | None,
    typer.Option(help="Range of the random zoom.", metavar="LOW,HIGH", show_default="0.6,1.8", rich_help_panel=_IMAGES),
]
Colour = Annotated[
    float | None,
    typer.Option(
        help="Strength of random colour, light and blur, 0 to 3; 0 = none.", show_default="1", rich_help_panel=_IMAGES
    ),
]
Style = Annotated[
    float | None,
    typer.Option(
        help="Probability that a crop gets colours of another one.", show_default="0", rich_help_panel=_IMAGES
    ),
]
Camera = Annotated[
    float | None,
    typer.Option(
        help="Strength of random darkness, noise, blur and JPEG, 0 to 3.", show_default="0", rich_help_panel=_IMAGES
    ),
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        help="inverse-log favours rare classes, none does not.",
        metavar="inverse-log|none",
        show_default="inverse-log",
        rich_help_panel=_IMAGES,
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data.", show_default="70", rich_help_panel=_SCHEDULE)]
Batch = Annotated[
    int | None, typer.Option(help="Crops per step, of all processes.", show_default="8", rich_help_panel=_SCHEDULE)
]
Accumulate = Annotated[
    int | None,
    typer.Option(
        help="Parts that a batch is computed in, to save memory.", show_default="1", rich_help_panel=_SCHEDULE
    ),
]
Optimizer = Annotated[
    str | None,
    typer.Option(help="What takes the steps.", metavar="adamw|adam", show_default="adamw", rich_help_panel=_SCHEDULE),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        help="How the rate falls: cosine, poly, constant, or plateau, which waits for validation.",
        metavar="NAME",
        show_default="cosine",
        rich_help_panel=_SCHEDULE,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(help="Once the first 50 steps are done.", show_default="4e-4", rich_help_panel=_SCHEDULE),
]
FinalLearningRate = Annotated[
    float | None,
    typer.Option(
        help="At the end; poly and plateau do not fall below.", show_default="1e-6", rich_help_panel=_SCHEDULE
    ),
]
EncoderRate = Annotated[
    float | None,
    typer.Option(
        help="Factor on the rate of an encoder that starts from weights.",
        show_default="0.25",
        rich_help_panel=_SCHEDULE,
    ),
]
HeadRate = Annotated[
    float | None,
    typer.Option(
        help="Factor on the rate of heads that are added to a trained network.",
        show_default="1",
        rich_help_panel=_SCHEDULE,
    ),
]
Clip = Annotated[
    float | None, typer.Option(help="Largest norm of the gradient.", show_default="10", rich_help_panel=_SCHEDULE)
]
Average = Annotated[
    float | None,
    typer.Option(
        help="Decay of a moving average of the weights; 0 = none.", show_default="0", rich_help_panel=_SCHEDULE
    ),
]
WeightDecay = Annotated[
    float | None, typer.Option(help="Of the optimizer.", show_default="1e-4", rich_help_panel=_SCHEDULE)
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="auto takes bfloat16 where the device computes it fast.",
        metavar="auto|float32|bfloat16",
        show_default="auto",
        rich_help_panel=_RUN,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="Decides weights, order, crops, negatives and colours.", show_default="0", rich_help_panel=_RUN),
]
TrainingDevice = Annotated[
    str,
    typer.Option(help="auto takes a GPU where there is one.", metavar="auto|cpu|cuda", rich_help_panel=_RUN),
]
Workers = Annotated[int, typer.Option(help="Processes that prepare crops.", min=0, rich_help_panel=_RUN)]
ValidateEvery = Annotated[
    int, typer.Option(help="Epochs between two looks at validation scenes; 0 = never.", min=0, rich_help_panel=_RUN)
]
AnomalySets = Annotated[
    list[str] | None,
    typer.Option(
        help="Data set with anomaly masks to be looked at as well: AP and FPR95.",
        metavar="NAME=PATH",
        rich_help_panel=_RUN,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only errors.", metavar="", rich_help_panel=_RUN)]
