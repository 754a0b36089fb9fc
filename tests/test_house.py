"""The rules of the house that neither ruff nor mypy checks: see CONTRIBUTING.md."""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
EVERYTHING = sorted(
    path for folder in ("src", "tests", "benchmarks", "docs", "tools") for path in (ROOT / folder).rglob("*.py")
)

MAY_IMPORT_ANY: dict[str, str] = {}
"""Module under src/strays -> why no type can be named there."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, Function))


def lines(function: Function) -> int:
    """Its lines without decorators and docstring."""
    total = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return total
    return total - (function.body[0].end_lineno - function.body[0].lineno + 1)


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of the library's source that a rule asks about, with its place."""
    kinds = (ast.Assert, ast.Call, ast.ImportFrom, ast.Attribute)
    found = ((path, node) for path in SOURCES for node in ast.walk(parsed(path)) if isinstance(node, kinds))
    return [(f"{shown(path)}:{node.lineno}", node) for path, node in found]


def is_overload(node: ast.AST) -> bool:
    return isinstance(node, Function) and any(ast.unparse(one).endswith("overload") for one in node.decorator_list)


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """The public functions and classes of a module, and what is public in those classes."""
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_") or is_overload(node):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public(node.body, f"{prefix}{node.name}.")


def listed(path: Path) -> list[str] | None:
    """What ``__all__`` of a module says."""
    for node in parsed(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def offers(path: Path) -> bool:
    """Whether a module has public names; a package that is only a docstring, so far, needs no ``__all__``."""
    kinds = (*Function.__args__, ast.ClassDef, ast.Assign, ast.AnnAssign)
    kinds += (ast.ImportFrom,) if path.name == "__init__.py" else ()
    found = (ast.unparse(node).removeprefix("async ") for node in parsed(path).body if isinstance(node, kinds))
    return any(not text.removeprefix("def ").removeprefix("class ").startswith(("_", "@")) for text in found)


def opening_fault(path: Path) -> str:
    summary = (ast.get_docstring(parsed(path)) or "").partition("\n")[0]
    if not summary or parsed(path).body[0].lineno != 1:
        return "its first line is no docstring"
    return "" if summary.endswith((".", "!", "?")) else "its first line is no whole sentence"


def listing_fault(path: Path) -> str:
    names = listed(path)
    if names is None:
        return "it has no __all__" if offers(path) else ""
    if private := [name for name in names if name.startswith("_") and name != "__version__"]:
        return f"__all__ holds private names: {private}"
    return "__all__ names something twice" if len(names) > len(set(names)) else ""


@pytest.mark.parametrize("fault", [opening_fault, listing_fault])
def test_a_module_says_what_is_in_it(fault: Callable[[Path], str]) -> None:
    assert {shown(path): found for path in SOURCES if (found := fault(path))} == {}


def test_no_file_is_longer_than_500_lines() -> None:
    counts = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}
    assert {path: count for path, count in counts.items() if count > 500} == {}


def test_functions_are_short() -> None:
    lengths = {f"{shown(path)}:{one.lineno} {one.name}": lines(one) for path in EVERYTHING for one in functions(path)}
    assert {where: count for where, count in lengths.items() if count > 60} == {}
    ours = [lines(one) for path in SOURCES for one in functions(path)]
    assert median(ours) <= 8
    assert quantiles(ours, n=10)[-1] <= 25


def test_everything_public_is_documented() -> None:
    bare = [
        f"{shown(path)}:{node.lineno} {name}"
        for path in SOURCES
        for name, node in public(parsed(path).body)
        if ast.get_docstring(node) is None
    ]
    assert bare == []


def test_input_is_never_checked_by_assert() -> None:
    assert [where for where, node in nodes() if isinstance(node, ast.Assert)] == []


def imports_any(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "typing" and any(one.name == "Any" for one in node.names)
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "typing.Any"


def test_types_are_named() -> None:
    users = {where.partition(":")[0].removeprefix("src/strays/") for where, node in nodes() if imports_any(node)}
    assert users == set(MAY_IMPORT_ANY), "name the type, or list the module in MAY_IMPORT_ANY with the reason"


def unpickles(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    keywords = {one.arg: ast.unparse(one.value) for one in node.keywords}
    called = ast.unparse(node.func)
    if called == "torch.load":
        return keywords.get("weights_only") != "True"
    return called in {"pickle.load", "pickle.loads"} or keywords.get("allow_pickle") == "True"


def test_nothing_is_unpickled() -> None:
    assert [where for where, node in nodes() if unpickles(node)] == []
