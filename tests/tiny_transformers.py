"""Tiny networks of transformers, built from configurations, for the tests of the Hugging Face adapter."""

import warnings
from collections.abc import Callable

import torch
from torch import nn

from strays.networks.huggingface_files import (
    import_transformers,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_transformers()

from transformers import (
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


def image(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (pixels - mean) / std
