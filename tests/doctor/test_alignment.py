"""Masks on the wrong images, and masks that only look so."""

import numpy as np
from numpy.typing import NDArray

from strays.doctor.alignment import MOST_FRAMES, Evidence, copied, evidence, misplaced

Array = NDArray[np.uint8]


def scenes(count: int, seed: int = 0, size: tuple[int, int] = (90, 150)) -> list[tuple[Array, Array]]:
    """Noisy pictures with one bright disc each, and its mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    made = []
    for _ in range(count):
        centre, radius = rng.uniform((25, 25), (65, 125)), rng.uniform(10, 20)
        disc = np.hypot(rows - centre[0], columns - centre[1]) < radius
        picture = rng.integers(60, 90, (*size, 3)) + 70 * disc[..., None]
        made.append((picture.astype(np.uint8), disc.astype(np.uint8)))
    return made


def kept(made: list[tuple[Array, Array]], order: list[int]) -> list[Evidence]:
    """The evidence where frame n has the mask of frame ``order[n]``."""
    found = [evidence(made[index][0], made[other][1]) for index, other in enumerate(order)]
    assert all(one is not None for one in found)
    return [one for one in found if one is not None]


def test_masks_that_lie_right_stay() -> None:
    for seed in range(5):
        frames = kept(scenes(12, seed), list(range(12)))
        assert misplaced(frames) == []
        assert copied(frames) == []


def test_every_permutation_is_undone() -> None:
    made = scenes(9, seed=3)
    for order in ([1, 0, *range(2, 9)], [2, 0, 1, *range(3, 9)], [*range(1, 9), 0]):
        right = {index: order.index(index) for index in range(9) if order[index] != index}
        assert dict(misplaced(kept(made, order))) == right


def test_a_copied_mask_belongs_to_the_image_it_fits() -> None:
    frames = kept(scenes(6, seed=1), [0, 1, 2, 3, 1, 5])
    assert copied(frames) == [(4, 1)]


def test_frames_of_different_sizes_are_not_exchanged() -> None:
    made = [*scenes(3), *scenes(3, seed=4, size=(150, 90))]
    assert misplaced(kept(made, list(range(6)))) == []


def test_noise_says_nothing() -> None:
    """Pictures that have nothing to do with their masks, and short outlines: any assignment fits as well."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        frames = []
        for _ in range(8):
            mask = np.zeros((40, 60), np.uint8)
            top, left = rng.integers(0, (28, 46))
            mask[top : top + 12, left : left + 14] = 1
            one = evidence(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8), mask)
            assert one is not None
            frames.append(one)
        assert misplaced(frames) == []
        assert copied(frames) == []


def test_what_is_not_compared() -> None:
    picture = np.zeros((8, 9, 3), np.uint8)
    assert evidence(picture, np.zeros((8, 9), np.uint8)) is None
    assert evidence(picture, np.ones((4, 9), np.uint8)) is None
    one = evidence(picture, np.eye(8, 9, dtype=np.uint8))
    assert one is not None
    assert misplaced([one]) == misplaced([]) == misplaced([one] * (MOST_FRAMES + 1)) == []


def test_edges_are_ranks() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:, 3:] = 200
    one = evidence(picture, np.eye(4, 6, dtype=np.uint8))
    assert one is not None
    # 4 of 24 cells hold the step: the others share the lower 20/24 of the ranks, their middle is 10/24.
    assert (one.edges[:, 2] == int(255 * 22 / 24)).all()
    assert (one.edges[:, :2] == int(255 * 10 / 24)).all()
