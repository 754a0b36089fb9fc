"""The detector in CONTRIBUTING.md is what it says: one complete file that the rest picks up."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"<!-- example: src/strays/detectors/(\w+)\.py -->\n```python\n(.*?)```", re.DOTALL)
# Does for one run of pytest what putting the file into the folder does: discovery walks the package's path.
PLUGIN = "import strays.detectors\nstrays.detectors.__path__.append({folder!r})\n"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (found,) = EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    path = tmp_path_factory.mktemp("detectors") / f"{found[0]}.py"
    path.write_text(found[1], encoding="utf-8")
    return path


def run(*arguments: str | Path, search: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(search)}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_contract_tests_run_over_it(example: Path, tmp_path: Path) -> None:
    (tmp_path / "one_more_detector.py").write_text(PLUGIN.format(folder=str(example.parent)), encoding="utf-8")
    name = example.stem.replace("_", "-")
    plugins = ["-p", "one_more_detector", "-p", "no:xdist", "-p", "no:cacheprovider"]
    found = run("pytest", *plugins, "tests/detectors/test_contract.py", "-k", name, search=tmp_path)
    passed = re.search(r"(\d+) passed", found)
    assert passed is not None
    assert int(passed[1]) >= 15


def test_its_doctest_holds(example: Path) -> None:
    found = run("doctest", "-v", example, search=example.parent)
    assert re.search(r"[1-9]\d* passed", found)


def test_it_is_in_the_style_of_the_house(example: Path) -> None:
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    run("ruff", "check", *config, example, search=example.parent)
    run("ruff", "format", "--check", *config, example, search=example.parent)
