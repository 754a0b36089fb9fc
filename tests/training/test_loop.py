"""Runs: they end the same whatever happens to them, and what they leave behind."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from strays.data import open_scenes
from strays.errors import InputError
from strays.loading import load_model
from strays.model import MODEL_FILE, WEIGHTS_FILE, Model
from strays.taxonomy import CAMVID
from strays.training import TrainingSettings, Validation, train
from strays.training.checkpoints import CHECKPOINT
from strays.training.validation import closed_set_metrics

STEPS = 6
"""Two epochs of three batches; the seventh frame waits for a batch that is never full."""

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from strays.training import TrainingSettings, train

torch.set_num_threads(1)

class Killer:
    def started(self, step, steps): pass
    def noted(self, message): pass
    def validated(self, step, result): pass
    def stepped(self, step, terms, waiting):
        if step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

settings = TrainingSettings.model_validate_json(sys.argv[1])
train(settings, Path(sys.argv[2]), Killer(), device="cpu", checkpoint_minutes=0)
"""

Change = Callable[..., TrainingSettings]


class StoppedError(Exception):
    """What a listener raises to end a run in the middle."""


@dataclass
class Recorder:
    """Keeps what it is told, and may end the run behind a step."""

    stop_at: int = -1
    starts: list[tuple[int, int]] = field(default_factory=list)
    terms: dict[int, Mapping[str, float]] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)
    results: dict[int, Validation] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def started(self, step: int, steps: int) -> None:
        self.starts.append((step, steps))

    def noted(self, message: str) -> None:
        self.notes.append(message)

    def stepped(self, step: int, terms: Mapping[str, float], waiting: float) -> None:
        self.terms[step] = terms
        self.shares.append(waiting)
        if step == self.stop_at:
            raise StoppedError

    def validated(self, step: int, result: Validation) -> None:
        self.results[step] = result


@dataclass
class Run:
    """A run that nobody disturbed."""

    out: Path
    model: Model
    told: Recorder


