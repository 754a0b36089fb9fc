"""What detectors ask a prediction for beyond its logits, with an error that says how to mend what is missing."""

from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from strays.errors import InputError
from strays.prediction import MaskPrediction, Passes, Prediction

__all__ = [
    "check_outlier_logits",
    "checked_choice",
    "image_of",
    "labels_at",
    "masks_of",
    "outlier_logits_of",
    "passes_of",
    "tap_names",
    "tapped",
    "vectors",
]


Word = TypeVar("Word", bound=str)


def tapped(prediction: Prediction, tap: str) -> Tensor:
    """Return the features (N, C, h', w') of one tap in float32.

    Raises:
        InputError: if they were not asked for, or some of them are NaN or infinite.
    """
    if tap not in prediction.features:
        known = ", ".join(prediction.features) or "none"
        raise InputError(f"the prediction has no features {tap!r} (it has: {known}): ask for them with taps=[{tap!r}]")
    features = prediction.features[tap].float()
    if not torch.isfinite(features).all():
        broken = int((~torch.isfinite(features)).sum())
        raise InputError(
            f"{broken} of {features.numel()} features of the tap {tap!r} are NaN or infinite: look for damaged "
            "weights, or for an overflow of the network in half precision"
        )
    return features


def tap_names(taps: str) -> tuple[str, ...]:
    """Return the names in a setting such as ``"encoder+decoder"``.

    Raises:
        InputError: if there is none.

    Example:
        >>> tap_names("encoder + decoder")
        ('encoder', 'decoder')
    """
    names = tuple(dict.fromkeys(part.strip() for part in taps.split("+") if part.strip()))
    if not names:
        raise InputError(f"expected names of taps with + between them, such as encoder+decoder, got {taps!r}")
    return names


def vectors(features: Tensor) -> Tensor:
    """Return the vectors (N, h * w, C) of feature maps (N, C, h, w), row by row."""
    return features.flatten(2).transpose(1, 2)


def labels_at(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return label maps (N, H, W) at (h, w) = ``size`` by nearest neighbour, int64."""
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels.long()
    return functional.interpolate(labels[:, None].float(), size=size, mode="nearest")[:, 0].long()


def masks_of(prediction: Prediction, detector: str) -> MaskPrediction:
    """Return the outputs of a mask transformer.

    Raises:
        InputError: if the network gives none.
    """
    if prediction.masks is None:
        raise InputError(
            f"the detector {detector!r} reads the masks of a mask transformer, and this network gives none: use one "
            "such as hf:facebook/mask2former-swin-tiny-cityscapes-semantic, or another detector, such as energy"
        )
    return prediction.masks


def outlier_logits_of(prediction: Prediction, detector: str) -> Tensor:
    """Return the logits (N, 2, h, w) of an outlier head, at its own stride; channel 1 = outlier.

    Raises:
        InputError: if the network has no such head, or what it gives has another shape.
    """
    if prediction.outlier_logits is None:
        raise InputError(
            f"the detector {detector!r} reads an outlier head, and this network has none: use a model that was trained "
            "by a recipe with one, such as outlier-head, or another detector, such as energy"
        )
    shape = tuple(prediction.outlier_logits.shape)
    if len(shape) != 4 or shape[:2] != (len(prediction.logits), 2):
        raise InputError(f"expected outlier logits ({len(prediction.logits)}, 2, h, w), got {shape}")
    return prediction.outlier_logits


def check_outlier_logits(logits: Tensor, outlier_logits: Tensor) -> None:
    """Refuse outlier logits (N, 2, ...) that are not of the batch and size of class logits (N, K, ...).

    Raises:
        InputError: if they are not.
    """
    expected = (len(logits), 2, *logits.shape[2:])
    if outlier_logits.shape != expected:
        found = tuple(outlier_logits.shape)
        raise InputError(
            f"expected outlier logits {expected} beside the class logits, got {found}: bring both to one size"
        )


def passes_of(prediction: Prediction, detector: str) -> Passes:
    """Return what runs the network again.

    Raises:
        InputError: if the prediction came without.
    """
    if prediction.passes is None:
        raise InputError(
            f"the detector {detector!r} runs the network again, and this prediction does not say how: make it with "
            "the predict method of a network or model"
        )
    return prediction.passes


def image_of(prediction: Prediction, detector: str) -> Tensor:
    """Return the image (N, 3, H, W), RGB in [0, 1].

    Raises:
        InputError: if the prediction came without.
    """
    if prediction.image is None:
        raise InputError(f"the detector {detector!r} reads the image: give the prediction its image (N, 3, H, W)")
    return prediction.image


def checked_choice(setting: str, value: Word, choices: tuple[Word, ...]) -> Word:
    """Return a setting that is one of a few words.

    Raises:
        InputError: if it is none of them.
    """
    if value not in choices:
        raise InputError(f"{setting} is {value!r}, expected one of {', '.join(choices)}")
    return value
