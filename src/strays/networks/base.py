"""The contract of every segmentation network, and the registries that hold them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import torch
from torch import Tensor, nn

from strays.cards import Card
from strays.errors import InputError
from strays.networks.digest import state_sha256
from strays.networks.passes import NetworkPasses
from strays.prediction import MaskPrediction, Prediction
from strays.registry import Registry
from strays.taxonomy import Taxonomy

__all__ = [
    "IMAGENET",
    "NETWORKS",
    "SCHEMES",
    "UNIT",
    "Configuration",
    "NetworkOutputs",
    "Normalization",
    "SegmentationNetwork",
    "StateDict",
    "TrainingOutputs",
    "register_network",
    "register_scheme",
]

Configuration = dict[str, str | int | float | bool | None]
"""The keyword arguments that build a network; they go into ``model.json``."""

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Normalization:
    """What a network subtracts and divides by, per channel of RGB in [0, 1]."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the normalised copy of RGB images (N, 3, H, W) in [0, 1]."""
        mean = torch.tensor(self.mean, dtype=image.dtype, device=image.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, dtype=image.dtype, device=image.device).view(1, 3, 1, 1)
        return (image - mean) / std


UNIT = Normalization()
IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class NetworkOutputs(TypedDict, total=False):
    """What one pass of a network may give beside its logits; the keys are fields of ``Prediction``."""

    logits: Tensor
    outlier_logits: Tensor
    masks: MaskPrediction


class TrainingOutputs(NetworkOutputs, total=False):
    """What a network may give in training beside that: logits of auxiliary heads, (N, K, h, w) and (N, 2, h, w)."""

    auxiliary_logits: tuple[Tensor, ...]
    auxiliary_outlier_logits: tuple[Tensor, ...]


