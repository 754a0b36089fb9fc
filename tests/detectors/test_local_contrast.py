"""Local contrast against a loop over windows."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from strays.detectors import build_detector
from strays.detectors.local_contrast import local_contrast
from strays.errors import InputError
from strays.prediction import Prediction

LUMA = np.array([0.299, 0.587, 0.114])


def images(height: int = 13, width: int = 17, count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def reference(image: Tensor, window: int) -> NDArray[np.float64]:
    luma = np.tensordot(image.double().numpy(), LUMA, axes=([1], [0]))
    half = window // 2
    found = np.empty(luma.shape)
    for n, y, x in np.ndindex(luma.shape):
        found[n, y, x] = luma[n, max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1].std()
    return found


@pytest.mark.parametrize("window", [3, 5, 11, 63])
def test_equals_the_standard_deviation_of_every_window(window: int) -> None:
    image = images()
    got = local_contrast(image, window)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, reference(image, window), atol=1e-6)
    exact = local_contrast(image.double(), window)
    assert exact.dtype == torch.float64
    np.testing.assert_allclose(exact, reference(image, window), atol=1e-12)


def test_faint_contrast_on_a_bright_wall_is_not_lost() -> None:
    faint = 0.9 + 1e-5 * images(seed=1).double()
    np.testing.assert_allclose(local_contrast(faint, 5), reference(faint, 5), rtol=1e-3)


def test_a_plain_image_has_none_up_to_its_borders() -> None:
    assert local_contrast(torch.full((1, 3, 40, 50), 0.7), 7).max() < 1e-6


def test_half_black_half_white_has_the_largest_one() -> None:
    checkered = (torch.arange(12)[:, None] + torch.arange(12)).remainder(2).expand(1, 3, 12, 12).float()
    got = local_contrast(checkered, 63)
    torch.testing.assert_close(got, torch.full((1, 12, 12), 0.5))


def test_an_object_on_a_plain_road_stands_out() -> None:
    image = torch.full((1, 3, 60, 80), 0.4)
    image[:, :, 30:40, 40:50] = 0.8
    score = local_contrast(image, 15)[0]
    assert score[25:45, 35:55].min() > score[:, :20].max()


@pytest.mark.parametrize("window", [-3, 0, 1, 2, 16])
def test_the_window_is_odd_and_no_single_pixel(window: int) -> None:
    for call in (lambda: local_contrast(images(), window), lambda: build_detector(f"local-contrast:window={window}")):
        with pytest.raises(InputError, match=f"expected an odd window of 3 pixels or more, got {window}"):
            call()


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 8, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected RGB images \(N, 3, H, W\) in \[0, 1\], got"):
        local_contrast(torch.rand(shape), 3)


def test_detector_measures_in_pixels_of_the_image_and_scales_the_result() -> None:
    image = images()
    detector = build_detector("local-contrast:window=5")
    assert detector.settings() == {"window": 5}
    assert build_detector("local-contrast").settings() == {"window": 63}
    same = detector(Prediction(torch.zeros(2, 3, 4, 4), (13, 17), image=image))
    assert torch.equal(same, local_contrast(image, 5))
    larger = detector(Prediction(torch.zeros(2, 3, 4, 4), (26, 34), image=image))
    expected = torch.nn.functional.interpolate(same[:, None], (26, 34), mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(larger, expected)


def test_detector_without_an_image_says_what_is_missing() -> None:
    with pytest.raises(InputError, match="the detector 'local-contrast' reads the image"):
        build_detector("local-contrast")(Prediction(torch.zeros(1, 3, 4, 4), (4, 4)))
