"""One model out of several trainings: the mean of their weights, a "model soup"."""

from collections.abc import Sequence

import torch
from torch import Tensor

from strays.errors import InputError
from strays.model import Model

__all__ = ["average_models"]

_SAME = ("network", "configuration", "taxonomy", "mean", "std", "recipe", "detector")


def average_models(models: Sequence[Model]) -> Model:
    """Return the model whose weights and statistics are the mean of those of several trainings from one start.

    Networks that were trained further from the same weights, with other seeds or settings, lie in one basin: their mean
    often generalises better than each of them, at the cost of a single one. ``training["averaged"]`` of the facts holds
    for each the settings in which they differ, ``training["settings"]`` those of the first.

    Reference:
        Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
        increasing inference time", ICML 2022; here the uniform one.

    Args:
        models: at least two; the network of the first one takes the mean.

    Raises:
        InputError: if there are fewer, they differ in network, classes or recipe, or were not trained from one model.
    """
    if len(models) < 2:
        raise InputError(f"an average needs two models or more, got {len(models)}")
    first = models[0]
    for model in models[1:]:
        for what in _SAME:
            one, other = getattr(first.facts, what), getattr(model.facts, what)
            if one != other:
                raise InputError(f"{first.source} and {model.source} differ in {what}: average trainings of one kind")
    settings = [_settings(one) for one in models]
    starts = {str(one.get("init")) for one in settings}
    if starts == {"None"} or len(starts) > 1:
        raise InputError(
            f"the models were trained from {' and '.join(sorted(starts))}: the mean of networks is one only where all "
            "were trained further from the same model, by strays train --init"
        )
    states = [one.network.state_dict() for one in models]
    first.network.load_state_dict({key: _mean([one[key] for one in states]) for key in states[0]})
    return Model(first.network, first.facts.model_copy(update=_described(first, settings)))


def _settings(model: Model) -> dict[str, object]:
    settings = model.facts.training.get("settings")
    return settings if isinstance(settings, dict) else {}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean in double precision; counters are those of the first."""
    first = tensors[0]
    return torch.stack([one.double() for one in tensors]).mean(0).to(first) if first.is_floating_point() else first


def _described(first: Model, settings: Sequence[dict[str, object]]) -> dict[str, object]:
    differing = [name for name in settings[0] if any(one.get(name) != settings[0][name] for one in settings)]
    parts = [{name: one[name] for name in differing if name in one} for one in settings]
    card = first.facts.card
    told = f"the mean of {len(settings)} trainings"
    described = card.model_copy(update={"summary": f"{card.summary.rstrip('.')}, {told}."})
    kept = {name: one for name, one in first.facts.training.items() if name in ("settings", "versions")}
    return {"card": described, "training": {**kept, "averaged": parts}}
