"""Reading Hugging Face repositories of segmentation networks, without image processors or torchvision."""

import json
import pickle
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError

from strays.errors import InputError, WeightsError
from strays.networks.base import IMAGENET, Normalization
from strays.taxonomy import CITYSCAPES, TAXONOMIES, LabelClass, Taxonomy

if TYPE_CHECKING:
    from transformers import (
        AutoModelForSemanticSegmentation,
        AutoModelForUniversalSegmentation,
        PreTrainedConfig,
        PreTrainedModel,
    )

    _Auto = type[AutoModelForSemanticSegmentation | AutoModelForUniversalSegmentation]

__all__ = [
    "UNIVERSAL",
    "build_model",
    "import_transformers",
    "label_taxonomy",
    "network_kind",
    "processor_normalization",
    "read_config",
    "read_model",
    "read_preprocessing",
]

UNIVERSAL = ("mask2former", "maskformer", "eomt", "eomt_dinov3")
"""The model types of transformers that give masks and are understood here."""

_SEGMENTERS = ("ForSemanticSegmentation", "ForUniversalSegmentation", "ForInstanceSegmentation")
_LOADING_ERRORS = (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError, pickle.UnpicklingError)
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def import_transformers() -> None:
    """Import transformers, whatever torchvision is installed.

    Nothing here needs torchvision, but transformers imports one that it finds, and fails with one that was built for
    another torch. Such a torchvision is hidden from this process, with a warning.

    Raises:
        InputError: if transformers cannot be imported.
    """
    _hide_broken_torchvision()
    try:
        import transformers.modeling_utils  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise InputError(f"transformers cannot be imported ({_reason(error)}): pip install -U transformers") from error