@pytest.fixture(scope="module")
def run(settings: Change, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out, told = tmp_path_factory.mktemp("run") / "out", Recorder()
    return Run(out, train(settings(), out, told, device="cpu"), told)


def assert_same_files(one: Path, other: Path) -> None:
    for name in (WEIGHTS_FILE, MODEL_FILE):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_the_listener_hears_of_every_step_and_epoch(run: Run) -> None:
    assert run.told.starts == [(0, STEPS)]
    assert list(run.told.terms) == [1, 2, 3, 4, 5, 6]
    assert all(set(terms) == {"cross_entropy", "total"} for terms in run.told.terms.values())
    assert all(0 <= share <= 1 for share in run.told.shares)
    assert list(run.told.results) == [3, 6]


def test_the_listener_hears_why_nothing_is_validated(run: Run, settings: Change, tmp_path: Path) -> None:
    assert run.told.notes == []
    data = Path(settings().data[0].partition("=")[2])
    shutil.copytree(data / "train", tmp_path / "train")
    told = Recorder()
    train(settings(data=(f"camvid={tmp_path}",), epochs=1), tmp_path / "out", told, device="cpu")
    (note,) = told.notes
    assert note.startswith("classes are not validated: ")
    assert "val" in note


def test_the_folder_holds_model_checkpoint_and_curves(run: Run) -> None:
    assert {one.name for one in run.out.iterdir()} == {MODEL_FILE, WEIGHTS_FILE, CHECKPOINT, "tensorboard"}
    (events,) = run.out.glob("tensorboard/**/events.out.tfevents.*")
    assert b"validation/mIoU" in events.read_bytes()


def test_the_model_tells_how_it_was_made(run: Run, settings: Change) -> None:
    facts = run.model.facts
    assert facts.name == "swiftnet-mnv2-camvid"
    assert facts.taxonomy == CAMVID
    assert (facts.recipe, facts.detector) == ("closed-set", "energy")
    assert facts.training["settings"] == json.loads(settings().model_dump_json())
    assert facts.training["validation"] == dict(run.told.results[STEPS].closed)
    assert "trained by the recipe closed-set on camvid" in facts.card.summary
    assert not run.model.network.training


def test_the_model_in_the_folder_is_the_one_returned(run: Run, settings: Change) -> None:
    loaded = Model.load(run.out)
    assert loaded.sha256() == run.model.sha256()
    assert loaded.facts == run.model.facts
    scenes = open_scenes(settings().data[0], split="val")
    found = closed_set_metrics(loaded.network, scenes, CAMVID, torch.device("cpu"))
    assert found == run.told.results[STEPS].closed


def test_a_run_killed_within_an_epoch_ends_the_same(run: Run, settings: Change, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, settings().model_dump_json(), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 4
    assert not (tmp_path / WEIGHTS_FILE).exists()
    told = Recorder()
    train(settings(), tmp_path, told, device="cpu")
    assert told.starts == [(4, STEPS)]
    assert told.terms == {step: run.told.terms[step] for step in (5, 6)}
    assert_same_files(tmp_path, run.out)


def test_a_network_with_dropout_ends_the_same_too(settings: Change, tmp_path: Path) -> None:
    chosen = settings(network="enet", colour=0, epochs=1)
    whole = train(chosen, tmp_path / "whole", device="cpu")
    with pytest.raises(StoppedError):
        train(chosen, tmp_path / "parts", Recorder(stop_at=2), device="cpu", checkpoint_minutes=0)
    assert train(chosen, tmp_path / "parts", device="cpu").sha256() == whole.sha256()
    assert_same_files(tmp_path / "parts", tmp_path / "whole")


def test_a_finished_run_takes_no_step_and_writes_the_same(run: Run, settings: Change, tmp_path: Path) -> None:
    shutil.copy(run.out / CHECKPOINT, tmp_path)
    told = Recorder()
    train(settings(), tmp_path, told, device="cpu")
    assert told.starts == [(STEPS, STEPS)]
    assert told.terms == {}
    assert list(told.results) == [STEPS]
    assert_same_files(tmp_path, run.out)


def test_other_settings_do_not_get_into_the_folder(run: Run, settings: Change) -> None:
    before = (run.out / CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match=r"with other settings \(seed was 0, is 1; batch was 2, is 3\)"):
        train(settings(seed=1, batch=3), run.out, device="cpu")
    assert (run.out / CHECKPOINT).read_bytes() == before


def test_a_run_does_not_go_on_from_other_scenes(camvid: Path, settings: Change, tmp_path: Path) -> None:
    shutil.copytree(camvid, tmp_path / "data")
    chosen = settings(network="enet", data=(f"camvid={tmp_path / 'data'}",), epochs=1, colour=0)
    with pytest.raises(StoppedError):
        train(chosen, tmp_path / "out", Recorder(stop_at=1), device="cpu", checkpoint_minutes=0)
    next((tmp_path / "data" / "train" / "images").iterdir()).unlink()
    with pytest.raises(InputError, match=r"from other data \(scenes was .* is .*\): bring them back"):
        train(chosen, tmp_path / "out", device="cpu")


def test_bfloat16_stays_in_training(settings: Change, tmp_path: Path) -> None:
    """Behind a run in float32, in the same process; what comes back computes in float32."""
    chosen = settings(network="enet", precision="bfloat16", epochs=1, colour=0)
    model = train(chosen, tmp_path, device="cpu")
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = Model.load(tmp_path).predict(image).logits
        torch.testing.assert_close(model.predict(image).logits, expected, rtol=1e-5, atol=1e-6)
    assert all(one.dtype != torch.bfloat16 for one in model.network.state_dict().values())


def test_data_without_validation_scenes(camvid: Path, settings: Change, tmp_path: Path) -> None:
    shutil.copytree(camvid / "train", tmp_path / "data" / "train")
    told = Recorder()
    chosen = settings(network="enet", data=(f"camvid={tmp_path / 'data'}",), epochs=1, colour=0)
    model = train(chosen, tmp_path / "out", told, device="cpu")
    assert told.results == {}
    assert model.facts.training["validation"] == {}


SHARED_RUN = """
import sys
from pathlib import Path
import torch
from strays.training import TrainingSettings, train

torch.set_num_threads(1)
train(TrainingSettings.model_validate_json(sys.argv[1]), Path(sys.argv[2]), device=sys.argv[3])
"""


def test_two_processes_share_a_run(settings: Change, tmp_path: Path) -> None:
    """Under torchrun: each computes its half of a batch, both end with the same weights, and one writes them."""
    script = tmp_path / "shared.py"
    script.write_text(SHARED_RUN)
    chosen = settings(network="erfnet", colour=0, epochs=1)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    device = "cpu" if torch.cuda.is_available() else "auto"
    command = [*launch, str(script), chosen.model_dump_json(), str(tmp_path / "out"), device]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    shared = Model.load(tmp_path / "out")
    alone = train(chosen, tmp_path / "alone", device="cpu")
    assert shared.facts.training["settings"] == alone.facts.training["settings"]
    one, other = shared.network.state_dict(), alone.network.state_dict()
    # batch norm sees half a batch in each process, so the weights are alike, not the same
    moved = torch.cat([(one[name] - other[name]).abs().flatten() for name in one if "weight" in name])
    assert 0 < moved.mean() < 1e-3
    events = list((tmp_path / "out").glob("tensorboard/**/events.out.tfevents.*"))
    assert len(events) == 1


def test_a_run_with_negatives_ends_the_same_too(settings: Change, cutouts: Path, tmp_path: Path) -> None:
    """From a model, with an outlier head, accumulated, and a rate that depends on validation."""
    chosen = settings(
        recipe="densehybrid",
        network=None,
        init="swiftnet-mnv2-camvid",
        negatives=(f"objects={cutouts}",),
        negative_share=0.7,
        accumulate=2,
        schedule="plateau",
        crop=(64, 64),
    )
    whole = train(chosen, tmp_path / "whole", device="cpu")
    with pytest.raises(StoppedError):
        train(chosen, tmp_path / "parts", Recorder(stop_at=4), device="cpu", checkpoint_minutes=0)
    assert train(chosen, tmp_path / "parts", device="cpu").sha256() == whole.sha256()
    assert_same_files(tmp_path / "parts", tmp_path / "whole")
    loaded = Model.load(tmp_path / "whole")
    assert (loaded.facts.network, loaded.facts.detector) == ("extended", "densehybrid")
    assert loaded.facts.name == f"{load_model('swiftnet-mnv2-camvid').name}-densehybrid"


def test_a_run_with_everything_random_and_an_average_ends_the_same_too(settings: Change, tmp_path: Path) -> None:
    chosen = settings(style=0.5, camera=2.0, average=0.5)
    whole = train(chosen, tmp_path / "whole", device="cpu")
    with pytest.raises(StoppedError):
        train(chosen, tmp_path / "parts", Recorder(stop_at=4), device="cpu", checkpoint_minutes=0)
    assert train(chosen, tmp_path / "parts", device="cpu").sha256() == whole.sha256()
    assert_same_files(tmp_path / "parts", tmp_path / "whole")
    assert whole.sha256() != train(settings(style=0.5, camera=2.0), tmp_path / "last", device="cpu").sha256()


def test_data_in_coarser_classes_teach_too(settings: Change, camvid: Path, tmp_path: Path) -> None:
    coarse = tmp_path / "idd"
    for frame in sorted((camvid / "train/images").iterdir()):
        for kind, folder, end in (("images", "leftImg8bit", "image"), ("labels", "gtFine", "label")):
            (coarse / folder / "train/0").mkdir(parents=True, exist_ok=True)
            picture = np.asarray(Image.open(camvid / "train" / kind / frame.with_suffix(".png").name))
            Image.fromarray(picture % 7 if kind == "labels" else picture).save(
                coarse / folder / f"train/0/{frame.stem}_{end}.png"
            )
    data = (f"camvid={camvid}", f"idd-lite={coarse}")
    told = Recorder()
    model = train(settings(data=data), tmp_path / "out", told, device="cpu")
    assert model.taxonomy == CAMVID
    assert all(terms.keys() == {"cross_entropy", "partial", "total"} for terms in told.terms.values())
    assert any(terms["partial"] > 0 for terms in told.terms.values())


def test_what_pebal_calibrates_outlasts_a_stop(settings: Change, cutouts: Path, tmp_path: Path) -> None:
    chosen = settings(recipe="pebal:margins=calibrated", network="swiftnet-mnv2", negatives=(f"objects={cutouts}",))
    whole = train(chosen, tmp_path / "whole", device="cpu")
    with pytest.raises(StoppedError):
        train(chosen, tmp_path / "parts", Recorder(stop_at=3), device="cpu", checkpoint_minutes=0)
    assert train(chosen, tmp_path / "parts", device="cpu").sha256() == whole.sha256()


def test_anomalies_are_looked_at_too(settings: Change, tmp_path: Path) -> None:
    told = Recorder()
    chosen = settings(network="enet", epochs=1, colour=0)
    model = train(chosen, tmp_path, told, device="cpu", validation_anomalies=["synthetic=2"])
    found = told.results[3].anomalies["synthetic"]
    assert set(found) == {"AP", "FPR95"}
    assert model.facts.training["anomalies"] == {"synthetic": found}
    (events,) = tmp_path.glob("tensorboard/**/events.out.tfevents.*")
    written = events.read_bytes()
    for name in (b"validation/synthetic AP", b"crops/negatives", b"crops/scores"):
        assert name in written


def test_frozen_statistics_outlast_validation_and_a_stop(settings: Change, tmp_path: Path) -> None:
    chosen = settings(trained=("classifier",), network=None, init="swiftnet-mnv2-camvid")
    whole = train(chosen, tmp_path / "whole", device="cpu")
    before = load_model("swiftnet-mnv2-camvid").network.state_dict()
    for name, value in whole.network.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(value, before[name]), name
    with pytest.raises(StoppedError):
        train(chosen, tmp_path / "parts", Recorder(stop_at=4), device="cpu", checkpoint_minutes=0)
    assert train(chosen, tmp_path / "parts", device="cpu").sha256() == whole.sha256()


def test_a_failed_validation_costs_nothing(
    settings: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    def broken(*_: object) -> None:
        raise InputError("the validation scenes are gone")

    with monkeypatch.context() as patch:
        patch.setattr("strays.training.loop.closed_set_metrics", broken)
        with pytest.raises(InputError, match="the validation scenes are gone"):
            train(settings(), tmp_path, device="cpu")
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == STEPS // 2
    assert train(settings(), tmp_path, device="cpu").sha256() == run.model.sha256()


def test_curves_that_cannot_be_written_cost_nothing(
    settings: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Accelerator, "log", full)
    with pytest.raises(InputError, match="cannot write the curves of the run: No space left on device; mend that"):
        train(settings(), tmp_path, device="cpu")
    assert (tmp_path / CHECKPOINT).is_file()
