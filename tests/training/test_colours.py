"""Random colours: none, some, the same again, and nobody else's chance disturbed."""

import pytest
import torch
from torch import Tensor

from strays.training.colours import RandomColours


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 12, 16, generator=torch.Generator().manual_seed(0))


def test_strength_zero_changes_nothing(images: Tensor) -> None:
    assert torch.equal(RandomColours(0, seed=1)(images, 5), images)


@pytest.mark.parametrize("strength", [0.1, 1.0, 3.0])
def test_what_comes_out_is_a_changed_copy_in_range(images: Tensor, strength: float) -> None:
    before = images.clone()
    changed = RandomColours(strength, seed=1)(images, 5)
    assert torch.equal(images, before)
    assert changed.shape == images.shape
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.equal(changed, images)


def test_little_strength_changes_little(images: Tensor) -> None:
    colours = RandomColours(0.01, seed=1)
    assert max(float((colours(images, step) - images).abs().max()) for step in range(8)) < 0.02


def test_seed_and_step_decide(images: Tensor) -> None:
    first = RandomColours(1, seed=1)(images, 5)
    torch.manual_seed(99)
    torch.rand(17)
    assert torch.equal(RandomColours(1, seed=1)(images, 5), first)
    assert not torch.equal(RandomColours(1, seed=1)(images, 6), first)
    assert not torch.equal(RandomColours(1, seed=2)(images, 5), first)


def test_every_image_draws_its_own(images: Tensor) -> None:
    same = images[:1].repeat(4, 1, 1, 1)
    changed = RandomColours(1, seed=1)(same, 5)
    assert len({float(one.sum()) for one in changed}) == 4


def test_the_chance_of_others_goes_on_undisturbed(images: Tensor) -> None:
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    RandomColours(1, seed=1)(images, 5)
    assert torch.equal(torch.rand(5), expected)
