"""A score map: what a person gets for one image, and how to draw, threshold and save it."""

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strays.drawing import ColourScale, draw_heatmap, draw_labels, draw_overlay, score_quantiles
from strays.errors import InputError
from strays.files import make_folder, whole_file
from strays.segments import Segment, find_segments
from strays.taxonomy import Taxonomy

__all__ = ["SavedFiles", "ScoreMap"]

JPEG_QUALITY = 92


class SavedFiles(NamedTuple):
    """Where ``ScoreMap.save`` put the scores and the picture."""

    score: Path
    overlay: Path


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """The anomaly scores of one image, with the image and the predicted classes.

    Args:
        score: float32 (H, W), larger = more anomalous, in the detector's own unit.
        labels: uint8 (H, W) predicted classes of ``taxonomy``.
        image: uint8 (H, W, 3) RGB.
        taxonomy: the classes of the segmentation network.
        detector: name of the detector.
        model: name of the model.
        name: what the image is called in results, such as ``"drive/0001"``; also the name of the files.
        mask: uint8 (H, W) anomaly mask where there is one: 0 inlier, 1 anomaly, 255 ignore.

    Raises:
        InputError: if a shape or type is not as stated, or a score is not finite.

    Example:
        >>> from strays.taxonomy import CAMVID
        >>> image = np.zeros((4, 6, 3), np.uint8)
        >>> score = np.float32(np.arange(24)).reshape(4, 6)
        >>> found = ScoreMap(score, image[..., 0], image, CAMVID, detector="energy", model="default", name="street")
        >>> found.size, found.segments(threshold=22)[0].area
        ((4, 6), 2)
    """

    score: NDArray[np.float32]
    labels: NDArray[np.uint8]
    image: NDArray[np.uint8]
    taxonomy: Taxonomy
    detector: str
    model: str
    name: str
    mask: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        image, score = self.image, self.score
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"{self.name}: expected a uint8 RGB image (H, W, 3), got {image.dtype} {image.shape}")
        self._check("score", score, np.float32)
        self._check("labels", self.labels, np.uint8)
        if self.mask is not None:
            self._check("mask", self.mask, np.uint8)
        if not np.isfinite(score).all():
            raise InputError(_not_finite(self.name, self.detector, score))

    def _check(self, kind: str, values: NDArray[np.generic], dtype: type[np.generic]) -> None:
        size = self.image.shape[:2]
        if values.shape != size or values.dtype != dtype:
            expected = f"expected {kind} {dtype.__name__} {size} like the image"
            raise InputError(f"{self.name}: {expected}, got {values.dtype} {values.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def overlay(self, threshold: float | None = None, scale: ColourScale | None = None) -> Image.Image:
        """Return the image with the scores laid over it and a legend below.

        Args:
            threshold: the score whose contour is drawn.
            scale: the colour scale; give one scale to all maps that are to be compared. This map's own by default.
        """
        scale = scale or ColourScale.of(self.score)
        return draw_overlay(self.image, self.score, scale, threshold, self.mask, label=self.detector)

    def heatmap(self, scale: ColourScale | None = None) -> Image.Image:
        """Return the scores alone in the colours of ``scale`` (this map's own by default), with a legend below."""
        return draw_heatmap(self.score, scale or ColourScale.of(self.score), label=self.detector)

    def classes(self, strength: float = 0.5) -> Image.Image:
        """Return the image with the colours of the predicted classes blended in by ``strength`` in [0, 1]."""
        return draw_labels(self.image, self.labels, self.taxonomy.palette, strength)

    def segments(self, threshold: float, min_area: int = 1) -> list[Segment]:
        """Return the connected regions with ``score >= threshold`` of at least ``min_area`` pixels, worst first."""
        return find_segments(self.score, threshold, min_area)

    def quantiles(self) -> dict[str, float]:
        """Return the quantiles of the scores by level, ``{"0.0": minimum, ..., "1.0": maximum}``."""
        return score_quantiles(self.score)

    def save(self, folder: str | Path, threshold: float | None = None, scale: ColourScale | None = None) -> SavedFiles:
        """Write ``scores/<name>.npy`` (float32) and ``overlays/<name>.jpg``, each whole or not at all.

        Args:
            folder: where to; it is created where it is missing.
            threshold: as for ``overlay``.
            scale: as for ``overlay``.

        Raises:
            InputError: if the folder cannot be written to, or the name would lead out of it.
        """
        paths = SavedFiles(*(_inside(Path(folder), kind, self.name) for kind in ("scores/*.npy", "overlays/*.jpg")))
        for path in paths:
            make_folder(path.parent)
        with whole_file(paths.score) as stream:
            np.save(stream, self.score)
        with whole_file(paths.overlay) as stream:
            self.overlay(threshold, scale).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return paths

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.overlay().save(stream, "PNG", compress_level=1)
        return stream.getvalue()


def _inside(folder: Path, pattern: str, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or PurePosixPath(name).is_absolute():
        raise InputError(f"{name!r} cannot name a file inside {folder}: expected a relative name without '..'")
    return folder / pattern.replace("*", name)


def _not_finite(name: str, detector: str, score: NDArray[np.float32]) -> str:
    missing, infinite = int(np.isnan(score).sum()), int(np.isinf(score).sum())
    found = (
        f"{missing + infinite} of {score.size} scores of {detector} are not finite ({missing} NaN, {infinite} infinite)"
    )
    return f"{name}: {found}; look at the logits of this frame: half precision overflows, damaged weights give NaN"
