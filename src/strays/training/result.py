"""What a finished run leaves behind: the model with its card."""

from accelerate import __version__ as accelerate_version
from torch import __version__ as torch_version

from strays.cards import Card
from strays.metrics import ClosedSetResult
from strays.model import Model, ModelFacts
from strays.networks.base import SegmentationNetwork
from strays.recipes import RECIPES
from strays.taxonomy import Taxonomy
from strays.training.settings import TrainingSettings

__all__ = ["trained_model"]


def trained_model(
    network: SegmentationNetwork, settings: TrainingSettings, taxonomy: Taxonomy, result: ClosedSetResult | None
) -> Model:
    """Return the model of a trained network: its facts tell settings, validation result and library versions."""
    data = [spec.split("=")[0] for spec in settings.data]
    normalization = network.normalization
    facts = ModelFacts(
        name=f"{settings.network}-{data[0]}",
        network=settings.network,
        configuration=network.configuration,
        taxonomy=taxonomy,
        mean=normalization.mean,
        std=normalization.std,
        recipe=settings.recipe,
        detector=RECIPES[settings.recipe].detector,
        card=_card(network, settings, data),
        training={
            "settings": settings.model_dump(mode="json"),
            "validation": dict(result or {}),
            "versions": {"torch": str(torch_version), "accelerate": accelerate_version},
        },
    )
    return Model(network.eval(), facts)


def _card(network: SegmentationNetwork, settings: TrainingSettings, data: list[str]) -> Card:
    summary = f"{network.card.title} trained by the recipe {settings.recipe} on {', '.join(data)}."
    return Card(
        title=f"{settings.network} on {', '.join(data)}",
        summary=summary,
        paper=network.card.paper,
        year=network.card.year,
        url=network.card.url,
        notes=f"seed {settings.seed}, {settings.epochs} epochs, crops of {settings.crop[0]}x{settings.crop[1]}",
    )
