import numpy as np
import pytest
import torch
from torch import Tensor

from strays.detectors.class_gaussians import ClassGaussians
from strays.errors import InputError

CLASSES, CHANNELS = 4, 5


def scene(count: int = 300, seed: int = 0, offset: float = 1e3) -> tuple[Tensor, Tensor]:
    """Vectors far from zero, where sums of squares would lose their digits; class 3 never occurs."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES - 1, (count,), generator=generator)
    labels[::7] = 255
    mixing = torch.randn(CHANNELS, CHANNELS, generator=generator)
    return torch.randn(count, CHANNELS, generator=generator) @ mixing + labels[:, None] % 5 + offset, labels


def gathered(shared: bool, *pieces: tuple[Tensor, Tensor]) -> ClassGaussians:
    made = ClassGaussians(shared)
    for vectors, labels in pieces:
        made.update(vectors, labels, CLASSES)
    return made


def test_moments_agree_with_numpy() -> None:
    vectors, labels = scene()
    made = gathered(False, (vectors, labels))
    pooled, everything = np.zeros((CHANNELS, CHANNELS)), vectors.double().numpy()[labels.numpy() != 255]
    for label in range(CLASSES - 1):
        own = vectors.double().numpy()[labels.numpy() == label]
        assert made.count[label] == len(own)
        np.testing.assert_allclose(made.means()[label], own.mean(0), rtol=1e-12)
        np.testing.assert_allclose(made.covariances()[label], np.cov(own.T, bias=True), rtol=1e-8)
        pooled += np.cov(own.T, bias=True) * len(own) / len(everything)
    np.testing.assert_allclose(made.pooled_covariance(), pooled, rtol=1e-8)
    np.testing.assert_allclose(made.pooled_mean(), everything.mean(0), rtol=1e-12)


def test_a_class_that_never_occurs_takes_the_pooled_statistics() -> None:
    made = gathered(False, scene())
    torch.testing.assert_close(made.means()[3], made.pooled_mean())
    torch.testing.assert_close(made.covariances()[3], made.pooled_covariance())


def test_a_class_with_too_few_vectors_for_a_covariance_takes_the_pooled_one() -> None:
    vectors, labels = scene()
    vectors, labels = torch.cat([vectors, vectors[:CHANNELS]]), torch.cat([labels, torch.full((CHANNELS,), 3)])
    made = gathered(False, (vectors, labels))
    torch.testing.assert_close(made.covariances()[3], made.pooled_covariance())
    torch.testing.assert_close(made.means()[3], vectors[:CHANNELS].double().mean(0))


def test_shared_statistics_are_those_of_the_classes_summed() -> None:
    own, shared = gathered(False, scene()), gathered(True, scene())
    assert shared.scatter.shape == (1, CHANNELS, CHANNELS)
    torch.testing.assert_close(shared.pooled_covariance(), own.pooled_covariance(), rtol=1e-10, atol=1e-10)
    with pytest.raises(InputError, match="shared=False"):
        shared.covariances()


@pytest.mark.parametrize("shared", [True, False])
def test_shards_equal_one_pass(shared: bool) -> None:
    pieces = [scene(seed=seed, count=50 + 20 * seed) for seed in range(5)]
    together = gathered(shared, *pieces)
    merged = ClassGaussians(shared)
    for shard in (pieces[3:], [], pieces[:1], pieces[1:3]):
        copy = ClassGaussians(shared)
        copy.restore(gathered(shared, *shard).state())
        merged.merge(copy)
    for name, value in together.state().items():
        torch.testing.assert_close(merged.state()[name], value, rtol=1e-9, atol=1e-9)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gathered(False, scene())
    monkeypatch.setattr("strays.detectors.class_gaussians._BLOCK", 17)
    torch.testing.assert_close(gathered(False, scene()).scatter, whole.scatter, rtol=1e-9, atol=1e-9)


def test_ignored_images_still_tell_the_classes() -> None:
    vectors, labels = scene()
    made = gathered(True, (vectors, torch.full_like(labels, 255)))
    assert made.count.tolist() == [0] * CLASSES
    made.update(vectors, labels, CLASSES)
    torch.testing.assert_close(made.scatter, gathered(True, (vectors, labels)).scatter)


def test_statistics_of_other_networks_are_refused() -> None:
    made = gathered(True, scene())
    other = ClassGaussians()
    other.update(torch.zeros(3, CHANNELS), torch.zeros(3, dtype=torch.long), CLASSES + 1)
    with pytest.raises(InputError, match="4 and of 5 classes"):
        made.merge(other)
    wider = ClassGaussians()
    wider.update(torch.zeros(3, CHANNELS + 1), torch.zeros(3, dtype=torch.long), CLASSES)
    with pytest.raises(InputError, match="5 and of 6 channels"):
        made.merge(wider)
