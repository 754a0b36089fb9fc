"""One image in, one score map out."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from strays.data.images import read_image, rgb_array
from strays.errors import InputError
from strays.loading import choose_device, load_model
from strays.model import Model
from strays.score_map import ScoreMap
from strays.scoring.scorer import Scorer

__all__ = ["ImageSource", "score"]

ImageSource = str | Path | Image.Image | NDArray[np.generic] | Tensor


def score(
    source: ImageSource,
    model: str | Path | Model = "default",
    detector: str | None = None,
    network_size: tuple[int, int] | None = None,
    device: str = "auto",
) -> ScoreMap:
    """Score one image; the model stays loaded for the next call.

    Args:
        source: path of an image; a PIL image; an array (H, W, 3) uint8, or floating point in [0, 1]; or a tensor
            (3, H, W) or (1, 3, H, W) of the same kinds.
        model: a model, or a string or path as for ``load_model``.
        detector: such as ``energy`` or ``energy:temperature=2``; by default the one that the model names.
        network_size: (H, W) that the network sees the image at; the scores keep the image's size.
        device: as for ``load_model``.

    Raises:
        InputError: if the image, the model or the detector is not as stated.

    Example:
        >>> from strays.data.synthetic import synthetic_scene
        >>> found = score(synthetic_scene(1, size=(96, 128)).image)
        >>> found.score.shape, found.score.dtype
        ((96, 128), dtype('float32'))
    """
    size = None if network_size is None else (network_size[0], network_size[1])
    scorer = _scorer(str(model) if isinstance(model, Path) else model, detector, size, device)
    image, name = _read(source)
    try:
        scored = scorer(image)
    except InputError as error:
        raise InputError(f"{source if isinstance(source, (str, Path)) else name}: {error}") from error
    ((detector_name, values),) = scored.scores.items()
    return ScoreMap(values, scored.labels, image, scorer.model.taxonomy, detector_name, scorer.model.name, name)


@lru_cache(maxsize=4)
def _scorer(model: str | Model, detector: str | None, network_size: tuple[int, int] | None, device: str) -> Scorer:
    loaded = model.to(choose_device(device)) if isinstance(model, Model) else load_model(model, device=device)
    return Scorer.build(loaded, [detector] if detector else [], network_size)


def _read(source: ImageSource) -> tuple[NDArray[np.uint8], str]:
    if isinstance(source, (str, Path)):
        return read_image(source), Path(source).stem
    if isinstance(source, Image.Image):
        return rgb_array(source), "image"
    if not isinstance(source, (np.ndarray, Tensor)):
        raise InputError(f"expected a path, a PIL image, an array or a tensor, got {type(source).__name__}")
    array = _channels_last(source) if isinstance(source, Tensor) else source
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(f"expected an RGB image (H, W, 3) or a tensor (3, H, W), got shape {tuple(source.shape)}")
    return _as_uint8(array), "image"


def _channels_last(image: Tensor) -> NDArray[np.generic]:
    single = (image[0] if image.ndim == 4 and len(image) == 1 else image).detach().cpu()
    known = single.float() if single.is_floating_point() else single  # NumPy has no bfloat16
    return known.movedim(0, -1).numpy() if known.ndim == 3 else known.numpy()


def _as_uint8(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"expected uint8 or floating point in [0, 1], got {array.dtype}")
    values = array.astype(np.float64)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise InputError(f"expected values in [0, 1], got {values.min():g} to {values.max():g}: divide by 255")
    return (255 * values).round().astype(np.uint8)
