"""Checkpoints: all that a run needs to go on, and no run gets that of another."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from strays.errors import InputError
from strays.training.checkpoints import CHECKPOINT, Circumstances, Progress, load_checkpoint, save_checkpoint
from strays.training.schedules import Schedule
from strays.training.settings import TrainingSettings

SETTINGS = TrainingSettings(data=("camvid=somewhere",), epochs=3, crop=(32, 64))
SCHEDULE = Schedule(SETTINGS, 10)
FOUND = Circumstances(scenes="1 (a)", negatives="12, 8", device="cpu", precision="bfloat16")


def trained(steps: int, seed: int = 0, step: int = 0) -> Progress:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = AdamW(network.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.rand(2, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    return Progress(network, optimizer, SCHEDULE, None, step)


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_without_a_checkpoint_a_run_starts_at_step_0(tmp_path: Path) -> None:
    run = trained(1)
    before = {key: one.clone() for key, one in run.learner.state_dict().items()}
    load_checkpoint(tmp_path, SETTINGS, FOUND, run)
    assert run.step == 0
    assert same(run.learner.state_dict(), before)


def test_network_and_optimizer_come_back_bit_for_bit(tmp_path: Path) -> None:
    run, other = trained(3, step=17), trained(0, seed=1)
    save_checkpoint(tmp_path, SETTINGS, FOUND, run)
    assert not same(other.learner.state_dict(), run.learner.state_dict())
    load_checkpoint(tmp_path, SETTINGS, FOUND, other)
    assert other.step == 17
    assert same(other.learner.state_dict(), run.learner.state_dict())
    assert same(other.optimizer.state_dict(), run.optimizer.state_dict())


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, SETTINGS, FOUND, trained(1, step=step))
    assert [one.name for one in tmp_path.iterdir()] == [CHECKPOINT]
    (tmp_path / f".{CHECKPOINT}.4711.part").touch()
    run = trained(0)
    load_checkpoint(tmp_path, SETTINGS, FOUND, run)
    assert run.step == 2
    assert [one.name for one in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 1}, r"\(seed was 0, is 1\)"),
        ({"crop": (32, 32)}, r"\(crop was \(32, 64\), is \(32, 32\)\)"),
        ({"epochs": 4, "class_weights": "none"}, r"\(epochs was 3, is 4; class_weights was inverse-log, is none\)"),
        ({"data": ("camvid=elsewhere",)}, r"data was \('camvid=somewhere',\), is \('camvid=elsewhere',\)"),
    ],
)
def test_other_settings_are_named(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    save_checkpoint(tmp_path, SETTINGS, FOUND, trained(1))
    other = TrainingSettings.model_validate(SETTINGS.model_dump() | changes)
    with pytest.raises(InputError, match=f"holds a run with other settings .*{told}.*choose another --out"):
        load_checkpoint(tmp_path, other, FOUND, trained(0))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scenes": "2 (b)"}, r"\(scenes was 1 \(a\), is 2 \(b\)\)"),
        ({"negatives": "", "device": "cuda"}, r"\(negatives was 12, 8, is \)"),
    ],
)
def test_a_run_does_not_go_on_from_other_data(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    save_checkpoint(tmp_path, SETTINGS, FOUND, trained(1, step=3))
    run = trained(0)
    with pytest.raises(InputError, match=f"holds a run from other data {told}: bring them back, or choose"):
        load_checkpoint(tmp_path, SETTINGS, replace(FOUND, **changes), run)
    assert run.step == 0


def test_a_run_goes_on_elsewhere_and_says_so(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, SETTINGS, FOUND, trained(1, step=3))
    run = trained(0)
    told = load_checkpoint(tmp_path, SETTINGS, replace(FOUND, device="cuda", processes=2), run)
    assert told == ["device was cpu, is cuda", "processes was 1, is 2"]
    assert run.step == 3
    assert load_checkpoint(tmp_path, SETTINGS, FOUND, trained(0)) == []


def test_every_setting_is_compared() -> None:
    assert set(SETTINGS.model_dump()) == set(TrainingSettings.model_fields)


def damaged(folder: Path, how: str) -> None:
    path = folder / CHECKPOINT
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        torch.save({"settings": Path("an object")}, path)
    elif how == "other version":
        torch.save({"settings": '{"data": ["x"], "momentum": 0.9}', "step": 1}, path)
    else:
        torch.save({"weights": torch.zeros(1)}, path)


@pytest.mark.parametrize("how", ["truncated", "empty", "pickle", "other version", "something else"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, how: str) -> None:
    save_checkpoint(tmp_path, SETTINGS, FOUND, trained(1))
    damaged(tmp_path, how)
    with pytest.raises(InputError, match=f"{CHECKPOINT} is damaged or was written by another version of strays"):
        load_checkpoint(tmp_path, SETTINGS, FOUND, trained(0))


def test_the_schedule_comes_back(tmp_path: Path) -> None:
    plateau = SETTINGS.model_copy(update={"schedule": "plateau"})
    schedule, other = Schedule(plateau, 10), Schedule(plateau, 10)
    for quality in (0.5, *[0.4] * 8):
        schedule.validated(quality)
    save_checkpoint(tmp_path, plateau, FOUND, replace(trained(1), schedule=schedule))
    load_checkpoint(tmp_path, plateau, FOUND, replace(trained(1), schedule=other))
    assert other.state() == schedule.state() == {"best": 0.5, "worse": 2, "drops": 1}


class Calibrated(nn.Module):
    """A buffer that is filled before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("margin", None)


def test_what_a_recipe_has_learnt_comes_back(tmp_path: Path) -> None:
    learner, fresh = Calibrated(), Calibrated()
    learner.margin = torch.tensor(-7.5)
    save_checkpoint(tmp_path, SETTINGS, FOUND, replace(trained(1), learner=learner))
    load_checkpoint(tmp_path, SETTINGS, FOUND, replace(trained(1), learner=fresh))
    assert fresh.margin == -7.5


def test_a_full_disk_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, SETTINGS, FOUND, trained(1))
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"no space left for .*: free some, then start the same again"):
        save_checkpoint(tmp_path, SETTINGS, FOUND, trained(1))
    assert [one.name for one in tmp_path.iterdir()] == [CHECKPOINT]
    assert (tmp_path / CHECKPOINT).read_bytes() == before
