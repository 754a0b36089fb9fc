"""Blurred free energy, the score of PEBAL."""

from torch import Tensor

from strays.cards import Card
from strays.detectors.base import Detector, Settings, class_logits, register_detector, upsampled
from strays.detectors.energy import energy
from strays.detectors.reported import FISHYSCAPES, SMIYC, reported
from strays.detectors.tempered import checked_temperature
from strays.kernels.gaussian import gaussian_blurred, gaussian_window
from strays.prediction import Prediction

__all__ = ["Pebal", "blurred_energy"]

_NETWORK = "DeepLabV3+ WideResNet-38, trained with PEBAL"
_LISTED = "as its repository or papers that compare with it list it"


def blurred_energy(logits: Tensor, temperature: float = 1.0, sigma: float = 1.0, kernel: int = 7) -> Tensor:
    """Return the free energy -T ln sum_c exp(z_c / T), blurred by a Gaussian whose edges are mirrored.

    Args:
        logits: (N, K, H, W) class logits at full resolution, without a channel for void or abstention.
        temperature: T, above 0.
        sigma: standard deviation of the Gaussian in pixels, above 0.
        kernel: its weights in each direction, odd; 1 blurs nothing.

    Returns:
        (N, H, W), unbounded, float32, or float64 for float64 logits.

    Raises:
        InputError: if the shape, the temperature or the Gaussian is wrong, or the map no larger than ``kernel`` // 2.

    Source: Tian et al., ECCV 2022; the blur is that of the authors' code.

    Example:
        >>> import torch
        >>> blurred_energy(torch.zeros(1, 2, 4, 4))[0, 0]
        tensor([-0.6931, -0.6931, -0.6931, -0.6931])
    """
    return gaussian_blurred(energy(logits, temperature), sigma, kernel)


@register_detector("pebal")
class Pebal(Detector):
    """Free energy of the class logits at full resolution, blurred; the score of networks trained with PEBAL.

    Reference:
        Tian et al., Pixel-wise Energy-biased Abstention Learning for Anomaly Segmentation on Complex Urban Driving
        Scenes, ECCV 2022, https://arxiv.org/abs/2111.12264

    Args:
        temperature: above 0.
        sigma: standard deviation of the Gaussian in pixels of the image, above 0.
        kernel: its weights in each direction, odd.

    Raises:
        InputError: if one of them is out of its range.
    """

    card = Card(
        title="PEBAL",
        summary="Minus the log-sum-exp of the class logits, blurred by a Gaussian.",
        paper="Tian et al., Pixel-wise Energy-biased Abstention Learning for Anomaly Segmentation on Complex Urban "
        "Driving Scenes, ECCV 2022",
        year=2022,
        url="https://arxiv.org/abs/2111.12264",
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.4417, "FPR95": 0.0758}, _NETWORK, FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.9238, "FPR95": 0.0173}, _NETWORK, FISHYSCAPES),
            *reported(
                "Fishyscapes Lost & Found validation",
                {"AP": 0.5881, "AUROC": 0.9896, "FPR95": 0.0476},
                _NETWORK,
                _LISTED,
            ),
            *reported("Fishyscapes Static validation", {"FPR95": 0.0152}, _NETWORK, _LISTED),
            *reported("Lost and Found test", {"AP": 0.7829, "FPR95": 0.0081}, _NETWORK, _LISTED),
            *reported("RoadAnomaly", {"AP": 0.4510, "FPR95": 0.4458}, _NETWORK, _LISTED),
            *reported("RoadAnomaly", {"FPR95": 0.2829}, "DeepLabV3+ ResNet-101, trained with PEBAL", _LISTED),
            *reported(
                "RoadAnomaly21 test",
                {"AP": 0.4914, "FPR95": 0.4082, "sIoU": 0.3888, "PPV": 0.2720, "F1*": 0.1448},
                protocol=SMIYC,
            ),
        ),
        notes="All that sets it apart from energy is the blur, 7 x 7 with a sigma of 1; the channel for abstention is "
        "not read. The published numbers belong to networks trained with PEBAL and objects of COCO; their FPR95 is "
        "read where the recall is closest to 0.95. The released weights do not give the row of Lost and Found, which "
        "its authors ascribe to other ones.",
    )

    def __init__(self, temperature: float = 1.0, sigma: float = 1.0, kernel: int = 7) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)
        self.sigma, self.kernel = float(sigma), kernel
        gaussian_window(self.sigma, self.kernel)

    def settings(self) -> Settings:
        """Return the temperature and the Gaussian."""
        return {"temperature": self.temperature, "sigma": self.sigma, "kernel": self.kernel}

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``blurred_energy`` (N, H, W) of the upsampled class logits."""
        logits = upsampled(class_logits(prediction), prediction.size)
        return blurred_energy(logits, self.temperature, self.sigma, self.kernel)
