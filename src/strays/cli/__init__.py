"""The command line: one thin file per command, which parses, calls and prints."""

import sys

import typer

from strays.cli import bench, demo, doctor, listings, score, train

__all__ = ["app", "main"]

app = typer.Typer(
    name="strays",
    help="Find the pixels that do not belong: anomaly scores for semantic segmentation.",
    epilog="Start with `strays demo`, then `strays score my_drive/ --out scored`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    if version:
        from strays import __version__

        typer.echo(f"strays {__version__}")
        raise typer.Exit


app.command("demo", rich_help_panel="Commands")(demo.demo)
app.command("score", rich_help_panel="Commands")(score.score)
app.command("bench", rich_help_panel="Commands")(bench.bench)
app.command("train", rich_help_panel="Commands")(train.train)
app.command("doctor", rich_help_panel="Commands")(doctor.doctor)
listings.add_to(app)


def main() -> None:
    """Run the command line: exit code 0 done, 2 bad usage or input with its reason in one line, 1 internal failure."""
    from strays.errors import InputError

    try:
        app()
    except InputError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.secho("stopped; the same command continues where it was", err=True)
        sys.exit(130)
