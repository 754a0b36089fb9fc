"""The contract of a recipe: what makes a network separate anomalies, apart from the loop that trains it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor, nn

from strays.cards import Card
from strays.networks.base import NetworkOutputs
from strays.registry import Registry

__all__ = ["RECIPES", "Recipe", "register_recipe"]


class Recipe(nn.Module, ABC):
    """A way to train a network; the loop in ``strays.training`` knows nothing else about it.

    Attributes:
        card: the facts about the recipe.
        detector: the detector, by name, that reads a network trained this way best.

    Args:
        class_weights: (K,) weights of the classes, or None.
    """

    card: ClassVar[Card]
    detector: ClassVar[str]

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)

    @abstractmethod
    def losses(self, outputs: NetworkOutputs, labels: Tensor) -> Mapping[str, Tensor]:
        """Return the named terms of the loss with ``total``, for labels (N, H, W), 255 = ignore."""


RECIPES: Registry[type[Recipe]] = Registry("recipe", "strays.recipes")


def register_recipe(name: str) -> Callable[[type[Recipe]], type[Recipe]]:
    """Return a decorator that enters a recipe class under ``name``."""
    return RECIPES.register(name)
