"""Windows, one after another in float64: where they lie, and what they give together."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from strays.errors import InputError
from strays.networks.sliding_window import SlidingWindow, window_starts
from toy_networks import Toy, bilinear, image, looked_at

TAPS = ("encoder", "decoder")


def starts(size: int, window: int, stride: int) -> list[int]:
    found, start = [], 0
    while start + window < size:
        found.append(start)
        start += stride
    return [*found, max(0, size - window)]


@pytest.mark.parametrize("window", [1, 4, 5, 12])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_windows_cover_the_side_and_end_with_it(window: int, stride: int) -> None:
    stride = min(stride, window)
    for size in range(1, 30):
        found = window_starts(size, window, stride)
        assert found == starts(size, window, stride)
        assert {pixel for start in found for pixel in range(start, start + window)} >= set(range(size))
        assert found[-1] + window == max(size, window)
        assert len(found) == len(set(found))


def test_cityscapes_as_segmenter_has_it() -> None:
    assert window_starts(2048, 768, 512) == [0, 512, 1024, 1280]
    assert window_starts(1024, 768, 512) == [0, 256]


def stitched(base: Toy, size: tuple[int, int], window: int, stride: int, name: str, cell: int) -> NDArray[np.float64]:
    """The mean at every cell of the windows that show it; maps of windows are brought to ``cell`` pixels per cell."""
    seen, shown = image(*size), [min(window, side) for side in size]
    values: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    for top in starts(size[0], window, stride):
        for left in starts(size[1], window, stride):
            part = seen[:, :, top : top + shown[0], left : left + shown[1]]
            maps = bilinear(looked_at(base, part, TAPS)[name], (shown[0] // cell, shown[1] // cell))
            for y, x in np.ndindex(*maps.shape[-2:]):
                values.setdefault((y + top // cell, x + left // cell), []).append(maps[..., y, x])
    rows = [[np.mean(values[y, x], axis=0) for x in range(size[1] // cell)] for y in range(size[0] // cell)]
    return np.array(rows).transpose(2, 3, 0, 1)


@pytest.mark.parametrize("size", [(16, 32), (21, 27), (9, 30), (30, 9)])
@pytest.mark.parametrize(("window", "stride"), [(12, 8), (10, 7), (9, 9)])
def test_logits_are_averaged_at_every_pixel(size: tuple[int, int], window: int, stride: int) -> None:
    base = Toy(outlier=True)
    found = looked_at(SlidingWindow(base, window, stride), image(*size))
    for name in ("logits", "outlier_logits"):
        assert found[name].shape[-2:] == size
        expected = stitched(base, size, window, stride, name, cell=1)
        np.testing.assert_allclose(found[name], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("tap", "cell"), [("encoder", 4), ("decoder", 2)])
@pytest.mark.parametrize("size", [(16, 32), (24, 20), (8, 28)])
def test_features_are_averaged_at_their_own_stride(tap: str, cell: int, size: tuple[int, int]) -> None:
    base = Toy()
    found = looked_at(SlidingWindow(base, 12, 8), image(*size), (tap,))[tap]
    assert found.shape[-2:] == (size[0] // cell, size[1] // cell)
    np.testing.assert_allclose(found, stitched(base, size, 12, 8, tap, cell), rtol=1e-11, atol=1e-11)


def test_a_side_that_is_not_cut_may_have_any_length() -> None:
    found = looked_at(SlidingWindow(Toy(), 12, 8), image(7, 20), TAPS)
    assert found["encoder"].shape[-2:] == (2, 5)
    assert found["decoder"].shape[-2:] == (4, 10)


@pytest.mark.parametrize("size", [(16, 16), (12, 16), (5, 7)])
def test_an_image_that_fits_is_passed_whole(size: tuple[int, int]) -> None:
    plain = looked_at(Toy(outlier=True), image(*size), TAPS)
    found = looked_at(SlidingWindow(Toy(outlier=True), 16, 8), image(*size), TAPS)
    assert found.keys() == plain.keys()
    assert all((maps == plain[name]).all() for name, maps in found.items())


def test_a_network_of_single_pixels_is_not_changed_by_windows() -> None:
    class Pixels(Toy):
        def logits(self, normalized: torch.Tensor) -> torch.Tensor:
            return normalized.cumsum(dim=1)

        def outputs(self, image: torch.Tensor) -> dict:
            return {"logits": self.logits(image)}

    found = looked_at(SlidingWindow(Pixels(), 5, 3), image(13, 17))["logits"]
    np.testing.assert_allclose(found, image(13, 17).numpy().cumsum(axis=1), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(
    ("size", "window", "stride", "told"),
    [
        ((16, 30), 12, 8, r"the features 'encoder' come at stride 4, and windows of 12 .*at 0, 8, 16, 18 do not lie"),
        (
            (16, 32),
            12,
            6,
            r"come at stride 4, and windows of 12 pixels that begin at 0, 6, 12, 18, 20 do not",
        ),
        ((16, 32), 10, 8, r"come at 3 cells to 10 pixels, and .* multiples of that stride as window, stride and"),
    ],
)
def test_features_off_their_grid_are_refused(size: tuple[int, int], window: int, stride: int, told: str) -> None:
    network = SlidingWindow(Toy(), window, stride)
    with pytest.raises(InputError, match=told):
        network.predict(image(*size), taps=["encoder"])
    assert network.predict(image(*size)).logits.shape[-2:] == size


def test_windows_are_looked_at_one_after_another() -> None:
    base = Toy()
    shown: list[tuple[int, ...]] = []
    base.decoder.register_forward_pre_hook(lambda module, given: shown.append(tuple(given[0].shape)))
    looked_at(SlidingWindow(base, 12, 8), image(12, 28))
    assert shown == [(2, 3, 12, 12)] * 3


@pytest.mark.parametrize(("window", "stride"), [(0, 0), (8, 0), (8, 9), (8, -1)])
def test_wrong_settings(window: int, stride: int) -> None:
    with pytest.raises(InputError, match=f"window is {window} and stride {stride}, expected a window of at least 1"):
        SlidingWindow(Toy(), window, stride)
