"""One step of a run and what it starts from: rates, finite losses, heads, encoders, and settings that are wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from strays.errors import InputError, WeightsError
from strays.networks.base import NetworkOutputs
from strays.networks.encoders import MobileNetV2
from strays.networks.swiftnet import SwiftNet
from strays.taxonomy import CAMVID
from strays.training import TrainingSettings
from strays.training.checkpoints import CHECKPOINT
from strays.training.crops import Batch
from strays.training.loop import Trainer
from strays.training.result import trained_model
from strays.training.start import starting_point

Change = Callable[..., TrainingSettings]


def batch(count: int = 2) -> Batch:
    """Two halves of different brightness, two classes, uint8."""
    images = torch.full((count, 3, 32, 32), 60, dtype=torch.uint8)
    images[..., 16:] = 190
    labels = torch.zeros(count, 32, 32, dtype=torch.uint8)
    labels[..., 16:] = 3
    labels[:, :2] = 255
    return Batch(images, labels, torch.zeros_like(labels), torch.arange(count))


def test_it_learns_a_batch_by_heart(trainer: Callable[..., Trainer]) -> None:
    learner = trainer(colour=0, learning_rate=5e-3, epochs=20, class_weights="none")
    losses = [learner.take_step(batch())["total"] for _ in range(30)]
    assert losses[0] > 1
    assert losses[-1] < losses[0] / 4
    assert np.mean(losses[-5:]) < np.mean(losses[10:15]) < np.mean(losses[:5])
    assert learner.step == 30


def test_a_loss_that_is_not_finite_stops_the_run(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = trainer(network="enet", colour=0)
    learner.take_step(batch())
    learner.save()
    before = {key: one.clone() for key, one in learner.network.named_parameters()}
    losses = learner.recipe.losses

    def broken(*arguments: object) -> dict[str, Tensor]:
        terms = losses(*arguments)
        return {**terms, "outliers": terms["total"] * torch.inf, "total": terms["total"] * torch.nan}

    monkeypatch.setattr(learner.recipe, "losses", broken)
    where = r"camvid/.*, camvid/.*"
    told = (
        rf"no longer finite at step 1 \(total, outliers\) on {where}; the last checkpoint in .* is kept: .*--learning"
    )
    with pytest.raises(InputError, match=told):
        learner.take_step(batch())
    assert all(torch.equal(one, before[key]) for key, one in learner.network.named_parameters())
    assert torch.load(learner.out / CHECKPOINT, weights_only=True)["step"] == 1


def test_a_gradient_that_is_not_finite_stops_the_run(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = trainer(network="enet", colour=0)
    before = {key: one.clone() for key, one in learner.network.named_parameters()}

    def steep(outputs: NetworkOutputs, *_: object) -> dict[str, Tensor]:
        # The square root is 0 at 0 and rises infinitely fast there.
        logits = outputs["logits"]
        return {"total": (logits - logits.detach()).sqrt().sum()}

    monkeypatch.setattr(learner.recipe, "losses", steep)
    with pytest.raises(InputError, match=r"no longer finite at step 0 \(gradient\) on camvid/"):
        learner.take_step(batch())
    assert all(torch.equal(one, before[key]) for key, one in learner.network.named_parameters())
    assert learner.step == 0


def test_the_rate_rises_for_50_steps_and_falls_along_a_cosine(trainer: Callable[..., Trainer]) -> None:
    learner = trainer(network="enet", epochs=100, learning_rate=1e-3, final_learning_rate=1e-5)
    assert learner.steps == 300
    rates = []
    for step in (0, 24, 49, 150, 299, 300):
        learner.step = step
        rates.append(learner._rate())
    cosines = [1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * step / 300)) / 2 for step in (0, 24, 49, 150, 299, 300)]
    assert rates == pytest.approx([cosines[0] / 50, cosines[1] / 2, *cosines[2:]])
    assert rates[-1] == pytest.approx(1e-5)


def test_the_optimizer_gets_the_rate_of_its_step(trainer: Callable[..., Trainer]) -> None:
    learner = trainer(network="enet", epochs=100, learning_rate=1e-3)
    for step in (0, 149):
        learner.step = step
        expected = learner._rate()
        learner.take_step(batch())
        assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([expected])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(9)
    path = tmp_path_factory.mktemp("weights") / "encoder.pth"
    torch.save({key: value.half() for key, value in MobileNetV2().state_dict().items()}, path)
    return path


def test_an_encoder_with_weights_has_a_rate_of_its_own(trainer: Callable[..., Trainer], encoder: Path) -> None:
    learner = trainer(encoder_weights=str(encoder), encoder_rate=0.1, learning_rate=1e-3, weight_decay=1e-2)
    fast, slow = learner.optimizer.param_groups
    assert (fast["lr"], fast["weight_decay"]) == pytest.approx((1e-3, 1e-2))
    assert (slow["lr"], slow["weight_decay"]) == pytest.approx((1e-4, 1e-3))
    assert {id(one) for one in slow["params"]} == {id(one) for one in learner.network.encoder.parameters()}
    assert len(fast["params"]) + len(slow["params"]) == len(list(learner.network.parameters()))
    stored = torch.load(encoder, weights_only=True)
    for key, value in learner.network.encoder.state_dict().items():
        assert torch.equal(value, stored[key].to(value.dtype))
    learner.take_step(batch())
    assert slow["lr"] == pytest.approx(0.1 * fast["lr"])


def test_an_encoder_of_rate_0_stays_as_it_is(trainer: Callable[..., Trainer], encoder: Path) -> None:
    learner = trainer(encoder_weights=str(encoder), encoder_rate=0)
    before = [one.clone() for one in learner.network.encoder.parameters()]
    learner.take_step(batch())
    assert all(torch.equal(one, other) for one, other in zip(learner.network.encoder.parameters(), before, strict=True))


def test_an_encoder_from_scratch_learns_like_the_rest(trainer: Callable[..., Trainer]) -> None:
    (group,) = trainer().optimizer.param_groups
    assert group["lr"] == pytest.approx(4e-4)


def test_heads_added_to_a_trained_network_have_a_rate_of_their_own(trainer: Callable[..., Trainer]) -> None:
    chosen = {"recipe": "outlier-head", "negatives": ("void",), "network": None, "init": "swiftnet-mnv2-camvid"}
    learner = trainer(**chosen, head_rate=10, learning_rate=1e-4)
    plain, heads = learner.optimizer.param_groups
    assert (plain["lr"], heads["lr"]) == pytest.approx((1e-4, 1e-3))
    assert plain["weight_decay"] == heads["weight_decay"] == pytest.approx(1e-4)
    assert {id(one) for one in plain["params"]} == {id(one) for one in learner.network.base.parameters()}
    assert len(plain["params"]) + len(heads["params"]) == len(list(learner.network.parameters()))


def test_heads_of_a_network_from_scratch_learn_like_the_rest(trainer: Callable[..., Trainer]) -> None:
    (group,) = trainer(recipe="outlier-head", negatives=("void",), head_rate=10).optimizer.param_groups
    assert group["lr"] == pytest.approx(4e-4)


def test_encoder_weights_that_do_not_fit_are_refused(
    trainer: Callable[..., Trainer], encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"ENet has no encoder to load .*encoder\.pth into: leave --encoder-weights out"
    ):
        trainer(network="enet", encoder_weights=str(encoder))
    with pytest.raises(WeightsError, match=f"{encoder} holds the weights of another network than ResNet18"):
        trainer(network="swiftnet-rn18", encoder_weights=str(encoder))
    with pytest.raises(WeightsError, match="no weights file at"):
        trainer(encoder_weights=str(tmp_path / "missing.pth"))


def test_class_weights_come_from_the_labels(trainer: Callable[..., Trainer], camvid: Path) -> None:
    labels = np.concatenate([np.asarray(Image.open(one)).ravel() for one in (camvid / "train/labels").iterdir()])
    counts = np.bincount(labels, minlength=12)[:11]
    expected = 1 / np.log(1.1 + counts / counts.sum())
    found = trainer(network="enet").recipe.class_weights
    np.testing.assert_allclose(found.numpy(), expected / expected.mean(), rtol=1e-6)
    assert trainer(network="enet", class_weights="none").recipe.class_weights is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"recipe": "closedset"}, "no recipe is called 'closedset'; did you mean 'closed-set'"),
        ({"network": "swiftnet"}, "no network is called 'swiftnet'; did you mean 'swiftnet-"),
        ({"data": ("camvid=/no/such/folder",)}, "no file or folder"),
        ({"data": ()}, "training needs scenes with class labels"),
        ({"batch": 8}, "7 scenes do not fill a batch of 8: choose a smaller --batch"),
    ],
)
def test_wrong_settings_are_told_at_once(
    trainer: Callable[..., Trainer], changes: dict[str, object], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        trainer(**changes)


@pytest.mark.parametrize("device", ["cuda:1", "gpu", "mps"])
def test_a_device_that_training_does_not_take(settings: Change, tmp_path: Path, device: str) -> None:
    with pytest.raises(InputError, match=f"--device {device}: training takes one of auto, cpu, cuda"):
        Trainer(settings(), tmp_path, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(settings: Change, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no device 'cuda' here"):
        Trainer(settings(), tmp_path, "cuda")


def test_training_starts_from_the_seed(trainer: Callable[..., Trainer]) -> None:
    first, same, other = (trainer(network="swiftnet-rn18", seed=seed).network for seed in (0, 0, 1))
    assert isinstance(first, SwiftNet)
    weights = [one.state_dict()["classifier.2.weight"] for one in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_batch_that_processes_cannot_share(trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    with pytest.raises(
        InputError, match=r"a batch of 3 cannot be shared by 2 processes .* choose a --batch that 2 div"
    ):
        trainer(network="enet", batch=3)


def test_parts_of_a_batch_add_up(trainer: Callable[..., Trainer]) -> None:
    """Without dropout and with batch norm at rest, a batch in parts moves the weights as the whole one does."""
    found = []
    for accumulate in (1, 2):
        learner = trainer(network="erfnet", accumulate=accumulate, colour=0, class_weights="none", clip=1e9)
        learner.learner.eval()
        learner.take_step(batch())
        found.append({name: one.detach().clone() for name, one in learner.network.named_parameters()})
    for name, one in found[0].items():
        torch.testing.assert_close(one, found[1][name], rtol=1e-3, atol=2e-6, msg=name)


def test_negatives_that_are_missing_are_told_first(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(InputError, match="densehybrid learns from negatives, and there are none: name a folder"):
        trainer(recipe="densehybrid")


def test_heads_that_the_model_had_already_learn_like_the_rest(
    trainer: Callable[..., Trainer], tmp_path: Path, settings: Change
) -> None:
    start = starting_point(settings(recipe="outlier-head", network=None, init="swiftnet-mnv2-camvid"), CAMVID)
    model = trained_model(start, settings(recipe="outlier-head"), ["camvid"], None)
    model.save(tmp_path / "model")
    chosen = {"recipe": "outlier-head", "negatives": ("void",), "network": None, "init": str(tmp_path / "model")}
    (group,) = trainer(**chosen).optimizer.param_groups
    assert group["lr"] == pytest.approx(4e-4)


def test_blocks_without_weights_cannot_be_trained_alone(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(InputError, match=r"--trained classifier\.1: these blocks have no weights"):
        trainer(trained=("classifier.1",))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is one device only")
def test_the_average_is_where_the_network_is(settings: Change, tmp_path: Path) -> None:
    learner = Trainer(settings(network="enet", average=0.9), tmp_path, "cuda")
    assert learner.outcome is not learner.network
    devices = {one.device for network in (learner.network, learner.outcome) for one in network.parameters()}
    assert devices == {learner.accelerator.device}


def test_an_encoder_rate_without_weights_for_the_encoder_is_refused(settings: Change) -> None:
    with pytest.raises(ValidationError, match="--encoder-rate goes with --encoder-weights; of a model, freeze blocks"):
        settings(network=None, init="swiftnet-mnv2-camvid", encoder_rate=0)


def test_plateau_needs_validation_scenes(trainer: Callable[..., Trainer], camvid: Path, tmp_path: Path) -> None:
    shutil.copytree(camvid / "train", tmp_path / "data/train")
    with pytest.raises(
        InputError, match=r"the schedule plateau needs labelled validation scenes, and camvid=.* has none"
    ):
        trainer(schedule="plateau", data=(f"camvid={tmp_path / 'data'}",))


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["camvid={}"], "camvid has scenes without anomaly masks"),
        (["synthetic=1", "synthetic=2"], "two sets are called synthetic: write OTHER=SYNTHETIC"),
    ],
)
def test_sets_to_validate_on_are_checked_first(
    settings: Change, camvid: Path, tmp_path: Path, sets: list[str], told: str
) -> None:
    shutil.copytree(camvid / "val", tmp_path / "data/test")
    with pytest.raises(InputError, match=told):
        Trainer(settings(), tmp_path / "out", "cpu", [one.format(tmp_path / "data") for one in sets])
