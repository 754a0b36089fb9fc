"""The learner: what is frozen stays, and the loss is computed in full precision."""

import pytest
import torch
from torch import Tensor, nn

from strays.errors import InputError
from strays.networks.extended import Extension, extend
from strays.networks.swiftnet import SwiftNetMobileNetV2
from strays.objectives.partial import partial_cross_entropy
from strays.recipes import build_recipe
from strays.taxonomy import IGNORE, LabelClass, LabelSpace, Taxonomy
from strays.training.learner import Learner, parameter_groups
from strays.training.settings import TrainingSettings

BLOCKS = ("upsamplings.2", "classifier")
CLASSES = Taxonomy(name="five", classes=tuple(LabelClass(name=name, colour=(0, 0, 0)) for name in "abcde"))


def learner(trained: tuple[str, ...] = BLOCKS, frozen_norm: str = "eval", outlier_head: bool = False) -> Learner:
    torch.manual_seed(0)
    network = SwiftNetMobileNetV2(classes=5)
    if outlier_head:
        network = extend(network, "swiftnet-mnv2", Extension(outlier_head=True))
    return Learner(network, build_recipe("closed-set"), LabelSpace(CLASSES), trained, frozen_norm).train()


def batch() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 5, (2, 64, 64), generator=random).to(torch.uint8)
    return torch.rand(2, 3, 64, 64, generator=random), labels, torch.zeros_like(labels)


def changed(module: Learner) -> set[str]:
    """Names of what one step changes, statistics included."""
    settings = TrainingSettings(data=("x",))
    before = {name: one.clone() for name, one in module.network.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(module.network, settings))
    module(*batch())["total"].backward()
    optimizer.step()
    return {name for name, one in module.network.state_dict().items() if not torch.equal(one, before[name])}


def test_only_the_named_blocks_move() -> None:
    found = changed(learner())
    assert found
    assert all(name.startswith(BLOCKS) for name in found)
    assert {name.partition(".")[0] for name in found} == {"upsamplings", "classifier"}


def test_frozen_statistics_may_go_on() -> None:
    found = changed(learner(frozen_norm="train"))
    frozen = {name for name in found if not name.startswith(BLOCKS)}
    assert frozen
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in frozen)


def test_heads_are_always_trained_and_blocks_keep_their_names() -> None:
    module = learner(outlier_head=True)
    trained = {name for name, one in module.network.named_parameters() if one.requires_grad}
    heads = ("base.upsamplings.2", "base.classifier", "outlier_head")
    assert all(name.startswith(heads) for name in trained)
    assert {name for name in trained if name.startswith("outlier_head")}


def test_without_blocks_all_move() -> None:
    module = learner(())
    assert all(one.requires_grad for one in module.parameters())
    assert all(one.training for one in module.modules())


def test_an_unknown_block_lists_those_there_are() -> None:
    with pytest.raises(InputError, match="no block 'decoder'; its blocks: classifier, encoder, pooling, upsamplings"):
        learner(("decoder",))


def test_losses_do_not_see_half_precision() -> None:
    module = learner(())
    seen = []

    def look(outputs: dict[str, Tensor], labels: Tensor, mask: Tensor) -> dict[str, Tensor]:
        product = nn.functional.conv2d(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 3, 3))
        seen.append((outputs["logits"].dtype, product.dtype))
        return {"total": outputs["logits"].sum()}

    module.recipe.losses = look
    with torch.autocast("cpu", torch.bfloat16):
        module(*batch())
    assert seen == [(torch.bfloat16, torch.float32)]


def test_groups_of_classes_have_a_term_of_their_own() -> None:
    coarse = Taxonomy(name="coarse", classes=(LabelClass(name="x", colour=(0, 0, 0), contains=("b", "d")),))
    module = learner(())
    assert module.space.labels_of(coarse)[0] == 5
    images, labels, mask = batch()
    labels[0, :20], labels[1] = 5, IGNORE
    terms = module(images, labels, mask)
    with torch.no_grad():
        logits = module.network(images)
        groups = torch.where(labels == 5, 0, IGNORE)
        plain = module.recipe.losses({"logits": logits}, torch.where(labels == 5, IGNORE, labels), mask)
        partial = partial_cross_entropy(logits, groups, [(1, 3)])
    expected = {"cross_entropy": plain["total"], "partial": partial, "total": plain["total"] + partial}
    assert dict(terms).keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
