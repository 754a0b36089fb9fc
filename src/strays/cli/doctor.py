"""``strays doctor``: which data set is this, are its labels right, what to do."""

import json
from typing import Annotated

import typer

__all__ = ["doctor"]


def doctor(
    path: Annotated[
        str, typer.Argument(help="Folder of a data set; NAME=PATH examines it as that one.", metavar="PATH")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bar.", metavar="")] = False,
) -> None:
    """Check a data set before you wait for numbers.

    Says which data set it is, what its images and masks hold, what is wrong with them and how to mend it.

    The exit code is 2 where something is wrong.

    Example: strays doctor my_data/
    """
    from strays.cli.progress import bar
    from strays.doctor import examine

    with bar(quiet=quiet or as_json) as progress:
        task = progress.add_task("checking", total=None)
        diagnosis = examine(path, lambda done, total: progress.update(task, completed=done, total=total))
    if as_json:
        typer.echo(json.dumps(diagnosis.as_dict(), indent=2))
    else:
        typer.echo(diagnosis.text())
    if not diagnosis.healthy:
        raise typer.Exit(2)
