"""A user's own ``nn.Module`` as a segmentation network."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from strays.cards import Card
from strays.errors import InputError
from strays.networks.adapting import as_normalization, checked_logits
from strays.networks.base import UNIT, Normalization, SegmentationNetwork, register_scheme
from strays.taxonomy import Taxonomy, load_taxonomy

__all__ = ["UserNetwork", "load_python", "tried"]

_PROBE = 64


class UserNetwork(SegmentationNetwork):
    """A user's own module: RGB (N, 3, H, W) in [0, 1] -> logits (N, K, h, w), or a mapping with ``logits`` or ``out``.

    Every submodule is a tap under its own path; those that give a feature map (N, C, h, w) can be kept. Two
    attributes of the module are honoured where they exist: ``taxonomy`` (a ``Taxonomy``, the name of a built-in one,
    or the path of a JSON file) and ``normalization`` (a ``Normalization``, or mean and standard deviation of RGB in
    [0, 1]); without the latter the module gets plain RGB in [0, 1].

    Args:
        module: the module.
        source: what it is called in messages.

    Attributes:
        classes: the number of channels of its logits, or None before the first image.

    Raises:
        InputError: if one of the two attributes is none of what is said above.

    Example:
        >>> network = UserNetwork(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1)))
        >>> prediction = network.predict(torch.rand(1, 3, 32, 48), taps=["1"])
        >>> prediction.logits.shape, prediction.features["1"].shape, network.classes, network.stride
        (torch.Size([1, 5, 16, 24]), torch.Size([1, 8, 16, 24]), 5, 2)
    """

    card: ClassVar[Card] = Card(
        title="Your own network",
        summary="A module of your own code that turns RGB in [0, 1] into class logits.",
    )

    def __init__(self, module: nn.Module, source: str = "the module") -> None:
        super().__init__()
        self.module = module
        self.source = source
        self.classes: int | None = None
        self.configuration = {}
        self.normalization = _own_normalization(module, source)
        self.tap_modules = {path: f"module.{path}" for path, _ in module.named_modules() if path}
        self._taxonomy = _own_taxonomy(module, source)
        self.eval()

    def taxonomy(self) -> Taxonomy | None:
        """Return the module's own ``taxonomy``, or None."""
        return self._taxonomy

    def logits(self, normalized: Tensor) -> Tensor:
        """Return the module's logits (N, K, h, w) of images (N, 3, H, W).

        Raises:
            InputError: if the module returned something else; the message says what.
        """
        logits = checked_logits(self.module(normalized), len(normalized), self.source)
        self.classes = logits.shape[1]
        self.stride = max(1, round(normalized.shape[-2] / logits.shape[-2]))
        return logits


@register_scheme("python")
def load_python(source: str) -> SegmentationNetwork:
    """Return the network that the factory ``package.module:factory`` makes when called without arguments.

    The module is imported as Python would from the current folder. The factory returns an ``nn.Module`` as
    ``UserNetwork`` describes it, or a ``SegmentationNetwork``. It is tried on one small image, so that a
    wrong kind of output is found at once; a module that cannot take so small a one is tried on the first real one.

    Raises:
        InputError: if the module or the factory is missing or fails, or makes something else.

    Example:
        >>> load_python("torch.nn:Identity").predict(torch.rand(1, 3, 4, 6)).logits.shape
        torch.Size([1, 3, 4, 6])
    """
    name, _, attribute = source.partition(":")
    if not name or not attribute:
        raise InputError(f"expected python:package.module:factory, got python:{source}")
    factory = _factory(name, attribute)
    try:
        made = factory()
    except Exception as error:
        raise InputError(f"{source} is called without arguments and failed: {_told(error)}") from error
    if not isinstance(made, nn.Module):
        raise InputError(f"{source} made {type(made).__name__}, expected an nn.Module")
    if isinstance(made, SegmentationNetwork):
        return made
    return tried(UserNetwork(made, source))


def _factory(name: str, attribute: str) -> Callable[[], object]:
    found: object = _imported(name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"python:{name} has no {part!r}: name a class or function that it defines")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{name}:{attribute} is {type(found).__name__}, expected a class or function to call")
    return found


def _imported(name: str) -> object:
    try:
        with _current_folder_first():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            where = f"neither in {Path.cwd()} nor installed"
            raise InputError(f"no module is called {error.name!r}, {where}: check python:{name}") from error
        raise InputError(f"module {name} needs {error.name!r}, which is not installed") from error
    except Exception as error:
        raise InputError(f"importing module {name} failed: {_told(error)}") from error


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Let an import look in the current folder first; it stays last on the path for what is imported later."""
    folder = os.getcwd()  # noqa: PTH109, as a string for sys.path
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def tried(network: UserNetwork) -> UserNetwork:
    """Return a network that was tried on a small image, so that a wrong kind of output is found at once.

    Raises:
        InputError: if it gave no logits.
    """
    parameter = next(network.parameters(), torch.zeros(0))
    image = torch.zeros(1, 3, _PROBE, _PROBE, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad():
            network(image)
    except InputError:
        raise
    except Exception:
        # It may only want larger images: the first real one is the better judge.
        return network
    return network


def _own_normalization(module: nn.Module, source: str) -> Normalization:
    given = getattr(module, "normalization", None)
    if given is None or (callable(given) and not isinstance(given, Normalization)):
        return UNIT
    try:
        return as_normalization(given)
    except InputError as error:
        raise InputError(f"the attribute normalization of {source}: {error}") from error


def _own_taxonomy(module: nn.Module, source: str) -> Taxonomy | None:
    given = getattr(module, "taxonomy", None)
    if isinstance(given, (str, Path)):
        return load_taxonomy(given)
    if given is None or isinstance(given, Taxonomy):
        return given
    raise InputError(f"the attribute taxonomy of {source} is {type(given).__name__}, expected a Taxonomy, name or path")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
