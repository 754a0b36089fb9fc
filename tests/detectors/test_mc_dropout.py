"""Scores of stochastic passes against float64 loops over samples and pairs, and the detector that collects them."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import entropy as shannon
from torch import Tensor, nn

from strays.cards import Card
from strays.detectors import build_detector
from strays.detectors.mc_dropout import (
    RunningScore,
    expected_entropy,
    expected_pairwise_kl,
    mutual_information,
    predictive_entropy,
    sample_variation,
)
from strays.errors import InputError
from strays.networks.base import SegmentationNetwork
from strays.prediction import Prediction

Array = NDArray[np.float64]
SIZE = (9, 14)

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mutual-information": mutual_information,
    "predictive-entropy": predictive_entropy,
    "expected-entropy": expected_entropy,
    "pairwise-kl": expected_pairwise_kl,
    "variation": sample_variation,
}
SPREADS = ("mutual-information", "pairwise-kl", "variation")


def reference(name: str, p: Array) -> Array:
    """From the definitions, with all samples (S, N, K, ...) at hand."""
    samples = range(len(p))
    by_name: dict[str, Callable[[], Array]] = {
        "mutual-information": lambda: np.mean([shannon(one, p.mean(axis=0), axis=1) for one in p], axis=0),
        "predictive-entropy": lambda: shannon(p.mean(axis=0), axis=1),
        "expected-entropy": lambda: np.mean([shannon(one, axis=1) for one in p], axis=0),
        "pairwise-kl": lambda: np.mean([shannon(p[i], p[j], axis=1) for i in samples for j in samples], axis=0),
        "variation": lambda: np.mean([(one - p.mean(axis=0)) ** 2 for one in p], axis=0).mean(axis=1),
    }
    return by_name[name]()


def logits_of(*shape: int, scale: float = 3.0, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def probabilities_of(*shape: int, scale: float = 3.0) -> Tensor:
    return torch.softmax(logits_of(*shape, scale=scale).double(), dim=2)


@pytest.mark.parametrize("scale", [0.01, 3.0, 20.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_a_loop_over_samples(name: str, scale: float) -> None:
    p = probabilities_of(5, 2, 7, 3, 4, scale=scale)
    got = FUNCTIONS[name](p)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got, reference(name, p.numpy()), rtol=1e-7, atol=1e-12)
    single = p.float()
    assert FUNCTIONS[name](single).dtype == torch.float32
    if single.min() > 0:
        np.testing.assert_allclose(FUNCTIONS[name](single), reference(name, p.numpy()), rtol=1e-3, atol=1e-6)


def test_the_sum_over_pairs_divides_by_nothing() -> None:
    p = probabilities_of(4, 2, 5, 3)
    torch.testing.assert_close(expected_pairwise_kl(p, pairs="sum"), 16 * expected_pairwise_kl(p))
    with pytest.raises(InputError, match="pairs is 'all': expected 'mean' or 'sum'"):
        expected_pairwise_kl(p, pairs="all")


@pytest.mark.parametrize("name", SPREADS)
def test_passes_that_agree_have_no_spread(name: str) -> None:
    one = probabilities_of(1, 2, 6, 50)
    got = FUNCTIONS[name](one.expand(9, -1, -1, -1))
    assert (got >= 0).all()
    assert (got < 1e-12).all()


def test_passes_that_are_sure_of_different_classes() -> None:
    p = torch.eye(3)[:, None]
    for name, value in {
        "mutual-information": math.log(3),
        "predictive-entropy": math.log(3),
        "variation": 2 / 9,
    }.items():
        assert FUNCTIONS[name](p).item() == pytest.approx(value)
    assert expected_entropy(p).item() == 0
    assert math.isfinite(expected_pairwise_kl(p).item())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_is_never_hidden(name: str) -> None:
    p = probabilities_of(3, 2, 4)
    p[1, 1, 2] = math.nan
    assert FUNCTIONS[name](p).isnan().tolist() == [False, True]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_samples_are_not_modified_and_their_order_does_not_matter(name: str) -> None:
    p = probabilities_of(4, 2, 6, 5)
    before = p.clone()
    got = FUNCTIONS[name](p)
    assert torch.equal(p, before)
    torch.testing.assert_close(FUNCTIONS[name](p.flip(0)), got)
    torch.testing.assert_close(FUNCTIONS[name](p[:, :, [3, 1, 0, 5, 4, 2]]), got)


def test_wrong_shapes_and_too_few_samples() -> None:
    with pytest.raises(InputError, match=r"expected probabilities \(S, N, K, ...\), got \(3, 4\)"):
        mutual_information(torch.rand(3, 4))
    with pytest.raises(InputError, match=r"expected 2 or more stochastic passes, got 1.*always 0"):
        mutual_information(probabilities_of(1, 2, 3))
    with pytest.raises(InputError, match="expected 1 or more stochastic passes, got 0"):
        predictive_entropy(probabilities_of(0, 2, 3))
    assert predictive_entropy(probabilities_of(1, 2, 3)).shape == (2,)
    with pytest.raises(InputError, match="no score of stochastic passes is called 'mi': expected one of mutual-"):
        RunningScore("mi")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_running_score_holds_the_same_memory_whatever_the_passes(name: str) -> None:
    running = RunningScore(name)
    sizes = set()
    for one in probabilities_of(6, 1, 5, 30):
        running.update(one.log())
        sizes.add(sum(held.numel() for held in running._sums.values()))
    assert len(sizes) == 1
    assert sizes.pop() <= 2 * 5 * 30 + 30


# The detector


class _Dropping(SegmentationNetwork):
    card = Card(title="Dropping", summary="Drops features before its classifier.")
    stride = 2

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.configuration = {}
        self.tap_modules = {}
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout2d(p)
        self.last = nn.Conv2d(8, 6, 1)
        self.passes_made = 0
        self.eval()

    def logits(self, normalized: Tensor) -> Tensor:
        self.passes_made += 1
        return 4 * self.last(self.dropout(torch.relu(self.norm(self.first(normalized)))))


def images(count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 8, 12, generator=torch.Generator().manual_seed(seed))


def enlarged(samples: Tensor) -> Array:
    """Probabilities (S, N, K, H, W) of samples (S, N, K, h, w), in float64."""
    large = [torch.nn.functional.interpolate(one, SIZE, mode="bilinear", align_corners=False) for one in samples]
    return softmax(torch.stack(large).double().numpy(), axis=2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_detector_reads_the_samples_of_a_prediction(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = logits_of(4, 2, 6, 5, 7)
    prediction = Prediction(logits=samples[0], size=SIZE, samples=samples)
    expected = reference(name, enlarged(samples))
    detector = build_detector(f"mc-dropout:score={name}")
    whole = detector(prediction)
    assert whole.dtype == torch.float32
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr("strays.detectors.mc_dropout._CHUNK", 6 * 14 * 2)  # bands of two rows, and one of one
    assert torch.equal(detector(prediction), whole)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_detector_runs_the_network_with_dropout(name: str) -> None:
    network = _Dropping()
    prediction = network.predict(images(2), SIZE)
    assert prediction.passes is not None
    samples = torch.stack([prediction.passes.sampled(11 + number).logits for number in range(5)])
    network.passes_made = 0
    got = build_detector(f"mc-dropout:samples=5,seed=11,score={name}")(prediction)
    assert network.passes_made == 5
    np.testing.assert_allclose(got, reference(name, enlarged(samples.detach())), rtol=1e-4, atol=1e-6)
    assert not network.dropout.training


def test_scores_depend_on_the_seed_alone() -> None:
    prediction = _Dropping().predict(images(), SIZE)
    first = build_detector("mc-dropout:samples=4")(prediction)
    torch.rand(7)
    assert torch.equal(build_detector("mc-dropout:samples=4")(prediction), first)
    assert not torch.equal(build_detector("mc-dropout:samples=4,seed=100")(prediction), first)


def test_mean_logits_are_averaged_before_one_softmax() -> None:
    samples = logits_of(4, 2, 6, 5, 7)
    prediction = Prediction(logits=samples[0], size=SIZE, samples=samples)
    detector = build_detector("mc-dropout:score=predictive-entropy,average=logits")
    large = torch.nn.functional.interpolate(samples.mean(dim=0), SIZE, mode="bilinear", align_corners=False)
    expected = shannon(softmax(large.double().numpy(), axis=1), axis=1)
    np.testing.assert_allclose(detector(prediction), expected, rtol=1e-4, atol=1e-6)
    assert detector(prediction).dtype == torch.float32


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "predictive-entropy"])
def test_mean_logits_have_no_other_score(name: str) -> None:
    with pytest.raises(InputError, match=f"mean logits have no {name}.*score=predictive-entropy"):
        build_detector(f"mc-dropout:score={name},average=logits")


def test_pairs_may_be_summed() -> None:
    samples = logits_of(4, 2, 6, 5, 7)
    prediction = Prediction(logits=samples[0], size=SIZE, samples=samples)
    mean = build_detector("mc-dropout:score=pairwise-kl")(prediction)
    torch.testing.assert_close(build_detector("mc-dropout:score=pairwise-kl,pairs=sum")(prediction), 16 * mean)


@pytest.mark.parametrize("settings", ["score=mutual-information", "score=predictive-entropy,average=logits"])
def test_the_void_channel_is_dropped(settings: str) -> None:
    samples = logits_of(3, 2, 6, 5, 7)
    kept = [0, 1, 3, 4, 5]
    detector = build_detector(f"mc-dropout:{settings}")
    got = detector(Prediction(logits=samples[0], size=SIZE, samples=samples, void=2))
    assert torch.equal(got, detector(Prediction(logits=samples[0][:, kept], size=SIZE, samples=samples[:, :, kept])))
    network = _Dropping()
    prediction = network.predict(images(), SIZE, void=2)
    sampled = torch.stack([prediction.passes.sampled(number).logits[:, kept] for number in range(50)]).detach()
    expected = detector(Prediction(logits=sampled[0], size=SIZE, samples=sampled))
    torch.testing.assert_close(detector(prediction), expected, rtol=1e-4, atol=1e-6)


def test_a_network_without_dropout_says_so() -> None:
    with pytest.raises(InputError, match="_Dropping has no dropout, so every pass is the same"):
        build_detector("mc-dropout")(_Dropping(p=0.0).predict(images(), SIZE))


def test_a_prediction_without_samples_or_network_says_so() -> None:
    with pytest.raises(InputError, match="the detector 'mc-dropout' runs the network again"):
        build_detector("mc-dropout")(Prediction(torch.zeros(1, 4, 3, 4), SIZE))


def test_samples_of_another_shape_are_refused() -> None:
    prediction = Prediction(torch.zeros(2, 6, 5, 7), SIZE)
    for samples in (
        logits_of(2, 6, 5, 7),
        logits_of(3, 1, 6, 5, 7),
        logits_of(3, 2, 5, 5, 7),
        logits_of(0, 2, 6, 5, 7),
    ):
        with pytest.raises(InputError, match=r"expected samples \(S, 2, 6, h, w\) to go with the logits, got"):
            build_detector("mc-dropout")(replace(prediction, samples=samples))
    with pytest.raises(InputError, match="expected 2 or more stochastic passes, got 1"):
        build_detector("mc-dropout")(replace(prediction, samples=logits_of(1, 2, 6, 5, 7)))


def test_settings_are_checked() -> None:
    defaults = {"samples": 50, "score": "mutual-information", "average": "probabilities", "pairs": "mean", "seed": 0}
    assert build_detector("mc-dropout").settings() == defaults
    with pytest.raises(InputError, match="expected 2 or more stochastic passes, got 1"):
        build_detector("mc-dropout:samples=1")
    with pytest.raises(InputError, match="expected 1 or more stochastic passes, got 0"):
        build_detector("mc-dropout:samples=0,score=predictive-entropy")
    with pytest.raises(InputError, match="expected one of mutual-information, predictive-entropy"):
        build_detector("mc-dropout:score=entropy")
    for wrong in ("average=median", "pairs=all"):
        with pytest.raises(InputError, match=r"mean|probabilities"):
            build_detector(f"mc-dropout:{wrong}")


# The scores under names of their own


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("mutual-information", "mc-dropout:score=mutual-information"),
        ("mutual-information:samples=4,seed=9", "mc-dropout:score=mutual-information,samples=4,seed=9"),
        ("predictive-entropy", "mc-dropout:score=predictive-entropy"),
        ("predictive-entropy:samples=4,seed=9", "mc-dropout:score=predictive-entropy,samples=4,seed=9"),
        ("predictive-entropy:average=logits", "mc-dropout:score=predictive-entropy,average=logits"),
    ],
)
def test_a_score_under_its_own_name(short: str, long: str) -> None:
    prediction = _Dropping().predict(images(), SIZE)
    assert torch.equal(build_detector(short)(prediction), build_detector(long)(prediction))


@pytest.mark.parametrize("name", ["mutual-information", "predictive-entropy"])
def test_own_names_in_messages_and_cards(name: str) -> None:
    detector = build_detector(name)
    assert detector.card.needs == build_detector("mc-dropout").card.needs
    assert detector.settings()["samples"] == 50
    with pytest.raises(InputError, match=f"the detector '{name}' runs the network again"):
        detector(Prediction(torch.zeros(1, 4, 3, 4), SIZE))


def test_own_names_check_their_settings() -> None:
    with pytest.raises(InputError, match="expected 2 or more stochastic passes, got 1"):
        build_detector("mutual-information:samples=1")
    with pytest.raises(InputError, match="expected 1 or more stochastic passes, got 0"):
        build_detector("predictive-entropy:samples=0")
    with pytest.raises(InputError, match="has no setting 'score'"):
        build_detector("mutual-information:score=variation")


def test_only_what_comes_after_dropout_is_computed_in_every_pass() -> None:
    """Scores are those of whole passes, and the first convolution runs once for all scores of a prediction."""
    network = _Dropping()
    prediction = network.predict(images(2), SIZE)
    with torch.enable_grad():
        whole = torch.stack([prediction.passes.sampled(number).logits.detach() for number in range(5)])
    calls = {"first": 0, "last": 0}

    def count(name: str, layer: nn.Conv2d) -> None:
        convolve = layer._conv_forward

        def counted(*given: Tensor | None) -> Tensor:
            calls[name] += 1
            return convolve(*given)

        layer._conv_forward = counted

    count("first", network.first)
    count("last", network.last)
    for name in ("mutual-information", "predictive-entropy"):
        expected = build_detector(name)(replace(prediction, samples=whole))
        assert torch.equal(build_detector(f"{name}:samples=5")(prediction), expected)
    assert calls == {"first": 1, "last": 10}


def test_the_pairs_of_prior_networks() -> None:
    """Their loop over pairs adds 1e-10 inside both logarithms, and sums."""
    logits = 12 * torch.randn(4, 2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = logits.softmax(dim=2).numpy()
    expected = np.zeros((2, 3))
    for one, other in itertools.product(p, p):
        expected += (one * (np.log(one + 1e-10) - np.log(other + 1e-10))).sum(axis=1)
    found = expected_pairwise_kl(torch.from_numpy(p), pairs="sum", epsilon=1e-10)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    assert not np.allclose(found, expected_pairwise_kl(torch.from_numpy(p), pairs="sum"), rtol=0.01)
    with pytest.raises(InputError, match="epsilon is -1, expected 0 or more"):
        expected_pairwise_kl(torch.from_numpy(p), epsilon=-1)


@pytest.mark.parametrize(
    "score", [predictive_entropy, expected_entropy, mutual_information, expected_pairwise_kl, sample_variation]
)
def test_scores_of_samples_have_a_gradient(score: Callable[[Tensor], Tensor]) -> None:
    logits = torch.randn(3, 2, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: score(one.softmax(dim=2)), (logits,))


def test_an_impossible_class_leaves_the_gradient_of_the_entropy_finite() -> None:
    p = torch.tensor([[[0.25, 0.75, 0.0]], [[0.5, 0.5, 0.0]]], dtype=torch.float64, requires_grad=True)
    expected_entropy(p).sum().backward()
    assert p.grad is not None
    assert p.grad.isfinite().all()


def test_one_minus_the_largest_mean_probability() -> None:
    p = probabilities_of(5, 1, 7, 3, 4)
    running = RunningScore("max-probability")
    for one in p:
        running.update(one.log())
    np.testing.assert_allclose(running.compute(), 1 - p.numpy().mean(axis=0).max(axis=1), rtol=1e-9)
    prediction = Prediction(logits=p.log().mean(dim=0), size=(3, 4), samples=p.log())
    found = build_detector("mc-dropout:score=max-probability")(prediction)
    np.testing.assert_allclose(found, running.compute(), rtol=1e-6)
