"""Random changes of colour, light and sharpness, on whole batches where the network computes."""

import torch
from kornia.augmentation import ColorJiggle, RandomGamma, RandomGaussianBlur
from torch import Tensor, nn

__all__ = ["RandomColours", "mixed_styles"]

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 0.3, 0.3, 0.3, 0.03
_GAMMA = 0.5
_SIGMA = (0.3, 1.2)


class RandomColours(nn.Module):
    """Brightness, contrast, saturation, hue, gamma and blur, each with a strength of its own per image.

    Args:
        strength: factor on the usual ranges, in [0, 3]; 0 changes nothing.
        seed: with the step it decides what is drawn, so that a resumed run draws the same.
        style: probability that an image gets the colour statistics of another one, see ``mixed_styles``.
    """

    def __init__(self, strength: float, seed: int, style: float = 0.0) -> None:
        super().__init__()
        self.strength = strength
        self.seed = seed
        self.style = style
        brightness, contrast, saturation, hue = (strength * one for one in (_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE))
        spread = 1 + strength * _GAMMA
        self.changes = nn.Sequential(
            ColorJiggle(brightness, contrast, saturation, hue, p=0.8),
            RandomGamma((1 / spread, spread), p=0.5),
            RandomGaussianBlur((5, 5), (strength * _SIGMA[0], strength * _SIGMA[1]), p=0.2),
        )

    def forward(self, images: Tensor, step: int) -> Tensor:
        """Return changed copies of images (N, 3, h, w) in [0, 1]."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.seed * 1_000_003 + step)
            changed: Tensor = images if self.strength == 0 else self.changes(images).clamp(0, 1)
            return changed if self.style == 0 else mixed_styles(changed, self.style)


def mixed_styles(images: Tensor, chance: float) -> Tensor:
    """Return images (N, 3, h, w) in [0, 1], some with colours that are partly those of another image of the batch.

    Mean and standard deviation of each colour channel become weighted means of those of both images, the weight of the
    other one uniform in [0, 1].

    Args:
        images: what is changed.
        chance: probability of each image.

    Source: Reinhard et al., Color Transfer between Images, 2001, in RGB; mixed as in Zhou et al., MixStyle, ICLR 2021.
    """
    count = len(images)
    weight = torch.where(torch.rand(count) < chance, torch.rand(count), 0.0).to(images)[:, None, None, None]
    deviations, means = torch.std_mean(images, dim=(2, 3), keepdim=True, correction=0)
    other = torch.randperm(count)
    mean, deviation = (one.lerp(one[other], weight) for one in (means, deviations))
    return ((images - means) * (deviation / deviations.clamp(min=1e-3)) + mean).clamp(0, 1)
