"""Models from the strings that people write: a name, a folder, ``NAME@FILE``, ``hf:``, ``mirrored(...)`` and so on."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from strays.cards import Card
from strays.errors import InputError
from strays.model import MODEL_FILE, WEIGHTS_FILE, Model, ModelFacts
from strays.networks.base import NETWORKS, SCHEMES, SegmentationNetwork
from strays.networks.weights import load_state, read_weights
from strays.networks.wrapper import WRAPPERS, NetworkWrapper
from strays.registry import unknown_name
from strays.specs import call_arguments, parsed_settings
from strays.taxonomy import IGNORE, TAXONOMIES, LabelClass, Taxonomy, load_taxonomy

__all__ = ["DEFAULT_MODEL", "builtin_models", "choose_device", "load_model"]

DEFAULT_MODEL = "swiftnet-mnv2-roads"
"""The built-in model that ``default`` stands for."""

_BUILTIN = Path(__file__).parent / "assets" / "models"
_BY_CLASSES = {len(one): one for one in TAXONOMIES.values()}
_PROBED = 256


def load_model(spec: str = "default", taxonomy: str | None = None, device: str = "auto") -> Model:
    """Return the model that a string stands for, in evaluation mode.

    Args:
        spec: a built-in name (``default``), a folder written by ``strays train``, ``NETWORK@FILE`` with the weights of
            a known network (``enet@weights.pth``), ``hf:ORG/ID`` or ``hf:FOLDER`` (of transformers, or what
            ``Model.push_to_hub`` wrote), ``onnx:FILE``, ``torchscript:FILE``, or ``python:package.module:factory``; or
            one of these in a wrapper, such as ``mirrored(sliding-window(hf:ORG/ID,window=768,stride=512))``.
        taxonomy: name or JSON file of the classes, where the model does not tell them; a network with 20, 19, 13 or 11
            channels is taken for one of the built-in taxonomies otherwise.
        device: ``auto`` takes a GPU where there is one; or ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        InputError: if there is no such model, or the taxonomy does not fit it.
        WeightsError: if its weights are missing, damaged, unsafe, or those of another network.
    """
    chosen = choose_device(device)
    model = _load(spec)
    if taxonomy is not None:
        fitting = _fitting(load_taxonomy(taxonomy), len(model.taxonomy), model.name)
        model = replace(model, facts=model.facts.model_copy(update={"taxonomy": fitting}))
    return replace(model, source=spec).to(chosen)


def builtin_models() -> Mapping[str, ModelFacts]:
    """Return the facts about the models that the package carries, by name."""
    folders = sorted(path.parent for path in _BUILTIN.glob(f"*/{MODEL_FILE}"))
    facts = [ModelFacts.model_validate_json((folder / MODEL_FILE).read_bytes()) for folder in folders]
    return {one.name: one for one in facts}


def choose_device(device: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        InputError: if there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"no device {device!r} here: use --device cpu, or auto to take what there is") from error
    return chosen


def _load(spec: str) -> Model:
    wrapper, bracket, _ = (part.strip() for part in spec.partition("("))
    if bracket and wrapper in WRAPPERS:
        return _around(wrapper, spec)
    builtin = _BUILTIN / (DEFAULT_MODEL if spec == "default" else spec)
    if (builtin / MODEL_FILE).is_file():
        return Model.load(builtin)
    scheme, colon, rest = spec.partition(":")
    if scheme == "hf" and colon:
        return _from_hub(rest, spec)
    if colon and scheme in SCHEMES:
        return _wrapped(SCHEMES[scheme](rest), scheme, spec)
    folder = Path(spec).expanduser()
    if folder.is_dir():  # before looking for an @, which a path may hold as well
        return Model.load(folder)
    name, at, file = spec.partition("@")
    if at:
        return _with_weights(name, Path(file).expanduser(), spec)
    raise InputError(_no_model(spec))


def _from_hub(name: str, spec: str) -> Model:
    """Return a network of transformers, or what ``Model.push_to_hub`` left under an id or ``save`` in a folder."""
    if (Path(name) / MODEL_FILE).is_file():
        return Model.load(name)
    try:
        return _wrapped(SCHEMES["hf"](name), "hf", spec)
    except InputError:
        if Path(name).is_dir() or (pushed := _pushed(name)) is None:
            raise
        return pushed


def _pushed(name: str) -> Model | None:
    try:
        facts, _ = (hf_hub_download(name, file) for file in (MODEL_FILE, WEIGHTS_FILE))
    except (OSError, HfHubHTTPError, ValueError):  # no such files there, no hub to ask, or no name of a repository
        return None
    return Model.load(Path(facts).parent)


def _around(wrapper: str, spec: str) -> Model:
    """Return the model in the brackets of ``wrapper(MODEL,key=value)`` with the wrapper around it and in its name."""
    kind: Callable[..., NetworkWrapper] = WRAPPERS[wrapper]
    given = call_arguments(spec, wrapper, kind)
    inner = [one for one in given if one.partition("=")[0].strip() == "base"]
    settings = parsed_settings(wrapper, kind, [one for one in given if one not in inner], without=("base",))
    if len(inner) != 1:
        raise InputError(f"{spec!r} names {len(inner)} models, expected one: write {wrapper}(MODEL)")
    model = _load(inner[0].partition("=")[2].strip())
    network = kind(model.network, **settings)
    names = {"name": network.around(model.name), "network": network.around(model.facts.network)}
    return Model(network, model.facts.model_copy(update=names), spec)


def _with_weights(name: str, file: Path, spec: str) -> Model:
    kind = NETWORKS[name]
    state = read_weights(file)
    network = kind(**kind.configuration_of(state))
    load_state(network, kind.renamed(state), str(file))
    return _wrapped(network, name, f"{name}@{file.stem}" if file.stem else spec)


def _wrapped(network: SegmentationNetwork, kind: str, name: str) -> Model:
    own, classes = network.taxonomy(), _known_classes(network)
    taxonomy = _fitting(own, classes or len(own), name) if own else _guessed(classes or _tried_classes(network), name)
    registered = (key for key, one in NETWORKS.items() if one is type(network))
    facts = ModelFacts(
        name=name,
        network=next(registered, kind),
        configuration=network.configuration,
        taxonomy=taxonomy,
        mean=network.normalization.mean,
        std=network.normalization.std,
        card=_card(network, name),
    )
    return Model(network, facts, name)


def _card(network: SegmentationNetwork, name: str) -> Card:
    return network.card.model_copy(update={"notes": f"weights from {name}"})


def _known_classes(network: SegmentationNetwork) -> int | None:
    known = network.configuration.get("classes") or getattr(network, "classes", None)
    return known if isinstance(known, int) else None


def _tried_classes(network: SegmentationNetwork) -> int:
    with torch.no_grad():
        return int(network(torch.zeros(1, 3, _PROBED, _PROBED)).shape[1])


def _guessed(classes: int, name: str) -> Taxonomy:
    """Return the built-in taxonomy with so many channels, or numbered classes in shades of grey."""
    if classes in _BY_CLASSES:
        return _BY_CLASSES[classes]
    if classes > IGNORE:
        raise InputError(f"{name} has {classes} channels, expected at most {IGNORE}: labels are kept in one byte")
    shades = [round(255 * (index + 1) / (classes + 1)) for index in range(classes)]
    numbered = (LabelClass(name=f"class {index}", colour=(one,) * 3) for index, one in enumerate(shades))
    return Taxonomy(name=f"{classes} classes", classes=tuple(numbered))


def _fitting(taxonomy: Taxonomy, channels: int, name: str) -> Taxonomy:
    if len(taxonomy) != channels:
        found = f"the taxonomy {taxonomy.name} has {len(taxonomy)} classes"
        raise InputError(f"{name} has {channels} channels, but {found}: choose another")
    return taxonomy


def _no_model(spec: str) -> str:
    name, bracket, _ = spec.partition("(")
    if bracket and spec.endswith(")") and "/" not in name:
        return unknown_name("network wrapper", name.strip(), WRAPPERS)
    known = ["default", *builtin_models(), *(f"{name}@FILE" for name in NETWORKS), *(f"{one}:..." for one in SCHEMES)]
    known += [f"{name}(MODEL)" for name in WRAPPERS]
    if spec in NETWORKS:
        return f"{spec} is a network without weights: name them as {spec}@FILE"
    if Path(spec).is_file():
        whole = f"onnx:{spec} or torchscript:{spec}"
        return f"{spec} is a file: say which network its weights belong to, as NETWORK@{spec}, or {whole}"
    return unknown_name("model", spec, known)
