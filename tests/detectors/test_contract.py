"""What every registered detector promises; a new one is covered as soon as its file is there."""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from strays.cards import Card
from strays.detectors import DETECTORS, Detector, PixelwiseDetector, build_detector
from strays.detectors.base import Settings
from strays.detectors.fitted import FittedDetector
from strays.errors import InputError
from strays.networks.base import SegmentationNetwork
from strays.networks.passes import NetworkPasses
from strays.prediction import MaskPrediction, Prediction

CLASSES, QUERIES, CHANNELS, SAMPLES = 6, 7, 8, 3
SIZE = (24, 32)
NAMES = list(DETECTORS)


class Repeatable(SegmentationNetwork):
    """A network for detectors that run it again: a convolution after dropout."""

    card = Card(title="Repeatable", summary="For tests.")

    def __init__(self) -> None:
        super().__init__()
        self.tap_modules = {"encoder": "features", "decoder": "features"}
        generator = torch.Generator().manual_seed(3)
        self.features = torch.nn.Conv2d(3, CHANNELS, 3, stride=4, padding=1)
        self.classifier = torch.nn.Conv2d(CHANNELS, CLASSES, 1)
        for one in self.parameters():
            torch.nn.init.normal_(one, generator=generator)

    def logits(self, normalized: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.features(normalized))
        return found


NETWORK = Repeatable().eval()
QUICK: dict[str, Settings] = {"distillation-comparison": {"epochs": 2, "batch": 1}}
"""Settings for detectors that are trained longer by default than a test may take."""


def prediction_for(detector: Detector, images: int = 2, seed: int = 0) -> Prediction:
    """A random prediction that holds whatever the detector may ask for."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    height, width = SIZE[0] // 4, SIZE[1] // 4
    needs = type(detector).card.needs
    image = torch.rand(images, 3, *SIZE, generator=generator)
    void = CLASSES - 2 if needs.void_class else None
    return Prediction(
        logits=random(images, CLASSES, height, width) * 4,
        size=SIZE,
        void=void,
        image=image,
        features={tap: random(images, CHANNELS, height, width) for tap in sorted(detector.taps())},
        samples=random(SAMPLES, images, CLASSES, height, width),
        outlier_logits=random(images, 2, height, width),
        # Sure of their classes, and small, as the masks of a trained network are.
        masks=MaskPrediction(random(images, QUERIES, CLASSES + 1) * 3, random(images, QUERIES, height, width) * 6 - 8),
        passes=NetworkPasses(NETWORK, image, SIZE, sorted(detector.taps()), void),
    )


def only(prediction: Prediction, index: int) -> Prediction:
    """The prediction of one image of a batch."""
    one = slice(index, index + 1)

    def cut(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[one]

    masks, passes = prediction.masks, prediction.passes
    assert isinstance(passes, NetworkPasses)
    return Prediction(
        logits=prediction.logits[one],
        size=prediction.size,
        void=prediction.void,
        image=cut(prediction.image),
        features={tap: values[one] for tap, values in prediction.features.items()},
        samples=None if prediction.samples is None else prediction.samples[:, one],
        outlier_logits=cut(prediction.outlier_logits),
        masks=None if masks is None else MaskPrediction(masks.class_logits[one], masks.mask_logits[one]),
        passes=replace(passes, image=passes.image[one]),
    )


def tensors_of(prediction: Prediction) -> list[Tensor]:
    masks = prediction.masks
    found = [prediction.logits, prediction.image, prediction.samples, prediction.outlier_logits]
    found += [*prediction.features.values(), *([masks.class_logits, masks.mask_logits] if masks else [])]
    return [one for one in found if one is not None]


@pytest.fixture(params=NAMES)
def detector(request: pytest.FixtureRequest) -> Detector:
    """Every registered detector with its default settings, fitted on random scenes where it needs that."""
    made = DETECTORS[request.param](**QUICK.get(request.param, {}))
    assert made.card.needs.fitting == isinstance(made, FittedDetector)
    if isinstance(made, FittedDetector):
        scenes = [prediction_for(made, seed=seed) for seed in SEEDS]
        assert made.fit(scenes, [labels_for(made, seed) for seed in SEEDS]) is made
    return made.eval()


SEEDS = (1, 2)


def labels_for(detector: FittedDetector[Any], seed: int) -> Tensor:
    """Random labels of the kind that the detector is fitted on, some of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2 if detector.target == "mask" else CLASSES, (2, *SIZE), generator=generator)
    return labels.masked_fill(torch.rand(labels.shape, generator=generator) < 0.1, 255)


