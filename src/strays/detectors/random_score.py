"""Random scores: the floor of every table."""

import hashlib

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, Settings, register_detector
from strays.detectors.inputs import image_of
from strays.prediction import Prediction

__all__ = ["Random", "random_score"]


def random_score(image: Tensor, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Return scores that are drawn uniformly from [0, 1), pixel by pixel.

    The seed and the content of an image decide: the same image gets the same scores, alone or in a batch, on every
    device; another image gets others.

    Args:
        image: (N, 3, h, w), any values.
        size: (H, W) of the result.
        seed: for other scores of the same image.

    Returns:
        (N, H, W) in [0, 1), float32.

    Example:
        >>> images = torch.zeros(2, 3, 4, 4)
        >>> one, other = random_score(images, (8, 8))
        >>> torch.equal(one, other), one.shape
        (True, torch.Size([8, 8]))
    """
    return torch.stack([_drawn(one, size, seed) for one in image])


def _drawn(image: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    digest = hashlib.sha256(f"{seed}:".encode())
    digest.update(image.detach().cpu().float().contiguous().numpy().tobytes())
    generator = torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8]))
    return torch.rand(size, generator=generator).to(image.device)


@register_detector("random")
class Random(Detector):
    """Uniform random scores, the same ones whenever the same image comes.

    Reference:
        Saito and Rehmsmeier, The Precision-Recall Plot Is More Informative than the ROC Plot When Evaluating Binary
        Classifiers on Imbalanced Datasets, PLOS ONE 2015, https://doi.org/10.1371/journal.pone.0118432

    Args:
        seed: for other scores.
    """

    card = Card(
        title="Random scores",
        summary="Uniform random scores, whose AP is the share of anomalous pixels.",
        paper="Saito and Rehmsmeier, The Precision-Recall Plot Is More Informative than the ROC Plot When Evaluating "
        "Binary Classifiers on Imbalanced Datasets, PLOS ONE 2015",
        year=2015,
        url="https://doi.org/10.1371/journal.pone.0118432",
        needs=Needs(image=True),
        notes="A floor that tables show: AP is the share of anomalous pixels, AUROC one half and FPR95 0.95, each up "
        "to chance. The paper explains why that share is the base line of precision. The image only seeds the "
        "generator.",
    )

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def settings(self) -> Settings:
        """Return the seed."""
        return {"seed": self.seed}

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``random_score`` (N, H, W).

        Raises:
            InputError: if the prediction has no image.
        """
        return random_score(image_of(prediction, "random"), prediction.size, self.seed)
