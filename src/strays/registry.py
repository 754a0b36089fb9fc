"""Registries that fill themselves: a decorator in a method's own file, discovery by folder, entry points for others."""

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Generic, TypeVar, overload

from strays.errors import InputError

__all__ = ["Registry", "unknown_name"]

_LISTED = frozenset({"dataset", "detector", "model", "network", "recipe"})
"""The kinds that a command lists."""

T = TypeVar("T")
S = TypeVar("S")


class Registry(Mapping[str, T], Generic[T]):
    """Components of one kind by name, found on first use.

    Every module of ``package`` is imported once, then every entry point of the group of the same name (third parties
    declare ``[project.entry-points."strays.detectors"]``, say), so that a new component is one new file. An entry point
    that cannot be loaded is a warning that names it; a module of ours that cannot is an error at every lookup.

    Args:
        kind: what one component is called in messages, such as ``"detector"``.
        package: the package whose modules register components, such as ``"strays.detectors"``.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._found: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[S], S]:
        """Return a decorator that enters a class or factory under ``name``.

        One that is defined anew, such as by a notebook cell that is run again, takes the place of its former self.
        """

        def enter(component: S) -> S:
            present = self._found.get(name, component)
            if present is not component and not _same_definition(present, component):
                raise ValueError(f"two {self.kind}s are called {name!r}: {present!r} and {component!r}")
            self._found[name] = component  # type: ignore[assignment]
            return component

        return enter

    def __getitem__(self, name: str) -> T:
        self._discover()
        if name not in self._found:
            raise InputError(unknown_name(self.kind, name, sorted(self._found)))
        return self._found[name]

    @overload
    def get(self, name: str, /) -> T | None: ...

    @overload
    def get(self, name: str, /, default: T | S) -> T | S: ...

    def get(self, name: str, /, default: T | S | None = None) -> T | S | None:
        """Return the component of that name, or ``default`` where there is none."""
        self._discover()
        return self._found.get(name, default)

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._found))

    def __len__(self) -> int:
        self._discover()
        return len(self._found)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # from here on, as a module may look something up while it is imported
        try:
            folder = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(folder.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
        except BaseException:
            self._discovered = False
            raise
        self._load_entry_points()

    def _load_entry_points(self) -> None:
        for point in entry_points(group=self.package):
            try:
                component = point.load()
            except Exception as error:  # somebody else's code: whatever is wrong with it must not cost the rest
                told = f"{type(error).__name__}: {error}"
                warnings.warn(f"the {self.kind} {point.name!r} ({point.value}) is left out: {told}", stacklevel=2)
            else:
                self._found.setdefault(point.name, component)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that is not among those known: the closest one, or all of them."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
    where = f" (`strays {kind}s` lists them)" if kind in _LISTED else ""
    return f"no {kind} is called {name!r}; {hint}{where}"


def _same_definition(one: object, other: object) -> bool:
    """Whether two classes or functions come from the same place in the source."""
    places = [(getattr(each, "__module__", None), getattr(each, "__qualname__", None)) for each in (one, other)]
    return places[0] == places[1] and places[0][1] is not None
