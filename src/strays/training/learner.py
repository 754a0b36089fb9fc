"""Network and recipe as one module: a batch in, the terms of the loss out, whatever it is wrapped in."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from strays.errors import InputError
from strays.networks.base import SegmentationNetwork, TrainingOutputs
from strays.objectives.partial import partial_cross_entropy
from strays.recipes import Recipe
from strays.taxonomy import IGNORE, LabelSpace
from strays.training.settings import FrozenNorm, TrainingSettings

__all__ = ["Learner", "parameter_groups"]

_HEADS = ("outlier_head", "extra_head", "auxiliary_heads")


class Learner(nn.Module):
    """What Accelerate prepares: its ``forward`` is the whole way from images to the loss.

    Args:
        network: the network.
        recipe: how it is trained.
        space: what the labels mean. Those that are groups of classes add a term ``partial`` to the loss.
        trained: names of the blocks that are trained, all others but added heads being frozen; empty = all.
        frozen_norm: ``eval`` keeps the statistics of batch norms in frozen blocks.

    Raises:
        InputError: if there is no such block; lists those there are.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        recipe: Recipe,
        space: LabelSpace,
        trained: Sequence[str] = (),
        frozen_norm: FrozenNorm = "eval",
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.space = space
        self._frozen = [] if not trained else _freeze(network, trained)
        self._keeps_statistics = frozen_norm == "eval"

    def train(self, mode: bool = True) -> "Learner":
        """Set training mode, frozen batch norms aside where they keep their statistics."""
        super().train(mode)
        if self._keeps_statistics:
            for one in self._frozen:
                one.eval()
        return self

    def forward(self, images: Tensor, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the loss by terms for images (N, 3, h, w) in [0, 1], labels and mask (N, h, w)."""
        outputs = cast(TrainingOutputs, self.network.outputs(images))
        with torch.autocast(images.device.type, enabled=False):  # losses take squares and logarithms of small numbers
            return self._losses(outputs, labels, mask)

    def _losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        first = self.space.first_group
        if not self.space.groups:
            return self.recipe.losses(outputs, labels, mask)
        terms = self.recipe.losses(outputs, labels.masked_fill(labels >= first, IGNORE), mask)
        groups = torch.where((labels >= first) & (labels != IGNORE), labels.long() - first, IGNORE)
        partial = partial_cross_entropy(self.recipe.class_logits(outputs["logits"]), groups, self.space.groups)
        return {**terms, "partial": partial, "total": terms["total"] + partial}


def _freeze(network: SegmentationNetwork, trained: Sequence[str]) -> list[nn.Module]:
    """Freeze all parameters outside the named blocks and return the batch norms among what is frozen."""
    blocks = {_plain(name) for name, _ in network.named_modules() if name}
    if unknown := [one for one in trained if one not in blocks]:
        known = ", ".join(sorted({name.partition(".")[0] for name in blocks}))
        raise InputError(f"--trained: the network has no block {unknown[0]!r}; its blocks: {known}")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(_within(_plain(name), (*trained, *_HEADS)))
    norms = (one for one in network.modules() if isinstance(one, _BatchNorm))
    return [one for one in norms if not any(each.requires_grad for each in one.parameters())]


def _plain(name: str) -> str:
    """Return a name as it is in the network before it was extended."""
    return name.removeprefix("base.")


def _within(name: str, blocks: Sequence[str]) -> bool:
    return any(name == block or name.startswith(f"{block}.") for block in blocks)


def parameter_groups(network: nn.Module, settings: TrainingSettings, extended: bool = False) -> list[dict[str, object]]:
    """Return what is trained with its learning rates: pre-trained encoders and added heads have their own.

    Args:
        network: the network.
        settings: hold the rates.
        extended: whether its heads were added for this run.

    Raises:
        InputError: if nothing would be trained.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, 1.0): []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(_factors(name, settings, extended), []).append(parameter)
    found = [_group(parameters, settings, *factors) for factors, parameters in groups.items() if parameters]
    if not found:
        raise InputError(f"--trained {','.join(settings.trained)}: these blocks have no weights, so nothing is trained")
    return found


def _factors(name: str, settings: TrainingSettings, extended: bool) -> tuple[float, float]:
    """Return the factors on learning rate and weight decay of a parameter."""
    if settings.encoder_weights is not None and _within(_plain(name), ("encoder",)):
        return settings.encoder_rate, settings.encoder_rate
    if settings.init is not None and extended and _within(name, _HEADS):
        return settings.head_rate, 1.0
    return 1.0, 1.0


def _group(
    parameters: list[nn.Parameter], settings: TrainingSettings, of_rate: float, of_decay: float
) -> dict[str, object]:
    rate = settings.learning_rate * of_rate
    return {
        "params": parameters,
        "lr": rate,
        "initial_lr": rate,
        "weight_decay": settings.weight_decay * of_decay,
    }
