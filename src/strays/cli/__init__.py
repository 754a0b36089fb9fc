"""The command line: one thin file per command, which parses, calls and prints."""

import sys
from typing import NoReturn, cast

import typer

from strays.cli import average, bench, data, demo, doctor, fit, listings, negatives, score, submit, train

__all__ = ["app", "main"]

_STOPPED = 130
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What Typer raises for a command line it does not understand; it exports only this child of it."""

app = typer.Typer(
    name="strays",
    help="Find the pixels that do not belong: anomaly scores for the segmentation of road scenes.",
    epilog="Start with `strays demo`, then `strays score my_drive/ --out scored`. Each command has its own --help.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True, metavar=""),
) -> None:
    if version:
        from strays import __version__

        typer.echo(f"strays {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


app.command("demo", rich_help_panel="Commands")(demo.demo)
app.command("score", rich_help_panel="Commands")(score.score)
app.command("bench", rich_help_panel="Commands")(bench.bench)
app.command("fit", rich_help_panel="Commands")(fit.fit)
app.command("train", rich_help_panel="Commands")(train.train)
app.command("average", rich_help_panel="Commands")(average.average)
app.command("negatives", rich_help_panel="Commands")(negatives.negatives)
app.command("submit", rich_help_panel="Commands")(submit.submit)
app.add_typer(data.app, name="data", rich_help_panel="Commands")
app.command("doctor", rich_help_panel="Commands")(doctor.doctor)
listings.add_to(app)


def main() -> None:
    """Run the command line: exit code 0 done, 2 bad usage or input with its reason in one line, 1 internal failure."""
    from strays.allocation import keep_freed_memory
    from strays.errors import InputError

    keep_freed_memory()
    try:
        code = app(prog_name="strays", standalone_mode=False)
    except InputError as error:
        _refuse(str(error))
    except _UsageError as error:
        _refuse(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    if code == _STOPPED:
        typer.secho("stopped; the same command continues where it was", err=True)
    sys.exit(code)


def _refuse(reason: str) -> NoReturn:
    typer.secho(f"error: {' '.join(reason.split())}", fg="red", err=True)
    sys.exit(2)


def _usage(error: Exception) -> str:
    """Return in one line what is wrong with a command line, and which help tells more."""
    context = getattr(error, "ctx", None)
    told = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
    told = told if told.endswith((".", "?")) else f"{told}."
    return f"{told} See {context.command_path if context else 'strays'} --help"
