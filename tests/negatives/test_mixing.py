"""Mixtures: how many patches get a negative, of which kind, and void pixels on top of all."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from strays.errors import InputError
from strays.negatives import Mixture, Patch, build_negatives
from strays.negatives.base import Negative, PastedNegatives


class Dots(PastedNegatives):
    """One pixel of a colour, as if from so many images."""

    def __init__(self, colour: int, length: int) -> None:
        self.colour = colour
        self.length = length

    def __len__(self) -> int:
        return self.length

    def sample(self, random: np.random.Generator, size: tuple[int, int]) -> Negative:
        return Negative(np.full((1, 1, 3), self.colour, np.uint8), np.ones((1, 1), np.uint8))


def test_kinds_are_drawn_in_proportion_to_their_lengths(patch) -> None:
    mixture, scene, random = Mixture([Dots(1, 3), Dots(2, 1)], 0.6), patch((3, 3)), np.random.default_rng(0)
    found = Counter(int(mixture.mix(scene, random).image.min()) for _ in range(2000))
    assert set(found) == {1, 2, 255}
    assert stats.chisquare([found[255], found[1], found[2]], [800, 900, 300]).pvalue > 1e-3


@pytest.mark.parametrize("mixture", [Mixture([], 1.0), Mixture([Dots(1, 3)], 0.0), Mixture([], 0.0)])
def test_without_kinds_or_share_a_patch_stays_as_it_is(patch, mixture: Mixture) -> None:
    scene = patch((3, 3))
    assert mixture.mix(scene, np.random.default_rng(0)) is scene


def test_a_share_of_one_is_always(patch) -> None:
    mixture, scene, random = Mixture([Dots(1, 3)], 1), patch((3, 3)), np.random.default_rng(0)
    assert all((mixture.mix(scene, random).mask == 1).any() for _ in range(100))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_no_probability(share: float) -> None:
    with pytest.raises(InputError, match=r"share of patches with a negative in \[0, 1\], got"):
        Mixture([], share)


def partly_labelled() -> Patch:
    labels = np.uint8([[1, 1, 255, 255], [2, 2, 255, 255]])
    mask = np.uint8([[0, 0, 0, 255], [0, 0, 0, 255]])
    return Patch(np.full((2, 4, 3), 9, np.uint8), labels, mask)


def test_void_is_what_has_no_class_and_shows_the_scene(unchanged) -> None:
    scene = partly_labelled()
    before = unchanged(scene)
    mixed = build_negatives("void").mix(scene, np.random.default_rng(0))
    assert mixed.mask.tolist() == [[0, 0, 1, 255], [0, 0, 1, 255]]
    assert mixed.mask.dtype == np.uint8
    np.testing.assert_array_equal(mixed.labels, scene.labels)
    np.testing.assert_array_equal(mixed.image, scene.image)
    before.check()


@pytest.mark.parametrize("share", [0, 1])
@pytest.mark.parametrize("first", [True, False])
def test_void_comes_on_top_in_whatever_order(share: int, first: bool) -> None:
    void, dots = build_negatives("void"), Dots(1, 3)
    mixture = Mixture([void, dots] if first else [dots, void], share)
    mixed = mixture.mix(partly_labelled(), np.random.default_rng(0))
    assert (mixed.mask[:, 2] == 1).all()
    assert int((mixed.image == 1).all(-1).sum()) == share
    assert (mixed.mask[(mixed.image == 1).all(-1)] == 1).all()


def test_what_a_whole_image_does_not_count_is_not_void() -> None:
    class Around(Dots):
        def sample(self, random: np.random.Generator, size: tuple[int, int]) -> Negative:
            mask = np.full(size, 255, np.uint8)
            mask[0, 0] = 1
            return Negative(np.zeros((*size, 3), np.uint8), mask)

    mixed = Mixture([build_negatives("void"), Around(1, 1)], 1).mix(partly_labelled(), np.random.default_rng(0))
    assert mixed.mask.tolist() == [[1, 255, 255, 255], [255] * 4]


def test_the_same_seed_gives_the_same_bytes(patch) -> None:
    mixture, scene = Mixture([Dots(1, 3), Dots(2, 1)], 0.5), patch((9, 9))
    randoms = [np.random.default_rng(seed) for seed in (5, 5)]
    for _ in range(20):
        one, two = (mixture.mix(scene, random) for random in randoms)
        assert one.image.tobytes() == two.image.tobytes()