@pytest.mark.parametrize("name", [name for name, kind in DETECTORS.items() if kind.card.needs.fitting])
def test_shards_give_what_one_pass_gives(name: str) -> None:
    whole, merged = DETECTORS[name](), DETECTORS[name]()
    assert isinstance(whole, FittedDetector)
    assert isinstance(merged, FittedDetector)
    if not whole.mergeable:
        pytest.skip("is trained on all images in one run")
    scenes = [prediction_for(whole, seed=seed) for seed in SEEDS]
    labels = [labels_for(whole, seed) for seed in SEEDS]
    whole.fit(scenes, labels)
    shards = [merged.statistics() for _ in SEEDS]
    for index, shard in enumerate(shards):
        shard.update(scenes[index], labels[index], 2 * index)
    first = merged.statistics()  # as read from a file
    first.restore(shards[1].state())
    first.merge(shards[0])
    merged.conclude(first)
    prediction = prediction_for(whole)
    torch.testing.assert_close(merged.eval()(prediction), whole.eval()(prediction), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, kind in DETECTORS.items() if kind.card.needs.fitting])
def test_unfitted_or_fitted_on_nothing_is_an_error(name: str) -> None:
    detector = DETECTORS[name]()
    with pytest.raises(InputError, match="fit"):
        detector(prediction_for(detector))
    with pytest.raises(InputError):
        detector.fit([], [])


def test_score_is_a_finite_float32_map_of_the_wanted_size(detector: Detector) -> None:
    prediction = prediction_for(detector)
    score = detector(prediction)
    assert score.shape == (2, *SIZE)
    assert score.dtype == torch.float32
    assert score.isfinite().all()
    assert not score.requires_grad
    assert score.unique().numel() > 1


def test_half_precision_predictions_give_float32_scores(detector: Detector) -> None:
    if not isinstance(detector, PixelwiseDetector):
        pytest.skip("only scores of logits alone promise to read half precision")
    full = prediction_for(detector)
    half = Prediction(logits=full.logits.half(), size=SIZE, void=full.void)
    assert detector(half).dtype == torch.float32
    torch.testing.assert_close(detector(half), detector(full), rtol=0.02, atol=0.02)


def test_score_is_deterministic(detector: Detector) -> None:
    prediction = prediction_for(detector)
    assert torch.equal(detector(prediction), detector(prediction))


def test_call_is_score_without_gradients(detector: Detector) -> None:
    prediction = prediction_for(detector)
    assert torch.equal(detector(prediction), detector.score(prediction).detach())


def test_prediction_is_not_modified(detector: Detector) -> None:
    prediction = prediction_for(detector)
    before = [one.clone() for one in tensors_of(prediction)]
    detector(prediction)
    assert all(torch.equal(old, new) for old, new in zip(before, tensors_of(prediction), strict=True))


def test_a_batch_is_scored_as_its_images_one_by_one(detector: Detector) -> None:
    prediction = prediction_for(detector, images=3)
    singles = torch.cat([detector(only(prediction, index)) for index in range(3)])
    torch.testing.assert_close(detector(prediction), singles, rtol=1e-5, atol=1e-6)


def test_training_mode_changes_nothing_without_dropout(detector: Detector) -> None:
    if any(isinstance(module, torch.nn.modules.dropout._DropoutNd) for module in detector.modules()):
        pytest.skip("holds dropout")
    prediction = prediction_for(detector)
    evaluated = detector(prediction)
    assert torch.equal(detector.train()(prediction), evaluated)


def test_settings_are_json_and_build_the_same_detector(detector: Detector) -> None:
    settings = detector.settings()
    assert json.loads(json.dumps(settings, allow_nan=False)) == settings
    assert type(detector)(**settings).settings() == settings


def test_settings_are_the_keywords_of_the_class(detector: Detector) -> None:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(type(detector)).parameters.values()
    assert set(detector.settings()) == {one.name for one in parameters if one.kind in named}


def test_saved_and_loaded_scores_are_the_same_bits(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    prediction = prediction_for(detector)
    for loaded in (Detector.load(path), type(detector).load(str(path)), build_detector(f"{detector.name}@{path}")):
        assert type(loaded) is type(detector)
        assert loaded.settings() == detector.settings()
        assert torch.equal(loaded.eval()(prediction), detector(prediction))


def test_saving_twice_writes_the_same_bytes(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "a")
    detector.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_name_is_kebab_case(name: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)
    assert DETECTORS[name]().name == name


@pytest.mark.parametrize("name", NAMES)
def test_card_is_complete(name: str) -> None:
    card = DETECTORS[name].card
    assert card.title
    assert card.summary.endswith(".")
    assert card.paper
    assert card.url.startswith("https://")
    assert card.year is not None
    assert 1900 < card.year < 2100


@pytest.mark.parametrize("name", NAMES)
def test_published_numbers_are_fractions_with_data_set_and_metric(name: str) -> None:
    published = DETECTORS[name].card.published
    for one in published:
        assert 0 <= one.value <= 1
        assert one.dataset
        assert one.metric
        assert one.protocol
    rows = [(one.dataset, one.metric, one.network, one.protocol) for one in published]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", NAMES)
def test_class_is_documented(name: str) -> None:
    assert inspect.getdoc(DETECTORS[name]) != inspect.getdoc(Detector)
    module = inspect.getmodule(DETECTORS[name])
    assert module is not None
    assert module.__doc__
