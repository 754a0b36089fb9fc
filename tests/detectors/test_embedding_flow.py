"""Learned embedding density of one layer."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from strays.detectors import Detector
from strays.detectors.embedding_flow import EmbeddingFlow, FlowStatistics, flow_nll, standardized
from strays.errors import InputError
from strays.flows import FlowTraining, VectorFlow
from strays.prediction import Prediction

SIZE = (24, 32)
QUICK = {"samples": 200, "steps": 2, "epochs": 2}


def scene(seed: int, images: int = 2, channels: int = 5, shift: float = 0.0) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, channels, 6, 8, generator=generator) * torch.arange(1.0, channels + 1)[:, None, None]
    logits = torch.randn(images, 4, 6, 8, generator=generator)
    return Prediction(logits=logits, size=SIZE, features={"encoder": features + shift})


def labels(seed: int, images: int = 2) -> Tensor:
    made = torch.randint(0, 4, (images, *SIZE), generator=torch.Generator().manual_seed(seed))
    made[:, :, :8] = 255
    return made


def fitted() -> EmbeddingFlow:
    return EmbeddingFlow(**QUICK).fit([scene(1), scene(2)], [labels(1), labels(2)])


def test_score_is_the_upsampled_nll_of_each_vector() -> None:
    detector, prediction = fitted(), scene(3)
    flow = detector.flows[0]
    assert isinstance(flow, VectorFlow)
    expected = torch.zeros(2, 6, 8)
    for image, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(6), torch.arange(8)).tolist():
        expected[image, row, column] = flow.nll(prediction.features["encoder"][image, :, row, column][None])[0]
    grown = torch.nn.functional.interpolate(expected[:, None], SIZE, mode="bilinear")[:, 0]
    torch.testing.assert_close(detector(prediction), grown, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flow_nll(prediction.features["encoder"], flow), expected, rtol=1e-4, atol=1e-4)


def test_the_flow_is_fitted_on_pixels_that_are_not_ignored() -> None:
    detector = EmbeddingFlow(**QUICK)
    scenes, marks = [scene(1), scene(2)], [labels(1), labels(2)]
    for one in scenes:
        one.features["encoder"][:, :, :, :2] = 1e6  # only where labels are 255
    detector.fit(scenes, marks)
    inliers = torch.cat([one.features["encoder"][:, :, :, 2:].transpose(0, 1).flatten(1).T for one in scenes])
    flow = detector.flows[0]
    assert isinstance(flow, VectorFlow)
    assert flow.mean is not None
    assert len(inliers) < QUICK["samples"]
    torch.testing.assert_close(flow.mean, inliers.mean(0), rtol=1e-5, atol=1e-5)


def test_features_of_another_world_are_anomalous() -> None:
    detector = fitted()
    assert detector(scene(3, shift=30.0)).min() > detector(scene(3)).max()


def test_shards_give_the_same_bits_as_one_pass(tmp_path: Path) -> None:
    whole = fitted()
    parts = [FlowStatistics(("encoder",), 200, 0) for _ in range(2)]
    parts[1].update(scene(2), labels(2), 2)
    parts[0].update(scene(1), labels(1), 0)
    taken_up = FlowStatistics(("encoder",), 200, 0)
    taken_up.restore(parts[1].state())
    taken_up.merge(parts[0])
    merged = EmbeddingFlow(**QUICK)
    merged.conclude(taken_up)
    whole.save(tmp_path / "whole")
    merged.save(tmp_path / "merged")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "merged").read_bytes()


def test_it_survives_a_file(tmp_path: Path) -> None:
    detector = fitted()
    detector.save(tmp_path / "file")
    loaded = Detector.load(tmp_path / "file")
    assert {name: tuple(one.shape) for name, one in loaded.state_dict().items()}["flows.0.directions"] == (5, 5)
    assert torch.equal(loaded(scene(3)), detector(scene(3)))


def test_unfitted_it_is_stored_and_says_so(tmp_path: Path) -> None:
    EmbeddingFlow().save(tmp_path / "file")
    loaded = Detector.load(tmp_path / "file")
    assert not loaded.state_dict()
    with pytest.raises(InputError, match="embedding-flow has not been fitted: run `strays fit embedding-flow"):
        loaded(scene(3))


def test_seed_and_settings_reach_the_flow() -> None:
    detector = EmbeddingFlow(dimensions=3, steps=2, epochs=1, samples=100, seed=5)
    detector.fit([scene(1)], [labels(1)])
    statistics = FlowStatistics(("encoder",), 100, 5)
    statistics.update(scene(1), labels(1), 0)
    by_hand = VectorFlow().fit(
        statistics.inliers["encoder"].vectors, FlowTraining(dimensions=3, steps=2, epochs=1, seed=5)
    )
    assert all(torch.equal(value, by_hand.state_dict()[name]) for name, value in detector.flows[0].state_dict().items())
    assert by_hand.state_dict()["directions"].shape == (3, 5)


def test_another_tap() -> None:
    detector = EmbeddingFlow(tap="stage2", **QUICK)
    assert detector.taps() == {"stage2"}
    with pytest.raises(InputError, match="no features 'stage2'"):
        detector.fit([scene(1)], [labels(1)])


def test_standardized() -> None:
    values = torch.tensor([2.0, 4.0])
    assert standardized(values, torch.tensor(3.0), torch.tensor(0.5)).tolist() == [-2.0, 2.0]


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="samples of at least 1, got 0"):
        EmbeddingFlow(samples=0)
    with pytest.raises(InputError, match="steps above 0, got 0"):
        EmbeddingFlow(steps=0)
    with pytest.raises(InputError, match="no pixel to fit embedding-flow on"):
        EmbeddingFlow(**QUICK).fit([], [])
    with pytest.raises(InputError, match="no pixel to fit embedding-flow on"):
        EmbeddingFlow(**QUICK).fit([scene(1)], [torch.full((2, *SIZE), 255)])
    with pytest.raises(InputError, match="expected vectors of 5 channels, got 4"):
        fitted()(scene(1, channels=4))
    broken = scene(1)
    broken.features["encoder"][0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        EmbeddingFlow(**QUICK).fit([broken], [labels(1)])
