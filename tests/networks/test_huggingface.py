"""Hugging Face networks: tiny ones built from configurations, saved to a folder and loaded back by path."""

import json
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import nn
from torch.nn import functional

from strays.errors import InputError, WeightsError
from strays.networks.base import NETWORKS, SCHEMES
from strays.networks.huggingface import HuggingFaceNetwork, _Canvas, compose_masks, load_huggingface
from strays.networks.huggingface_files import (
    _hide_broken_torchvision,
    import_transformers,
    label_taxonomy,
    processor_normalization,
)
from strays.prediction import MaskPrediction
from strays.taxonomy import CITYSCAPES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_transformers()

from transformers import (
    BeitConfig,
    BeitForSemanticSegmentation,
    ConvNextConfig,
    DetrConfig,
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    PreTrainedModel,
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

MEAN, STD = (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)
PREPROCESSOR = {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255, "do_normalize": True}
NAMES = ["road", "unicorn", "sky"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: index for index, name in enumerate(NAMES)}}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SEMANTIC = ("segformer", "upernet")
PYRAMIDS = ("maskformer", "mask2former")


def swin() -> SwinConfig:
    return SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES)


def segformer() -> PreTrainedModel:
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    return SegformerForSemanticSegmentation(SegformerConfig(decoder_hidden_size=16, **sizes, **LABELS))


def upernet() -> PreTrainedModel:
    backbone = ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, out_features=STAGES)
    config = UperNetConfig(backbone_config=backbone, hidden_size=16, use_auxiliary_head=False, **LABELS)
    return UperNetForSemanticSegmentation(config)


def maskformer() -> PreTrainedModel:
    widths = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    decoder = DetrConfig(d_model=32, encoder_layers=1, decoder_layers=1, num_queries=5, **widths)
    widths = {"fpn_feature_size": 32, "mask_feature_size": 32}
    config = MaskFormerConfig(backbone_config=swin(), decoder_config=decoder, **widths, **LABELS)
    return MaskFormerForInstanceSegmentation(config)


def mask2former() -> PreTrainedModel:
    widths = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32}
    depths = {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 5}
    config = Mask2FormerConfig(backbone_config=swin(), dim_feedforward=32, **widths, **depths, **LABELS)
    return Mask2FormerForUniversalSegmentation(config)


def eomt() -> PreTrainedModel:
    widths = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_queries": 5, "num_blocks": 1}
    return EomtForUniversalSegmentation(EomtConfig(image_size=64, patch_size=16, **widths, **LABELS))


BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    one.__name__: one for one in (segformer, upernet, maskformer, mask2former, eomt)
}


def randomized(model: PreTrainedModel) -> PreTrainedModel:
    """Replace the timid initial weights, so that logits differ from pixel to pixel and class to class."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.std() < 0.05:
            nn.init.kaiming_normal_(module.weight)
    return model.eval()


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    made = {}
    for name, build in BUILDERS.items():
        made[name] = tmp_path_factory.mktemp(name)
        with torch.no_grad():
            randomized(build()).save_pretrained(made[name])
        (made[name] / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return made


@pytest.fixture(scope="module")
def networks(folders: dict[str, Path]) -> dict[str, HuggingFaceNetwork]:
    return {name: load_huggingface(str(folder)) for name, folder in folders.items()}


def image(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (pixels - mean) / std


@cache
def original(folder: Path, name: str) -> PreTrainedModel:
    return type(BUILDERS[name]()).from_pretrained(folder).eval()


def reference(folder: Path, name: str, pixels: torch.Tensor):
    with torch.no_grad():
        return original(folder, name)(pixel_values=pixels)


def bilinear(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (..., h, w) with half-pixel centres and clamped borders, by SciPy."""
    grids = ((np.arange(new) + 0.5) * old / new - 0.5 for new, old in zip(size, maps.shape[-2:], strict=True))
    rows, columns = np.meshgrid(*grids, indexing="ij")
    flat = maps.reshape(-1, *maps.shape[-2:])
    resized = [map_coordinates(one, (rows, columns), order=1, mode="nearest") for one in flat]
    return np.reshape(resized, (*maps.shape[:-2], *size))


