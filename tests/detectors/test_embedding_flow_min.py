"""Learned embedding density, minimum over layers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from strays.detectors import Detector
from strays.detectors.embedding_flow import FlowStatistics
from strays.detectors.embedding_flow_min import EmbeddingFlowMin, minimum_nll
from strays.errors import InputError
from strays.flows import VectorFlow
from strays.prediction import Prediction

SIZE = (24, 32)
QUICK = {"samples": 150, "steps": 2, "epochs": 2}


def scene(seed: int, images: int = 2) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(images, 5, 6, 8, generator=generator) * torch.arange(1.0, 6)[:, None, None]
    fine = torch.randn(images, 3, 12, 16, generator=generator) ** 3 * 100
    logits = torch.randn(images, 4, 6, 8, generator=generator)
    return Prediction(logits=logits, size=SIZE, features={"encoder": coarse, "decoder": fine})


def labels(seed: int, images: int = 2) -> Tensor:
    made = torch.randint(0, 4, (images, *SIZE), generator=torch.Generator().manual_seed(seed))
    made[:, :, :8] = 255
    return made


def fitted() -> EmbeddingFlowMin:
    return EmbeddingFlowMin(**QUICK).fit([scene(1), scene(2)], [labels(1), labels(2)])


def sample() -> FlowStatistics:
    statistics = FlowStatistics(("encoder", "decoder"), QUICK["samples"], 0)
    statistics.update(scene(1), labels(1), 0)
    statistics.update(scene(2), labels(2), 2)
    return statistics


def nll(flow: torch.nn.Module, vectors: Tensor) -> np.ndarray:
    assert isinstance(flow, VectorFlow)
    return flow.nll(vectors).double().numpy()


def test_minimum_of_what_is_standardised_with_the_sample() -> None:
    detector, prediction, levels = fitted(), scene(3), []
    for flow, (tap, drawn) in zip(detector.flows, sample().inliers.items(), strict=True):
        known = nll(flow, drawn.vectors)
        features = prediction.features[tap]
        seen = nll(flow, features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]))
        level = ((seen - known.mean()) / known.std()).reshape(2, 1, *features.shape[2:])
        levels.append(torch.nn.functional.interpolate(torch.from_numpy(level), SIZE, mode="bilinear")[:, 0].numpy())
    np.testing.assert_allclose(detector(prediction), np.minimum(*levels), rtol=1e-4, atol=1e-4)
    assert (levels[0] < levels[1]).any()
    assert (levels[0] > levels[1]).any()


def test_only_what_every_layer_finds_improbable_is_anomalous() -> None:
    detector, prediction = fitted(), scene(3, images=1)
    usual = detector(prediction)
    prediction.features["decoder"][:, :, 4:8, 4:8] = 1e5
    one_layer = detector(prediction)
    prediction.features["encoder"][:, :, 2:4, 2:4] = -1e3
    both = detector(prediction)
    assert one_layer.max() < 30
    assert both[:, 10:14, 10:14].min() > 100
    assert torch.equal(both[:, :4], usual[:, :4])


def test_one_layer_alone_is_its_standardised_nll() -> None:
    assert torch.equal(minimum_nll([torch.ones(1, 2, 2)], (2, 2)), torch.ones(1, 2, 2))
    detector = EmbeddingFlowMin(taps="encoder", **QUICK).fit([scene(1)], [labels(1)])
    assert detector.taps() == {"encoder"}
    assert detector.settings()["taps"] == "encoder"


def test_shards_and_files_change_no_bit(tmp_path: Path) -> None:
    parts = [FlowStatistics(("encoder", "decoder"), QUICK["samples"], 0) for _ in range(2)]
    parts[1].update(scene(2), labels(2), 2)
    parts[0].update(scene(1), labels(1), 0)
    parts[1].merge(parts[0])
    merged = EmbeddingFlowMin(**QUICK)
    merged.conclude(parts[1])
    merged.save(tmp_path / "merged")
    fitted().save(tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "merged").read_bytes()
    assert torch.equal(Detector.load(tmp_path / "merged")(scene(3)), merged(scene(3)))


def test_features_that_never_vary_are_no_anomaly() -> None:
    constant = scene(1)
    constant.features["encoder"][:] = 4.0
    detector = EmbeddingFlowMin(**QUICK).fit([constant], [labels(1)])
    assert detector.std_ is not None
    assert detector.std_[0] == 1
    assert detector(constant).isfinite().all()


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="no pixel to fit embedding-flow-min on"):
        EmbeddingFlowMin(**QUICK).fit([], [])
    with pytest.raises(InputError, match="embedding-flow-min has not been fitted"):
        EmbeddingFlowMin()(scene(1))
    with pytest.raises(InputError, match="names of taps"):
        EmbeddingFlowMin(taps="+")