def _hide_broken_torchvision() -> None:
    if {"transformers", "torchvision"} & sys.modules.keys() or not find_spec("torchvision"):
        return
    try:
        __import__("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        reason = f"it cannot be imported with torch {torch.__version__}: {_reason(error)}"
        warnings.warn(f"the installed torchvision is ignored, {reason}", stacklevel=3)


def read_config(name: str) -> "PreTrainedConfig":
    """Return the configuration of a hub id or folder; code of the repository is never run.

    Raises:
        InputError: if there is none, it is not understood, or the hub cannot be reached.
    """
    from transformers import AutoConfig

    try:
        return cast("PreTrainedConfig", AutoConfig.from_pretrained(name, trust_remote_code=False))
    except _LOADING_ERRORS as error:
        raise InputError(f"hf:{name} has no usable config.json ({_reason(error)}): {_remedy(name)}") from error


def network_kind(config: "PreTrainedConfig", name: str) -> str:
    """Return ``"semantic"`` or ``"universal"``.

    Raises:
        InputError: if the configuration is that of a network for another task, or of a kind not understood here.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES as SEMANTIC

    architectures = list(config.architectures or ())
    segments = not architectures or any(one.endswith(_SEGMENTERS) for one in architectures)
    if segments and config.model_type in SEMANTIC:
        return "semantic"
    if segments and config.model_type in UNIVERSAL:
        return "universal"
    found = ", ".join(architectures) or config.model_type
    known = ", ".join((*SEMANTIC, *UNIVERSAL))
    raise InputError(f"{name} is {found}, expected a network trained for semantic segmentation, one of: {known}")


def read_model(name: str, config: "PreTrainedConfig") -> "PreTrainedModel":
    """Return the network of a hub id or folder in float32: safetensors, or a checkpoint read as plain tensors.

    Raises:
        WeightsError: if weights are missing, damaged, unsafe, or do not cover every parameter.
    """
    auto = _auto_class(network_kind(config, f"hf:{name}"))
    safely = {"trust_remote_code": False, "weights_only": True}
    try:
        model, info = auto.from_pretrained(name, config=config, dtype=torch.float32, output_loading_info=True, **safely)
    except _LOADING_ERRORS as error:
        raise WeightsError(f"the weights of hf:{name} cannot be loaded ({_reason(error)}): {_remedy(name)}") from error
    missing = sorted({key for key, _ in model.named_parameters()} & set(info["missing_keys"]))
    if missing:
        raise WeightsError(
            f"hf:{name} lacks the weights of {len(missing)} parameters, {missing[0]} among them: it was not trained "
            "for segmentation; choose a checkpoint that was"
        )
    for tensor in (*model.parameters(), *model.buffers()):
        # Tensors of a mapped file begin anywhere; in memory of their own they give the same bits as any others.
        tensor.data = tensor.data.clone()
    return cast("PreTrainedModel", model)


def build_model(config: str, classes: int | None = None) -> "PreTrainedModel":
    """Return an untrained network from a configuration as JSON, with another number of classes on request.

    Raises:
        InputError: if the configuration is not that of a segmentation network.
    """
    import_transformers()
    from transformers import CONFIG_MAPPING

    try:
        facts = json.loads(config)
        parsed = CONFIG_MAPPING[facts["model_type"]].from_dict(facts)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"expected a transformers configuration as JSON, got {config[:80]!r}") from error
    if classes not in (None, parsed.num_labels):
        parsed.num_labels = classes
    auto = _auto_class(network_kind(parsed, "the configuration"))
    return cast("PreTrainedModel", auto.from_config(parsed, dtype=torch.float32))  # type: ignore[no-untyped-call]


def read_preprocessing(name: str) -> Mapping[str, object]:
    """Return what ``preprocessor_config.json`` says; where there is none, nothing, with a warning.

    Raises:
        InputError: if the file is not JSON.
    """
    path = Path(name) / "preprocessor_config.json"
    try:
        if not Path(name).is_dir():
            path = Path(hf_hub_download(name, path.name))
        return cast("Mapping[str, object]", json.loads(path.read_text(encoding="utf-8")))
    except (OSError, HfHubHTTPError):
        warnings.warn(f"hf:{name} has no preprocessor_config.json: ImageNet's mean and std are assumed", stacklevel=3)
        return {}
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({_reason(error)}): fetch it again") from error


def processor_normalization(facts: Mapping[str, object], name: str) -> Normalization:
    """Return what an image processor does to pixels in [0, 255], said for RGB in [0, 1].

    Raises:
        InputError: if it takes BGR, or a value is no number.
    """
    if facts.get("do_flip_channel_order"):
        raise InputError(f"hf:{name} takes BGR images, which is not supported here: choose another network")
    (factor, *_) = _three(facts.get("rescale_factor", 1 / 255), name)
    scale = 255 * factor if facts.get("do_rescale", True) else 255.0
    normalizes = facts.get("do_normalize", True)
    mean = _three(facts.get("image_mean", IMAGENET.mean) if normalizes else 0.0, name)
    std = _three(facts.get("image_std", IMAGENET.std) if normalizes else 1.0, name)
    red, green, blue = zip(mean, std, strict=True)
    return Normalization(
        mean=(red[0] / scale, green[0] / scale, blue[0] / scale),
        std=(red[1] / scale, green[1] / scale, blue[1] / scale),
    )


def label_taxonomy(names: Sequence[str]) -> Taxonomy:
    """Return the taxonomy of class names: a built-in one where all agree, else one made for them.

    Classes of Cityscapes keep its colours; the others get colours of equal steps in OKLab hue.

    Example:
        >>> label_taxonomy(["road", "unicorn"]).classes[0].colour
        (128, 64, 128)
    """
    plain = tuple(name.strip().lower() for name in names)
    for known in TAXONOMIES.values():
        if known.names == plain:
            return known
    colours = {one.name: one.colour for one in CITYSCAPES.classes}
    classes = (
        LabelClass(name=name, colour=colours.get(key) or _colour(index))
        for index, (name, key) in enumerate(zip(names, plain, strict=True))
    )
    return Taxonomy(name="huggingface", classes=tuple(classes))


def _colour(index: int) -> tuple[int, int, int]:
    """Return a colour that differs from its neighbours: hue by the golden angle, lightness in three steps.

    The matrices take OKLab to linear sRGB (Ottosson, A perceptual color space for image processing, 2020).
    """
    hue, lightness = index * _GOLDEN_ANGLE, (0.55, 0.7, 0.82)[index % 3]
    lab = np.array([lightness, 0.12 * np.cos(hue), 0.12 * np.sin(hue)])
    cones = np.array([[1, 0.39633778, 0.21580376], [1, -0.10556135, -0.06385417], [1, -0.08948418, -1.29148555]]) @ lab
    to_rgb = [[4.07674166, -3.30771159, 0.23096993], [-1.26843800, 2.60975740, -0.34131940]]
    linear = np.array([*to_rgb, [-0.00419609, -0.70341861, 1.70761470]]) @ cones**3
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in np.rint(255 * encoded))
    return red, green, blue


def _auto_class(kind: str) -> "_Auto":
    from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

    return AutoModelForUniversalSegmentation if kind == "universal" else AutoModelForSemanticSegmentation


def _three(value: object, name: str) -> list[float]:
    values = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    numbers = [float(one) for one in values if isinstance(one, (int, float))]
    if len(values) != 3 or len(numbers) != 3:
        raise InputError(f"preprocessor_config.json of hf:{name} holds {value!r}, expected a number or three")
    return numbers


def _reason(error: Exception) -> str:
    return re.split(r"\n|(?<=\.) ", str(error).strip() or type(error).__name__)[0][:160].rstrip(". ")


def _remedy(name: str) -> str:
    if Path(name).is_dir():
        return "the folder must hold config.json and model.safetensors, as save_pretrained writes them"
    return f"check the name and the network connection, or fetch it with `hf download {name}` and give the folder"
