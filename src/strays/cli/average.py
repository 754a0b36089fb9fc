"""``strays average``: one model out of several trainings."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["average"]


def average(
    models: Annotated[
        list[str], typer.Argument(help="Folders that strays train wrote, trained from one model.", metavar="MODELS...")
    ],
    out: Annotated[Path, typer.Option(help="Folder that the model is written into.", metavar="DIR")],
) -> None:
    """Average the weights of several trainings into one model.

    Runs of one recipe from one model (--init) with other seeds: their mean is steadier than each of them, and as fast.

    Example: strays average runs/seed-0 runs/seed-1 runs/seed-2 --out runs/mean
    """
    from strays.cli.progress import say
    from strays.loading import load_model
    from strays.training.souping import average_models

    model = average_models([load_model(one, device="cpu") for one in models])
    model.save(out)
    say(f"{model.name}, the mean of {len(models)}, is in {out}: strays score IMAGES --model {out}")
