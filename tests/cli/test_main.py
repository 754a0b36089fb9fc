"""The command line as a whole: help, versions, exit codes, one line for whatever is wrong."""

import sys

import pytest
from typer import BadParameter

import strays as package
from strays.cli import app, main
from strays.errors import InputError

COMMANDS = [
    "demo",
    "score",
    "bench",
    "fit",
    "train",
    "negatives",
    "data",
    "submit",
    "doctor",
    "models",
    "networks",
    "detectors",
    "recipes",
    "datasets",
]


def test_the_version(strays) -> None:
    assert strays("--version") == (0, f"strays {package.__version__}\n", "")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(strays, option) -> None:
    answer = strays(option)
    assert answer.code == 0
    assert all(f"│ {name}" in answer.out for name in COMMANDS)
    assert "strays demo" in answer.out


def test_no_command_is_bad_usage_answered_by_the_help(strays) -> None:
    assert strays().code == 2
    assert strays().out == strays("-h").out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(strays, name) -> None:
    answer = strays(name, "-h")
    assert answer.code == 0
    assert answer.err == ""
    assert f"Usage: strays {name}" in answer.out
    lines = [line.strip(" │") for line in answer.out.splitlines()]
    assert not any(line.startswith(("--strict <bool>", "--quiet <bool>", "--json <bool>")) for line in lines)
    summary = next(line for line in lines[lines.index("") + 1 :] if line and not line.startswith("Usage"))
    assert summary[0].isupper()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scroe"], "error: No such command 'scroe'. Did you mean 'score'? See strays --help"),
        (["score"], "error: Missing argument 'SOURCES...'. See strays score --help"),
        (["bench"], "error: Missing option '--data'. See strays bench --help"),
        (["score", "x", "--frob"], "error: No such option: --frob. See strays score --help"),
        (["score", "x", "--threshold", "high"], "Invalid value for '--threshold'"),
        (["demo", "--count", "0"], "Invalid value for '--count'"),
    ],
)
def test_bad_usage_is_one_line(strays, words, message) -> None:
    answer = strays(*words)
    assert message in answer.error
    assert answer.err.count("\n") == 1
    assert answer.out == ""


def outcome(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> object:
    """The exit code where a command ends in an error."""

    def command() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(sys, "argv", ["strays", "doctor", "."])
    (doctor,) = [one for one in app.registered_commands if one.name == "doctor"]
    monkeypatch.setattr(doctor, "callback", lambda path: command())
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (InputError("this is wrong:\nmend it"), 2, "error: this is wrong: mend it\n"),
        (BadParameter("not like that"), 2, "error: Invalid value: not like that. See strays doctor --help\n"),
        (KeyboardInterrupt(), 130, "stopped; the same command continues where it was\n"),
    ],
)
def test_how_a_command_ends(monkeypatch, capsys, error, code, told) -> None:
    assert outcome(monkeypatch, error) == code
    assert capsys.readouterr().err == told


def test_a_fault_of_ours_is_not_hidden(monkeypatch) -> None:
    """Python ends with exit code 1 and a traceback for whatever nobody catches."""
    with pytest.raises(ZeroDivisionError):
        outcome(monkeypatch, ZeroDivisionError())
