import io

import pytest
from rich.console import Console

from strays.cli import progress


def seen(monkeypatch: pytest.MonkeyPatch, total: int | None) -> str:
    """What a bar shows after three of its steps."""
    stream = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=stream, width=200, force_terminal=True))
    with progress.bar() as shown:
        task = shown.add_task("[road] 1.png", total=total)
        for _ in range(3):
            shown.advance(task)
        stream.seek(0)
        stream.truncate()
        shown.refresh()
        return stream.getvalue()


def test_a_bar_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    text = seen(monkeypatch, 1000)
    assert "[road] 1.png" in text
    assert "3/1000" in text
    assert "images/s" in text
    assert "0:00:00" in text
    assert " left" in text


@pytest.mark.parametrize("total", [None, 3])
def test_without_an_end_or_at_it_nothing_is_left(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    text = seen(monkeypatch, total)
    assert "0:00:00" in text
    assert "left" not in text
