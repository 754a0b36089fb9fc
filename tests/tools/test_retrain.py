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
        assert [one for one, _ in retrain.stages(name)][-1] == name
    assert [one for one, _ in retrain.stages(DEFAULT_MODEL)] == ["swiftnet-mnv2-camvid", DEFAULT_MODEL]


def test_names_in_capitals_become_paths_and_the_stage_before_a_folder(retrain, folder: Path) -> None:
    first, last = [retrain.here(settings, folder, Path("out")) for _, settings in retrain.stages(DEFAULT_MODEL)]
    assert first.data == (f"camvid={folder}/data/camvid", "synthetic=120")
    assert first.encoder_weights == f"{folder}/weights/mobilenet_v2_imagenet.pth"
    assert last.init == "out/swiftnet-mnv2-camvid"
    assert f"idd-lite={folder}/data/IDD20K_Lite" in last.data
    assert last.negatives[1] == f"objects:fold=train,side=0.06+0.7={folder}/data/object_cutouts"


def test_each_stage_is_one_command(retrain, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(retrain.subprocess, "run", lambda command, check: commands.append(command))
    words = ["retrain.py", "default", "--data", str(folder), "--out", "out", "--seed", "7", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    retrain.main()
    closed, open_set = commands
    assert closed[1:5] == ["train", "closed-set", "--network", "swiftnet-mnv2"]
    assert open_set[1:5] == ["train", "pebal", "--init", "out/swiftnet-mnv2-camvid"]
    assert all(one[one.index("--seed") + 1] == "7" for one in commands)
    assert all(one[one.index("--out") + 1] in ("out/swiftnet-mnv2-camvid", f"out/{DEFAULT_MODEL}") for one in commands)


def test_missing_data_are_named(retrain, folder: Path) -> None:
    (folder / "data" / "camvid").rmdir()
    settings = next(settings for _, settings in retrain.stages(DEFAULT_MODEL))
    with pytest.raises(SystemExit, match="holds no CAMVID"):
        retrain.here(settings, folder, Path("out"))
