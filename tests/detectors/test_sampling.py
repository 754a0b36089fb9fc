"""Samples do not depend on order, shards or restarts, and every pixel is equally likely."""

import numpy as np
import pytest
import torch

from strays.detectors.sampling import PixelSample, pixel_keys
from strays.errors import InputError

IMAGES, PIXELS, CHANNELS = 6, 200, 3


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    """Vectors that tell which pixel of which image they are."""
    numbers = torch.arange(IMAGES * PIXELS, dtype=torch.float32).reshape(IMAGES, PIXELS, 1)
    return numbers.expand(-1, -1, CHANNELS).contiguous()


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (IMAGES, PIXELS), generator=generator)
    return labels.masked_fill(torch.rand(labels.shape, generator=generator) < 0.2, 255)


def filled(vectors, labels, images, count=50, **settings) -> PixelSample:
    sample = PixelSample(count, **settings)
    for image in images:
        sample.update(vectors[image : image + 1], labels[image : image + 1], image)
    return sample


@pytest.mark.parametrize("settings", [{}, {"classes": 3}, {"seed": 7}])
def test_order_and_shards_do_not_matter(vectors, labels, settings) -> None:
    whole = filled(vectors, labels, range(IMAGES), **settings)
    batch = PixelSample(50, **settings)
    batch.update(vectors, labels, 0)
    first, second = filled(vectors, labels, (5, 1, 3), **settings), filled(vectors, labels, (2, 0, 4), **settings)
    restored = PixelSample(50, **settings)
    restored.restore(first.state())
    restored.merge(second)
    for other in (batch, restored):
        assert torch.equal(other.vectors, whole.vectors)
        assert torch.equal(other.labels, whole.labels)
        assert other.seen == whole.seen == int((labels != 255).sum())


def test_vectors_keep_their_labels_and_ignored_pixels_are_left_out(vectors, labels) -> None:
    sample = filled(vectors, labels, range(IMAGES))
    assert sample.vectors.shape == (50, CHANNELS)
    assert torch.equal(labels.flatten()[sample.vectors[:, 0].long()], sample.labels)
    assert len(sample.vectors[:, 0].unique()) == 50
    assert not (sample.labels == 255).any()


def test_a_balanced_sample_gives_each_class_its_share(vectors) -> None:
    rare = torch.zeros(IMAGES, PIXELS, dtype=torch.long)
    rare[:, :3], rare[0, 100] = 1, 2
    sample = filled(vectors, rare, range(IMAGES), count=30, classes=3)
    assert sample.labels.bincount().tolist() == [10, 10, 1]


def test_valid_pixels_may_be_stated(vectors, labels) -> None:
    sample = PixelSample(1000)
    sample.update(vectors, labels, 0, valid=labels == 255)
    assert len(sample.vectors) == sample.seen == int((labels == 255).sum())


def test_every_pixel_is_equally_likely(vectors) -> None:
    nothing_ignored = torch.zeros(IMAGES, PIXELS, dtype=torch.long)
    hits = np.zeros(IMAGES * PIXELS)
    for seed in range(200):
        chosen = filled(vectors, nothing_ignored, range(IMAGES), count=120, seed=seed).vectors[:, 0].long().numpy()
        hits[chosen] += 1
    expected = 200 * 120 / hits.size
    chi_square = ((hits - expected) ** 2 / (expected * (1 - 120 / hits.size))).sum()
    assert abs(chi_square - hits.size) < 5 * np.sqrt(2 * hits.size)


def test_keys_differ_between_pixels_images_and_seeds() -> None:
    pixels = np.arange(1000)
    keys = [pixel_keys(seed, index, pixels) for seed in range(3) for index in range(50)]
    assert np.unique(np.concatenate(keys)).size == 150_000


def test_an_empty_sample() -> None:
    sample = PixelSample(5)
    sample.update(torch.zeros(1, 4, 2), torch.full((1, 4), 255), 0)
    assert len(sample.vectors) == sample.seen == 0
    again = PixelSample(5)
    again.restore(sample.state())
    again.merge(sample)
    assert len(again.vectors) == 0
    with pytest.raises(InputError, match="at least 1"):
        PixelSample(0)
