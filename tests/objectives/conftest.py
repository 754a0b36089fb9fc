"""Batches of 2 x 6 x 8 pixels and four classes, in which every kind of pixel occurs."""

import pytest
import torch
from torch import Tensor

from strays.taxonomy import IGNORE

CLASSES = 4
SIZE = (6, 8)


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(2, CLASSES, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def mask() -> Tensor:
    drawn = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(1))
    return torch.where(drawn < 0.3, 1, torch.where(drawn > 0.9, IGNORE, 0)).to(torch.uint8)


@pytest.fixture
def labels() -> Tensor:
    """Labels also where the mask says otherwise, so that it is seen which one counts."""
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randint(0, CLASSES, (2, *SIZE), generator=generator)
    return torch.where(torch.rand(drawn.shape, generator=generator) < 0.3, IGNORE, drawn).to(torch.uint8)
