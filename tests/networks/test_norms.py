"""Batch norm of averages: PyTorch's, but for a batch with one value per channel."""

import pytest
import torch
from torch import Tensor, nn

from strays.networks.ladder_densenet import LadderDenseNet
from strays.networks.norms import NormOfMeans
from strays.networks.pspnet import PyramidPooling


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_a_single_value_is_normalised_by_the_running_statistics_and_leaves_them() -> None:
    norm, expected = NormOfMeans(4), nn.BatchNorm2d(4).eval()
    for one in (norm, expected):
        one.running_mean.fill_(0.3)
        one.running_var.fill_(2.0)
    torch.testing.assert_close(norm(random(1, 4, 1, 1)), expected(random(1, 4, 1, 1)))
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (1, 4, 1, 2)])
def test_of_several_it_learns(shape: tuple[int, ...]) -> None:
    norm, expected = NormOfMeans(4), nn.BatchNorm2d(4)
    torch.testing.assert_close(norm(random(*shape)), expected(random(*shape)))
    torch.testing.assert_close(norm.running_var, expected.running_var)


@pytest.mark.parametrize(
    ("pooling", "shape"),
    [(PyramidPooling(8), (1, 8, 6, 7)), (LadderDenseNet(classes=3).pooling, (1, 1024, 4, 4))],
    ids=["pspnet", "ladder-densenet"],
)
def test_a_pooling_with_one_cell_trains_on_one_image(pooling: nn.Module, shape: tuple[int, ...]) -> None:
    pooling.train()
    pooling(random(*shape)).sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in pooling.parameters())
