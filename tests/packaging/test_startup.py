"""The command line answers at once: what is slow to import waits until it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {
    "accelerate",
    "huggingface_hub",
    "kornia",
    "matplotlib",
    "onnxruntime",
    "pandas",
    "plotly",
    "pydantic",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
}


def run(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-c", code, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)


def imported(log: str) -> set[str]:
    """The top-level packages that ``-X importtime`` reports."""
    times = [line for line in log.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in times}


def test_the_log_of_imports_would_show_a_slow_one(tmp_path: Path) -> None:
    assert "pydantic" in imported(run("import pydantic.version", tmp_path).stderr)


def test_importing_strays_imports_nothing_slow(tmp_path: Path) -> None:
    found = imported(run("import strays", tmp_path).stderr)
    assert "strays" in found
    assert found & SLOW == set()


def test_help_imports_nothing_slow(tmp_path: Path) -> None:
    result = run("from strays.cli import main; main()", tmp_path, "--help")
    assert "Usage" in result.stdout
    assert imported(result.stderr) & SLOW == set()


@pytest.mark.parametrize("options", [["--version"], ["score", "--help"]], ids=" ".join)
def test_other_answers_import_no_more_than_typer_does(options: list[str], tmp_path: Path) -> None:
    result = run("from strays.cli import main; main()", tmp_path, *options)
    assert result.stdout.strip()
    # Typer parses options with pydantic.
    assert imported(result.stderr) & SLOW <= {"pydantic"}
