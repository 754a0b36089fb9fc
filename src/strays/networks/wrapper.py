"""What networks around another network share: they show it an image more than once and put together what it saw."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from torch import Tensor

from strays.errors import InputError
from strays.networks.base import Configuration, NetworkOutputs, SegmentationNetwork
from strays.registry import Registry
from strays.taxonomy import Taxonomy

__all__ = ["WRAPPERS", "NetworkWrapper", "register_wrapper"]


class NetworkWrapper(SegmentationNetwork):
    """A network that looks at every image several times through another one, its ``base``.

    It has neither weights nor a normalisation of its own, so ``weights_sha256`` and ``configuration`` are those of the
    base, and its settings stand in ``around``. A subclass defines ``observe``, from what ``seen`` gives in each pass.

    Args:
        base: the other network.
    """

    def __init__(self, base: SegmentationNetwork) -> None:
        super().__init__()
        self.base = base
        self.configuration = base.configuration
        self.tap_modules = {name: f"base.{path}" for name, path in base.tap_modules.items()}
        self.auxiliary_taps, self.dropout_taps = base.auxiliary_taps, base.dropout_taps
        self.training = base.training

    @property
    def name(self) -> str:
        """The name it is registered under; that of its class where there is none."""
        return next((name for name, kind in WRAPPERS.items() if kind is type(self)), type(self).__name__)

    @property
    def has_outlier_head(self) -> bool:
        """Whether the outputs of the base hold outlier logits."""
        return self.base.has_outlier_head

    def settings(self) -> Configuration:
        """Return the parameters that tell this wrapper from another of its class."""
        return {}

    def around(self, inner: str) -> str:
        """Return this wrapper in words around ``inner``, the name of a model or network, every setting stated."""
        return f"{self.name}({','.join([inner, *(f'{key}={value}' for key, value in self.settings().items())])})"

    def taxonomy(self) -> Taxonomy | None:
        """Return the classes where the base itself knows them, else None."""
        return self.base.taxonomy()

    def weights_sha256(self) -> str:
        """Return that of the base: the weights are the same."""
        return self.base.weights_sha256()

    def forward(self, image: Tensor) -> Tensor:
        """Return class logits (N, K, h, w) of RGB images (N, 3, H, W) in [0, 1]."""
        return self.outputs(image)["logits"]

    def logits(self, normalized: Tensor) -> Tensor:
        """Return the same as ``forward``: what the wrapper is given is RGB in [0, 1], which the base normalises."""
        return self.outputs(normalized)["logits"]

    def outputs(self, image: Tensor) -> NetworkOutputs:
        """Return everything that all passes together give for RGB images (N, 3, H, W) in [0, 1]."""
        return self.observe(image)[0]

    @abstractmethod
    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return what all passes together give for RGB images (N, 3, H, W) in [0, 1], and features of the taps.

        Raises:
            InputError: if a tap is unknown, or what the base gives cannot be put together.
        """

    def seen(self, image: Tensor, taps: Iterable[str]) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Return by name the output maps of one of several passes of the base, and features of the taps.

        Raises:
            InputError: if the base is a mask transformer.
        """
        outputs, features = self.base.observe(image, taps)
        if "masks" in outputs:
            raise InputError(
                f"{self.name} takes means of maps, and the queries of a mask transformer are others in every pass: use "
                "the network as it is, or average scores with the detector flipped(DETECTOR)"
            )
        return cast("Mapping[str, Tensor]", outputs), features


WRAPPERS: Registry[type[NetworkWrapper]] = Registry("network wrapper", "strays.networks")
"""Apart from ``NETWORKS``, whose entries are built from a number of classes, have weights and can be trained."""


def register_wrapper(name: str) -> Callable[[type[NetworkWrapper]], type[NetworkWrapper]]:
    """Return a decorator that enters a wrapper under ``name``, for model strings of the form ``name(MODEL,key=value)``.

    It is built as ``cls(base, **settings)``; all settings have defaults.
    """
    return WRAPPERS.register(name)
