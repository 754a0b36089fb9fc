"""Any network of the library with something added: an outlier head, a further channel, auxiliary heads, dropout."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from strays.cards import Card
from strays.errors import InputError
from strays.networks.base import (
    NETWORKS,
    Configuration,
    NetworkOutputs,
    Normalization,
    SegmentationNetwork,
    TrainingOutputs,
    register_network,
)
from strays.networks.swiftnet import brc
from strays.prediction import resize_maps

__all__ = ["ExtendedNetwork", "Extension", "extend"]

_PROBE = 128


_WORDS = {
    "outlier_head": "an outlier head",
    "extra_channel": "an extra channel",
    "auxiliary": "auxiliary heads",
    "dropout": "dropout",
}


@dataclass(frozen=True)
class Extension:
    """What a network is extended by.

    Args:
        outlier_head: two logits, inlier and outlier, beside those of the classes.
        extra_channel: one more channel behind those of the classes, for void or for abstention.
        auxiliary: class logits from coarser features, and outlier logits where there is an outlier head, in training
            only.
        dropout: probability with which values are dropped behind the network's ``dropout_taps``, in front of its
            classifier and of what is added; 0 = no dropout.

    Raises:
        InputError: if the probability is not in [0, 1).
    """

    outlier_head: bool = False
    extra_channel: bool = False
    auxiliary: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}, expected a probability of 0 or more and below 1")

    def __bool__(self) -> bool:
        return self != Extension()

    def __str__(self) -> str:
        return " and ".join(words for name, words in _WORDS.items() if getattr(self, name)) or "nothing"


@register_network("extended")
class ExtendedNetwork(SegmentationNetwork):
    """A network of the library, its own layers as they are, with heads (BN-ReLU-1x1) on what its classifier reads.

    The outlier head gives ``outlier_logits`` (N, 2, h, w) at the stride of the features it reads; the extra channel
    stands behind the class logits, at their size; auxiliary heads give ``auxiliary_logits``, and beside an outlier head
    ``auxiliary_outlier_logits``, in training mode only.

    Args:
        classes: number of channels of the logits, the extra one included.
        network: name of the network that is extended.
        configuration: the keyword arguments that build that one, as JSON.
        outlier_head, extra_channel, auxiliary, dropout: see ``Extension``.
        base: a network in memory, instead of a new one of ``network`` and ``configuration``.

    Raises:
        InputError: if the extended network does not have the features that the heads read, or is not described well.

    Example:
        >>> network = ExtendedNetwork(classes=12, network="enet", outlier_head=True, extra_channel=True).eval()
        >>> outputs = network.outputs(torch.rand(1, 3, 32, 64))
        >>> outputs["logits"].shape, outputs["outlier_logits"].shape
        (torch.Size([1, 12, 32, 64]), torch.Size([1, 2, 16, 32]))
    """

    card: ClassVar[Card] = Card(
        title="Extended network",
        summary="Any network of the library with an outlier head, an extra channel, auxiliary heads or dropout.",
        url="https://arxiv.org/abs/1908.01098",
        notes="Made by recipes that need more than class logits; name the recipe, not this network.",
    )

    def __init__(
        self,
        classes: int = 19,
        network: str = "swiftnet-mnv2",
        configuration: str = "{}",
        outlier_head: bool = False,
        extra_channel: bool = False,
        auxiliary: bool = False,
        dropout: float = 0.0,
        base: SegmentationNetwork | None = None,
    ) -> None:
        super().__init__()
        self.extension = Extension(outlier_head, extra_channel, auxiliary, dropout)
        known = classes - extra_channel
        self.base = _built(network, configuration, known) if base is None else base
        given = {"network": network, "configuration": json.dumps(self.base.configuration)}
        self.configuration: Configuration = {"classes": classes, **given, **self.extension.__dict__}
        self.stride = self.base.stride
        self.tap_modules = {name: f"base.{path}" for name, path in self.base.tap_modules.items()}
        self.auxiliary_taps, self.dropout_taps = self.base.auxiliary_taps, self.base.dropout_taps
        self._add_heads(known)
        self._add_dropout()
        self._join()

    def _add_heads(self, known: int) -> None:
        self._read = ("decoder",) if self.extension.outlier_head or self.extension.extra_channel else ()
        taps = self.auxiliary_taps if self.extension.auxiliary else ()
        widths = self._widths((*self._read, *taps))
        self.outlier_head = brc(widths["decoder"], 2, 1, bias=True) if self.extension.outlier_head else None
        self.extra_head = brc(widths["decoder"], 1, 1) if self.extension.extra_channel else None
        channels = known + 2 * self.extension.outlier_head
        self.auxiliary_heads = nn.ModuleList(brc(widths[tap], channels, 1, bias=True) for tap in taps)
        if self.extra_head is not None:
            nn.init.kaiming_normal_(cast(Tensor, self.extra_head[-1].weight))

    def _add_dropout(self) -> None:
        taps = self.dropout_taps if self.extension.dropout else ()
        dropouts = [_DropoutBehind(self.extension.dropout) for _ in taps]
        self.dropouts = nn.ModuleList(dropouts)
        for tap, dropout in zip(taps, dropouts, strict=True):
            self.base._tap(tap).register_forward_hook(dropout.after)

    def _join(self) -> None:
        """Bring what has been added to where the base is, in its precision and its mode."""
        like = next(self.base.parameters())
        for name, added in self.named_children():
            if name != "base":
                added.to(like.device, like.dtype).train(self.base.training)
        self.training = self.base.training

    @torch.no_grad()
    def _widths(self, taps: Sequence[str]) -> dict[str, int]:
        """Return the channels of some features, seen in one small pass."""
        if not taps:
            return {}
        image = next(self.base.parameters()).new_zeros(1, 3, _PROBE, _PROBE)
        with _in_evaluation(self.base):
            _, features = self.base.observe(image, dict.fromkeys(taps))
        return {name: one.shape[1] for name, one in features.items()}

    @property
    def has_outlier_head(self) -> bool:
        """Whether its outputs hold outlier logits."""
        return self.extension.outlier_head or self.base.has_outlier_head

    @property
    def normalization(self) -> Normalization:
        """What the extended network does to RGB in [0, 1] first."""
        return self.base.normalization

    @normalization.setter
    def normalization(self, value: Normalization) -> None:
        """Set it, for the network that is extended."""
        self.base.normalization = value

    def forward(self, image: Tensor) -> Tensor:
        """Return class logits (N, K, h, w), the extra channel included, of RGB images (N, 3, H, W) in [0, 1]."""
        return self.outputs(image)["logits"]

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, h, w), the extra channel included, of normalised images, up to rounding."""
        # Only whole passes over RGB bring features and logits to the same part of the image in every network.
        given = self.normalization
        mean, std = (normalized.new_tensor(one).view(1, 3, 1, 1) for one in (given.mean, given.std))
        return self.outputs(normalized * std + mean)["logits"]

    def outputs(self, image: Tensor) -> TrainingOutputs:
        """Return everything that one pass gives for RGB images (N, 3, H, W) in [0, 1], in training all heads'."""
        taps = self.auxiliary_taps if self.training and self.extension.auxiliary else ()
        outputs, features = self.observe(image, taps)
        result = cast(TrainingOutputs, outputs)
        if taps:
            result.update(self._auxiliary(features))
        return result

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return what one pass gives, auxiliary heads aside, and features; see ``SegmentationNetwork.observe``."""
        taps = tuple(taps)
        outputs, features = self.base.observe(image, dict.fromkeys((*taps, *self._read)))
        return self._extended(outputs, features), {name: features[name] for name in taps}

    def _extended(self, outputs: NetworkOutputs, features: Mapping[str, Tensor]) -> NetworkOutputs:
        result = outputs.copy()
        if self.extra_head is not None:
            extra = resize_maps(self.extra_head(features["decoder"]), outputs["logits"].shape[-2:])
            result["logits"] = torch.cat([outputs["logits"], extra], dim=1)
        if self.outlier_head is not None:
            result["outlier_logits"] = self.outlier_head(features["decoder"])
        return result

    def _auxiliary(self, features: Mapping[str, Tensor]) -> TrainingOutputs:
        pairs = zip(self.auxiliary_heads, self.auxiliary_taps, strict=True)
        maps = [head(features[tap]) for head, tap in pairs]
        if not self.extension.outlier_head:
            return {"auxiliary_logits": tuple(maps)}
        classes, outlier = zip(*((one[:, :-2], one[:, -2:]) for one in maps), strict=True)
        return {"auxiliary_logits": classes, "auxiliary_outlier_logits": outlier}


class _DropoutBehind(nn.Dropout):
    """Dropout on what another module gives, as a hook that is copied along with both."""

    def after(self, module: nn.Module, inputs: object, output: object) -> object:
        # What pixel decoders of transformers give are several maps in an object.
        return tree_map_only(Tensor, self, output) if self.training else output


def _built(network: str, configuration: str, classes: int) -> SegmentationNetwork:
    try:
        given = json.loads(configuration)
    except ValueError as error:
        raise InputError(f"expected the configuration of {network} as JSON, got {configuration[:80]!r}") from error
    return NETWORKS[network](**{**given, "classes": classes})


@contextmanager
def _in_evaluation(network: nn.Module) -> Iterator[None]:
    training = [one for one in network.modules() if one.training]
    network.eval()
    try:
        yield
    finally:
        for one in training:
            one.training = True


def extend(network: SegmentationNetwork, name: str, extension: Extension) -> SegmentationNetwork:
    """Return a network with what an extension names; the network itself where it has just that already.

    Args:
        network: the network; it becomes part of the result, and keeps its weights.
        name: what it is registered as; only a registered one can be loaded again once it is saved.
        extension: what to add.

    Raises:
        InputError: if it has been extended by something else, or does not say how many classes it has.
    """
    present = network.extension if isinstance(network, ExtendedNetwork) else Extension()
    if present == extension:
        return network
    if present:
        raise InputError(
            f"the network was extended by {present}, and {extension} is asked for: start from the plain network, or "
            "choose the recipe that it was trained by"
        )
    classes = _class_count(network)
    return ExtendedNetwork(classes + extension.extra_channel, name, base=network, **extension.__dict__)


def _class_count(network: SegmentationNetwork) -> int:
    for classes in (network.configuration.get("classes"), getattr(network, "classes", None)):
        if isinstance(classes, int):
            return classes
    raise InputError(f"{type(network).__name__} does not say how many classes it has: show it an image first")
