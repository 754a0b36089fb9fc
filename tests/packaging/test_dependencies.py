"""What the library imports is what pyproject.toml asks for."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/strays"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

NEEDS_EXTRA = {"training": "train"}
"""Folder of the library -> the extra that all of it may rely on; elsewhere such imports wait until they are needed."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(lines: list[str]) -> set[str]:
    return {canonical(re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0]) for line in lines}


@cache
def distributions() -> dict[str, set[str]]:
    return {module: {canonical(one) for one in found} for module, found in packages_distributions().items()}


def imports(node: ast.AST, deep: bool) -> Iterator[str]:
    """The top-level names that a module imports; those inside functions only where ``deep``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (one.name.partition(".")[0] for one in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield str(child.module).partition(".")[0]
        elif deep or not waits(child):
            yield from imports(child, deep)


def waits(node: ast.AST) -> bool:
    """Whether what a statement holds is not run when its module is imported."""
    return isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")


def undeclared(path: Path, declared: set[str], deep: bool) -> set[str]:
    module = ast.parse(path.read_text(encoding="utf-8"))
    foreign = set(imports(module, deep)) - sys.stdlib_module_names - {"strays"}
    return {name for name in foreign if not distributions().get(name, {canonical(name)}) & declared}


def faults(declared: dict[Path, set[str]], deep: bool) -> dict[str, set[str]]:
    found = {str(path.relative_to(PACKAGE)): undeclared(path, names, deep) for path, names in declared.items()}
    return {path: names for path, names in found.items() if names}


def test_everything_imported_is_declared() -> None:
    everything = required(PROJECT["dependencies"]).union(*(required(EXTRAS[name]) for name in EXTRAS if name != "dev"))
    assert faults(dict.fromkeys(PACKAGE.rglob("*.py"), everything), deep=True) == {}


def test_the_library_imports_without_its_extras() -> None:
    core = required(PROJECT["dependencies"])

    def allowed(path: Path) -> set[str]:
        extra = NEEDS_EXTRA.get(path.relative_to(PACKAGE).parts[0])
        return core | required(EXTRAS[extra]) if extra else core

    assert faults({path: allowed(path) for path in PACKAGE.rglob("*.py")}, deep=False) == {}


def test_every_requirement_that_make_installs_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert not [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!]+", line)]
    extras = ("train", "export", "search", "submit", "dev")
    asked = required(PROJECT["dependencies"]).union(*(required(EXTRAS[name]) for name in extras))
    assert asked - required(pins) == set()
