"""Registries: discovery by folder, decorators, entry points, and what a wrong name gets told."""

import itertools
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from strays import registry as module
from strays.cli import app
from strays.errors import InputError
from strays.registry import Registry, unknown_name

COUNTER = itertools.count()
MakePackage = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Makes an importable package whose modules have the given sources."""
    name = f"strays_test_package_{next(COUNTER)}"
    monkeypatch.syspath_prepend(tmp_path)

    def make(**sources: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("IMPORTED = []\n")
        for stem, source in sources.items():
            (folder / f"{stem}.py").write_text(f"from {name} import IMPORTED\nIMPORTED.append('{stem}')\n{source}\n")
        return name

    yield make
    for loaded in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[loaded]


def imported(name: str) -> list[str]:
    found: list[str] = sys.modules[name].IMPORTED if name in sys.modules else []
    return found


def test_a_decorator_enters_and_returns_the_component(package: MakePackage) -> None:
    registry: Registry[type] = Registry("thing", package())

    @registry.register("one")
    class One:
        pass

    assert registry["one"] is One
    assert dict(registry) == {"one": One}


def test_modules_are_imported_once_and_only_on_first_use(package: MakePackage) -> None:
    name = package(alpha="", beta="")
    registry: Registry[object] = Registry("thing", name)
    registry.register("early")(object())
    assert imported(name) == []
    assert len(registry) == 1
    assert imported(name) == ["alpha", "beta"]
    assert list(registry) == ["early"]
    assert imported(name) == ["alpha", "beta"]


@pytest.mark.parametrize(
    "use",
    [lambda found: found["own"], lambda found: "own" in found, lambda found: list(found).index("own") + 1, len],
    ids=["get", "contains", "iterate", "length"],
)
def test_every_way_of_asking_discovers(
    package: MakePackage, monkeypatch: pytest.MonkeyPatch, use: Callable[[Registry[str]], object]
) -> None:
    name = package(
        one=f"import {__name__.replace('.', '_')}_shelf as shelf\nshelf.REGISTRY.register('own')('component')"
    )
    registry: Registry[str] = Registry("thing", name)
    shelf = type(sys)(f"{__name__.replace('.', '_')}_shelf")
    shelf.REGISTRY = registry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, shelf.__name__, shelf)
    assert use(registry)


def test_names_come_sorted(package: MakePackage) -> None:
    registry: Registry[int] = Registry("thing", package())
    for value, name in enumerate(("pear", "apple", "fig")):
        registry.register(name)(value)
    assert list(registry) == ["apple", "fig", "pear"]


def test_two_components_of_one_name_are_refused(package: MakePackage) -> None:
    registry: Registry[object] = Registry("thing", package())
    first = registry.register("one")(object())
    assert registry.register("one")(first) is first
    with pytest.raises(ValueError, match="two things are called 'one'"):
        registry.register("one")(object())


def test_an_unknown_name_gets_the_closest_one(package: MakePackage) -> None:
    registry: Registry[int] = Registry("thing", package())
    registry.register("max-logit")(1)
    with pytest.raises(InputError, match=r"no thing is called 'max_logit'; did you mean 'max-logit'\?$"):
        registry["max_logit"]
    assert "max_logit" not in registry


def test_an_unknown_name_far_from_all_gets_the_list(package: MakePackage) -> None:
    registry: Registry[int] = Registry("thing", package())
    registry.register("energy")(1)
    registry.register("void")(2)
    with pytest.raises(InputError, match=r"no thing is called 'zzz'; known: energy, void$"):
        registry["zzz"]


@pytest.mark.parametrize("kind", ["dataset", "detector", "model", "network", "recipe"])
def test_what_a_command_lists_says_so(kind: str) -> None:
    assert unknown_name(kind, "zzz", ["one", "two"]).endswith(f"; known: one, two (`strays {kind}s` lists them)")
    assert unknown_name(kind, "onee", ["one", "two"]).endswith(f"did you mean 'one'? (`strays {kind}s` lists them)")


def test_the_commands_that_messages_name_are_there() -> None:
    commands = {one.name for one in app.registered_commands}
    assert {f"{kind}s" for kind in module._LISTED} <= commands


def test_a_message_about_an_empty_registry() -> None:
    assert unknown_name("encoder", "x", []) == "no encoder is called 'x'; known: none"


def test_get_returns_the_default_for_an_unknown_name(package: MakePackage) -> None:
    registry: Registry[int] = Registry("thing", package())
    registry.register("one")(1)
    assert registry.get("one") == 1
    assert registry.get("two") is None
    assert registry.get("two", 3) == 3


def test_a_component_that_is_defined_anew_replaces_itself(package: MakePackage) -> None:
    """As in a notebook cell that is run twice."""
    registry: Registry[type] = Registry("thing", package())

    def cell() -> type:
        @registry.register("mine")
        class Mine:
            pass

        return Mine

    first, second = cell(), cell()
    assert first is not second
    assert registry["mine"] is second


def test_a_module_that_fails_is_an_error_every_time(package: MakePackage, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = type(sys)("strays_test_shelf")
    name = package(
        alpha="import strays_test_shelf as shelf\n@shelf.REGISTRY.register('early')\nclass Early: pass\nshelf.fail()",
        beta="import strays_test_shelf as shelf\nshelf.REGISTRY.register('late')(object())",
    )
    registry: Registry[object] = Registry("thing", name)
    shelf.REGISTRY = registry  # type: ignore[attr-defined]
    shelf.fail = lambda: 1 / 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, shelf.__name__, shelf)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            list(registry)
    shelf.fail = lambda: None  # type: ignore[attr-defined]
    assert list(registry) == ["early", "late"]


def test_a_module_may_look_something_up_while_it_is_imported(
    package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = type(sys)("strays_test_shelf")
    monkeypatch.setitem(sys.modules, shelf.__name__, shelf)
    name = package(
        alpha="import strays_test_shelf as shelf\nshelf.REGISTRY.register('one')(1)",
        beta="import strays_test_shelf as shelf\nassert shelf.REGISTRY['one'] == 1",
    )
    shelf.REGISTRY = Registry("thing", name)  # type: ignore[attr-defined]
    assert list(shelf.REGISTRY) == ["one"]


def test_a_broken_entry_point_is_a_warning_that_names_it(package: MakePackage, monkeypatch: pytest.MonkeyPatch) -> None:
    name = package(other="COMPONENT = 'theirs'")
    values = {"bad": f"{name}.absent:X", "good": f"{name}.other:COMPONENT", "ugly": f"{name}.other:MISSING"}
    points = [EntryPoint(key, value, "group") for key, value in values.items()]
    monkeypatch.setattr(module, "entry_points", lambda group: points)
    registry: Registry[str] = Registry("thing", name)
    with pytest.warns(UserWarning, match="is left out") as caught:
        assert dict(registry) == {"good": "theirs"}
    told = [str(one.message) for one in caught]
    assert len(told) == 2
    assert told[0].startswith(f"the thing 'bad' ({name}.absent:X) is left out: ModuleNotFoundError")
    assert told[1].startswith(f"the thing 'ugly' ({name}.other:MISSING) is left out: AttributeError")


def test_third_parties_plug_in_through_entry_points(package: MakePackage, monkeypatch: pytest.MonkeyPatch) -> None:
    name = package(own="", other="COMPONENT = ['from elsewhere']")
    asked = []

    def points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("elsewhere", f"{name}.other:COMPONENT", group)]

    monkeypatch.setattr(module, "entry_points", points)
    registry: Registry[list[str]] = Registry("thing", name)
    assert registry["elsewhere"] == ["from elsewhere"]
    assert asked == [name]


def test_an_entry_point_does_not_replace_a_component_of_ours(
    package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = package(other="COMPONENT = 'theirs'")
    monkeypatch.setattr(module, "entry_points", lambda group: [EntryPoint("one", f"{name}.other:COMPONENT", group)])
    registry: Registry[str] = Registry("thing", name)
    registry.register("one")("ours")
    assert registry["one"] == "ours"
