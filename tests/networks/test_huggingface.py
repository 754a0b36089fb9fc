"""Hugging Face networks: tiny ones built from configurations, saved to a folder and loaded back by path."""

import json
import shutil
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import nn
from torch.nn import functional

from strays.errors import InputError
from strays.networks.base import NETWORKS
from strays.networks.huggingface import HuggingFaceNetwork, _Canvas, compose_masks, load_huggingface
from strays.networks.huggingface_files import (
    import_transformers,
)
from strays.prediction import MaskPrediction

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_transformers()

from transformers import (
    BeitConfig,
    BeitForSemanticSegmentation,
    PreTrainedModel,
)

from tiny_transformers import BUILDERS, LABELS, PREPROCESSOR, PYRAMIDS, SEMANTIC, image, normalized

pytestmark = pytest.mark.usefixtures("quiet")


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
    taps = ["hidden_0", "hidden_1", "hidden_2", "hidden_3", "encoder", "decoder"]
    assert [tap for tap in network.tap_modules if not tap.startswith("block_")] == taps
    for path in network.tap_modules.values():
        assert isinstance(network.get_submodule(path), nn.Module)
    with torch.no_grad():
        features = network.predict(image(64, 96), taps=taps).features
    assert [tuple(features[tap].shape[-2:]) for tap in taps] == [(16, 24), (8, 12), (4, 6), (2, 3), (4, 6), (16, 24)]
    widths = {"segformer": [8, 8, 16, 16, 16, 16], "upernet": [8, 8, 16, 16, 16, 16]}
    assert [features[tap].shape[1] for tap in taps] == widths.get(name, [8, 16, 32, 64, 32, 32])
    assert torch.equal(features["encoder"], features["hidden_2"])
    with torch.no_grad():
        deepest = network.predict(image(33, 97), taps=["hidden_3"]).features["hidden_3"]
    assert deepest.shape[-2:] == (2, 4)


def test_queries_keys_and_values_of_blocks_are_taps(networks) -> None:
    network, pixels, seen = networks["segformer"], image(64, 96), {}
    block = network.model.segformer.stages[2].blocks[0]
    block.attention.register_forward_pre_hook(lambda module, inputs: seen.update(tokens=inputs[0]))
    taps = [f"block_2.{kind}" for kind in ("queries", "keys", "values")]
    with torch.no_grad():
        features = network.predict(pixels, taps=taps).features
        queries = block.attention.q_proj(seen["tokens"])
    assert [tuple(features[tap].shape) for tap in taps] == [(1, 16, 4, 6), (1, 16, 2, 3), (1, 16, 2, 3)]
    assert torch.equal(features["block_2.queries"][0, :, 1, 2], queries[0, 1 * 6 + 2])


def test_keys_of_the_last_block_are_what_a_plain_transformer_knows_of_the_surroundings(networks) -> None:
    network = networks["eomt"]
    with torch.no_grad():
        features = network.predict(image(64, 64), taps=["encoder", "block_2.keys"]).features
    assert torch.equal(features["encoder"], features["block_2.keys"])
    assert not any("block" in tap for tap in networks["mask2former"].tap_modules), "windows are not maps"


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
