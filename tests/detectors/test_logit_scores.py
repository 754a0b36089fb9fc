"""The scores of class logits against float64 references from SciPy, and what they promise at the extremes."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp, softmax
from scipy.stats import entropy as shannon
from torch import Tensor

from strays import functional as scores
from strays.detectors import build_detector
from strays.errors import InputError
from strays.prediction import Prediction

Score = Callable[..., Tensor]
Array = NDArray[np.float64]

DETECTOR_NAMES = {
    "msp": "msp",
    "entropy": "entropy",
    "softmax_distance": "softmax-distance",
    "max_logit": "max-logit",
    "energy": "energy",
    "jsd_to_uniform": "jsd",
    "void_probability": "void",
}
SCORES: dict[str, Score] = {name: getattr(scores, name) for name in DETECTOR_NAMES}
SOFTMAX_SCORES = ("msp", "entropy", "softmax_distance", "jsd_to_uniform", "void_probability")


def reference(name: str, logits: Array, temperature: float) -> Array:
    """Straight from the definitions, in float64, classes along axis 1."""
    scaled = logits / temperature
    p = softmax(scaled, axis=1)
    ordered = np.sort(p, axis=1)
    uniform = np.full_like(p, 1 / p.shape[1])
    by_name: dict[str, Callable[[], Array]] = {
        "msp": lambda: ordered[:, :-1].sum(axis=1),
        "entropy": lambda: shannon(p, axis=1) / math.log(p.shape[1]),
        "softmax_distance": lambda: ordered[:, :-1].sum(axis=1) + ordered[:, -2],
        "max_logit": lambda: -scaled.max(axis=1),
        "energy": lambda: -temperature * logsumexp(scaled, axis=1),
        "jsd_to_uniform": lambda: -(jensenshannon(p, uniform, axis=1) ** 2),
        "void_probability": lambda: p[:, -1],
    }
    return by_name[name]()


def random_logits(*shape: int, scale: float = 5.0, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def peak(height: float, classes: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    logits = torch.zeros(1, classes, dtype=dtype)
    logits[0, 1] = height
    return logits


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("name", SCORES)
def test_equals_scipy_in_float64(name: str, scale: float, temperature: float) -> None:
    logits = random_logits(3, 19, 4, 5, scale=scale)
    got = SCORES[name](logits, temperature)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, reference(name, logits.double().numpy(), temperature), rtol=3e-5, atol=2e-6)


@pytest.mark.parametrize("name", SCORES)
def test_float64_stays_float64(name: str) -> None:
    logits = random_logits(2, 7, 6).double()
    got = SCORES[name](logits, 1.7)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got, reference(name, logits.numpy(), 1.7), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("name", SCORES)
def test_other_types_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    logits = random_logits(2, 6, 3, 3).to(dtype)
    got = SCORES[name](logits, 2.0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, SCORES[name](logits.float(), 2.0), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(4, 6), (1, 6, 9), (2, 6, 3, 5), (2, 6, 2, 3, 4), (1, 6, 0, 3)])
@pytest.mark.parametrize("name", SCORES)
def test_takes_any_trailing_shape(name: str, shape: tuple[int, ...]) -> None:
    logits = random_logits(*shape)
    got = SCORES[name](logits)
    assert got.shape == (shape[0], *shape[2:])
    flat = SCORES[name](logits.flatten(2) if len(shape) > 2 else logits[..., None])
    torch.testing.assert_close(got.reshape(flat.shape), flat)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", SCORES)
def test_extreme_logits_stay_finite_and_right(name: str, temperature: float) -> None:
    rows = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [1e4, 1e4, -1e4], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0]]
    logits = torch.tensor(rows)
    got = SCORES[name](logits, temperature)
    assert got.isfinite().all()
    np.testing.assert_allclose(got, reference(name, logits.double().numpy(), temperature), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_a_class_ruled_out_with_minus_infinity_counts_as_probability_zero(name: str) -> None:
    logits = torch.tensor([[2.0, 1.0, -math.inf, 0.5]])
    got = SCORES[name](logits)
    np.testing.assert_allclose(got, reference(name, logits.double().numpy(), 1.0), rtol=1e-5)


@pytest.mark.parametrize("name", SCORES)
def test_nan_is_never_hidden(name: str) -> None:
    assert SCORES[name](torch.tensor([[math.nan, 3.0, 1.0], [0.0, 3.0, math.nan]])).isnan().all()


@pytest.mark.parametrize("name", SCORES)
def test_input_is_not_modified(name: str) -> None:
    for logits in (random_logits(2, 5, 4), random_logits(2, 5, 4).double()):
        before = logits.clone()
        SCORES[name](logits, 1.0)
        SCORES[name](logits, 3.0)
        assert torch.equal(logits, before)


@pytest.mark.parametrize("name", SCORES)
def test_gradients_are_right(name: str) -> None:
    logits = random_logits(2, 4, 3, scale=2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: SCORES[name](z, 1.5), (logits,))


@pytest.mark.parametrize("name", SCORES)
def test_gradients_are_finite_at_one_hot_and_flat_pixels(name: str) -> None:
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    SCORES[name](logits).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_ranges() -> None:
    logits = torch.cat([random_logits(1000, 19, scale=scale) for scale in (0.0, 0.01, 1.0, 10.0, 100.0)])
    most = {"msp": 1 - 1 / 19, "entropy": 1.0, "softmax_distance": 1.0, "jsd_to_uniform": 0.0, "void_probability": 1.0}
    one_hot = np.eye(19)[0]
    least = dict.fromkeys(most, 0.0) | {"jsd_to_uniform": -(jensenshannon(one_hot, np.full(19, 1 / 19)) ** 2)}
    for name in SOFTMAX_SCORES:
        got = SCORES[name](logits)
        assert got.min() >= least[name] - 1e-6
        assert got.max() <= most[name] + 1e-6


@pytest.mark.parametrize("name", ["msp", "entropy", "softmax_distance", "jsd_to_uniform"])
def test_equal_logits_give_the_largest_score(name: str) -> None:
    expected = {"msp": 0.75, "entropy": 1.0, "softmax_distance": 1.0, "jsd_to_uniform": 0.0}[name]
    assert SCORES[name](torch.full((1, 4), 7.3)).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", SCORES)
def test_more_confident_pixels_score_lower(name: str, temperature: float) -> None:
    heights = torch.linspace(0, 6, 30)
    falling = torch.cat([SCORES[name](peak(height.item()), temperature) for height in heights])
    assert (falling.diff() < 0).all()
    far = torch.cat([SCORES[name](peak(height), temperature) for height in (6.0, 50.0, 1e3, 1e4)])
    assert (far.diff() <= 0).all()


@pytest.mark.parametrize("name", ["msp", "entropy", "softmax_distance"])
def test_float32_still_ranks_pixels_whose_probability_rounds_to_one(name: str) -> None:
    heights = range(20, 80, 3)
    assert (1 - torch.softmax(peak(20.0), dim=1).amax()).item() == 0
    got = torch.cat([SCORES[name](peak(float(height))) for height in heights])
    exact = torch.cat([SCORES[name](peak(float(height), dtype=torch.float64)) for height in heights])
    assert (got.diff() < 0).all()
    torch.testing.assert_close(got.double(), exact, rtol=1e-6, atol=0)
    others = np.array([4 * math.exp(-height) for height in heights])
    np.testing.assert_allclose(
        scores.msp(torch.cat([peak(float(h)) for h in heights])), others / (1 + others), rtol=1e-5
    )


def test_divergence_keeps_its_resolution_near_the_uniform_distribution() -> None:
    steps = torch.tensor([1e-4, 3e-4, 1e-3, 3e-3])
    got = torch.cat([scores.jsd_to_uniform(peak(step.item())) for step in steps])
    exact = torch.cat([scores.jsd_to_uniform(peak(step.item(), dtype=torch.float64)) for step in steps])
    torch.testing.assert_close(got.double(), exact, rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", SOFTMAX_SCORES)
def test_softmax_scores_ignore_a_common_offset(name: str) -> None:
    logits = random_logits(50, 6).double()
    torch.testing.assert_close(SCORES[name](logits + 123.0), SCORES[name](logits))


@pytest.mark.parametrize("name", ["max_logit", "energy"])
def test_logit_scores_move_against_a_common_offset(name: str) -> None:
    logits = random_logits(50, 6).double()
    torch.testing.assert_close(SCORES[name](logits + 9.0), SCORES[name](logits) - 9)


@pytest.mark.parametrize("name", [name for name in SCORES if name != "void_probability"])
def test_order_of_the_classes_does_not_matter(name: str) -> None:
    logits = random_logits(50, 6)
    torch.testing.assert_close(SCORES[name](logits[:, [3, 1, 5, 0, 2, 4]]), SCORES[name](logits))


@pytest.mark.parametrize("name", SCORES)
def test_temperature_divides_the_logits(name: str) -> None:
    logits = random_logits(40, 6).double()
    unit = SCORES[name](logits / 3)
    torch.testing.assert_close(SCORES[name](logits, 3.0), 3 * unit if name == "energy" else unit)


def test_energy_lies_between_max_logit_and_its_bound() -> None:
    logits = random_logits(200, 19)
    gap = scores.max_logit(logits) - scores.energy(logits)
    assert (gap >= 0).all()
    assert (gap <= math.log(19) + 1e-5).all()


def test_entropy_in_nats() -> None:
    logits = random_logits(20, 6)
    torch.testing.assert_close(scores.entropy(logits, normalised=False), scores.entropy(logits) * math.log(6))


def test_two_classes_make_the_margin_twice_the_msp() -> None:
    logits = random_logits(100, 2)
    torch.testing.assert_close(scores.softmax_distance(logits), 2 * scores.msp(logits))


@pytest.mark.parametrize("void", [0, 3, 5, -1, -6])
def test_void_probability_reads_the_channel_it_is_told(void: int) -> None:
    logits = random_logits(30, 6, 2)
    np.testing.assert_allclose(
        scores.void_probability(logits, void=void), softmax(logits.double().numpy(), axis=1)[:, void], rtol=1e-5
    )


def test_void_probability_does_not_keep_the_other_channels_in_memory() -> None:
    got = scores.void_probability(random_logits(1, 19, 8, 8))
    assert got.untyped_storage().nbytes() == got.nbytes


@pytest.mark.parametrize("void", [6, -7])
def test_void_channel_out_of_range(void: int) -> None:
    with pytest.raises(InputError, match=f"void channel {void} is not one of the 6 channels"):
        scores.void_probability(random_logits(2, 6), void=void)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", SCORES)
def test_temperature_must_be_positive(name: str, temperature: float) -> None:
    with pytest.raises(InputError, match="expected a temperature above 0"):
        SCORES[name](random_logits(2, 6), temperature)
    with pytest.raises(InputError, match="expected a temperature above 0"):
        build_detector(f"{DETECTOR_NAMES[name]}:temperature={temperature}")


@pytest.mark.parametrize("name", SCORES)
def test_missing_batch_dimension_tells_the_fix(name: str) -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, ...\), got \(6,\).*logits\[None\]"):
        SCORES[name](random_logits(6))


@pytest.mark.parametrize("name", SOFTMAX_SCORES)
def test_a_single_channel_tells_the_fix(name: str) -> None:
    with pytest.raises(InputError, match=r"K >= 2 classes, got \(2, 1, 3\).*torch\.cat"):
        SCORES[name](random_logits(2, 1, 3))


def test_the_advice_for_a_single_channel_is_the_sigmoid() -> None:
    z = random_logits(9, 1)
    both = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(scores.void_probability(both), torch.sigmoid(z[:, 0]))


@pytest.mark.parametrize("name", SCORES)
def test_no_channel_at_all_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="classes, got"):
        SCORES[name](torch.zeros(2, 0, 3))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("name", SCORES)
def test_detector_upsamples_the_logits_and_then_scores(name: str, temperature: float) -> None:
    logits = random_logits(2, 6, 5, 7)
    detector = build_detector(f"{DETECTOR_NAMES[name]}:temperature={temperature}")
    void = 5 if name == "void_probability" else None
    got = detector(Prediction(logits=logits, size=(13, 11), void=void))
    large = torch.nn.functional.interpolate(logits, size=(13, 11), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, SCORES[name](large, temperature), rtol=0, atol=0)


@pytest.mark.parametrize("void", [0, 2, 5])
@pytest.mark.parametrize("name", [name for name in SCORES if name != "void_probability"])
def test_void_channel_is_dropped_before_every_score_but_void(name: str, void: int) -> None:
    classes = random_logits(2, 5, 4, 6)
    channel = random_logits(2, 1, 4, 6, scale=100, seed=9)
    logits = torch.cat([classes[:, :void], channel, classes[:, void:]], dim=1)
    detector = build_detector(DETECTOR_NAMES[name])
    got = detector(Prediction(logits=logits, size=(8, 9), void=void))
    assert torch.equal(got, detector(Prediction(logits=classes, size=(8, 9))))


@pytest.mark.parametrize("void", [0, 2, 5])
def test_void_detector_reads_the_networks_void_channel(void: int) -> None:
    logits = random_logits(2, 6, 4, 6)
    got = build_detector("void")(Prediction(logits=logits, size=(4, 6), void=void))
    np.testing.assert_allclose(got, softmax(logits.double().numpy(), axis=1)[:, void], rtol=1e-5)


def test_void_detector_without_a_void_class_names_alternatives() -> None:
    with pytest.raises(InputError, match="this network has none: use energy, max-logit or entropy"):
        build_detector("void")(Prediction(logits=random_logits(1, 6, 4, 4), size=(4, 4)))


@pytest.mark.parametrize("name", DETECTOR_NAMES.values())
def test_detectors_tell_their_temperature(name: str) -> None:
    assert build_detector(name).settings() == {"temperature": 2.0 if name == "jsd" else 1.0}
    assert build_detector(f"{name}:temperature=3").settings() == {"temperature": 3.0}
