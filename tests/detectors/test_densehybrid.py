"""The hybrid score against SciPy, at its extremes, and how the detector brings two heads together."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from torch import Tensor
from torch.nn import functional

from strays.detectors import build_detector
from strays.detectors.densehybrid import densehybrid
from strays.errors import InputError
from strays.prediction import Prediction


def random_logits(*shape: int, seed: int = 0, scale: float = 4.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(logits: Tensor, outlier_logits: Tensor) -> np.ndarray:
    z, d = logits.double().numpy(), outlier_logits.double().numpy()
    return log_softmax(d, axis=1)[:, 1] - logsumexp(z, axis=1)


@pytest.mark.parametrize("shape", [(), (5,), (3, 4)])
def test_it_is_the_log_ratio_of_posterior_and_density(shape: tuple[int, ...]) -> None:
    logits, outlier_logits = random_logits(2, 6, *shape), random_logits(2, 2, *shape, seed=1)
    expected = reference(logits, outlier_logits)
    np.testing.assert_allclose(densehybrid(logits, outlier_logits), expected, rtol=1e-12)
    found = densehybrid(logits.float(), outlier_logits.float())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert densehybrid(logits.half(), outlier_logits.half()).dtype == torch.float32


def test_large_logits_stay_finite_and_keep_their_order() -> None:
    """Where the probability itself is 0 its logarithm still ranks pixels."""
    logits = torch.tensor([[1e4, -1e4], [0.0, 0.0], [0.0, 0.0], [-1e4, -1e4]])
    outlier_logits = torch.tensor([[1e4, -1e4], [2000.0, 0.0], [1000.0, 0.0], [-1e4, 1e4]])
    found = densehybrid(logits, outlier_logits)
    np.testing.assert_allclose(found, reference(logits, outlier_logits), rtol=1e-6)
    assert (found.diff() > 0).all()


def test_more_like_an_outlier_is_higher_for_either_head() -> None:
    logits, outlier_logits = torch.tensor([[5.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    usual = densehybrid(logits, outlier_logits)
    assert densehybrid(logits - 3, outlier_logits) == usual + 3
    assert densehybrid(logits, outlier_logits.flip(1)) > usual


def test_gradients() -> None:
    given = (random_logits(2, 3, 2).requires_grad_(), random_logits(2, 2, 2, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(densehybrid, given)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected outlier logits \(2, 2, 3, 4\) .* got \(2, 2, 6, 8\)"):
        densehybrid(torch.zeros(2, 5, 3, 4), torch.zeros(2, 2, 6, 8))
    with pytest.raises(InputError, match=r"got \(2, 1\)"):
        densehybrid(torch.zeros(2, 5), torch.zeros(2, 1))


def test_both_heads_are_enlarged_before_the_score_is_taken_and_void_is_no_class() -> None:
    logits, outlier_logits = random_logits(2, 6, 3, 4), random_logits(2, 2, 6, 8, seed=1)
    prediction = Prediction(logits.float(), (12, 16), void=2, outlier_logits=outlier_logits.float())

    def enlarged(values: Tensor) -> Tensor:
        return functional.interpolate(values, (12, 16), mode="bilinear", align_corners=False)

    kept = logits[:, [0, 1, 3, 4, 5]]
    found = build_detector("densehybrid")(prediction)
    np.testing.assert_allclose(found, reference(enlarged(kept), enlarged(outlier_logits)), rtol=1e-4, atol=1e-4)


def test_a_network_without_the_head_is_told_what_to_do() -> None:
    with pytest.raises(InputError, match="'densehybrid' reads an outlier head, and this network has none"):
        build_detector("densehybrid")(Prediction(torch.zeros(1, 3, 4, 4), (8, 8)))
