"""Training a built-in model again: its stages in order, with the card's settings and this machine's paths."""

import sys
from pathlib import Path

import pytest

from strays.loading import DEFAULT_MODEL, builtin_models

TOOLS = Path(__file__).parents[2] / "tools"
DATA = ("camvid", "IDD20K_Lite", "cityscapes", "coco128_seg", "object_cutouts")


@pytest.fixture
def retrain(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import retrain

    yield retrain
    for name in ("retrain", "ship_model"):
        sys.modules.pop(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in DATA:
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mobilenet_v2_imagenet.pth").touch()
    return tmp_path


def test_every_built_in_model_has_stages_that_end_with_it(retrain) -> None:
    for name in builtin_models():
        assert [one.name for one in retrain.stages(name)][-1] == name
    assert [one.name for one in retrain.stages(DEFAULT_MODEL)] == ["swiftnet-mnv2-camvid", DEFAULT_MODEL]


def test_names_in_capitals_become_paths_and_the_stage_before_a_folder(retrain, folder: Path) -> None:
    first, last = [retrain.here(stage.settings, folder, Path("out")) for stage in retrain.stages(DEFAULT_MODEL)]
    assert first.data == (f"camvid={folder}/data/camvid", "synthetic=120")
    assert first.encoder_weights == f"{folder}/weights/mobilenet_v2_imagenet.pth"
    assert last.init == "out/swiftnet-mnv2-camvid"
    assert f"idd-lite={folder}/data/IDD20K_Lite" in last.data
    assert last.negatives[1] == f"objects:fold=train,side=0.06+0.7={folder}/data/object_cutouts"


def test_the_commands_of_the_default_model(retrain, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(retrain.subprocess, "run", lambda command, check: commands.append(command))
    words = ["retrain.py", "default", "--data", str(folder), "--out", "out", "--seed", "7", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    retrain.main()
    assert commands[0][1:5] == ["train", "closed-set", "--network", "swiftnet-mnv2"]
    assert commands[0][-1] == "out/swiftnet-mnv2-camvid"
    assert commands[1][1:5] == ["train", "pebal", "--init", "out/swiftnet-mnv2-camvid"]
    assert commands[-1][-1] == f"out/{DEFAULT_MODEL}"


def test_a_mean_is_trained_in_parts(retrain, folder: Path) -> None:
    *_, stage = retrain.stages(DEFAULT_MODEL)
    mean = stage._replace(averaged=({"seed": 3}, {"seed": 5, "epochs": 9}))
    one, other, last = retrain.commands(mean, folder, Path("out"), None, "cpu")
    assert [command[command.index("--seed") + 1] for command in (one, other)] == ["3", "5"]
    assert other[other.index("--epochs") + 1] == "9"
    runs = [command[-1] for command in (one, other)]
    assert last == ["strays", "average", *runs, "--out", f"out/{DEFAULT_MODEL}"]
    *trained, _ = retrain.commands(mean, folder, Path("out"), 8, "cpu")
    assert [command[command.index("--seed") + 1] for command in trained] == ["8", "9"]


def test_missing_data_are_named(retrain, folder: Path) -> None:
    (folder / "data" / "camvid").rmdir()
    settings = next(retrain.stages(DEFAULT_MODEL)).settings
    with pytest.raises(SystemExit, match="holds no CAMVID"):
        retrain.here(settings, folder, Path("out"))