def composed(class_logits: torch.Tensor, mask_logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Compose semantic scores query by query in float64."""
    logits = class_logits.double().numpy()
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    masks = 1 / (1 + np.exp(-bilinear(mask_logits.double().numpy(), size)))
    scores = np.zeros((len(logits), logits.shape[-1] - 1, *size))
    for index in range(len(scores)):
        for query in range(logits.shape[1]):
            for label in range(scores.shape[1]):
                scores[index, label] += shares[index, query, label] * masks[index, query]
    return scores


def close(ours: torch.Tensor, theirs: object, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), atol=tolerance)


def test_segformer_gives_the_logits_of_transformers(networks, folders) -> None:
    pixels = image(50, 75, count=2)
    with torch.no_grad():
        prediction = networks["segformer"].predict(pixels)
    theirs = reference(folders["segformer"], "segformer", normalized(pixels)).logits
    assert prediction.logits.shape == (2, 3, 13, 19)
    assert theirs.std() > 0.05
    close(prediction.logits, theirs)
    assert prediction.masks is None
    assert networks["segformer"].stride == 4


def test_upernet_stays_at_the_stride_of_its_head(networks, folders) -> None:
    pixels = image(64, 96)
    with torch.no_grad():
        logits = networks["upernet"](pixels)
    theirs = reference(folders["upernet"], "upernet", normalized(pixels)).logits
    assert logits.shape == (1, 3, 16, 24)
    assert networks["upernet"].stride == 4
    close(functional.interpolate(logits, size=(64, 96), mode="bilinear"), theirs)


@pytest.mark.parametrize("name", PYRAMIDS)
@pytest.mark.parametrize("size", [(64, 96), (52, 72)])
def test_masks_are_kept_and_composed_at_the_size_of_the_image(networks, folders, name, size) -> None:
    pixels = image(*size)
    with torch.no_grad():
        prediction = networks[name].predict(pixels)
    padded = functional.pad(normalized(pixels), (0, 96 - size[1], 0, 64 - size[0]))
    theirs = reference(folders[name], name, padded)
    assert prediction.masks.class_logits.shape == (1, 5, 4)
    close(prediction.masks.class_logits, theirs.class_queries_logits)
    rows, columns = size[0] // 4, size[1] // 4
    close(prediction.masks.mask_logits, theirs.masks_queries_logits[..., :rows, :columns], tolerance=1e-4)
    expected = composed(theirs.class_queries_logits, theirs.masks_queries_logits, (64, 96))
    assert prediction.logits.shape == (1, 3, *size)
    close(prediction.logits, expected[..., : size[0], : size[1]])


def test_padding_follows_the_normalisation(networks, folders) -> None:
    pixels = image(50, 70)
    with torch.no_grad():
        logits = networks["upernet"](pixels)
        padded = networks["upernet"].model(functional.pad(normalized(pixels), (0, 26, 0, 14))).logits
    ours = functional.interpolate(logits, size=(50, 70), mode="bilinear")
    assert logits.shape == (1, 3, 13, 18)
    # The crop ends between two pixels of the logits, so it is sampled anew: the same up to one more interpolation.
    far = (ours - padded[..., :50, :70]).abs().mean() / padded.std()
    assert far < 0.1


def test_a_crop_between_two_pixels_keeps_the_geometry() -> None:
    canvas = _Canvas(content=(50, 70), size=(64, 96))
    centres = torch.arange(24) * 4 + 1.5
    ramp = centres.expand(1, 1, 16, 24)
    cropped = canvas.cropped(ramp)
    assert cropped.shape == (1, 1, 13, 18)
    expected = ((torch.arange(18) + 0.5) * 70 / 18 - 0.5).clamp(min=centres[0])
    close(cropped[0, 0, 5], expected, tolerance=1e-4)
    assert torch.equal(_Canvas((48, 72), (64, 96)).cropped(ramp), ramp[..., :12, :18])


def test_composition_in_groups_equals_the_whole(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(1)
    masks = MaskPrediction(
        torch.randn(2, 7, 5, generator=generator) * 3, torch.randn(2, 7, 6, 9, generator=generator) * 4
    )
    expected = composed(masks.class_logits, masks.mask_logits, (24, 31))
    monkeypatch.setattr("strays.networks.huggingface._CHUNK", 3 * 2 * 24 * 31)
    close(compose_masks(masks, (24, 31)), expected, tolerance=1e-5)
    at_384 = bilinear(composed(masks.class_logits, masks.mask_logits, (384, 384)), (24, 31))
    assert np.abs(at_384 - expected).max() > 1e-3


def test_composition_passes_gradients() -> None:
    masks = MaskPrediction(torch.randn(1, 4, 3, requires_grad=True), torch.randn(1, 4, 5, 5, requires_grad=True))
    compose_masks(masks, (10, 10)).sum().backward()
    assert masks.class_logits.grad.abs().sum() > 0
    assert masks.mask_logits.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [*SEMANTIC, *PYRAMIDS])
def test_taps_are_the_stages_of_the_encoder(networks, name) -> None:
    network = networks[name]
    taps = ["hidden_0", "hidden_1", "hidden_2", "hidden_3", "decoder"]
    assert list(network.tap_modules) == taps
    for path in network.tap_modules.values():
        assert isinstance(network.get_submodule(path), nn.Module)
    with torch.no_grad():
        features = network.predict(image(64, 96), taps=taps).features
    assert [tuple(features[tap].shape[-2:]) for tap in taps] == [(16, 24), (8, 12), (4, 6), (2, 3), (16, 24)]
    widths = {"segformer": [8, 8, 16, 16, 16], "upernet": [8, 8, 16, 16, 16]}
    assert [features[tap].shape[1] for tap in taps] == widths.get(name, [8, 16, 32, 64, 32])
    with torch.no_grad():
        deepest = network.predict(image(33, 97), taps=["hidden_3"]).features["hidden_3"]
    assert deepest.shape[-2:] == (2, 4)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_backbone_taps_hold_what_transformers_calls_so(networks, folders, name) -> None:
    pixels = image(64, 96)
    with torch.no_grad():
        features = networks[name].predict(pixels, taps=["hidden_3", "decoder"]).features
    theirs = reference(folders[name], name, normalized(pixels))
    close(features["hidden_3"], theirs.encoder_last_hidden_state)
    close(features["decoder"], theirs.pixel_decoder_last_hidden_state, tolerance=1e-4)


def test_unknown_taps_name_the_known_ones(networks) -> None:
    with pytest.raises(InputError, match="hidden_0, hidden_1"):
        networks["segformer"].predict(image(64, 64), taps=["hidden_9"])


def letterboxed(pixels: torch.Tensor) -> torch.Tensor:
    """Resize (64, 96) so that it fits into (64, 64), the rest black."""
    content = functional.interpolate(pixels, size=(43, 64), mode="bilinear", antialias=True)
    return normalized(functional.pad(content, (0, 0, 0, 21)))


def test_eomt_sees_the_whole_image_padded_to_its_square(networks, folders) -> None:
    pixels = image(64, 96)
    with torch.no_grad():
        prediction = networks["eomt"].predict(pixels, taps=["hidden_0", "hidden_2"])
    theirs = reference(folders["eomt"], "eomt", letterboxed(pixels))
    expected = composed(theirs.class_queries_logits, theirs.masks_queries_logits, (64, 64))[..., :43, :]
    assert networks["eomt"].fit == "pad"
    assert prediction.size == (64, 96)
    close(prediction.logits, expected)
    close(prediction.masks.class_logits, theirs.class_queries_logits)
    assert prediction.masks.mask_logits.shape == (1, 5, 11, 16)
    assert {name: one.shape for name, one in prediction.features.items()} == {
        "hidden_0": (1, 32, 3, 4),
        "hidden_2": (1, 32, 3, 4),
    }


def test_eomt_tokens_become_maps(networks) -> None:
    network, pixels, layers = networks["eomt"], image(64, 64), {}
    handle = network.model.layers[2].register_forward_hook(lambda _, __, output: layers.update(tokens=output))
    with torch.no_grad():
        feature = network.predict(pixels, taps=["hidden_2"]).features["hidden_2"]
    handle.remove()
    tokens = layers["tokens"][0, 5 + 1 + 4 :]
    assert tokens.shape == (16, 32)
    assert torch.equal(feature[0, :, 1, 2], tokens[1 * 4 + 2])


def test_eomt_slides_over_the_longer_side(networks, folders) -> None:
    pixels = image(32, 75)
    network = load_huggingface(f"{folders['eomt']},fit=slide")
    with torch.no_grad():
        prediction = network.predict(pixels)
    seen = normalized(functional.interpolate(pixels, size=(64, 150), mode="bilinear", antialias=True))
    total, count = np.zeros((1, 3, 64, 150)), np.zeros(150)
    for start in (0, 43, 86):
        theirs = reference(folders["eomt"], "eomt", seen[..., start : start + 64])
        scores = composed(theirs.class_queries_logits, theirs.masks_queries_logits, (64, 64))
        total[..., start : start + 64] += scores
        count[start : start + 64] += 1
    assert prediction.logits.shape == (1, 3, 64, 150)
    close(prediction.logits, total / count)
    assert prediction.masks is None
    with pytest.raises(InputError, match="fit=pad"):
        network.predict(pixels, taps=["hidden_0"])


def test_eomt_slides_upright_and_keeps_masks_of_a_square(folders) -> None:
    network = load_huggingface(f"{folders['eomt']},fit=slide")
    pixels = image(32, 75)
    with torch.no_grad():
        lying, upright = network(pixels), network(pixels.transpose(-1, -2))
        square = network.predict(image(40, 40), taps=["hidden_0"])
    assert upright.shape == (1, 3, 150, 64) == (*lying.shape[:2], lying.shape[3], lying.shape[2])
    assert square.masks is not None
    assert square.features["hidden_0"].shape == (1, 32, 4, 4)


def test_the_preprocessor_says_how_eomt_slides(folders, tmp_path) -> None:
    folder = shutil.copytree(folders["eomt"], tmp_path / "eomt")
    (folder / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, "do_split_image": True}))
    assert load_huggingface(str(folder)).fit == "slide"
    assert load_huggingface(f"{folder},fit=pad").fit == "pad"


def test_beit_slides_its_one_size() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    config = BeitConfig(
        image_size=32, patch_size=8, use_auxiliary_head=False, out_indices=[1, 2, 3, 4], **sizes, **LABELS
    )
    model = BeitForSemanticSegmentation(config).eval()
    network = HuggingFaceNetwork(model=model, fit="slide")
    pixels = image(32, 48)
    with torch.no_grad():
        logits = network(pixels)
        windows = [
            functional.interpolate(model(network.normalization(one)).logits, size=(32, 32), mode="bilinear")
            for one in (pixels[..., :32], pixels[..., 16:])
        ]
    assert logits.shape == (1, 3, 32, 48)
    close(logits[..., :16], windows[0][..., :16])
    close(logits[..., 16:32], (windows[0][..., 16:] + windows[1][..., :16]) / 2)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_network_is_built_again_from_its_configuration(networks, name) -> None:
    network = networks[name]
    configuration = json.loads(json.dumps(network.configuration))
    assert all(isinstance(value, (str, int, float, bool, type(None))) for value in configuration.values())
    again = NETWORKS["huggingface"](classes=3, **configuration)
    again.load_state_dict(network.state_dict())
    assert again.normalization == network.normalization
    assert again.taxonomy() == network.taxonomy()
    with torch.no_grad():
        assert torch.equal(again(image(64, 64)), network(image(64, 64)))


def test_another_number_of_classes(networks) -> None:
    network = HuggingFaceNetwork(classes=7, **networks["segformer"].configuration)
    assert network.classes == 7
    assert network(image(32, 32)).shape == (1, 7, 8, 8)
    assert network.taxonomy() is None


def test_a_network_can_be_fine_tuned(networks) -> None:
    network = HuggingFaceNetwork(**networks["segformer"].configuration)
    assert not network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    network(image(32, 32)).sum().backward()
    assert network.model.segformer.stages[0].patch_embeddings.proj.weight.grad is not None


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
    close(processor_normalization(facts, "some")(rgb).flatten(), expected, tolerance=1e-9)


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
