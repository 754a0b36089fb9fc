"""Batch norm where a batch may hold one value per channel."""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NormOfMeans"]


class NormOfMeans(nn.BatchNorm2d):
    """Batch norm over averages of images; a single one has no variance, so in training its running statistics count."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (N, C, h, w) normalised."""
        if not (self.training and input.numel() == input.shape[1]):
            return super().forward(input)
        return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
