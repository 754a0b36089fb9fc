"""A batch in which every kind of pixel occurs."""

import pytest
import torch
from torch import Tensor

from strays.taxonomy import IGNORE

CLASSES = 3


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Labels and mask: classes on the left, negatives on the right, void below."""
    labels = torch.randint(0, CLASSES, (2, 8, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mask = torch.zeros_like(labels)
    mask[:, :6, 8:] = 1
    labels[:, 6:] = IGNORE
    return labels.masked_fill(mask == 1, IGNORE), mask
