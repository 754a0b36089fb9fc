"""The random score: uniform, and fixed by the seed and the content of the image."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from strays.detectors import build_detector
from strays.detectors.random_score import random_score
from strays.errors import InputError
from strays.prediction import Prediction


def images(count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 12, 16, generator=torch.Generator().manual_seed(seed))


def test_scores_are_uniform_and_independent_of_each_other() -> None:
    score = random_score(images(1), (200, 300))[0].double()
    assert score.min() >= 0
    assert score.max() < 1
    assert kstest(score.flatten().numpy(), "uniform").pvalue > 0.001
    for one, next_ in ((score[:, :-1], score[:, 1:]), (score[:-1], score[1:])):
        assert abs(np.corrcoef(one.flatten(), next_.flatten())[0, 1]) < 0.02


def test_the_same_image_gets_the_same_scores_alone_and_in_a_batch() -> None:
    batch = images(3)
    together = random_score(batch, (12, 16))
    for index in (2, 0, 1):
        assert torch.equal(random_score(batch[index : index + 1].clone(), (12, 16))[0], together[index])


def test_other_images_and_other_seeds_get_other_scores() -> None:
    image = images(1)
    changed = image.clone()
    changed[0, 2, -1, -1] += 1 / 255
    scores = [random_score(image, (12, 16)), random_score(changed, (12, 16)), random_score(image, (12, 16), seed=1)]
    for index, one in enumerate(scores):
        for other in scores[index + 1 :]:
            assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.4


def test_memory_layout_does_not_matter_and_the_random_state_stays() -> None:
    image = images(2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    laid_out = random_score(image.contiguous(memory_format=torch.channels_last), (12, 16))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(laid_out, random_score(image, (12, 16)))


def test_precision_is_the_share_of_anomalies() -> None:
    mask = (torch.rand(300, 300, generator=torch.Generator().manual_seed(3)) < 0.1).flatten().numpy()
    score = random_score(images(1), (300, 300)).flatten().numpy()
    assert average_precision_score(mask, score) == pytest.approx(mask.mean(), abs=0.005)
    assert roc_auc_score(mask, score) == pytest.approx(0.5, abs=0.02)


def test_detector_scores_at_the_wanted_size() -> None:
    detector = build_detector("random:seed=9")
    assert detector.settings() == {"seed": 9}
    got = detector(Prediction(torch.zeros(2, 3, 4, 4), (30, 20), image=images(2)))
    assert torch.equal(got, random_score(images(2), (30, 20), seed=9))


def test_detector_without_an_image_says_what_is_missing() -> None:
    with pytest.raises(InputError, match="the detector 'random' reads the image"):
        build_detector("random")(Prediction(torch.zeros(1, 3, 4, 4), (4, 4)))
