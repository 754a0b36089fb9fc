"""Any network of the library with something added: an outlier head, a further channel, auxiliary heads, dropout."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Extension:
    """What a network is extended by.

    Args:
        outlier_head: two logits, inlier and outlier, beside those of the classes.
        extra_channel: one more channel behind those of the classes, for void or for abstention.
        auxiliary: class logits from coarser features, in training only.
        dropout: probability with which values are dropped in front of the heads; 0 = no dropout.
    """

    outlier_head: bool = False
    extra_channel: bool = False
    auxiliary: bool = False
    dropout: float = 0.0

    def __bool__(self) -> bool:
        return self != Extension()

    def __str__(self) -> str:
        named = [one.name.replace("_", " ") for one in fields(self) if getattr(self, one.name)]
        return " and ".join(named) or "nothing"


@register_network("extended")
class ExtendedNetwork(SegmentationNetwork):
    """A network of the library, its own layers as they are, with heads (BN-ReLU-1x1) on what its classifier reads.

    The outlier head gives ``outlier_logits`` (N, 2, h, w) at the stride of the features it reads; the extra channel
    stands behind the class logits, at their size; auxiliary heads give ``auxiliary_logits`` in training mode only.

    Args:
        classes: number of channels of the logits, the extra one included.
        network: name of the network that is extended.
        configuration: the keyword arguments that build that one, as JSON.
        outlier_head, extra_channel, auxiliary, dropout: see ``Extension``.
        base: a network in memory, instead of a new one of ``network`` and ``configuration``.

    Raises:
        InputError: if the extended network does not have the features that the heads read.

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
        self.base = base or NETWORKS[network](**{**json.loads(configuration), "classes": known})
        given = {"network": network, "configuration": json.dumps(self.base.configuration)}
        self.configuration: Configuration = {"classes": classes, **given, **self.extension.__dict__}
        self.stride = self.base.stride
        self.tap_modules = {name: f"base.{path}" for name, path in self.base.tap_modules.items()}
        self.auxiliary_taps, self.dropout_taps = self.base.auxiliary_taps, self.base.dropout_taps
        self._add_heads(known)
        self._add_dropout()

    def _add_heads(self, known: int) -> None:
        widths = self._widths()
        self.outlier_head = brc(widths["decoder"], 2, 1, bias=True) if self.extension.outlier_head else None
        self.extra_head = brc(widths["decoder"], 1, 1) if self.extension.extra_channel else None
        taps = self.auxiliary_taps if self.extension.auxiliary else ()
        self.auxiliary_heads = nn.ModuleList(brc(widths[tap], known, 1, bias=True) for tap in taps)
        if self.extra_head is not None:
            nn.init.kaiming_normal_(cast(Tensor, self.extra_head[-1].weight))

    def _add_dropout(self) -> None:
        taps = self.dropout_taps if self.extension.dropout else ()
        dropouts = [_DropoutBehind(self.extension.dropout) for _ in taps]
        self.dropouts = nn.ModuleList(dropouts)
        for tap, dropout in zip(taps, dropouts, strict=True):
            self.base.get_submodule(self.base.tap_modules[tap]).register_forward_hook(dropout.after)

    @torch.no_grad()
    def _widths(self) -> dict[str, int]:
        """Return the channels of the features that heads may read, seen in one small pass."""
        training = self.base.training
        image = torch.zeros(1, 3, _PROBE, _PROBE, device=next(self.base.parameters()).device)
        _, features = self.base.eval().observe(image, {*self.auxiliary_taps, "decoder"})
        self.base.train(training)
        return {name: one.shape[1] for name, one in features.items()}

    @property
    def normalization(self) -> Normalization:
        """What the extended network does to RGB in [0, 1] first."""
        return self.base.normalization

    @normalization.setter
    def normalization(self, value: Normalization) -> None:
        self.base.normalization = value

    def forward(self, image: Tensor) -> Tensor:
        """Return class logits (N, K, h, w), the extra channel included, of RGB images (N, 3, H, W) in [0, 1]."""
        return self.outputs(image)["logits"]

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, h, w), the extra channel included, of normalised images."""
        with self.base._tapped(self._read) as features:
            logits = self.base.logits(normalized)
        return self._extended({"logits": logits}, features)["logits"]

    def outputs(self, image: Tensor) -> NetworkOutputs:
        """Return everything that one pass gives for RGB images (N, 3, H, W) in [0, 1]."""
        return self.observe(image)[0]

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return what one pass gives, and the features of the taps; see ``SegmentationNetwork.observe``."""
        wanted = dict.fromkeys((*taps, *self._read))
        outputs, features = self.base.observe(image, wanted)
        return self._extended(outputs, features), {name: features[name] for name in taps}

    @property
    def _read(self) -> tuple[str, ...]:
        """The taps that the heads read now."""
        heads = self.outlier_head is not None or self.extra_head is not None
        auxiliary = self.auxiliary_taps if self.training and self.extension.auxiliary else ()
        return ("decoder",) * heads + tuple(auxiliary)

    def _extended(self, outputs: NetworkOutputs, features: Mapping[str, Tensor]) -> NetworkOutputs:
        result = cast(TrainingOutputs, {**outputs})
        if self.extra_head is not None:
            extra = resize_maps(self.extra_head(features["decoder"]), outputs["logits"].shape[-2:])
            result["logits"] = torch.cat([outputs["logits"], extra], dim=1)
        if self.outlier_head is not None:
            result["outlier_logits"] = self.outlier_head(features["decoder"])
        if self.training and self.extension.auxiliary:
            pairs = zip(self.auxiliary_heads, self.auxiliary_taps, strict=True)
            result["auxiliary_logits"] = tuple(head(features[tap]) for head, tap in pairs)
        return result


class _DropoutBehind(nn.Dropout):
    """Dropout on what another module gives, as a hook that is copied along with both."""

    def after(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        dropped: Tensor = self(output)
        return dropped


def extend(network: SegmentationNetwork, name: str, extension: Extension) -> SegmentationNetwork:
    """Return a network with what an extension names; the network itself where it has just that already.

    Args:
        network: the network; it becomes part of the result, and keeps its weights.
        name: what it is registered as.
        extension: what to add.

    Raises:
        InputError: if it has been extended by something else.
    """
    present = network.extension if isinstance(network, ExtendedNetwork) else Extension()
    if present == extension:
        return network
    if present:
        raise InputError(
            f"the network was extended by {present}, and {extension} is asked for: start from the plain network, or "
            "choose the recipe that it was trained by"
        )
    classes = network.configuration.get("classes")
    known = classes if isinstance(classes, int) else int(getattr(network, "classes", 0))
    return ExtendedNetwork(known + extension.extra_channel, name, base=network, **extension.__dict__)
