"""What a finished run leaves behind: the model with its card."""

from accelerate import __version__ as accelerate_version
from torch import __version__ as torch_version

from strays.cards import Card
from strays.metrics import ClosedSetResult
from strays.model import Model, ModelFacts
from strays.networks.base import SegmentationNetwork
from strays.recipes import RECIPES
from strays.training.crops import SceneMix
from strays.training.settings import TrainingSettings

__all__ = ["trained_model"]


def trained_model(
    network: SegmentationNetwork, settings: TrainingSettings, scenes: SceneMix, result: ClosedSetResult | None
) -> Model:
    """Return the model of a trained network: its facts tell settings, validation result and library versions."""
    normalization = network.normalization
    facts = ModelFacts(
        name=f"{settings.network}-{scenes.names[0]}",
        network=settings.network,
        configuration=network.configuration,
        taxonomy=scenes.taxonomy,
        mean=normalization.mean,
        std=normalization.std,
        recipe=settings.recipe,
        detector=RECIPES[settings.recipe].detector,
        card=_card(network, settings, ", ".join(scenes.names)),
        training={
            "settings": settings.model_dump(mode="json"),
            "validation": dict(result or {}),
            "versions": {"torch": str(torch_version), "accelerate": accelerate_version},
        },
    )
    return Model(network.eval(), facts)


def _card(network: SegmentationNetwork, settings: TrainingSettings, data: str) -> Card:
    summary = f"{network.card.title} trained by the recipe {settings.recipe} on {data}."
    return Card(
        title=f"{settings.network} on {data}",
        summary=summary,
        paper=network.card.paper,
        year=network.card.year,
        url=network.card.url,
        notes=f"seed {settings.seed}, {settings.epochs} epochs, crops of {settings.crop[0]}x{settings.crop[1]}",
    )
