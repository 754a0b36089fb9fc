"""Progress bars with speed and time left."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeElapsedColumn,
)
from rich.table import Column, Table
from rich.text import Text

__all__ = ["bar", "console", "say", "show"]

console = Console(stderr=True)
"""Where people read; standard output is kept for results."""


_WIDE = 200
"""Columns of a table that no terminal limits, so that a file or a pipe gets whole lines."""


def show(table: Table) -> None:
    """Print a table on standard output."""
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def say(text: str, style: str | None = None) -> None:
    """Print one line on standard error, above a progress bar where one is shown: as it is, and never broken."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class _Words(ProgressColumn):
    """What is going on, shortened where the terminal is narrow."""

    def render(self, task: Task) -> Text:
        """Return the description as it is, whatever brackets it holds."""
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__(_whole())
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed as images/s, or s/image where it is slow."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        text = f"{speed:.1f} {self.unit}s/s" if speed >= 1 else f"{1 / speed:.1f} s/{self.unit}"
        return Text(text, style="progress.data.speed")


class _Left(ProgressColumn):
    """How long it will still take, where that can be said."""

    max_refresh = 0.5
    """Seconds between two estimates, so that they can be read."""

    def render(self, task: Task) -> Text:
        """Return the hours, minutes and seconds that are left."""
        seconds = None if task.finished else task.time_remaining
        text = "" if seconds is None else f"{timedelta(seconds=int(seconds))} left"
        return Text(text, style="progress.remaining")


def _whole() -> Column:
    """Return a column that is never broken into lines: a bar of two lines cannot be drawn in place."""
    return Column(no_wrap=True)


@contextmanager
def bar(unit: str = "image", quiet: bool = False) -> Iterator[Progress]:
    """Show a progress bar on standard error while the context lasts."""
    columns = (
        _Words(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(table_column=_whole()),
        _Speed(unit),
        TimeElapsedColumn(_whole()),
        _Left(_whole()),
    )
    with Progress(*columns, console=console, disable=quiet) as progress:
        yield progress
