"""What a run starts from: a network with random weights, with those of an encoder, or a whole model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from strays.errors import InputError
from strays.loading import load_model
from strays.networks.base import NETWORKS, SegmentationNetwork, StateDict
from strays.networks.extended import Extension, extend
from strays.networks.weights import load_state, read_weights
from strays.recipes import RECIPES
from strays.taxonomy import LabelClass, Taxonomy, translation
from strays.training.settings import TrainingSettings

__all__ = ["Start", "starting_point"]


@dataclass(frozen=True)
class Start:
    """A network that is ready to be trained.

    Args:
        network: the network, extended by what the recipe adds.
        name: what it is registered as.
        plain: what it is called in the name of the model, before it was extended.
        taxonomy: its classes, a void channel included.
        labels: (256,) uint8, its label for each label of the data; None where they are the same.
        extended: whether it was extended for this run, so that what was added knows nothing yet.
    """

    network: SegmentationNetwork
    name: str
    plain: str
    taxonomy: Taxonomy
    labels: NDArray[np.uint8] | None = None
    extended: bool = False


def starting_point(settings: TrainingSettings, data: Taxonomy) -> Start:
    """Return the network that a run starts from.

    Args:
        settings: name network or model, and the recipe.
        data: the classes of the training data.

    Raises:
        InputError: if the model to start from cannot be trained, or was trained by a recipe that changed it in another
            way.
    """
    if settings.init is not None:
        plain = _from_model(settings.init, data)
    else:
        plain = _from_nothing(settings.network or "", settings.encoder_weights, data)
    return _extended(plain, RECIPES[settings.recipe_name].extension)


def _from_nothing(name: str, encoder_weights: str | None, data: Taxonomy) -> Start:
    network = NETWORKS[name](classes=len(data))
    if encoder_weights is not None:
        _load_encoder(network, Path(encoder_weights))
    return Start(network, name, name, data)


def _from_model(spec: str, data: Taxonomy) -> Start:
    model = load_model(spec, device="cpu")
    if model.facts.network not in NETWORKS:
        raise InputError(
            f"{spec} cannot be trained further: strays does not build its network, so it could not be saved; start "
            "from a folder that strays train wrote, NETWORK@FILE, hf:ID or a built-in model"
        )
    table = translation(data, model.taxonomy)
    same = bool((table[: len(data)] == np.arange(len(data))).all())
    return Start(model.network, model.facts.network, model.name, model.taxonomy, None if same else table)


def _extended(start: Start, wanted: Extension) -> Start:
    """Return the start with what a recipe adds; a void class that is there already serves as the extra channel."""
    void, classes = start.taxonomy.void, len(start.taxonomy)
    if void is not None and void != classes - 1:
        raise InputError(f"void is class {void} of {classes}, expected the last one: reorder the classes of the model")
    if void is not None and start.name != "extended":
        wanted = replace(wanted, extra_channel=False)
    network = extend(start.network, start.name, wanted)
    if network is start.network:
        return start
    taxonomy = _with_void(start.taxonomy) if wanted.extra_channel else start.taxonomy
    return replace(start, network=network, name="extended", taxonomy=taxonomy, extended=True)


def _with_void(taxonomy: Taxonomy) -> Taxonomy:
    void = LabelClass(name="void", colour=(0, 0, 0))
    return Taxonomy(name=f"{taxonomy.name}-void", classes=(*taxonomy.classes, void), void=len(taxonomy))


@runtime_checkable
class _Adapting(Protocol):
    """An encoder that takes the weights of a classifier and leaves out what it does not have."""

    def adapted(self, state: StateDict) -> StateDict: ...


def _load_encoder(network: nn.Module, path: Path) -> None:
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise InputError(f"{type(network).__name__} has no encoder to load {path} into: leave --encoder-weights out")
    state = {key: value.float() for key, value in read_weights(path).items()}
    load_state(encoder, encoder.adapted(state) if isinstance(encoder, _Adapting) else state, str(path))