class SegmentationNetwork(nn.Module, ABC):
    """Image -> class logits, with named features on request.

    A network takes RGB in [0, 1] and does its own normalisation, so that an exported file is complete. A subclass
    defines ``logits`` and the facts below; one with more to tell than logits overrides ``outputs``.

    Attributes:
        card: the facts about the network.
        normalization: what it does to RGB in [0, 1] first.
        stride: input pixels per pixel of the logits.
        configuration: the keyword arguments that build it again.
        tap_modules: name of a tap -> path of the submodule whose output it is. Two names mean the same for every
            network of the library: ``encoder``, features at about a sixteenth of the size that know their surroundings,
            and ``decoder``, those that the classifier reads.
        auxiliary_taps: taps from which auxiliary heads may learn the classes too, coarsest first.
        dropout_taps: taps behind which dropout makes the network a Bayesian one.
        channels_last: whether it is faster with the channels of a pixel beside each other in memory.
    """

    card: ClassVar[Card]
    normalization: Normalization = UNIT
    stride: int = 1
    configuration: Configuration
    tap_modules: Mapping[str, str]
    auxiliary_taps: tuple[str, ...] = ("encoder",)
    dropout_taps: tuple[str, ...] = ("decoder",)
    channels_last: bool = False

    @property
    def has_outlier_head(self) -> bool:
        """Whether its outputs hold outlier logits; a subclass that gives some says True."""
        return False

    @abstractmethod
    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, h, w) of normalised images (N, 3, H, W)."""

    @classmethod
    def configuration_of(cls, state: StateDict) -> Configuration:
        """Return the configuration that a third-party checkpoint belongs to, read off its tensors."""
        return {}

    @classmethod
    def renamed(cls, state: StateDict) -> StateDict:
        """Return a third-party checkpoint under this network's parameter names."""
        return state

    def weights_sha256(self) -> str:
        """Return the SHA-256 over names and bytes of all weights, as hexadecimal digits."""
        return state_sha256(self.state_dict())

    def taxonomy(self) -> Taxonomy | None:
        """Return the classes where the network itself knows them, else None."""
        return None

    def forward(self, image: Tensor) -> Tensor:
        """Return class logits (N, K, h, w) of RGB images (N, 3, H, W) in [0, 1]."""
        return self.logits(self.normalization(image))

    def outputs(self, image: Tensor) -> NetworkOutputs:
        """Return everything that one pass gives for RGB images (N, 3, H, W) in [0, 1]."""
        return {"logits": self(image)}

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return what one pass gives for RGB images (N, 3, H, W) in [0, 1], and the features of the taps.

        Raises:
            InputError: if a tap is unknown or not part of what the network computes.
        """
        with self._tapped(taps) as features:
            outputs = self.outputs(image)
        if missing := [name for name in taps if name not in features]:
            raise InputError(f"the tap {missing[0]!r} is no part of what {type(self).__name__} computes for an image")
        return outputs, features

    def predict(
        self,
        image: Tensor,
        size: tuple[int, int] | None = None,
        taps: Iterable[str] = (),
        void: int | None = None,
    ) -> Prediction:
        """Run the network once and keep what was asked for.

        Args:
            image: (N, 3, H, W) RGB in [0, 1], as the network shall see it.
            size: (H, W) that scores are wanted for; the image's own by default.
            taps: names of features to keep; ``tap_modules`` lists them.
            void: the index of the void channel, or None.

        Raises:
            InputError: if the image has another shape, or a tap is unknown or not part of what the network computes.
        """
        taps = tuple(taps)
        if image.ndim != 4 or image.shape[1] != 3:
            fix = ": add a batch dimension with image[None]" if image.ndim == 3 else ""
            raise InputError(f"expected RGB images (N, 3, H, W) in [0, 1], got {tuple(image.shape)}{fix}")
        outputs, features = self.observe(image, taps)
        height, width = size or image.shape[-2:]
        passes = NetworkPasses(self, image, (height, width), taps, void)
        return Prediction(size=(height, width), void=void, image=image, features=features, passes=passes, **outputs)

    def check_taps(self, taps: Iterable[str]) -> None:
        """Raise an error that lists the taps there are, if one of ``taps`` is none of them.

        Raises:
            InputError: if a tap is unknown.
        """
        for name in taps:
            self._tap(name)

    @contextmanager
    def _tapped(self, taps: Iterable[str]) -> Iterator[Mapping[str, Tensor]]:
        features: dict[str, Tensor] = {}
        modules = {name: self._tap(name) for name in taps}  # all of them first: an unknown tap leaves no hook behind
        handles = [module.register_forward_hook(self._keep(features, name)) for name, module in modules.items()]
        try:
            yield features
        finally:
            for handle in handles:
                handle.remove()

    def _tap(self, name: str) -> nn.Module:
        if name not in self.tap_modules:
            known = ", ".join(self.tap_modules) or "none"
            raise InputError(f"{type(self).__name__} has no tap {name!r}; its taps: {known}")
        return self.get_submodule(self.tap_modules[name])

    def _keep(self, features: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            features[name] = self._as_map(name, output)

        return hook

    def _as_map(self, name: str, output: object) -> Tensor:
        """Return the features (N, C, h', w') in what the submodule of a tap gave; override it for tokens and tuples."""
        if isinstance(output, Tensor) and output.ndim == 4:
            return output
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"tap {name!r} gives {found}, expected a feature map (N, C, h, w): choose another tap")


NETWORKS: Registry[type[SegmentationNetwork]] = Registry("network", "strays.networks")
SCHEMES: Registry[Callable[[str], SegmentationNetwork]] = Registry("model scheme", "strays.networks")


def register_network(name: str) -> Callable[[type[SegmentationNetwork]], type[SegmentationNetwork]]:
    """Return a decorator that enters a network class under ``name``.

    It is built as ``cls(**configuration)``; all arguments have defaults, and ``classes=K`` is one of them.
    """
    return NETWORKS.register(name)


def register_scheme(
    name: str,
) -> Callable[[Callable[[str], SegmentationNetwork]], Callable[[str], SegmentationNetwork]]:
    """Return a decorator that enters a loader for model strings of the form ``name:REST``; it is given REST."""
    return SCHEMES.register(name)
