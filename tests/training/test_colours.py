"""Random colours: none, some, the same again, and nobody else's chance disturbed."""

import pytest
import torch
from torch import Tensor

from strays.training.colours import RandomColours, mixed_styles


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


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.mean(dim=(2, 3)), images.std(dim=(2, 3), correction=0)


def test_styles_lie_between_those_of_two_images() -> None:
    torch.manual_seed(0)
    images = 0.35 + 0.3 * torch.rand(6, 3, 16, 16) * torch.rand(6, 3, 1, 1)
    means, deviations = statistics(images)
    found_means, found_deviations = statistics(mixed_styles(images, 1.0))
    between = 0
    for mean, deviation, own, spread in zip(found_means, found_deviations, means, deviations, strict=True):
        # The share that moves the first mean on the way to the other image moves all the other numbers too.
        shares = [(mean[0] - own[0]) / (other[0] - own[0]) for other in means]
        between += any(
            torch.allclose(mean, own.lerp(other, share), atol=1e-3)
            and torch.allclose(deviation, spread.lerp(wide, share), atol=1e-3)
            for share, other, wide in zip(shares, means, deviations, strict=True)
            if share.isfinite()
        )
    assert between >= 5
    assert not torch.allclose(found_means, means)


def test_styles_keep_what_is_shown(images: Tensor) -> None:
    torch.manual_seed(0)
    mixed = mixed_styles(0.4 + 0.2 * images, 1.0)
    for one, other in zip(mixed.flatten(0, 1), images.flatten(0, 1), strict=True):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.999


def test_no_chance_no_other_style(images: Tensor) -> None:
    torch.testing.assert_close(mixed_styles(images, 0.0), images)
    assert torch.equal(RandomColours(0, seed=1, style=0)(images, 5), images)
    assert not torch.equal(RandomColours(0, seed=1, style=1)(images, 5), images)


def test_a_plain_image_stays_finite() -> None:
    assert mixed_styles(torch.full((2, 3, 4, 4), 0.5), 1.0).isfinite().all()
