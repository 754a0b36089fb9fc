"""Find the pixels that do not belong: dense anomaly detection for semantic segmentation."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strays.data import open_scenes
    from strays.errors import InputError
    from strays.loading import load_model
    from strays.model import Model
    from strays.prediction import Prediction
    from strays.scene import Scene
    from strays.score_map import ScoreMap
    from strays.scoring import score
    from strays.taxonomy import Taxonomy

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "Model",
    "Prediction",
    "Scene",
    "ScoreMap",
    "Taxonomy",
    "__version__",
    "load_model",
    "open_scenes",
    "score",
]

# Imported on first use, so that `strays --help` need not wait for PyTorch.
_HOMES = {
    "InputError": "strays.errors",
    "Model": "strays.model",
    "Prediction": "strays.prediction",
    "Scene": "strays.scene",
    "ScoreMap": "strays.score_map",
    "Taxonomy": "strays.taxonomy",
    "load_model": "strays.loading",
    "open_scenes": "strays.data",
    "score": "strays.scoring",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'strays' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
