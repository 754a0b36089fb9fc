"""Semantic and universal segmentation networks of the Hugging Face hub: SegFormer, UperNet, Mask2Former, EoMT, ..."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from strays.cards import Card
from strays.errors import InputError
from strays.networks.adapting import as_normalization, normalization_json
from strays.networks.base import (
    IMAGENET,
    Configuration,
    NetworkOutputs,
    Normalization,
    SegmentationNetwork,
    register_network,
    register_scheme,
)
from strays.networks.cropping import cropped_maps
from strays.networks.huggingface_files import (
    UNIVERSAL,
    build_model,
    import_transformers,
    label_taxonomy,
    network_kind,
    processor_normalization,
    read_config,
    read_model,
    read_preprocessing,
)
from strays.prediction import MaskPrediction
from strays.taxonomy import Taxonomy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HuggingFaceNetwork", "compose_masks", "load_huggingface"]

_ONE_SIZE = ("eomt", "eomt_dinov3", "beit", "data2vec-vision", "dpt")
_ANY_SIZE = ("segformer",)
_DEEPEST_STRIDE = 32
_FITS = ("pad", "slide")
_PROBE = 128
_CHUNK = 2**24


def compose_masks(masks: MaskPrediction, size: tuple[int, int]) -> Tensor:
    """Return the semantic scores (N, K, H, W) of a mask transformer at (H, W) = ``size``.

    Mask logits are resized bilinearly first, then score(k) = sum over queries of softmax(class)[k] * sigmoid(mask),
    the null class dropped. These are scores in [0, Q], **not** logits: they do not sum to one and know no temperature.
    Queries are taken in groups, so that memory does not grow with Q times the size of the image.

    Source: Cheng, Schwing, Kirillov, Per-Pixel Classification is Not All You Need, NeurIPS 2021, section 3.4.

    Example:
        >>> masks = MaskPrediction(class_logits=torch.zeros(1, 2, 4), mask_logits=torch.zeros(1, 2, 5, 5))
        >>> compose_masks(masks, (10, 10))[0, :, 0, 0]
        tensor([0.2500, 0.2500, 0.2500])
    """
    weights = masks.class_logits.float().softmax(-1)[..., :-1]
    height, width = size
    group = max(1, _CHUNK // (len(weights) * height * width))
    scores = weights.new_zeros(len(weights), weights.shape[-1], height, width)
    for some, logits in zip(torch.split(weights, group, 1), torch.split(masks.mask_logits, group, 1), strict=True):
        scores += torch.einsum("nqk,nqhw->nkhw", some, _resized(logits.float(), size).sigmoid())
    return scores


_STRIDES = tuple(2**power for power in range(9))
_PYRAMIDS = {
    "segformer": ("segformer.stages", "decode_head.activation"),
    "upernet": ("backbone", "decode_head.fpn_bottleneck"),
    "mask2former": ("model.pixel_level_module.encoder", "model.pixel_level_module.decoder"),
    "maskformer": ("model.pixel_level_module.encoder", "model.pixel_level_module.decoder"),
}
"""Networks with four stages, and where these and the features that the head reads are."""

_ENCODER = "hidden_2"
"""The stage of a pyramid at a sixteenth of the size."""

_PROJECTIONS = {
    "q_proj": "queries",
    "query": "queries",
    "k_proj": "keys",
    "key": "keys",
    "v_proj": "values",
    "value": "values",
}
_NOT_TOKENS = ("decoder", "decode_head", "swin", "pixel_level_module")


@dataclass(frozen=True)
class _Canvas:
    """Where an image lies on what the network sees: resized to ``content``, at the top left of ``size``."""

    content: tuple[int, int]
    size: tuple[int, int]

    def place(self, image: Tensor, fill: Tensor) -> Tensor:
        image = _resized(image, self.content, antialias=True)
        if self.content == self.size:
            return image
        height, width = self.content
        placed = fill.expand(len(image), -1, *self.size).clone()
        placed[..., :height, :width] = image
        return placed

    def cropped(self, maps: Tensor) -> Tensor:
        """Return the part of maps (N, C, h, w) of the canvas that shows the image."""
        return cropped_maps(maps, self.content, self.size)


@register_network("huggingface")
class HuggingFaceNetwork(SegmentationNetwork):
    """A semantic or universal segmentation network of transformers.

    Semantic networks (SegFormer, UperNet, ...) give logits at the stride of their head. Universal ones (Mask2Former,
    MaskFormer, EoMT) give their masks, kept as ``Prediction.masks``, and as ``logits`` the scores of ``compose_masks``
    at the size of the image. The network sees images at the size they have, not at that of its image processor; they
    are padded (right and bottom) to the multiple that it needs, and whatever comes out is cropped back.

    EoMT, BEiT, Data2Vec and DPT see one fixed square only; ``fit`` says how an image gets there. ``"slide"`` resizes
    its shorter side to the square and averages overlapping windows, as is usual for semantic segmentation: unless
    the image is a square, there are then neither masks nor features. ``"pad"`` shows the whole image at once, resized
    to fit, the rest black.

    Args:
        classes: the number of classes; that of ``config`` by default.
        config: the transformers configuration as JSON; by default that of SegFormer-B0.
        normalization: what the network was trained with, as such or as JSON; ImageNet's by default.
        fit: ``"pad"`` or ``"slide"``.
        model: a network of transformers already in memory, instead of ``config``.

    Raises:
        InputError: if the configuration is no segmentation network's, or ``fit`` is neither of the two.

    Example:
        >>> network = HuggingFaceNetwork(classes=11)
        >>> network.stride, list(network.tap_modules)[:4]
        (4, ['hidden_0', 'hidden_1', 'hidden_2', 'hidden_3'])
    """

    card: ClassVar[Card] = Card(
        title="Hugging Face network",
        summary="Any semantic or universal segmentation network of transformers, from the hub or a folder.",
        url="https://huggingface.co/models?pipeline_tag=image-segmentation",
        notes="What universal networks give as logits are composed mask scores. Weights keep their own licences.",
    )

    def __init__(
        self,
        classes: int | None = None,
        config: str = '{"model_type": "segformer"}',
        normalization: Normalization | str = IMAGENET,
        fit: str = "pad",
        model: "PreTrainedModel | None" = None,
    ) -> None:
        super().__init__()
        if fit not in _FITS:
            raise InputError(f"fit is {fit!r}, expected one of {', '.join(_FITS)}")
        self.model = model if model is not None else build_model(config, classes)
        self.normalization = as_normalization(normalization)
        self.fit = fit
        self.configuration = self._configuration()
        self.tap_modules = _tap_modules(self.model)
        self._canvas_size = (0, 0)
        self.eval()
        self.stride = self._measured_stride()

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.model.config.num_labels or 0

    def taxonomy(self) -> Taxonomy | None:
        """Return the classes that the configuration names, or None where it only numbers them."""
        given = {int(index): name for index, name in (self.model.config.id2label or {}).items()}
        names = [given.get(index, f"LABEL_{index}") for index in range(self.classes)]
        return None if all(name.startswith("LABEL_") for name in names) else label_taxonomy(names)

    def logits(self, normalized: Tensor) -> Tensor:
        """Return class logits (N, K, h, w) of normalised images; of universal networks, scores (N, K, H, W)."""
        return self._outputs(normalized)["logits"]

    def outputs(self, image: Tensor) -> NetworkOutputs:
        """Return logits and, of universal networks, masks for RGB images (N, 3, H, W) in [0, 1]."""
        return self._outputs(self.normalization(image))

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return what one pass gives, and the features of the taps; see ``SegmentationNetwork.observe``.

        Raises:
            InputError: also if features are asked for, but the image is seen through several windows.
        """
        taps = tuple(taps)
        canvas = self._canvas(image.shape[2], image.shape[3])
        if taps and self._slides(canvas):
            raise InputError("no features of an image seen through sliding windows: load the network with fit=pad")
        outputs, features = super().observe(image, taps)
        return outputs, {name: canvas.cropped(one) for name, one in features.items()}

    @cached_property
    def _side(self) -> int | None:
        """The side of the only square that the network can see, or None."""
        config = self.model.config
        if config.model_type not in _ONE_SIZE:
            return None
        return config.image_size if isinstance(config.image_size, int) else int(config.image_size[0])

    @cached_property
    def _multiple(self) -> int:
        if self.model.config.model_type in _ANY_SIZE:
            return 1
        patch = getattr(self.model.config, "patch_size", 1)
        return math.lcm(_DEEPEST_STRIDE, patch) if isinstance(patch, int) else _DEEPEST_STRIDE

    def _configuration(self) -> Configuration:
        return {
            "config": self.model.config.to_json_string(use_diff=False),
            "normalization": normalization_json(self.normalization),
            "fit": self.fit,
        }

    def _measured_stride(self) -> int:
        if self._universal or self._side is not None:
            return 1
        with torch.no_grad():
            logits = self._seen(torch.zeros(1, 3, _PROBE, _PROBE, device=self.model.device))["logits"]
        return _PROBE // logits.shape[-2]

    @property
    def _universal(self) -> bool:
        return self.model.config.model_type in UNIVERSAL

    def _canvas(self, height: int, width: int) -> _Canvas:
        if self._side is None:
            return _Canvas((height, width), (_ceil(height, self._multiple), _ceil(width, self._multiple)))
        sides = min(height, width) if self.fit == "slide" else max(height, width)
        content = (max(1, round(height * self._side / sides)), max(1, round(width * self._side / sides)))
        return _Canvas(content, content if self.fit == "slide" else (self._side, self._side))

    def _slides(self, canvas: _Canvas) -> bool:
        return self._side is not None and max(canvas.size) > self._side

    def _outputs(self, normalized: Tensor) -> NetworkOutputs:
        canvas = self._canvas(normalized.shape[-2], normalized.shape[-1])
        black = self.normalization(normalized.new_zeros(1, 3, 1, 1))
        seen = canvas.place(normalized, torch.zeros_like(black) if self._side is None else black)
        if self._slides(canvas):
            return {"logits": self._slid(seen)}
        outputs = self._seen(seen)
        outputs["logits"] = canvas.cropped(outputs["logits"])
        if "masks" in outputs:
            masks = outputs["masks"]
            outputs["masks"] = replace(masks, mask_logits=canvas.cropped(masks.mask_logits))
        return outputs

    def _slid(self, seen: Tensor) -> Tensor:
        """Return the logits (N, K, H, W) of an image whose shorter side fits, averaged where windows overlap."""
        side = min(seen.shape[-2:])
        axis = -2 if seen.shape[-2] > side else -1
        total = seen.new_zeros(len(seen), self.classes, *seen.shape[-2:])
        count = seen.new_zeros(1, 1, *seen.shape[-2:])
        for start in _starts(seen.shape[axis], side):
            total.narrow(axis, start, side).add_(self._seen(seen.narrow(axis, start, side))["logits"])
            count.narrow(axis, start, side).add_(1)
        return total / count

    def _seen(self, pixels: Tensor) -> NetworkOutputs:
        """Return what the network itself gives for normalised images of a size that it takes."""
        self._canvas_size = (pixels.shape[-2], pixels.shape[-1])
        if self._universal:
            given = self.model(pixel_values=pixels)
            masks = MaskPrediction(given.class_queries_logits, given.masks_queries_logits)
            return {"logits": compose_masks(masks, (pixels.shape[-2], pixels.shape[-1])), "masks": masks}
        if self.model.config.model_type == "upernet":
            # Its forward would only add the upsampling to the size of the image.
            logits = self._part("decode_head")(self._part("backbone")(pixels).feature_maps)
        else:
            logits = self.model(pixel_values=pixels).logits
        return {"logits": logits if self._side is None else _resized(logits, (self._side, self._side))}

    def _as_map(self, name: str, output: object) -> Tensor:
        if hasattr(output, "feature_maps"):
            stage = _ENCODER if name == "encoder" else name
            return cast(Tensor, output.feature_maps[int(stage.removeprefix("hidden_"))])
        for attribute in ("mask_features", "last_hidden_state"):
            if hasattr(output, attribute):
                return super()._as_map(name, getattr(output, attribute))
        if isinstance(output, Tensor) and output.ndim == 3 and (grid := self._grid(output.shape[1])):
            # Queries, class and register tokens come first.
            tokens = output[:, -grid[0] * grid[1] :]
            return tokens.transpose(1, 2).reshape(len(output), -1, *grid)
        return super()._as_map(name, output)

    def _grid(self, tokens: int) -> tuple[int, int] | None:
        """Return rows and columns of the finest grid over the canvas that has at most so many tokens."""
        patch = getattr(self.model.config, "patch_size", None)
        strides = (patch,) if isinstance(patch, int) else _STRIDES
        grids = ((self._canvas_size[0] // stride, self._canvas_size[1] // stride) for stride in strides)
        return next((grid for grid in grids if 0 < grid[0] * grid[1] <= tokens), None)

    def _part(self, path: str) -> nn.Module:
        return self.model.get_submodule(path)


@register_scheme("hf")
def load_huggingface(source: str) -> HuggingFaceNetwork:
    """Return the network behind ``hf:ORG/ID``, ``hf:FOLDER``, or either with ``,fit=pad`` or ``,fit=slide`` appended.

    Mean and standard deviation come from ``preprocessor_config.json``; where there is none, ImageNet's are assumed,
    with a warning. Code of a repository is never run; weights are safetensors, or read with ``weights_only=True``.

    Raises:
        InputError: if there is no such network, the hub cannot be reached, or it is no segmentation network.
        WeightsError: if its weights are missing, damaged, unsafe or incomplete.
    """
    name, _, fit = source.partition(",fit=")
    if not Path(name).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"hf:{name} is neither a folder that exists nor of the form hf:ORG/ID")
    import_transformers()
    config = read_config(name)
    kind = network_kind(config, f"hf:{name}")
    if fit and config.model_type not in _ONE_SIZE:
        raise InputError(f"hf:{name} takes images of any size: leave out fit={fit}")
    facts = read_preprocessing(name)
    native = "slide" if kind == "semantic" or facts.get("do_split_image") else "pad"
    model = read_model(name, config)
    return HuggingFaceNetwork(normalization=processor_normalization(facts, name), fit=fit or native, model=model)


def _tap_modules(model: "PreTrainedModel") -> dict[str, str]:
    """Return the stages of the encoder, attention blocks, and what the head reads; of others, every submodule."""
    kind = model.config.model_type
    attention = _attention(model)
    if kind in _PYRAMIDS:
        path, decoder = _PYRAMIDS[kind]
        maps = _stages(model, path) if kind == "segformer" else _maps(model, path)
        return {**maps, **attention, "encoder": maps[_ENCODER], "decoder": f"model.{decoder}"}
    keys = [path for name, path in attention.items() if name.endswith(".keys")]
    encoder = {"encoder": keys[-1]} if keys else {}
    if kind in ("eomt", "eomt_dinov3"):
        stages = _stages(model, "layers")
        return {**stages, **attention, **encoder, "decoder": list(stages.values())[-1]}
    return {**{path: f"model.{path}" for path, _ in model.named_modules() if path}, **attention, **encoder}


def _attention(model: nn.Module) -> dict[str, str]:
    """Return ``block_I.queries``, ``.keys`` and ``.values`` of the encoder's blocks, as their projections give them.

    Blocks that attend within windows, and those of decoders, are left out: their tokens are not those of the image.
    """
    taps: dict[str, str] = {}
    blocks: dict[str, int] = {}
    for path, module in model.named_modules():
        block, _, leaf = path.rpartition(".")
        if isinstance(module, nn.Linear) and leaf in _PROJECTIONS and not any(part in path for part in _NOT_TOKENS):
            number = blocks.setdefault(block, len(blocks))
            taps[f"block_{number}.{_PROJECTIONS[leaf]}"] = f"model.{path}"
    return taps


def _stages(model: nn.Module, path: str) -> dict[str, str]:
    stages = model.get_submodule(path).named_children()
    return {f"hidden_{name}": f"model.{path}.{name}" for name, _ in stages}


def _maps(model: nn.Module, path: str) -> dict[str, str]:
    """Return one tap for each of the feature maps that a backbone gives together."""
    channels = cast("list[int]", model.get_submodule(path).channels)
    return {f"hidden_{index}": f"model.{path}" for index in range(len(channels))}


def _resized(maps: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=antialias)


def _ceil(extent: int, multiple: int) -> int:
    return -(-extent // multiple) * multiple


def _starts(extent: int, side: int) -> Iterator[int]:
    """Yield where windows begin: as few as cover the extent, evenly spaced, the last flush with the end."""
    windows = -(-extent // side)
    return (index * (extent - side) // (windows - 1) for index in range(windows))
