"""Learned embedding density, logistic regression over layers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from strays.detectors import Detector
from strays.detectors.embedding_flow_regression import EmbeddingFlowRegression, PairedFlowStatistics, regressed_nll
from strays.errors import InputError
from strays.flows import VectorFlow
from strays.prediction import Prediction

SIZE = (24, 32)
TAPS = ("encoder", "decoder")
QUICK = {"samples": 400, "steps": 2, "epochs": 2}


def labels(seed: int, images: int = 2) -> Tensor:
    made = torch.randint(0, 4, (images, *SIZE), generator=torch.Generator().manual_seed(seed))
    made[:, :, :8] = 255
    return made


def scene(seed: int, images: int = 2) -> Prediction:
    """Void pixels are unusual in the encoder, by and large, and not in the decoder."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(images, 5, 6, 8, generator=generator) * torch.arange(1.0, 6)[:, None, None]
    coarse[:, :, :, :2] *= 2
    fine = torch.randn(images, 3, 12, 16, generator=generator)
    logits = torch.randn(images, 4, 6, 8, generator=generator)
    return Prediction(logits=logits, size=SIZE, features={"encoder": coarse, "decoder": fine})


def statistics() -> PairedFlowStatistics:
    made = PairedFlowStatistics(TAPS, QUICK["samples"], 0)
    made.update(scene(1), labels(1), 0)
    made.update(scene(2), labels(2), 2)
    return made


def fitted() -> EmbeddingFlowRegression:
    return EmbeddingFlowRegression(**QUICK).fit([scene(1), scene(2)], [labels(1), labels(2)])


def nll(flow: torch.nn.Module, vectors: Tensor) -> np.ndarray:
    assert isinstance(flow, VectorFlow)
    return flow.nll(vectors).double().numpy()


def test_all_taps_are_read_at_the_same_pixels_of_the_finest() -> None:
    prediction = scene(1)
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    prediction.features["encoder"][:, 0], prediction.features["encoder"][:, 1] = rows, columns
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    prediction.features["decoder"][:, 0], prediction.features["decoder"][:, 1] = rows, columns
    drawn = PairedFlowStatistics(TAPS, 50, 0)
    drawn.update(prediction, labels(1), 0)
    for kind, ignored in ((drawn.inliers, False), (drawn.void, True)):
        fine, coarse = kind["decoder"].vectors, kind["encoder"].vectors
        assert fine.shape == (50, 3)
        assert torch.equal(coarse[:, :2], fine[:, :2] // 2)
        assert ((fine[:, 1] < 4) == ignored).all()  # 8 of 32 columns are ignored, so 4 of 16


def test_weights_are_those_of_scikit_learn() -> None:
    detector, drawn = fitted(), statistics()
    known, void = [], []
    for flow, tap in zip(detector.flows, TAPS, strict=True):
        inliers = nll(flow, drawn.inliers[tap].vectors)
        known.append((inliers - inliers.mean()) / inliers.std())
        void.append((nll(flow, drawn.void[tap].vectors) - inliers.mean()) / inliers.std())
    values = np.concatenate([np.stack(known, 1), np.stack(void, 1)])
    kinds = np.repeat([0, 1], [len(known[0]), len(void[0])])
    weights = np.where(kinds == 1, len(kinds) / 2 / len(void[0]), len(kinds) / 2 / len(known[0]))
    expected = LogisticRegression(tol=1e-8).fit(values, kinds, sample_weight=weights)
    assert len(known[0]) != len(void[0])
    assert detector.weights_ is not None
    assert detector.bias_ is not None
    np.testing.assert_allclose(detector.weights_, expected.coef_[0], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(detector.bias_, expected.intercept_[0], rtol=1e-2, atol=1e-3)
    assert detector.weights_[0] > 3 * detector.weights_[1].abs()


def test_score_is_the_sigmoid_of_the_weighted_sum() -> None:
    detector, prediction, total = fitted(), scene(3), 0.0
    assert detector.weights_ is not None
    for flow, weight, (tap, drawn) in zip(detector.flows, detector.weights_, statistics().inliers.items(), strict=True):
        known = nll(flow, drawn.vectors)
        features = prediction.features[tap]
        seen = nll(flow, features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]))
        level = torch.from_numpy((seen - known.mean()) / known.std()).reshape(2, 1, *features.shape[2:])
        total = total + float(weight) * torch.nn.functional.interpolate(level, SIZE, mode="bilinear")[:, 0].numpy()
    expected = 1 / (1 + np.exp(-(total + float(detector.bias_))))
    np.testing.assert_allclose(detector(prediction), expected, rtol=1e-4, atol=1e-4)


def test_regressed_nll_brings_every_map_to_the_size() -> None:
    maps = [torch.full((1, 2, 2), 2.0), torch.full((1, 3, 5), -1.0)]
    score = regressed_nll(maps, torch.tensor([0.5, 3.0]), torch.tensor(1.0), (6, 7))
    torch.testing.assert_close(score, torch.full((1, 6, 7), float(1 / (1 + np.exp(1.0)))))


def test_void_pixels_score_higher() -> None:
    score, ignored = fitted()(scene(3)), labels(3) == 255
    assert score[ignored].mean() > score[~ignored].mean() + 0.2


def test_shards_and_files_change_no_bit(tmp_path: Path) -> None:
    parts = [PairedFlowStatistics(TAPS, QUICK["samples"], 0) for _ in range(2)]
    parts[1].update(scene(2), labels(2), 2)
    parts[0].update(scene(1), labels(1), 0)
    taken_up = PairedFlowStatistics(TAPS, QUICK["samples"], 0)
    taken_up.restore(parts[1].state())
    taken_up.merge(parts[0])
    merged = EmbeddingFlowRegression(**QUICK)
    merged.conclude(taken_up)
    merged.save(tmp_path / "merged")
    fitted().save(tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "merged").read_bytes()
    assert torch.equal(Detector.load(tmp_path / "merged")(scene(3)), merged(scene(3)))


def test_bad_input_is_told() -> None:
    detector = EmbeddingFlowRegression(**QUICK)
    with pytest.raises(InputError, match="no void pixel to fit embedding-flow-regression on: it learns its weights"):
        detector.fit([scene(1)], [torch.zeros(2, *SIZE)])
    with pytest.raises(InputError, match="no pixel to fit embedding-flow-regression on"):
        detector.fit([scene(1)], [torch.full((2, *SIZE), 255)])
    with pytest.raises(InputError, match="no pixel to fit embedding-flow-regression on"):
        detector.fit([], [])
    with pytest.raises(InputError, match="embedding-flow-regression has not been fitted"):
        detector(scene(1))
