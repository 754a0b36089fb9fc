"""Validation: mIoU as scikit-learn computes it, at the size of each scene."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score
from torch import Tensor, nn

from strays.cards import Card
from strays.data import open_scenes
from strays.data.synthetic import SyntheticScenes
from strays.detectors import build_detector
from strays.errors import InputError
from strays.networks.base import SegmentationNetwork
from strays.scene import Scene
from strays.taxonomy import IGNORE, LabelClass, Taxonomy
from strays.training.validation import anomaly_metrics, closed_set_metrics

CLASSES = 4
CPU = torch.device("cpu")
NAMES = tuple(LabelClass(name=str(index), colour=(index, 0, 0)) for index in range(CLASSES))
TAXONOMY = Taxonomy(name="numbers", classes=NAMES)


class Slight(SegmentationNetwork):
    """A convolution at stride 2 and a dropout that must be off."""

    card = Card(title="Slight", summary="One convolution.")
    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.9), nn.Conv2d(3, CLASSES, 3, stride=2, padding=1))

    def logits(self, normalized: Tensor) -> Tensor:
        return self.layers(normalized)


@pytest.fixture
def network() -> Slight:
    torch.manual_seed(0)
    return Slight()


@pytest.fixture
def scenes() -> list[Scene]:
    """Three scenes of different sizes; the class 3 is in none of them."""
    random = np.random.default_rng(0)
    made = []
    for size in ((12, 16), (9, 20), (16, 16)):
        labels = random.integers(0, CLASSES - 1, size).astype(np.uint8)
        labels[random.random(size) < 0.2] = IGNORE
        made.append(Scene(random.integers(0, 256, (*size, 3)).astype(np.uint8), labels=labels))
    return made


def predictions(network: Slight, scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true classes of all labelled pixels, one scene after the other."""
    found, true = [], []
    network.eval()
    for scene in scenes:
        image = torch.tensor(scene.image).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            logits = nn.functional.interpolate(network(image), scene.size, mode="bilinear", align_corners=False)
        found.append(logits.argmax(1)[0].numpy()[scene.labels != IGNORE])
        true.append(scene.labels[scene.labels != IGNORE])
    return np.concatenate(found), np.concatenate(true)


def test_it_is_the_jaccard_index_of_scikit_learn(network: Slight, scenes: list[Scene]) -> None:
    found, true = predictions(network, scenes)
    present = sorted({*found.tolist(), *true.tolist()})
    result = closed_set_metrics(network, scenes, TAXONOMY, CPU)
    per_class = jaccard_score(true, found, labels=range(CLASSES), average=None, zero_division=0)
    assert result["mIoU"] == pytest.approx(per_class[present].mean())
    assert [one or 0 for one in result.iou] == pytest.approx(per_class.tolist())
    assert result["accuracy"] == pytest.approx(accuracy_score(true, found))
    assert result["pixels"] == len(true)


def test_classes_of_the_network_that_the_data_do_not_know_are_not_averaged(
    network: Slight, scenes: list[Scene]
) -> None:
    found, true = predictions(network, scenes)
    assert 2 in found
    table = np.arange(256, dtype=np.uint8)
    table[2:] = IGNORE
    known = true < 2
    result = closed_set_metrics(network, scenes, TAXONOMY, CPU, table)
    assert result["mIoU"] == pytest.approx(jaccard_score(true[known], found[known], labels=[0, 1], average="macro"))
    assert result.iou[2] is None


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_in_the_mode_it_was_in(network: Slight, scenes: list[Scene], training: bool) -> None:
    network.train(training)
    first = closed_set_metrics(network, scenes, TAXONOMY, CPU)
    assert network.training == training
    assert network.layers.training == training
    assert closed_set_metrics(network, scenes, TAXONOMY, CPU) == first


def test_no_gradient_is_kept(network: Slight, scenes: list[Scene]) -> None:
    closed_set_metrics(network, scenes, TAXONOMY, CPU)
    assert all(one.grad is None for one in network.parameters())


def test_scenes_without_labels_do_not_count(network: Slight, scenes: list[Scene]) -> None:
    unlabelled = Scene(np.zeros((8, 8, 3), np.uint8))
    expected = closed_set_metrics(network, scenes, TAXONOMY, CPU)
    assert closed_set_metrics(network, [*scenes, unlabelled], TAXONOMY, CPU) == expected


def test_the_void_channel_is_no_prediction(network: Slight, scenes: list[Scene]) -> None:
    with_void = Taxonomy(name="with void", classes=NAMES, void=CLASSES - 1)
    network.layers[1].bias.data[-1] = 100
    result = closed_set_metrics(network, scenes, with_void, CPU)
    assert len(result.iou) == CLASSES - 1
    network.layers[1].bias.data[-1] = -100
    assert closed_set_metrics(network, scenes, with_void, CPU) == result


def test_labels_are_translated(network: Slight, scenes: list[Scene]) -> None:
    table = np.full(256, IGNORE, np.uint8)
    table[:3] = 2, 0, 1
    moved = [replace(one, labels=table[one.labels]) for one in scenes]
    found = closed_set_metrics(network, scenes, TAXONOMY, CPU, table)
    expected = closed_set_metrics(network, moved, TAXONOMY, CPU)
    assert found["accuracy"] == expected["accuracy"]
    assert found.iou[:3] == expected.iou[:3]


def test_anomalies_are_ranked_as_scikit_learn_does(network: Slight) -> None:
    scenes = SyntheticScenes(3, size=(64, 96))
    found = anomaly_metrics(network, build_detector("energy"), scenes, TAXONOMY, CPU)
    scores, masks = [], []
    for scene in scenes:
        image = torch.tensor(scene.image).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            score = -network.eval()(image).double()
            logits = nn.functional.interpolate(-score, scene.size, mode="bilinear", align_corners=False)
        scores.append(-torch.logsumexp(logits, 1)[0].numpy()[scene.mask != IGNORE])
        masks.append(scene.mask[scene.mask != IGNORE])
    expected = average_precision_score(np.concatenate(masks), np.concatenate(scores))
    assert found["AP"] == pytest.approx(expected, abs=2e-4)
    assert 0 <= found["FPR95"] <= 1
    assert network.training is False


def test_a_set_without_masks_cannot_show_anomalies(network: Slight, camvid: Path) -> None:
    scenes = open_scenes(f"camvid={camvid}", split="val")
    with pytest.raises(InputError, match="has no anomaly mask: validate on a set that has"):
        anomaly_metrics(network, build_detector("energy"), scenes, TAXONOMY, CPU)
