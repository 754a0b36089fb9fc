"""Random changes of colour, light and sharpness, on whole batches where the network computes."""

import torch
from kornia.augmentation import ColorJiggle, RandomGamma, RandomGaussianBlur
from torch import Tensor, nn

__all__ = ["RandomColours"]

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 0.3, 0.3, 0.3, 0.03
_GAMMA = 0.5
_SIGMA = (0.3, 1.2)


class RandomColours(nn.Module):
    """Brightness, contrast, saturation, hue, gamma and blur, each with a strength of its own per image.

    Args:
        strength: factor on the usual ranges, in [0, 3]; 0 changes nothing.
        seed: with the step it decides what is drawn, so that a resumed run draws the same.
    """

    def __init__(self, strength: float, seed: int) -> None:
        super().__init__()
        self.strength = strength
        self.seed = seed
        brightness, contrast, saturation, hue = (strength * one for one in (_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE))
        spread = 1 + strength * _GAMMA
        self.changes = nn.Sequential(
            ColorJiggle(brightness, contrast, saturation, hue, p=0.8),
            RandomGamma((1 / spread, spread), p=0.5),
            RandomGaussianBlur((5, 5), (strength * _SIGMA[0], strength * _SIGMA[1]), p=0.2),
        )

    def forward(self, images: Tensor, step: int) -> Tensor:
        """Return changed copies of images (N, 3, h, w) in [0, 1]."""
        if self.strength == 0:
            return images
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.seed * 1_000_003 + step)
            changed: Tensor = self.changes(images)
        return changed.clamp(0, 1)
