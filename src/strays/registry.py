"""Registries that fill themselves: a decorator in a method's own file, discovery by folder, entry points for others."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from strays.errors import InputError

__all__ = ["Registry", "unknown_name"]


T = TypeVar("T")
S = TypeVar("S")


class Registry(Mapping[str, T], Generic[T]):
    """Components of one kind by name, found on first use.

    Every module of ``package`` is imported once, then every entry point of the group of the same name (third parties
    declare ``[project.entry-points."strays.detectors"]``, say), so that a new component is one new file.

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
        """Return a decorator that enters a class or factory under ``name``."""

        def enter(component: S) -> S:
            present: object = self._found.setdefault(name, component)  # type: ignore[arg-type]
            if present is not component:
                raise ValueError(f"two {self.kind}s are called {name!r}: {present!r} and {component!r}")
            return component

        return enter

    def __getitem__(self, name: str) -> T:
        self._discover()
        if name not in self._found:
            raise InputError(unknown_name(self.kind, name, sorted(self._found)))
        return self._found[name]

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
        self._discovered = True
        folder = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(folder.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for point in entry_points(group=self.package):
            self._found.setdefault(point.name, point.load())


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that is not among those known: the closest one, or all of them."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)};"
    return f"no {kind} is called {name!r}; {hint} `strays {kind.split()[0]}s` lists them"
