"""One pass of the network, any number of detectors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from strays.cards import Card
from strays.detectors import Detector
from strays.errors import InputError
from strays.loading import load_model
from strays.networks.extended import ExtendedNetwork
from strays.prediction import Prediction
from strays.scoring import Scorer, parse_size

SIZE = (40, 60)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def logits(tiny, image: np.ndarray, factory: str = "build") -> torch.Tensor:
    """What the network gives for an image, at the size of the image."""
    with torch.no_grad():
        small = getattr(tiny.module, factory)()(torch.tensor(image).permute(2, 0, 1)[None] / 255)
    return functional.interpolate(small, size=SIZE, mode="bilinear")[0]


def test_one_pass_serves_all_detectors(tiny, image) -> None:
    scorer = Scorer.build(load_model(tiny.spec), ["energy", "msp", "energy:temperature=2", "energy"])
    tiny.forget()
    scored = scorer(image)
    assert tiny.seen == [SIZE]
    assert list(scored.scores) == ["energy", "msp", "energy:temperature=2"]
    z = logits(tiny, image)
    expected = {
        "energy": -z.logsumexp(0),
        "msp": 1 - z.softmax(0).amax(0),
        "energy:temperature=2": -2 * (z / 2).logsumexp(0),
    }
    for name, scores in scored.scores.items():
        assert (scores.dtype, scores.shape) == (np.float32, SIZE)
        np.testing.assert_allclose(scores, expected[name].numpy(), rtol=1e-4, atol=1e-4)
    assert scored.milliseconds >= sum(scored.detector_milliseconds.values()) > 0


def test_labels_are_the_likeliest_classes_and_never_void(tiny, image) -> None:
    scored = Scorer.build(load_model(tiny.factory("void")), ["void"])(image)
    z = logits(tiny, image, "void")
    assert (z.argmax(0) == 19).any(), "the test needs pixels where void wins"
    assert scored.labels.dtype == np.uint8
    assert np.array_equal(scored.labels, z[:19].argmax(0).numpy())
    np.testing.assert_allclose(scored.scores["void"], z.softmax(0)[19].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("void", [0, 3, 10])
def test_labels_at_any_scale_leave_void_out(tiny, image, void) -> None:
    """Where the void channel is set to minus infinity before upsampling, minus infinity times zero becomes NaN."""
    model = load_model(tiny.spec)
    facts = model.facts.model_copy(update={"taxonomy": model.taxonomy.model_copy(update={"void": void})})
    enlarged = np.asarray(Image.fromarray(image).resize((240, 160)))
    scored = Scorer.build(replace(model, facts=facts), ["energy"], network_size=SIZE)(enlarged)
    assert scored.labels.shape == (160, 240)
    assert not (scored.labels == void).any()


def test_the_model_names_the_detector_that_is_used_by_default(tiny) -> None:
    model = load_model(tiny.spec)
    assert list(Scorer.build(model).detectors) == [model.facts.detector]


def test_the_network_may_see_another_size(tiny, image) -> None:
    scorer = Scorer.build(load_model(tiny.spec), ["energy"], network_size=(20, 32))
    tiny.forget()
    scored = scorer(image)
    assert tiny.seen == [(20, 32)]
    resized = np.asarray(Image.fromarray(image).resize((32, 20), Image.Resampling.BILINEAR))
    z = logits(tiny, resized)
    np.testing.assert_allclose(scored.scores["energy"], -z.logsumexp(0).numpy(), rtol=1e-4, atol=1e-4)


class Brightness(Detector):
    """A detector that compares with the image, as some do."""

    card = Card(title="Brightness", summary="Mean of the image's channels.")

    def score(self, prediction: Prediction) -> torch.Tensor:
        assert prediction.image is not None
        return prediction.image.mean(1)


def test_detectors_see_the_image_itself(tiny, image) -> None:
    scored = Scorer(load_model(tiny.spec), {"brightness": Brightness()}, network_size=(20, 32))(image)
    np.testing.assert_allclose(scored.scores["brightness"], image.mean(2) / 255, rtol=1e-5)
    assert scored.prediction.image is None, "what is kept is small"


def test_a_detector_of_the_void_class_needs_one(tiny) -> None:
    model = load_model(tiny.spec)
    with pytest.raises(
        InputError, match=r"'void' reads a void class, and python:.* has none: choose another, .*energy"
    ):
        Scorer.build(model, ["energy", "void"])


@pytest.mark.parametrize("spec", ["outlier-probability", "smoothed(outlier-probability-msp,sigma=2)"])
def test_a_detector_of_an_outlier_head_needs_one(tiny, spec) -> None:
    model = load_model(tiny.spec)
    with pytest.raises(InputError, match=r"reads an outlier head, and python:.* has none: choose another, .*energy"):
        Scorer.build(model, ["energy", spec])


def test_an_outlier_head_is_read_where_there_is_one(tiny, image) -> None:
    model = load_model(tiny.spec)
    torch.manual_seed(0)
    extended = replace(model, network=ExtendedNetwork(11, "enet", outlier_head=True).eval())
    scored = Scorer.build(extended, ["outlier-probability"], network_size=(64, 64))(image)
    assert scored.scores["outlier-probability"].shape == SIZE
    assert scored.prediction.outlier_logits is not None


def test_broken_scores_are_refused(tiny, image) -> None:
    image[0, 0] = 255, 0, 0
    with pytest.raises(InputError, match=r"energy: \d+ of 2400 scores are NaN or infinite"):
        Scorer.build(load_model(tiny.spec), ["energy"])(image)


def test_an_image_that_the_network_cannot_take_is_an_error_of_that_image(tiny, image) -> None:
    image[0, 0] = 0, 255, 0
    with pytest.raises(InputError, match=r"failed on an image of 40x60 \(RuntimeError: Output size .*--network-size"):
        Scorer.build(load_model(tiny.spec))(image)


@pytest.mark.parametrize("text", ["512", "512x", "x512", "512x0", "-1x3", "5.5x4", "axb", "1x2x3", ""])
def test_a_size_is_height_x_width(text) -> None:
    with pytest.raises(InputError, match="HEIGHTxWIDTH"):
        parse_size(text)


def test_sizes() -> None:
    assert parse_size("512X1024") == (512, 1024)
    assert parse_size(None) is None
