"""A segmentation network in an ONNX file, run by ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card
from strays.errors import InputError
from strays.networks.adapting import as_normalization, checked_logits
from strays.networks.base import UNIT, SegmentationNetwork, register_scheme
from strays.networks.weights import file_sha256
from strays.taxonomy import Taxonomy, parse_taxonomy

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg  # type: ignore[import-untyped]

__all__ = ["OnnxNetwork", "load_onnx"]

_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxNetwork(SegmentationNetwork):
    """An ONNX file that turns RGB (N, 3, H, W) in [0, 1] into logits (N, K, h, w).

    The file has one input, and one output or one called ``logits`` or ``out``. Where it fixes H or W, images are
    resized to that (bilinear, antialiased) and the logits cover the whole image all the same; where it fixes N,
    images go in groups. Two entries of its metadata are honoured: ``strays.normalization``
    (``{"mean": [...], "std": [...]}`` for RGB in [0, 1]) and ``strays.taxonomy`` (a taxonomy as JSON). It runs on CUDA
    where ONNX Runtime can, with as many threads as torch; there are no features and no gradients.

    Args:
        path: the file.

    Attributes:
        classes: the number of channels of the logits; None where neither the file nor a first image has told it.

    Raises:
        InputError: if ONNX Runtime is missing, or the file is missing, damaged, or of another kind.
    """

    card: ClassVar[Card] = Card(
        title="ONNX file",
        summary="An exported network that turns RGB in [0, 1] into class logits, run by ONNX Runtime.",
        url="https://onnx.ai",
    )

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.configuration = {}
        self.tap_modules = {}
        self._session = _session(path)
        self._input = _only_input(self._session, path)
        self._output = _logits_output(self._session, path)
        metadata = self._session.get_modelmeta().custom_metadata_map
        told = metadata.get("strays.taxonomy")
        self._taxonomy = None if told is None else parse_taxonomy(told, f"strays.taxonomy in the metadata of {path}")
        self.normalization = as_normalization(metadata.get("strays.normalization", UNIT))
        self.classes: int | None = _known(self._output.shape, 1)
        self.eval()

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the file."""
        return file_sha256(self.path)

    def taxonomy(self) -> Taxonomy | None:
        """Return the classes that the file names, or None."""
        return self._taxonomy

    def logits(self, normalized: Tensor) -> Tensor:
        """Return the logits (N, K, h, w) of normalised images (N, 3, H, W), on their device.

        Raises:
            InputError: if the file gave something else, or cannot take images of this size.
        """
        height, width = (_known(self._input.shape, axis) or normalized.shape[axis] for axis in (2, 3))
        seen = normalized
        if (height, width) != tuple(normalized.shape[-2:]):
            seen = functional.interpolate(normalized, size=(height, width), mode="bilinear", antialias=True)
        group = _known(self._input.shape, 0) or len(seen)
        logits = torch.cat([self._run(some, group) for some in torch.split(seen, group)])
        self.classes = logits.shape[1]
        self.stride = max(1, round(normalized.shape[-2] / logits.shape[-2]))
        return logits.to(normalized.device)

    def _run(self, images: Tensor, group: int) -> Tensor:
        """Return the logits of at most ``group`` images; a smaller group is filled up with its last image."""
        missing = group - len(images)
        filled = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
        array = filled.detach().cpu().numpy().astype(_TYPES[self._input.type])
        try:
            given = self._session.run([self._output.name], {self._input.name: array})[0]
        except Exception as error:
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise InputError(f"{self.path} cannot take images of {size}: {_reason(error)}") from error
        output = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
        return checked_logits(output, group, str(self.path))[: len(images)].float()


@register_scheme("onnx")
def load_onnx(source: str) -> OnnxNetwork:
    """Return the network in the file behind ``onnx:FILE``, see ``OnnxNetwork``."""
    return OnnxNetwork(Path(source))


def _session(path: Path) -> "InferenceSession":
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path} needs ONNX Runtime: pip install 'strays[export]'") from error
    if not path.is_file():
        raise InputError(f"no ONNX file at {path}: check the path behind onnx:")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    providers = [one for one in _PROVIDERS if one in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise InputError(f"{path} cannot be read as an ONNX network ({_reason(error)}): export it again") from error


def _only_input(session: "InferenceSession", path: Path) -> "NodeArg":
    inputs = session.get_inputs()
    expected = "expected one input of floats (N, 3, H, W), RGB in [0, 1]"
    if len(inputs) != 1:
        raise InputError(f"{path} has {len(inputs)} inputs ({_names(inputs)}), {expected}")
    (found,) = inputs
    channels, last = _known(found.shape, 1), _known(found.shape, 3)
    if found.type not in _TYPES or len(found.shape) != 4 or channels not in (None, 3) or (last == 3 and not channels):
        raise InputError(f"{path} takes {found.type} {tuple(found.shape)}, {expected}: export it so")
    return found


def _logits_output(session: "InferenceSession", path: Path) -> "NodeArg":
    outputs = session.get_outputs()
    named = [one for one in outputs if one.name in ("logits", "out")]
    if len(outputs) != 1 and len(named) != 1:
        raise InputError(f"{path} has {len(outputs)} outputs ({_names(outputs)}): expected one, or one called 'logits'")
    (found,) = named or outputs
    if found.type not in _TYPES or len(found.shape) not in (0, 4):
        shown = f"{found.type} {tuple(found.shape)}"
        raise InputError(f"{path} gives {shown}, expected logits of floats (N, K, h, w): export it without argmax")
    return found


def _known(shape: Sequence[int | str | None], axis: int) -> int | None:
    """Return an extent that the file fixes, or None where it is left open."""
    extent = shape[axis] if len(shape) > axis else None
    return extent if isinstance(extent, int) and extent > 0 else None


def _names(found: "Sequence[NodeArg]") -> str:
    return ", ".join(one.name for one in found)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
