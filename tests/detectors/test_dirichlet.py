"""Dirichlet scores against SciPy, fifty digits of mpmath, and drawn samples."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import digamma, softmax
from scipy.stats import dirichlet
from scipy.stats import entropy as shannon
from torch import Tensor

from strays.detectors import build_detector
from strays.detectors.dirichlet import (
    dirichlet_differential_entropy,
    dirichlet_expected_entropy,
    dirichlet_mutual_information,
    dirichlet_pairwise_kl,
    dirichlet_precision,
)
from strays.errors import InputError
from strays.prediction import Prediction

Score = Callable[[Tensor], Tensor]
Array = NDArray[np.float64]
mpmath.mp.dps = 150  # the terms of the definitions cancel that much

FUNCTIONS: dict[str, Score] = {
    "differential-entropy": dirichlet_differential_entropy,
    "mutual-information": dirichlet_mutual_information,
    "expected-entropy": dirichlet_expected_entropy,
    "pairwise-kl": dirichlet_pairwise_kl,
    "precision": dirichlet_precision,
}


def random_logits(*shape: int, scale: float = 3.0, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double() * scale


def by_definition(name: str, z: Tensor) -> float:
    """From the definitions, for one vector of logits, in 150 digits."""
    a = [mpmath.exp(mpmath.mpf(value)) for value in z.tolist()]
    a0 = mpmath.fsum(a)
    p = [one / a0 for one in a]
    psi, log_gamma = (lambda x: mpmath.digamma(x)), (lambda x: mpmath.loggamma(x))
    expected = -mpmath.fsum(q * (psi(one + 1) - psi(a0 + 1)) for q, one in zip(p, a, strict=True))
    terms = {
        "differential-entropy": lambda: (
            mpmath.fsum(log_gamma(one) - (one - 1) * (psi(one) - psi(a0)) for one in a) - log_gamma(a0)
        ),
        "mutual-information": lambda: -mpmath.fsum(q * mpmath.log(q) for q in p) - expected,
        "expected-entropy": lambda: expected,
        "pairwise-kl": lambda: (len(a) - 1) / a0,
        "precision": lambda: -a0,
    }
    return float(terms[name]())


@pytest.mark.parametrize("scale", [0.1, 2.0, 4.0])
def test_differential_entropy_equals_scipy(scale: float) -> None:
    logits = random_logits(40, 7, scale=scale)
    expected = [dirichlet(np.exp(z)).entropy() for z in logits.numpy()]
    np.testing.assert_allclose(dirichlet_differential_entropy(logits), expected, rtol=1e-9, atol=1e-8)


def test_expected_entropy_and_mutual_information_equal_scipy() -> None:
    logits = random_logits(3, 7, 4, 5)
    a = np.exp(logits.numpy())
    p = a / a.sum(axis=1, keepdims=True)
    expected = -(p * (digamma(a + 1) - digamma(a.sum(axis=1, keepdims=True) + 1))).sum(axis=1)
    np.testing.assert_allclose(dirichlet_expected_entropy(logits), expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(dirichlet_mutual_information(logits), shannon(p, axis=1) - expected, atol=1e-12)
    np.testing.assert_allclose(dirichlet_pairwise_kl(logits), 6 / a.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(dirichlet_precision(logits), -a.sum(axis=1), rtol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("scale", [1.0, 10.0, 25.0])
def test_large_and_small_concentrations_equal_fifty_digits(name: str, scale: float) -> None:
    rows = [random_logits(1, 5, scale=scale, seed=7), random_logits(3, 5) + scale, random_logits(3, 5) - scale]
    logits = torch.cat([*rows, random_logits(2, 5) + torch.tensor([2 * scale, 0, 0, 0, 0])]).clamp(-79, 79)
    expected = [by_definition(name, z) for z in logits]
    np.testing.assert_allclose(FUNCTIONS[name](logits), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("a", [99.0, 99.999, 100.0, 100.001, 101.0])
def test_the_series_take_over_without_a_step(a: float) -> None:
    z = torch.tensor([a, a / 3, 0.5, 200.0]).double().log()
    for name in ("differential-entropy", "mutual-information"):
        assert FUNCTIONS[name](z[None]).item() == pytest.approx(by_definition(name, z), rel=1e-11)


def test_scores_are_what_drawn_probabilities_say() -> None:
    logits = torch.tensor([[1.0, 0.3, -0.5, 2.0]])
    a = np.exp(logits[0].numpy().astype(np.float64))
    drawn = np.random.default_rng(0).dirichlet(a, size=(2, 200_000))
    expected = shannon(drawn[0], axis=1).mean()
    assert dirichlet_expected_entropy(logits).item() == pytest.approx(expected, abs=0.005)
    total = shannon(drawn[0].mean(axis=0))
    assert dirichlet_mutual_information(logits).item() == pytest.approx(total - expected, abs=0.005)
    assert dirichlet_differential_entropy(logits).item() == pytest.approx(
        -dirichlet(a).logpdf(drawn[0].T).mean(), abs=0.02
    )
    larger = np.random.default_rng(1).dirichlet(4 * a, size=(2, 200_000))
    divergence = shannon(larger[0], larger[1], axis=1).mean()
    assert dirichlet_pairwise_kl(logits + math.log(4)).item() == pytest.approx(divergence, rel=0.02)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_extreme_logits_stay_finite_in_float32(name: str) -> None:
    rows = [[80.0] * 5, [-80.0] * 5, [80.0, -80, -80, -80, -80], [1e4, -1e4, 0, 0, 0], [math.inf, 0, -math.inf, 1, 2]]
    got = FUNCTIONS[name](torch.tensor(rows))
    assert got.dtype == torch.float32
    assert got.isfinite().all()
    expected = [by_definition(name, torch.tensor(row).double().clamp(-80, 80)) for row in rows]
    np.testing.assert_allclose(got, np.float32(expected), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_is_never_hidden(name: str) -> None:
    assert FUNCTIONS[name](torch.tensor([[math.nan, 3.0, 1.0], [0.0, 3.0, math.nan]])).isnan().all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_types_and_shapes(name: str) -> None:
    logits = random_logits(2, 6, 3, 4)
    score = FUNCTIONS[name]
    before = logits.clone()
    exact = score(logits)
    assert exact.dtype == torch.float64
    assert exact.shape == (2, 3, 4)
    assert torch.equal(logits, before)
    torch.testing.assert_close(score(logits.float()), exact.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(score(logits[:, :, 0, 0]), exact[:, 0, 0])
    torch.testing.assert_close(score(logits[:, [3, 0, 5, 1, 4, 2]]), exact)
    assert score(logits.half()).dtype == torch.float32


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_right_and_finite(name: str) -> None:
    logits = torch.cat([random_logits(2, 4), torch.tensor([[9.0, 1, -2, 5], [40.0, -40, 30, 7]]).double()])
    inner = logits[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(FUNCTIONS[name], (inner,), rtol=1e-3, atol=1e-5)
    logits.requires_grad_()
    FUNCTIONS[name](logits).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_wrong_shape_tells_the_fix(name: str) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, ...\), got \(6,\).*logits\[None\]"):
        FUNCTIONS[name](torch.zeros(6))
    with pytest.raises(InputError, match="K >= 2 classes"):
        FUNCTIONS[name](torch.zeros(2, 1, 3))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_flat_distribution_is_more_anomalous_than_a_sharp_one(name: str) -> None:
    sharp = torch.tensor([[8.0, 0.0, 0.0, 0.0]])
    assert FUNCTIONS[name](torch.zeros(1, 4)) > FUNCTIONS[name](sharp)


def test_no_distribution_has_more_differential_entropy_than_the_flat_one() -> None:
    flat = dirichlet_differential_entropy(torch.zeros(1, 6).double()).item()
    assert flat == pytest.approx(-math.lgamma(6))
    assert (dirichlet_differential_entropy(random_logits(500, 6, scale=0.3)) < flat).all()


def test_precision_ranks_as_energy_does() -> None:
    logits = random_logits(100, 6)
    energy = -torch.logsumexp(logits, dim=1)
    assert torch.equal(dirichlet_precision(logits).argsort(), energy.argsort())


@pytest.mark.parametrize("name", [*FUNCTIONS, "entropy", "max-probability"])
def test_detector_scores_upsampled_logits_in_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = random_logits(2, 6, 5, 7).float()
    large = torch.nn.functional.interpolate(logits, size=(13, 11), mode="bilinear", align_corners=False)
    p = softmax(large.double().numpy(), axis=1)
    plain = {"entropy": lambda: shannon(p, axis=1), "max-probability": lambda: 1 - p.max(axis=1)}
    expected = plain[name]() if name in plain else FUNCTIONS[name](large).numpy()
    detector = build_detector(f"dirichlet:score={name}")
    assert detector.settings() == {"score": name}
    prediction = Prediction(logits=logits, size=(13, 11))
    whole = detector(prediction)
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr("strays.detectors.dirichlet._CHUNK", 10)
    torch.testing.assert_close(detector(prediction), whole)


def test_detector_drops_the_void_channel() -> None:
    logits = random_logits(1, 6, 4, 4).float()
    detector = build_detector("dirichlet")
    got = detector(Prediction(logits=logits, size=(8, 8), void=2))
    assert torch.equal(got, detector(Prediction(logits=logits[:, [0, 1, 3, 4, 5]], size=(8, 8))))


@pytest.mark.parametrize("shape", [(3, 6), (2, 6, 9), (2, 6, 0, 3)])
def test_detector_takes_any_trailing_shape(shape: tuple[int, ...]) -> None:
    logits = random_logits(*shape).float()
    got = build_detector("dirichlet").pixelwise(logits)
    torch.testing.assert_close(got, dirichlet_differential_entropy(logits))


def test_default_is_the_differential_entropy_and_others_are_listed() -> None:
    assert build_detector("dirichlet").settings() == {"score": "differential-entropy"}
    with pytest.raises(
        InputError, match="no score of a Dirichlet is called 'de': expected one of differential-entropy, "
    ):
        build_detector("dirichlet:score=de")


FIXED = ["differential-entropy", "mutual-information", "pairwise-kl"]


@pytest.mark.parametrize("name", FIXED)
def test_a_score_under_its_own_name_is_the_same_score(name: str) -> None:
    prediction = Prediction(logits=random_logits(2, 6, 5, 7).float(), size=(13, 11), void=5)
    own = build_detector(f"dirichlet-{name}")
    assert torch.equal(own(prediction), build_detector(f"dirichlet:score={name}")(prediction))
    assert own.name == f"dirichlet-{name}"
    assert own.settings() == {}
    with pytest.raises(InputError, match=f"dirichlet-{name} has no setting 'score'"):
        build_detector(f"dirichlet-{name}:score=precision")


def test_published_numbers_stand_with_the_score_that_was_measured() -> None:
    counts = {name: len(build_detector(f"dirichlet-{name}").card.published) for name in FIXED}
    assert counts == {"differential-entropy": 6, "mutual-information": 0, "pairwise-kl": 0}
    titles = {build_detector(spec).card.title for spec in ("dirichlet", *(f"dirichlet-{name}" for name in FIXED))}
    assert len(titles) == 4
