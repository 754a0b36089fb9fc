"""What a finished run leaves behind: the model with its card."""

from collections.abc import Sequence

from accelerate import __version__ as accelerate_version
from torch import __version__ as torch_version

from strays.cards import Card
from strays.model import Model, ModelFacts
from strays.recipes import RECIPES
from strays.training.settings import TrainingSettings
from strays.training.start import Start
from strays.training.validation import Validation

__all__ = ["trained_model"]


def trained_model(start: Start, settings: TrainingSettings, data: Sequence[str], result: Validation | None) -> Model:
    """Return the model of a trained network: its facts tell settings, validation result and library versions.

    Args:
        start: the network, trained since.
        settings: of the run.
        data: names of its data sets.
        result: of the last validation, or None.
    """
    normalization = start.network.normalization
    facts = ModelFacts(
        name=f"{start.plain}-{data[0]}" if settings.init is None else f"{start.plain}-{settings.recipe_name}",
        network=start.name,
        configuration=start.network.configuration,
        taxonomy=start.taxonomy,
        mean=normalization.mean,
        std=normalization.std,
        recipe=settings.recipe,
        detector=RECIPES[settings.recipe_name].detector,
        card=_card(start, settings, ", ".join(data)),
        training={
            "settings": settings.model_dump(mode="json"),
            "validation": dict(result.closed) if result else {},
            "anomalies": {name: dict(numbers) for name, numbers in result.anomalies.items()} if result else {},
            "versions": {"torch": str(torch_version), "accelerate": accelerate_version},
        },
    )
    return Model(start.network.eval(), facts)


def _card(start: Start, settings: TrainingSettings, data: str) -> Card:
    recipe = RECIPES[settings.recipe_name].card
    network = start.network.card
    origin = f"from {settings.init}" if settings.init else "from scratch"
    negatives = f", negatives {', '.join(settings.negatives)}" if settings.negatives else ""
    crop = f"crops of {settings.crop[0]}x{settings.crop[1]}"
    return Card(
        title=f"{start.plain} on {data}",
        summary=f"{start.plain} trained by the recipe {settings.recipe_name} on {data}.",
        paper=recipe.paper or network.paper,
        year=recipe.year or network.year,
        url=recipe.url or network.url,
        notes=f"{origin}, seed {settings.seed}, {settings.epochs} epochs, {crop}{negatives}",
    )
