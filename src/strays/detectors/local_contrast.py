"""Local contrast of the image: what any anomaly map should beat."""

import torch
from torch import Tensor
from torch.nn import functional

from strays.cards import Card, Needs
from strays.detectors.base import Detector, Settings, register_detector, upsampled
from strays.detectors.inputs import image_of
from strays.errors import InputError
from strays.prediction import Prediction

__all__ = ["LocalContrast", "local_contrast"]

_LUMA = (0.299, 0.587, 0.114)


def local_contrast(image: Tensor, window: int = 63) -> Tensor:
    """Return the standard deviation of the luma in a square window around every pixel.

    Of the window only what lies inside the image counts, so that borders make no contrast of their own.

    Args:
        image: (N, 3, H, W) RGB in [0, 1]; luma is 0.299 R + 0.587 G + 0.114 B.
        window: side of the window in pixels, odd, 3 or more.

    Returns:
        (N, H, W) in [0, 1/2], float32, or float64 for a float64 image.

    Raises:
        InputError: if the shape or the window is wrong.

    Source: the root-mean-square contrast that Peli, 1990, discusses, in a window instead of the whole image.

    Example:
        >>> step = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).expand(1, 3, 4, 6)
        >>> local_contrast(step, window=3)[0, 0].round(decimals=4)
        tensor([0.0000, 0.0000, 0.4714, 0.4714, 0.0000, 0.0000])
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise InputError(f"expected RGB images (N, 3, H, W) in [0, 1], got {tuple(image.shape)}")
    window = _checked_window(window)
    weights = torch.tensor(_LUMA, dtype=torch.float64, device=image.device)
    # float64, because the difference of two nearly equal squares loses half of the digits
    luma = torch.einsum("c,nchw->nhw", weights, image.double())
    variance = _window_mean(luma.square(), window) - _window_mean(luma, window).square()
    contrast = variance.clamp_min(0).sqrt()
    return contrast if image.dtype == torch.float64 else contrast.float()


def _window_mean(maps: Tensor, window: int) -> Tensor:
    """Return the mean of maps (N, H, W) over that part of the window that lies inside the image."""
    along_rows = _running_mean(maps, window)
    return _running_mean(along_rows.transpose(1, 2), window).transpose(1, 2)


def _running_mean(values: Tensor, window: int) -> Tensor:
    """Return the mean over the window along the last axis; the cost does not depend on the window."""
    places = torch.arange(values.shape[-1], device=values.device)
    first = (places - window // 2).clamp_min(0)
    end = (places + window // 2 + 1).clamp_max(values.shape[-1])
    sums = functional.pad(values.cumsum(dim=-1), (1, 0))
    return (sums[..., end] - sums[..., first]) / (end - first)


def _checked_window(window: int) -> int:
    if window < 3 or window % 2 == 0:
        raise InputError(f"expected an odd window of 3 pixels or more, got {window}: it has a pixel in its middle")
    return window


@register_detector("local-contrast")
class LocalContrast(Detector):
    """Standard deviation of the image's luma in a window; it knows nothing about the network.

    A floor for tables: whatever a detector scores above this, it owes to more than texture and edges. The standard
    deviation is the plainest measure of contrast that needs no choice of frequencies, as a difference of Gaussians
    would, and that does not blow up the noise of dark pixels, as a division by the local mean would.

    Reference:
        Peli, Contrast in complex images, Journal of the Optical Society of America A 7(10), 1990,
        https://doi.org/10.1364/JOSAA.7.002032

    Args:
        window: side of the window in pixels of the image, odd, 3 or more.

    Raises:
        InputError: if the window is even or too small.
    """

    card = Card(
        title="Local contrast",
        summary="Standard deviation of the image's luma in a window, whatever the network says.",
        paper="Peli, Contrast in complex images, Journal of the Optical Society of America A, 1990",
        year=1990,
        url="https://doi.org/10.1364/JOSAA.7.002032",
        needs=Needs(image=True),
        notes="A floor that tables show; the paper is about contrast and does not detect anomalies. The window is our "
        "choice, of 7 to 127 pixels about the best on real validation frames: a floor may flatter itself.",
    )

    def __init__(self, window: int = 63) -> None:
        super().__init__()
        self.window = _checked_window(window)

    def settings(self) -> Settings:
        """Return the window."""
        return {"window": self.window}

    def score(self, prediction: Prediction) -> Tensor:
        """Return ``local_contrast`` (N, H, W) of the image.

        Raises:
            InputError: if the prediction has no image.
        """
        contrast = local_contrast(image_of(prediction, "local-contrast"), self.window)
        return upsampled(contrast[:, None], prediction.size)[:, 0]
