"""Failure detection: how well a score tells the pixels that a network got wrong from those it got right."""

from typing import Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strays.errors import InputError
from strays.metrics.arrays import Floats, Integers, State, as_array, as_integers, check_shapes, read_pixels
from strays.metrics.bounds import ap_bounds, auroc_bounds, fpr_bounds
from strays.metrics.curves import Ranking
from strays.metrics.per_image import PerImagePixelMetrics
from strays.metrics.pixel import PixelResult, PixelSettings
from strays.metrics.stores import Ranked
from strays.scene import ANOMALY, INLIER
from strays.taxonomy import IGNORE

__all__ = ["FAILURE_FPRS", "FailureFpr", "FailureMetrics", "failure_mask"]

FailureFpr: TypeAlias = Literal["pooled-success", "pooled-success-grid", "per-image-error"]
"""What "FPR95" means in failure detection: see ``FailureMetrics``."""
FAILURE_FPRS: tuple[FailureFpr, ...] = get_args(FailureFpr)

RIGHT, WRONG = INLIER, ANOMALY
"""What the two kinds of pixels are called here: errors take the place of the anomalies."""

_GRID = 1000
_WINDOW = 0.0005
_PER_IMAGE = "images_"


class FailureMetrics:
    """AP-Success, AP-Error, AUROC and FPR95 of misclassification detection, over all pixels of a data set.

    A pixel is right where the predicted class is its label, else wrong; the score should be larger where it is wrong.
    Hendrycks and Gimpel (ICLR 2017), Corbière et al. (NeurIPS 2019); for segmentation SynthCP (Xia et al., ECCV 2020).
    ``compute`` returns

    - ``AP-Success``: the average precision of the right pixels, ranked from the lowest score up;
    - ``AP-Error``: that of the wrong pixels, ranked from the highest score down;
    - ``AUROC``, which is the same for both;
    - ``FPR95``, named after ``tpr``, by one of the definitions below;
    - ``accuracy``, ``pixels_right``, ``pixels_wrong``, ``pixels_ignored``, and for ``per-image-error`` ``images`` and
      ``images_skipped``, those without right or without wrong pixels.

    The authors' repository holds two definitions of FPR95 that do not agree, the first of them in a coarser form:

    - ``pooled-success``: right pixels are the positives. The share of the *wrong* pixels accepted at the lowest score
      that accepts 95 % of all right pixels, where a score accepts the pixels at or below it. The default;
    - ``pooled-success-grid``: the same at the first of 1000 scores, evenly spaced from the highest down, that accepts
      a share within 0.0005 of ``tpr``, as published; where none does, the entry is missing, and it has no bounds;
    - ``per-image-error``: wrong pixels are the positives. The mean over images of the share of an image's right pixels
      that are found with 95 % of its wrong ones, by the rule ``argmin`` of ``fpr_at_tpr``; SynthCP's script prints it.

    Pixels are counted per ``float_key`` of their score as in ``PixelMetrics``, in 19 MB, and ``bounds`` certify what
    that leaves open.

    Args:
        exact: keep every score instead of counts per key.
        tpr: the true-positive rate of the false-positive rate, in (0, 1].
        fpr: its definition.

    Raises:
        InputError: if the rate or the definition is not as stated.

    Example:
        >>> scores, labels = np.float32([[0.1, 0.2, 0.3, 0.4]]), np.uint8([[3, 3, 3, 255]])
        >>> result = FailureMetrics().update(scores, np.uint8([[3, 2, 3, 3]]), labels).compute()
        >>> round(result["AP-Success"], 4), result["AP-Error"], result["AUROC"], result["FPR95"]
        (0.8333, 0.5, 0.5, 1.0)
    """

    def __init__(self, exact: bool = False, tpr: float = 0.95, fpr: FailureFpr = "pooled-success") -> None:
        if fpr not in FAILURE_FPRS:
            raise InputError(f"expected a definition of the FPR among {', '.join(FAILURE_FPRS)}, got {fpr!r}")
        self.settings = PixelSettings(exact, tpr)
        self.fpr = fpr
        self._store = self.settings.store()
        self._images = PerImagePixelMetrics(exact, tpr, "argmin") if fpr == "per-image-error" else None

    def update(self, scores: Tensor | Floats, predicted: Tensor | Integers, labels: Tensor | Integers) -> Self:
        """Take in any number of pixels; a refused update changes nothing.

        Args:
            scores: float of any shape, larger = less certain; one image (H, W) for ``per-image-error``.
            predicted: integers of the same shape, the class of every pixel.
            labels: integers of the same shape, 255 = ignore.

        Raises:
            InputError: if an argument is not as stated, or a score is NaN or infinite.
        """
        mask = failure_mask(predicted, labels)
        check_shapes(as_array(scores).shape, mask.shape, "scores", "labels")
        pixels = read_pixels(scores, mask)
        if self._images is not None:
            self._images.update(scores, mask)
        self._store.add(pixels)
        return self

    def merge(self, other: Self) -> Self:
        """Take in what another accumulator has gathered, which stays as it is.

        Raises:
            InputError: if its settings differ.
        """
        self.settings.check_same(other.settings)
        if self.fpr != other.fpr:
            raise InputError(f"cannot merge failure metrics with the FPR {self.fpr!r} and {other.fpr!r}")
        self._store.merge(other._store)
        if self._images is not None and other._images is not None:
            self._images.merge(other._images)
        return self

    def compute(self) -> PixelResult:
        """Return the metrics of all pixels so far.

        Raises:
            InputError: if there is no right or no wrong pixel, or for ``per-image-error`` no image with both.
        """
        pixels = self._store.pixels()
        right, wrong = pixels[RIGHT], pixels[WRONG]
        if not right or not wrong:
            raise InputError(
                f"failure detection needs right and wrong pixels, got {right} right and {wrong} wrong ones: add "
                "images, or check that predictions and labels are of one taxonomy"
            )
        ranked = self._store.ranked()
        result = _pooled(ranked)
        self._add_fpr(result, ranked)
        result["accuracy"] = right / (right + wrong)
        result |= {"pixels_right": right, "pixels_wrong": wrong, "pixels_ignored": pixels[IGNORE]}
        return result

    def state(self) -> State:
        """Return what was gathered as arrays for ``np.savez_compressed``, compact."""
        images = {} if self._images is None else self._images.state()
        state = self.settings.state(type(self).__name__) | {"fpr": np.array(self.fpr)} | self._store.state()
        return state | {_PER_IMAGE + name: values for name, values in images.items()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose ``state`` this was.

        Raises:
            InputError: if another accumulator, or another version of the keys, wrote the state.
        """
        settings = PixelSettings.from_state(state, cls.__name__)
        metrics = cls(settings.exact, settings.tpr, str(state["fpr"]))  # type: ignore[arg-type]
        metrics._store.restore(state)
        if metrics._images is not None:
            images = {name.removeprefix(_PER_IMAGE): one for name, one in state.items() if name.startswith(_PER_IMAGE)}
            metrics._images = PerImagePixelMetrics.from_state(images)
        return metrics

    def _add_fpr(self, result: PixelResult, ranked: Ranked) -> None:
        """Add the false-positive rate of the chosen definition, with its bounds, to the metrics."""
        name, tpr = self.settings.fpr_name, self.settings.tpr
        if self._images is not None:
            images = _over_images(self._images, name)
            result |= {entry: images[entry] for entry in (name, "images", "images_skipped")}
            result.bounds[name] = images.bounds[name]
        elif self.fpr == "pooled-success":
            successes, tied = _successes(ranked)
            result[name] = successes.fpr_at(tpr, "first")
            result.bounds[name] = fpr_bounds(successes, tied, tpr, "first")
        elif (value := _grid_fpr(ranked, tpr)) is not None:
            result[name] = value


def failure_mask(predicted: Tensor | Integers, labels: Tensor | Integers) -> NDArray[np.uint8]:
    """Return where a network is wrong, in the form of an anomaly mask, so that every pixel metric takes it.

    Args:
        predicted: integers of any shape, the class of every pixel.
        labels: integers of the same shape, 255 = ignore.

    Returns:
        uint8 of the same shape: 0 right, 1 wrong, 255 ignore.

    Raises:
        InputError: if an argument is not of integers, or the shapes differ.

    Example:
        >>> failure_mask(np.uint8([4, 5, 5]), np.uint8([4, 4, 255])).tolist()
        [0, 1, 255]
    """
    found, true = as_integers(predicted, "predicted classes"), as_integers(labels, "labels")
    check_shapes(found.shape, true.shape, "predicted classes", "labels")
    return np.where(true == IGNORE, IGNORE, found != true).astype(np.uint8)


def _successes(ranked: Ranked) -> tuple[Ranking, NDArray[np.bool_]]:
    """Return the ranking of the right pixels, most certain first, and which of its entries are one score."""
    errors = ranked.counts
    return Ranking(anomalies=errors.inliers[::-1], inliers=errors.anomalies[::-1]), ranked.tied[::-1]


def _pooled(ranked: Ranked) -> PixelResult:
    """Return both average precisions and AUROC."""
    errors, (successes, tied) = ranked.counts, _successes(ranked)
    values = {"AP-Success": successes.average_precision(), "AP-Error": errors.average_precision()}
    bounds = {"AP-Success": ap_bounds(successes, tied), "AP-Error": ap_bounds(errors, ranked.tied)}
    bounds["AUROC"] = auroc_bounds(errors, ranked.tied)
    return PixelResult(values | {"AUROC": errors.auroc()}, bounds)


def _over_images(images: PerImagePixelMetrics, name: str) -> PixelResult:
    try:
        return images.compute()
    except InputError as error:
        raise InputError(
            f"{name} per image needs an image with right and wrong pixels, got none: take another definition"
        ) from error


def _grid_fpr(ranked: Ranked, tpr: float) -> float | None:
    """Return the share of wrong pixels accepted at the first of 1000 thresholds that accepts ``tpr`` of the right ones.

    The thresholds fall from the highest score; None if none of them accepts that share, give or take 0.05 %.
    """
    scores = ranked.thresholds()
    grid = np.linspace(scores[0], scores[-1], _GRID + 1)[:-1]
    refused = np.searchsorted(-scores, -grid, "left")
    shares = [1 - np.r_[0.0, sums / sums[-1]][refused] for sums in (ranked.counts.fps, ranked.counts.tps)]
    inside = np.flatnonzero(np.abs(shares[0] - tpr) <= _WINDOW + 1e-12)
    return float(shares[1][inside[0]]) if inside.size else None
