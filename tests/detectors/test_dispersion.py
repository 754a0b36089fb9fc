"""Scores that are features of segments."""

import pytest
import torch

from strays.detectors import build_detector
from strays.detectors.dispersion import Dispersion, dispersion
from strays.detectors.segment_features import FEATURES, segment_features
from strays.errors import InputError
from strays.prediction import Prediction


def random_logits(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("feature", [*FEATURES, "cprob_0", "cprob_3"])
def test_every_pixel_has_the_feature_of_its_segment(feature: str) -> None:
    logits = random_logits(2, 4, 9, 11)
    got = dispersion(logits, feature)
    column = (*FEATURES, "cprob_0", "cprob_1", "cprob_2", "cprob_3").index(feature)
    for one, scores in zip(logits, got, strict=True):
        table = segment_features(one)
        for number, row in enumerate(table.features, start=1):
            expected = torch.full((int((table.numbers == number).sum()),), float(row[column]))
            torch.testing.assert_close(scores[torch.from_numpy(table.numbers == number)], expected)


def test_mean_entropy_by_hand() -> None:
    logits = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 1.0 - 1e-6, 4.0]]]])
    p = torch.softmax(logits[0, :, 0], 0)
    entropy = -(p * p.log()).sum(0) / torch.log(torch.tensor(2.0))
    expected = torch.stack([entropy[:2].mean(), entropy[:2].mean(), entropy[2]])
    torch.testing.assert_close(dispersion(logits)[0, 0], expected)


def test_the_detector_scores_upsampled_logits_without_void() -> None:
    logits = random_logits(2, 5, 6, 8)
    score = Dispersion("D_bd")(Prediction(logits=logits, size=(24, 32), void=1))
    full = torch.nn.functional.interpolate(logits[:, [0, 2, 3, 4]], size=(24, 32), mode="bilinear")
    assert torch.equal(score, dispersion(full, "D_bd"))


def test_the_feature_is_a_setting_in_a_string() -> None:
    assert build_detector("dispersion:feature=E_rel_in").settings() == {"feature": "E_rel_in"}


@pytest.mark.parametrize("feature", ["entropy", "E_out", "cprob", "cprob_-1", ""])
def test_an_unknown_feature_is_an_error_that_lists_those_there_are(feature: str) -> None:
    with pytest.raises(InputError, match=r"known: S, S_in, .*cprob_0 to cprob_K-1"):
        Dispersion(feature)


def test_the_probability_of_a_class_that_the_network_lacks_is_an_error() -> None:
    detector = Dispersion("cprob_5")
    with pytest.raises(InputError, match=r"no feature is called 'cprob_5'.*cprob_0 to cprob_4"):
        detector(Prediction(logits=random_logits(1, 5, 6, 8), size=(12, 16)))


def test_logits_without_a_batch_are_an_error() -> None:
    with pytest.raises(InputError, match=r"expected logits \(N, K, H, W\), got \(5, 6, 8\)"):
        dispersion(random_logits(5, 6, 8))
