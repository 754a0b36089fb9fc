"""Dispersion of the class probabilities, aggregated over predicted segments."""

import re

import torch
from torch import Tensor

from strays.cards import Card
from strays.detectors.base import Detector, Settings, class_logits, register_detector, upsampled
from strays.detectors.segment_features import FEATURES, painted, segment_features
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["Dispersion", "dispersion"]


def dispersion(logits: Tensor, feature: str = "E") -> Tensor:
    """Return for each pixel a feature of its predicted segment, see ``segment_features``.

    Args:
        logits: (N, K, H, W) class logits at the size of the image, K >= 2.
        feature: ``"E"`` the mean normalised entropy, ``"D"`` the mean probability margin, ``"E_bd"`` the mean entropy
            of its boundary, ..., ``"cprob_7"`` the mean probability of class 7.

    Returns:
        (N, H, W) float32; in [0, 1] for means, unbounded for sizes and what is multiplied by them.

    Raises:
        InputError: if there is no such feature, or the shape is wrong.

    Source: Rottmann et al., IJCNN 2020, section III.

    Example:
        >>> logits = torch.tensor([[[[4.0, 4.0, 0.0]], [[0.0, 0.0, 1.0]]]])
        >>> dispersion(logits, "S").tolist()
        [[[2.0, 2.0, 1.0]]]
    """
    if logits.ndim != 4:
        raise InputError(
            f"expected logits (N, K, H, W), got {tuple(logits.shape)}: add a batch dimension, logits[None]"
        )
    column = _column(feature, logits.shape[1])
    tables = (segment_features(one) for one in logits)
    return torch.stack([painted(one, one.features[:, column]) for one in tables]).to(logits.device)


def _column(feature: str, classes: int | None = None) -> int:
    """Return the column of a feature; the number of a class is not looked at where ``classes`` is None."""
    if feature in FEATURES:
        return FEATURES.index(feature)
    found = re.fullmatch(r"cprob_(\d+)", feature)
    if found is None or (classes is not None and int(found[1]) >= classes):
        last = "K-1" if classes is None else classes - 1
        raise InputError(f"no feature is called {feature!r}; known: {', '.join(FEATURES)}, cprob_0 to cprob_{last}")
    return len(FEATURES) + int(found[1])


@register_detector("dispersion")
class Dispersion(Detector):
    """A feature of each pixel's predicted segment, by default its mean entropy.

    Reference:
        Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation: Detection via Aggregated
        Dispersion Measures of Softmax Probabilities, IJCNN 2020, https://arxiv.org/abs/1811.00648

    Args:
        feature: ``E`` or ``D``, alone or with ``_in`` (interior), ``_bd`` (boundary), ``_rel`` or ``_rel_in`` (times
            the relative size); the sizes ``S``, ``S_in``, ``S_bd``, ``S_rel``, ``S_rel_in``; ``cprob_0`` and so on.

    Raises:
        InputError: if there is no such feature.
    """

    card = Card(
        title="Aggregated dispersion",
        summary="Mean entropy of the predicted segment that a pixel belongs to, or another feature of that segment.",
        paper="Rottmann et al., Prediction Error Meta Classification in Semantic Segmentation: Detection via "
        "Aggregated Dispersion Measures of Softmax Probabilities, IJCNN 2020",
        year=2020,
        url="https://arxiv.org/abs/1811.00648",
        notes="The paper's baseline with the entropy alone. Features are given as they are: of S, S_rel and S_rel_in "
        "small values are the unusual ones.",
    )

    def __init__(self, feature: str = "E") -> None:
        super().__init__()
        _column(feature)
        self.feature = feature

    def settings(self) -> Settings:
        """Return the feature."""
        return {"feature": self.feature}

    def score(self, prediction: Prediction) -> Tensor:
        """Return the feature (N, H, W) of each pixel's segment; one image is upsampled at a time."""
        maps = [dispersion(upsampled(one[None], prediction.size), self.feature) for one in class_logits(prediction)]
        return torch.cat(maps)
