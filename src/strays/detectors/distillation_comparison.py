"""Discrepancy between the features of a network and those of a student that imitates them (DiCNet)."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import register_detector
from strays.detectors.fitted import FittedDetector, fitted
from strays.detectors.inputs import image_of, tapped
from strays.detectors.reported import reported
from strays.detectors.statistics import Statistics
from strays.detectors.stored import Settings
from strays.detectors.students import StudentTraining, checked_student, empty_student, imitation, trained_student
from strays.errors import InputError
from strays.networks.base import SegmentationNetwork
from strays.prediction import Prediction

__all__ = ["DistillationComparison", "DistillationStatistics", "distillation_discrepancy", "min_max_normalized"]

_NAME = "distillation-comparison"


def distillation_discrepancy(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the squared difference of features, averaged over channels.

    Args:
        teacher: (N, C, ...) features of the network.
        student: the same shape, what the student gives in their place.

    Returns:
        (N, ...), 0 or more.

    Raises:
        InputError: if the shapes differ.

    Source: Zhou et al., 2021 (arXiv 2112.09908); their loss is its mean over all pixels.

    Example:
        >>> import torch
        >>> distillation_discrepancy(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
        tensor([2.])
    """
    if teacher.shape != student.shape:
        shapes = f"{tuple(teacher.shape)} of the teacher and {tuple(student.shape)} of the student"
        raise InputError(f"expected features of one shape, got {shapes}")
    return (teacher - student).square_().mean(dim=1)


def min_max_normalized(scores: Tensor) -> Tensor:
    """Return each map of scores (N, H, W) stretched to [0, 1]; a constant one becomes 0.

    Source: the authors' code, where a batch is one image. Scores of different images can no longer be compared.

    Example:
        >>> import torch
        >>> min_max_normalized(torch.tensor([[[1.0, 2.0, 5.0]]]))
        tensor([[[0.0000, 0.2500, 1.0000]]])
    """
    low, high = scores.amin((1, 2), keepdim=True), scores.amax((1, 2), keepdim=True)
    return (scores - low) / torch.where(high > low, high - low, 1)


class DistillationStatistics(Statistics):
    """A student on its way.

    Args:
        tap: the features that it learns.
        training: the student.
    """

    def __init__(self, tap: str, training: StudentTraining) -> None:
        self.tap = tap
        self.training = training

    def update(self, prediction: Prediction, labels: Tensor, index: int) -> None:
        """Show a batch of images to the student; labels are not read."""
        self.training.update(_seen(prediction), tapped(prediction, self.tap))


