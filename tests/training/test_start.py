"""What a run starts from: random weights, or a model whose classes are those of the data or translated to them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from strays.errors import InputError
from strays.loading import load_model
from strays.networks.extended import ExtendedNetwork
from strays.taxonomy import CAMVID, CITYSCAPES, IGNORE, LabelClass, Taxonomy, translation
from strays.training.settings import TrainingSettings
from strays.training.start import starting_point


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings.model_validate({"data": ("unused",), **changes})


def test_a_model_keeps_its_weights_and_classes() -> None:
    start = starting_point(settings(init="swiftnet-mnv2-camvid"), CAMVID)
    model = load_model("swiftnet-mnv2-camvid")
    assert (start.plain, start.taxonomy, start.labels) == (model.name, CAMVID, None)
    for name, one in model.network.state_dict().items():
        assert torch.equal(one, start.network.state_dict()[name])


def test_labels_of_other_data_are_translated() -> None:
    start = starting_point(settings(init="swiftnet-mnv2-camvid"), CITYSCAPES)
    assert np.array_equal(start.labels, translation(CITYSCAPES, CAMVID))
    assert start.labels[CITYSCAPES.names.index("vegetation")] == CAMVID.names.index("tree")
    assert start.labels[CITYSCAPES.names.index("train")] == IGNORE


@pytest.mark.parametrize("recipe", ["densehybrid", "pebal", "outlier-head", "mc-dropout"])
def test_a_recipe_extends_the_network_and_leaves_what_it_knows(recipe: str) -> None:
    start = starting_point(settings(init="swiftnet-mnv2-camvid", recipe=recipe), CAMVID)
    assert isinstance(start.network, ExtendedNetwork)
    assert start.name == "extended"
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = load_model("swiftnet-mnv2-camvid").network(image)
        assert torch.equal(start.network.eval()(image)[:, :11], before)
    void = 11 if recipe == "pebal" else None
    assert (start.taxonomy.void, len(start.taxonomy)) == (void, 12 if void else 11)


def test_a_void_class_serves_as_the_extra_channel(tmp_path: Path) -> None:
    model = load_model("swiftnet-mnv2-camvid")
    names = (*CAMVID.classes[:-1], LabelClass(name="void", colour=(0, 0, 0)))
    facts = model.facts.model_copy(update={"taxonomy": Taxonomy(name="ten", classes=names, void=10)})
    model.facts = facts
    model.save(tmp_path)
    start = starting_point(settings(init=str(tmp_path), recipe="void-class"), CAMVID)
    assert not isinstance(start.network, ExtendedNetwork)
    assert start.taxonomy.void == 10


def test_a_model_of_another_recipe_is_refused(tmp_path: Path) -> None:
    start = starting_point(settings(init="swiftnet-mnv2-camvid", recipe="pebal"), CAMVID)
    model = load_model("swiftnet-mnv2-camvid")
    model.network = start.network
    update = {"network": "extended", "configuration": start.network.configuration, "taxonomy": start.taxonomy}
    model.facts = model.facts.model_copy(update=update)
    model.save(tmp_path)
    again = starting_point(settings(init=str(tmp_path), recipe="pebal"), CAMVID)
    assert again.taxonomy == start.taxonomy
    with pytest.raises(InputError, match="extended by an extra channel, and an outlier head is asked for: start"):
        starting_point(settings(init=str(tmp_path), recipe="densehybrid"), CAMVID)


def test_somebody_elses_module_cannot_be_trained() -> None:
    with pytest.raises(InputError, match=r"python:torch\.nn:Identity cannot be trained further: strays does not"):
        starting_point(settings(init="python:torch.nn:Identity"), CAMVID)


@pytest.mark.parametrize(
    ("network", "classifier"),
    [("ladder-densenet-121", ("features.norm5.weight", "classifier.weight")), ("segmenter", ("head.weight",))],
)
def test_an_encoder_takes_the_weights_of_a_classifier(
    network: str, classifier: tuple[str, ...], tmp_path: Path
) -> None:
    encoder = starting_point(settings(network=network), CAMVID).network.encoder
    path = tmp_path / "classifier.pth"
    torch.save({**encoder.state_dict(), **{name: torch.zeros(2) for name in classifier}}, path)
    start = starting_point(settings(network=network, encoder_weights=str(path)), CAMVID)
    for name, one in encoder.state_dict().items():
        assert torch.equal(one, start.network.encoder.state_dict()[name])


def test_network_and_model_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either from a network, with random weights, or from a model"):
        settings(init="swiftnet-mnv2-camvid", network="enet")
    with pytest.raises(ValueError, match="has an encoder already"):
        settings(init="swiftnet-mnv2-camvid", encoder_weights="w.pth")
    assert settings().network == "swiftnet-rn18"
