"""The wheel carries everything it needs, and runs where nothing else of the repository is."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from strays import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/strays"
MEGABYTE = 1_000_000

# One process builds and installs the wheel for all tests of this file.
pytestmark = pytest.mark.xdist_group("wheel")


def run(command: list[str | Path], folder: Path) -> str:
    """What a command prints, run in a folder and without what the environment could lead Python to."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and our dependencies, in which the repository is not installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    # A folder named in a .pth file is searched, but .pth files in it are not read: that of the editable install of
    # this repository has no effect there.
    here = {key: Path(sysconfig.get_path(key)) for key in ("purelib", "platlib")}
    site = folder / here["purelib"].relative_to(sys.prefix)
    (site / "dependencies.pth").write_text("\n".join(sorted({str(path) for path in here.values()})) + "\n")
    options = ["-qq", "--no-deps", "--no-index", "--no-compile"]
    run([sys.executable, "-m", "pip", "--python", folder, "install", *options, wheel], folder)
    return folder


def test_every_file_of_the_package_is_in_the_wheel(names: set[str]) -> None:
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {str(path.relative_to(ROOT / "src")) for path in files} <= names


@pytest.mark.parametrize("ending", [".py", ".html.j2", ".css", "/py.typed", "/model.json", "/model.safetensors"])
def test_the_wheel_holds(ending: str, names: set[str]) -> None:
    assert any(name.startswith("strays/") and name.endswith(ending) for name in names)


def test_nothing_else_is_in_the_wheel(names: set[str]) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"strays"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pth", ".part"))]


def test_weights_in_the_wheel_are_small(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        sizes = {one.filename: one.file_size for one in archive.infolist() if one.filename.endswith(".safetensors")}
    assert all(size <= 25 * MEGABYTE for size in sizes.values()), sizes


def test_the_installed_package_is_not_that_of_the_repository(home: Path, tmp_path: Path) -> None:
    place = run([home / "bin/python", "-c", "import strays; print(strays.__file__)"], tmp_path)
    assert Path(place.strip()).is_relative_to(home)


def test_the_installed_command_tells_its_version(home: Path, tmp_path: Path) -> None:
    assert run([home / "bin/strays", "--version"], tmp_path).split()[-1] == __version__


def test_the_installed_command_lists_its_models(home: Path, tmp_path: Path) -> None:
    listed = run([home / "bin/strays", "models", "--json"], tmp_path)
    assert json.loads(listed)
    assert "default" in listed


def test_the_built_in_model_scores_an_image_from_another_folder(home: Path, tmp_path: Path) -> None:
    code = """
import numpy as np, strays
from strays.data.synthetic import synthetic_scene
found = strays.score(synthetic_scene(0, (90, 120)).image, model="default")
assert found.score.shape == (90, 120) and np.isfinite(found.score).all() and found.score.std() > 0
print(strays.load_model("default").name)
"""
    assert run([home / "bin/python", "-c", code], tmp_path).strip()
