"""Pasting, placing, and negatives from words."""

import inspect
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from strays.errors import InputError
from strays.negatives import NEGATIVES, Negative, build_negatives


@pytest.fixture
def negative() -> Negative:
    """2 x 3 pixels: two negatives, one that is pasted and counts nowhere, three that are not pasted."""
    return Negative(np.arange(18, dtype=np.uint8).reshape(2, 3, 3), np.uint8([[1, 0, 255], [0, 0, 1]]))


def test_pasting_writes_the_taken_pixels_and_nothing_else(patch, negative, unchanged) -> None:
    scene = patch((5, 6))
    before = unchanged(scene)
    mixed = negative.pasted(scene, 2, 1)
    for row in range(5):
        for column in range(6):
            inside = 2 <= row < 4 and 1 <= column < 4
            value = negative.mask[row - 2, column - 1] if inside else 0
            colour = negative.image[row - 2, column - 1] if value else [255] * 3
            assert mixed.image[row, column].tolist() == list(colour)
            assert mixed.mask[row, column] == value
            assert mixed.labels[row, column] == (255 if value else 3)
    before.check()
    assert mixed.image.flags.c_contiguous


def test_opacity_mixes_with_the_scene(patch, negative) -> None:
    opacity = np.full((2, 3), 0.25, np.float32)
    mixed = Negative(negative.image, negative.mask, opacity).pasted(patch((2, 3)), 0, 0)
    taken = negative.mask != 0
    expected = np.round(0.25 * negative.image[taken] + 0.75 * 255)
    np.testing.assert_array_equal(mixed.image[taken], expected)
    assert (mixed.image[~taken] == 255).all()
    np.testing.assert_array_equal(mixed.mask, negative.mask)


def test_every_place_where_it_fits_is_equally_likely(patch, negative) -> None:
    scene, random = patch((5, 5)), np.random.default_rng(0)
    places = Counter(
        tuple(int(one[0]) for one in np.nonzero(negative.placed(scene, random).mask == 255)) for _ in range(2400)
    )
    assert set(places) == {(top, left + 2) for top in range(4) for left in range(3)}
    assert stats.chisquare(list(places.values())).pvalue > 1e-3


def test_it_fits_or_not(negative) -> None:
    assert negative.size == (2, 3)
    assert negative.fits((2, 3))
    assert not negative.fits((1, 9))
    assert not negative.fits((9, 2))


@pytest.mark.parametrize("name", sorted(NEGATIVES))
def test_every_kind_is_described(name: str) -> None:
    kind = NEGATIVES[name]
    assert kind.card.summary.endswith(".")
    assert kind.card.year
    first, *others = inspect.signature(kind).parameters.values()
    assert first.kind is inspect.Parameter.POSITIONAL_ONLY
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in others)


def test_kinds_from_words(source, picture) -> None:
    source(picture((20, 20), (0, 0, 4, 4)))
    built = build_negatives(" objects:cut=union,side=0.2+0.4,flip=yes,count=1+3=some/a=b,c ")
    assert str(built.folder) == "some/a=b,c"
    assert (built.cut, built.side, built.flip, built.count) == ("union", (0.2, 0.4), True, (1, 3))
    assert build_negatives("patches:whole=0,area=50=x").area == (50, 50)
    assert build_negatives("whole:exclude=none,zoom=0=x").zoom == (0, 0)
    assert len(build_negatives("void")) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "expected negatives as KIND=DIR"),
        ("object=x", "no kind of negatives is called 'object'; did you mean 'objects'"),
        ("objects", "objects needs a folder of images to cut from: write objects=DIR"),
        ("patches:area=3", "patches needs a folder"),
        ("void=x", "void takes no folder"),
        ("objects=no/such/folder", "no folder no/such/folder"),
        ("objects:cutt=union=x", "objects has no setting 'cutt'; did you mean 'cut'"),
        ("objects:folder=y=x", "objects has no setting 'folder'"),
        ("objects:cut=half=x", "objects: cut is 'half'"),
        ("objects:side=2=x", "objects: side: expected LOW.HIGH, two numbers from 1e-06 to 1"),
        ("objects:side=0.6+0.1=x", "objects: side: expected"),
        ("objects:count=0+1=x", "objects: count: expected LOW.HIGH, two whole numbers from 1"),
        ("objects:window=0=x", "objects: window is 0, expected a whole number from 1"),
        ("objects:rectangle=1.5=x", "objects: rectangle: expected"),
        ("patches:whole=2=x", "patches: whole: expected"),
        ("patches:area=0.5=x", "patches: area: expected"),
        ("whole:zoom=big=x", "whole: zoom: expected"),
    ],
)
def test_wrong_words_say_what_is_wrong(words: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_negatives(words)
