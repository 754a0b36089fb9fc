"""The contract of a recipe: what makes a network separate anomalies, apart from the loop that trains it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from torch import Tensor, nn

from strays.cards import Card
from strays.errors import InputError
from strays.networks.base import TrainingOutputs
from strays.networks.extended import Extension
from strays.registry import Registry
from strays.specs import Value, parsed_settings

__all__ = ["RECIPES", "Recipe", "build_recipe", "register_recipe"]


class Recipe(nn.Module, ABC):
    """A way to train a network; the loop in ``strays.training`` knows nothing else about it.

    Attributes:
        card: the facts about the recipe; ``card.needs.negatives`` says that it cannot do without them.
        detector: the detector, by name, that reads a network trained this way best.
        extension: what it adds to the network.
        defaults: training settings, by name, that differ from the usual ones.

    Args:
        class_weights: (K,) weights of the classes, or None.
        void: K, the index of the void channel behind those of the classes, or None where there is none.
    """

    card: ClassVar[Card]
    detector: ClassVar[str]
    extension: ClassVar[Extension] = Extension()
    defaults: ClassVar[Mapping[str, object]] = {}

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None, void: int | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.void = void

    def settings(self) -> dict[str, Value]:
        """Return the parameters that tell this recipe from another of its class."""
        return {}

    def calibrate(self, batches: Iterable[tuple[TrainingOutputs, Tensor, Tensor]]) -> None:
        """Look once at what the network makes of crops without negatives before it is trained; by default do nothing.

        What is learnt is kept in buffers, so that a run that is continued knows it.

        Args:
            batches: what ``losses`` takes: outputs, labels and mask.
        """

    @abstractmethod
    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the named terms of the loss with ``total``.

        Args:
            outputs: what the network gives for a batch.
            labels: (N, H, W) integers, class indices; 255 wherever there is no class: void, and all negatives.
            mask: (N, H, W) integers: 1 = negative, 0 = part of the scene, 255 = shows no scene (beyond its border, the
                own vehicle, what surrounds an object in a whole negative image).
        """

    def class_logits(self, logits: Tensor) -> Tensor:
        """Return the logits (N, K, h, w) without the void channel."""
        return logits if self.void is None else logits[:, : self.void]

    def outlier_logits(self, outputs: TrainingOutputs) -> Tensor:
        """Return the outlier logits (N, 2, h, w) of a network.

        Raises:
            InputError: if it has no outlier head.
        """
        if "outlier_logits" not in outputs:
            raise InputError(
                "this recipe trains an outlier head, and the network gives no outlier logits: extend it by the "
                "recipe's extension"
            )
        return outputs["outlier_logits"]


RECIPES: Registry[type[Recipe]] = Registry("recipe", "strays.recipes")


def register_recipe(name: str) -> Callable[[type[Recipe]], type[Recipe]]:
    """Return a decorator that enters a recipe class under ``name``."""
    return RECIPES.register(name)


def build_recipe(spec: str, class_weights: Tensor | None = None, void: int | None = None) -> Recipe:
    """Return the recipe that ``NAME`` or ``NAME:key=value,key=value`` describes.

    Raises:
        InputError: if there is no such recipe or setting, or a value is not of the setting's type.

    Example:
        >>> build_recipe("closed-set").detector
        'energy'
    """
    name, _, settings = spec.partition(":")
    kind = RECIPES[name]
    given = parsed_settings(name, kind, settings.split(","), without=("class_weights", "void"))
    return kind(class_weights, void, **given)
