"""ODIN: the largest class probability after a small step of the image towards more confidence."""

import math

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors.base import Detector, Settings, class_logits, register_detector, upsampled
from strays.detectors.inputs import passes_of
from strays.detectors.msp import msp
from strays.detectors.reported import SMIYC, reported
from strays.detectors.tempered import checked_logits, checked_temperature, rival_log_odds
from strays.errors import InputError
from strays.networks.base import IMAGENET
from strays.prediction import Passes, Prediction

__all__ = ["Odin", "double_softmax_surprise", "odin_step", "surprise"]

_BENCHMARK = "DeepLabV3+ WideResNet38"


def surprise(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return -ln max_c softmax(z / T)_c, whose gradient tells ODIN where to step.

    Args:
        logits: (N, K, ...) class logits, K >= 2.
        temperature: T, above 0.

    Returns:
        (N, ...) in [0, ln K] nats, float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape or the temperature is wrong.

    Source: Liang et al., ICLR 2018, equation 2.

    Example:
        >>> surprise(torch.tensor([[0.0, 0.0], [20.0, 0.0]]))
        tensor([6.9315e-01, 2.0612e-09])
    """
    # Made of the odds of the others: gradients stay exact where the largest probability rounds to 1.
    return rival_log_odds(checked_logits(logits, temperature, classes=2), temperature).exp().sum(dim=1).log1p()


def double_softmax_surprise(logits: Tensor) -> Tensor:
    """Return the cross-entropy of the softmax output, taken for logits, with the predicted class.

    It is what the ODIN baseline of SegmentMeIfYouCan differentiates: a softmax of a softmax, without a temperature.

    Args:
        logits: (N, K, ...) class logits, K >= 2.

    Returns:
        (N, ...) in [ln(K - 1 + e) - 1, ln K] nats, float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape is wrong.

    Example:
        >>> double_softmax_surprise(torch.tensor([[0.0, 0.0], [20.0, 0.0]]))
        tensor([0.6931, 0.3133])
    """
    probabilities = torch.softmax(checked_logits(logits, 1.0, classes=2), dim=1)
    return torch.logsumexp(probabilities, dim=1) - probabilities.amax(dim=1)


def odin_step(image: Tensor, gradient: Tensor, step: float = 1e-4, reverse: bool = False) -> Tensor:
    """Return the images one step against the sign of a gradient, unclipped.

    Args:
        image: (N, 3, H, W) RGB in [0, 1].
        gradient: (N, 3, H, W), of a mean or a sum over the pixels of each image: its scale does not matter.
        step: in units of ImageNet's standard deviations, 0.229, 0.224 and 0.225 of the range of RGB.
        reverse: step along the gradient instead.

    Source: Liang et al., ICLR 2018, equation 2; the unit is that of the SegmentMeIfYouCan baseline.

    Example:
        >>> odin_step(torch.full((1, 3, 1, 1), 0.5), torch.tensor([-7.0, 0.0, 3.0]).view(1, 3, 1, 1), 0.1).flatten()
        tensor([0.5229, 0.5000, 0.4775])
    """
    deviations = torch.tensor(IMAGENET.std, dtype=image.dtype, device=image.device).view(3, 1, 1)
    return image + (step if reverse else -step) * deviations * gradient.sign()


@register_detector("odin")
class Odin(Detector):
    """One minus the largest class probability after a step of the image against the gradient of ``surprise``.

    The network runs three times: with gradients, back, and over the changed image; one image of a batch after
    another. Its weights and their gradients stay as they are.

    Reference:
        Liang, Li and Srikant, Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks,
        ICLR 2018, https://arxiv.org/abs/1706.02690

    Args:
        temperature: T, above 0, of both the gradient and the score.
        step: in units of ImageNet's standard deviations, 0 or more. Published steps are for images that are
            normalised so; networks of the library take RGB in [0, 1] and normalise it themselves, so that a step of
            1e-4 is one of about 2.3e-5 in RGB. It is the same for networks with another normalisation.
        smiyc: do what the SegmentMeIfYouCan baseline does: differentiate ``double_softmax_surprise`` instead, and
            step the other way, towards less confidence.

    Raises:
        InputError: if the temperature or the step is out of range.
    """

    card = Card(
        title="ODIN",
        summary="One minus the largest tempered class probability, after a small step of the image towards confidence.",
        paper="Liang et al., Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks, "
        "ICLR 2018",
        year=2018,
        url="https://arxiv.org/abs/1706.02690",
        needs=Needs(gradients=True),
        published=(
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.3306, "FPR95": 0.7168, "sIoU": 0.1953, "PPV": 0.1788, "F1*": 0.0515},
                _BENCHMARK,
                SMIYC,
            ),
            *reported(
                "RoadObstacle21 test",
                {"AP": 0.2212, "FPR95": 0.1528, "sIoU": 0.2162, "PPV": 0.1850, "F1*": 0.0937},
                _BENCHMARK,
                SMIYC,
            ),
            *reported(
                "LostAndFound-NoKnown test",
                {"AP": 0.5293, "FPR95": 0.3004, "sIoU": 0.3979, "PPV": 0.4933, "F1*": 0.3453},
                _BENCHMARK,
                SMIYC,
            ),
        ),
        notes="Temperature 3 and step 1e-4 are what SegmentMeIfYouCan tuned on Lost & Found; another common choice is "
        "odin:temperature=1,step=0.0005. The leaderboard's numbers come from its own code, which steps the wrong way "
        "along the gradient of a double softmax: odin:smiyc=true does the same.",
    )

    def __init__(self, temperature: float = 3.0, step: float = 1e-4, smiyc: bool = False) -> None:
        super().__init__()
        if not (step >= 0 and math.isfinite(step)):
            raise InputError(f"expected a step of 0 or more, got {step}: the sign is ODIN's own, 0 leaves the image")
        self.temperature = checked_temperature(temperature)
        self.step = float(step)
        self.smiyc = smiyc

    def settings(self) -> Settings:
        """Return temperature, step and variant."""
        return {"temperature": self.temperature, "step": self.step, "smiyc": self.smiyc}

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``msp`` (N, H, W) of what the network sees in the changed images.

        Raises:
            InputError: if the prediction cannot run its network again, or the network gives no gradients.
        """
        passes = passes_of(prediction, "odin")
        images = torch.split(passes.image, 1)
        return torch.cat([self._scored(passes, image, prediction.size) for image in images])

    def _scored(self, passes: Passes, image: Tensor, size: tuple[int, int]) -> Tensor:
        gradient = self._gradient(passes, image, size)
        seen = passes.again(odin_step(image, gradient, self.step, reverse=self.smiyc))
        return msp(upsampled(class_logits(seen), size), self.temperature)

    def _gradient(self, passes: Passes, image: Tensor, size: tuple[int, int]) -> Tensor:
        # A caller in inference mode forbids gradients altogether; leaving it gives a copy that may have them.
        with torch.inference_mode(False), torch.enable_grad():
            image = image.detach().clone().requires_grad_()
            logits = upsampled(class_logits(passes.again(image)), size)
            each = double_softmax_surprise(logits) if self.smiyc else surprise(logits, self.temperature)
            # The sum has the signs of the mean; divided by two million, small gradients would become 0.
            gradient = torch.autograd.grad(each.sum(), image, allow_unused=True)[0] if each.requires_grad else None
        if gradient is None:
            raise InputError(
                "the detector 'odin' steps along the gradient of the network with respect to the image, and this "
                "network gives none (one in an ONNX file never does): load it from PyTorch weights, or use msp"
            )
        return gradient