@register_detector(_NAME)
class DistillationComparison(FittedDetector[DistillationStatistics]):
    """How far the features of a network are from those of a student that learned them on inlier scenes.

    Reference:
        Zhou et al., Anomaly Discovery in Semantic Segmentation via Distillation Comparison Networks, 2021,
        https://arxiv.org/abs/2112.09908

    Args:
        tap: the features that the student learns.
        student: name of a network of the library; what it gives is resized (bilinear) to the features.
        epochs: how often every image is shown to it.
        batch: images per step of the optimiser.
        learning_rate: of Adam, constant.
        weight_decay: of Adam, added to the gradient.
        normalized: stretch the scores of each image to [0, 1], as the authors do for metrics per image.
        seed: of the first weights.
    """

    card = Card(
        title="DiCNet",
        summary="Squared difference between the features of a network and those of a student that learned them.",
        paper="Zhou et al., Anomaly Discovery in Semantic Segmentation via Distillation Comparison Networks, 2021",
        year=2021,
        url="https://arxiv.org/abs/2112.09908",
        needs=Needs(fitting=True, features=True, image=True),
        published=reported(
            "StreetHazards test",
            {"AP": 0.162, "FPR95": 0.176, "AUROC": 0.934},
            "PSPNet-ResNet-50, student ResNet-34",
            "mean over images, each stretched to [0, 1]",
        ),
        notes="Epochs, batch, learning rate, weight decay and loss are the published ones, and no labels are read. "
        "Without a GPU take epochs=5,batch=1: a step after every image, half an hour for 370 images of 480x360. "
        "Deviates from the publication in the student, a SwiftNet on MobileNetV2 from random weights instead of a "
        "ResNet-34 from ImageNet, and in the images, as they are instead of at random sizes and flipped. Scores are "
        "not stretched per image unless normalized=true, because pooled metrics would suffer. On BDD-Anomaly the "
        "authors report 4.2 points more AP and 6.8 points less FPR95 than the best method before.",
    )
    mergeable = False
    channels_: Tensor | None
    student_: SegmentationNetwork | None

    def __init__(
        self,
        tap: str = "decoder",
        student: str = "swiftnet-mnv2",
        epochs: int = 150,
        batch: int = 16,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-5,
        normalized: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if epochs < 1 or batch < 1:
            raise InputError(f"expected at least 1 epoch of batches of at least 1 image, got {epochs} and {batch}")
        if not (learning_rate > 0 and weight_decay >= 0):
            got = f"{learning_rate} and {weight_decay}"
            raise InputError(f"expected a learning_rate above 0 and a weight_decay of at least 0, got {got}")
        self.tap, self.student = tap, checked_student(student)
        self.epochs, self.batch, self.seed = epochs, batch, seed
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.normalized = normalized
        self.register_buffer("channels_", None)
        self.register_module("student_", None)

    def settings(self) -> Settings:
        """Return everything that decides the student, and whether scores are stretched."""
        names = "tap", "student", "epochs", "batch", "learning_rate", "weight_decay", "normalized", "seed"
        return {name: getattr(self, name) for name in names}

    def taps(self) -> frozenset[str]:
        """Return the features that the student learns."""
        return frozenset({self.tap})

    @property
    def sweeps(self) -> int:
        """How often every image is shown."""
        return self.epochs

    def statistics(self) -> DistillationStatistics:
        """Return a student that has seen nothing."""
        training = StudentTraining(self.student, self.batch, self.learning_rate, self.weight_decay, self.seed)
        return DistillationStatistics(self.tap, training)

    def conclude(self, statistics: DistillationStatistics) -> None:
        """Keep a copy of the student.

        Raises:
            InputError: if it has seen no image.
        """
        statistics.training.finish()
        state = statistics.training.state()
        if not state:
            raise InputError(f"no image to fit {self.name} on: give a data set with at least one")
        self.channels_ = state["channels"]
        self.student_ = trained_student(self.student, state)

    def expect(self, state: Mapping[str, Tensor]) -> None:
        """Build the student that saved weights belong to."""
        if "channels_" in state:
            self.student_ = empty_student(self.student, int(state["channels_"]))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of training, in which the student stays as it is."""
        super().train(mode)
        if self.student_ is not None:
            self.student_.eval()
        return self

    def score(self, prediction: Prediction) -> Tensor:
        """Return the discrepancy (N, H, W), 0 or more, upsampled bilinearly with aligned corners.

        Raises:
            InputError: if it has not been fitted, or the features have another number of channels than then.
        """
        channels, teacher = int(fitted(self, self.channels_)), tapped(prediction, self.tap)
        if teacher.shape[1] != channels or self.student_ is None:
            raise InputError(
                f"{self.name} was fitted on {channels} channels of the tap {self.tap!r}, and this network gives "
                f"{teacher.shape[1]}: fit it for this network"
            )
        student = imitation(self.student_, _seen(prediction), (teacher.shape[-2], teacher.shape[-1]))
        maps = distillation_discrepancy(teacher, student)[:, None]
        score = functional.interpolate(maps, prediction.size, mode="bilinear", align_corners=True)[:, 0]
        return min_max_normalized(score) if self.normalized else score


def _seen(prediction: Prediction) -> Tensor:
    """Return the images (N, 3, h, w) as the network saw them."""
    return (image_of(prediction, _NAME) if prediction.passes is None else prediction.passes.image).float()
