"""``strays doctor``: which data set is this, are its labels right, what to do."""

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["doctor"]


def doctor(
    path: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Say which data set a folder holds, count and check it, and how to mend what is wrong (exit code 2 then)."""
    from strays.cli.progress import bar
    from strays.data.doctor import examine

    with bar(quiet=quiet or as_json) as progress:
        task = progress.add_task("checking", total=None)
        diagnosis = examine(path, lambda done, total: progress.update(task, completed=done, total=total))
    if as_json:
        typer.echo(json.dumps(diagnosis.as_dict(), indent=2))
    else:
        typer.echo(diagnosis.text())
    if not diagnosis.healthy:
        raise typer.Exit(2)
