"""Reading Hugging Face folders: labels, preprocessing, weights, and what is refused."""

import json
import os
import pickle
import shutil
import sys
import warnings
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from strays.errors import InputError, WeightsError
from strays.networks.base import SCHEMES
from strays.networks.huggingface import HuggingFaceNetwork, load_huggingface
from strays.networks.huggingface_files import (
    _hide_broken_torchvision,
    import_transformers,
    label_taxonomy,
    processor_normalization,
)
from strays.taxonomy import CITYSCAPES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_transformers()

from transformers import (
    SegformerConfig,
    SegformerForImageClassification,
)

from tiny_transformers import MEAN, STD, image

pytestmark = pytest.mark.usefixtures("quiet")


def test_classes_are_named_and_coloured(networks) -> None:
    taxonomy = networks["segformer"].taxonomy()
    assert taxonomy.names == ("road", "unicorn", "sky")
    assert taxonomy.classes[0].colour == (128, 64, 128)
    assert taxonomy.classes[2].colour == (70, 130, 180)
    assert label_taxonomy([name.title() for name in CITYSCAPES.names]) is CITYSCAPES


def test_made_up_colours_are_distinct_and_stable() -> None:
    names = [f"thing {index}" for index in range(150)]
    taxonomy = label_taxonomy(names)
    colours = np.array([one.colour for one in taxonomy.classes], int)
    assert len(np.unique(colours, axis=0)) == 150
    assert min(np.linalg.norm(one - other) for one, other in pairwise(colours)) > 60
    assert label_taxonomy(names) == taxonomy


def test_normalisation_is_that_of_the_preprocessor(networks) -> None:
    assert networks["segformer"].normalization.mean == pytest.approx(MEAN)
    assert networks["segformer"].normalization.std == pytest.approx(STD)


@pytest.mark.parametrize(
    "facts",
    [
        {"image_mean": [10.0, 20.0, 30.0], "image_std": [2.0, 3.0, 4.0], "do_rescale": False},
        {"image_mean": 0.5, "image_std": 0.25, "rescale_factor": 1 / 127.5},
        {"do_normalize": False, "image_mean": [0.3] * 3},
    ],
)
def test_normalisation_acts_like_an_image_processor(facts) -> None:
    pixels = np.array([12.0, 130.0, 255.0])
    rescaled = pixels * (facts.get("rescale_factor", 1 / 255) if facts.get("do_rescale", True) else 1)
    mean, std = np.array(facts.get("image_mean")), np.array(facts.get("image_std", 1))
    expected = (rescaled - mean) / std if facts.get("do_normalize", True) else rescaled
    rgb = torch.tensor(pixels / 255).view(1, 3, 1, 1)
    np.testing.assert_allclose(processor_normalization(facts, "some")(rgb).flatten(), expected, rtol=0, atol=1e-9)


def test_a_missing_preprocessor_is_said(folders, tmp_path) -> None:
    folder = shutil.copytree(folders["segformer"], tmp_path / "bare")
    (folder / "preprocessor_config.json").unlink()
    with pytest.warns(UserWarning, match="ImageNet's mean and std are assumed"):
        network = load_huggingface(str(folder))
    assert network.normalization.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"image_mean": [1, 2]}', "a number or three"),
        ('{"do_flip_channel_order": true}', "BGR"),
    ],
)
def test_a_wrong_preprocessor_is_refused(folders, tmp_path, text, message) -> None:
    folder = shutil.copytree(folders["segformer"], tmp_path / "wrong")
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_huggingface(str(folder))


def test_sources_that_are_nothing() -> None:
    with pytest.raises(InputError, match="neither a folder"):
        SCHEMES["hf"]("/no/such/folder")


def test_an_unreachable_hub_is_said(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="check the name and the network connection"):
        load_huggingface("strays-tests/no-such-network")


def test_networks_for_other_tasks_are_refused(tmp_path) -> None:
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    SegformerForImageClassification(SegformerConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is SegformerForImageClassification, expected"):
        load_huggingface(str(tmp_path))


def test_weights_that_do_not_cover_the_head_are_refused(tmp_path) -> None:
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    SegformerForImageClassification(SegformerConfig(**sizes)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["SegformerForSemanticSegmentation"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.warns(match="ImageNet"), pytest.raises(WeightsError, match=r"lacks the weights of .* decode_head"):
        load_huggingface(str(tmp_path))


def test_folders_without_weights_or_configuration(folders, tmp_path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        load_huggingface(str(tmp_path))
    folder = shutil.copytree(folders["segformer"], tmp_path / "weightless")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_huggingface(str(folder))
    (folder / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_huggingface(str(folder))


class Trap:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.victim),)


def test_a_pickle_is_refused_and_nothing_runs(folders, tmp_path) -> None:
    folder = shutil.copytree(folders["segformer"], tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_huggingface(str(folder))
    assert not (tmp_path / "sprung").exists()


def test_plain_checkpoints_are_read(folders, tmp_path, networks) -> None:
    from safetensors.torch import load_file

    folder = shutil.copytree(folders["segformer"], tmp_path / "plain")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with torch.no_grad():
        assert torch.equal(load_huggingface(str(folder))(image(32, 32)), networks["segformer"](image(32, 32)))


def test_fit_is_only_for_networks_of_one_size(folders) -> None:
    with pytest.raises(InputError, match="leave out fit=pad"):
        load_huggingface(f"{folders['segformer']},fit=pad")
    with pytest.raises(InputError, match="expected one of pad, slide"):
        load_huggingface(f"{folders['eomt']},fit=squeeze")


@pytest.mark.parametrize("config", ["{", '{"model_type": "unheard-of"}', '{"model_type": "bert"}', "[]"])
def test_wrong_configurations_are_refused(config) -> None:
    with pytest.raises(InputError, match="configuration"):
        HuggingFaceNetwork(config=config)


def test_a_broken_torchvision_is_hidden(monkeypatch, tmp_path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('built for another torch')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "transformers")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    del sys.modules["torchvision"]
    with pytest.warns(UserWarning, match="torchvision is ignored, .* built for another torch"):
        _hide_broken_torchvision()
    assert sys.modules["torchvision"] is None
    assert find_spec("torchvision") is None
