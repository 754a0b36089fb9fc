"""A segmentation network in a TorchScript file."""

import warnings
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from strays.cards import Card
from strays.errors import InputError
from strays.networks.adapting import as_normalization
from strays.networks.base import register_scheme
from strays.networks.python_module import UserNetwork, tried
from strays.networks.weights import file_sha256
from strays.taxonomy import Taxonomy, parse_taxonomy

__all__ = ["TorchScriptNetwork", "load_torchscript"]

_NORMALIZATION, _TAXONOMY = "strays.normalization", "strays.taxonomy"


class TorchScriptNetwork(UserNetwork):
    """A TorchScript file that turns RGB (N, 3, H, W) in [0, 1] into logits (N, K, h, w).

    It gives them as such, or in a dictionary as ``logits`` or ``out``. Two extra files in the archive are honoured:
    ``strays.normalization`` (``{"mean": [...], "std": [...]}`` for RGB in [0, 1]) and ``strays.taxonomy`` (a taxonomy
    as JSON); so are attributes of the module as ``UserNetwork`` knows them. There are gradients, and no features: a
    script does not let anyone look at its parts.

    Args:
        path: the file, as ``torch.jit.save`` wrote it.

    Raises:
        InputError: if the file is missing, damaged or of another kind, or an extra file is not as said above.
    """

    card: ClassVar[Card] = Card(
        title="TorchScript file",
        summary="A traced or scripted network that turns RGB in [0, 1] into class logits.",
        url="https://docs.pytorch.org/docs/stable/jit.html",
    )

    def __init__(self, path: Path) -> None:
        module, extra = _loaded(path)
        super().__init__(module, str(path))
        self.path = path
        self.tap_modules = {}
        if extra[_NORMALIZATION]:
            self.normalization = as_normalization(extra[_NORMALIZATION])
        if extra[_TAXONOMY]:
            self._taxonomy: Taxonomy | None = parse_taxonomy(extra[_TAXONOMY], f"{_TAXONOMY} in {path}")

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the file, which holds code and constants beside the weights."""
        return file_sha256(self.path)


@register_scheme("torchscript")
def load_torchscript(source: str) -> UserNetwork:
    """Return the network in the file behind ``torchscript:FILE``, see ``TorchScriptNetwork``."""
    return tried(TorchScriptNetwork(Path(source)))


def _loaded(path: Path) -> tuple[nn.Module, dict[str, str]]:
    if not path.is_file():
        raise InputError(f"no TorchScript file at {path}: check the path behind torchscript:")
    extra = {_NORMALIZATION: "", _TAXONOMY: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of all TorchScript, in favour of torch.export
            module: nn.Module = torch.jit.load(path, map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"{path} is not a TorchScript file ({reason}): write it with torch.jit.save") from error
    return module, {name: text.decode() if isinstance(text, bytes) else text for name, text in extra.items()}
