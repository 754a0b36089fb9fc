"""The tool that makes a run the built-in model: the command it writes down is the one that made the run."""

import runpy
import shlex
from pathlib import Path

import pytest

from strays.loading import load_model
from strays.training import TrainingSettings

TOOL = Path(__file__).parents[2] / "tools" / "ship_model.py"


@pytest.fixture(scope="module")
def tool() -> dict[str, object]:
    return runpy.run_path(str(TOOL))


def test_the_command_names_what_differs_and_no_path_of_this_machine(tool: dict[str, object]) -> None:
    settings = TrainingSettings(
        recipe="densehybrid:beta=0.05",
        network="swiftnet-mnv2",
        encoder_weights="/somewhere/mobilenet.pth",
        data=("camvid=/data/camvid", "synthetic=60"),
        negatives=("objects:exclude=meta-ood,side=0.1+0.5=../data/coco128_seg", "void"),
        crop=(192, 256),
        scale=(0.5, 2.0),
        average=0.99,
        seed=3,
    )
    words = shlex.split(tool["command"](settings))
    expected = """strays train densehybrid:beta=0.05 --network swiftnet-mnv2 --data camvid=CAMVID --data synthetic=60
        --negatives objects:exclude=meta-ood,side=0.1+0.5=COCO128_SEG --negatives void
        --encoder-weights mobilenet.pth --seed 3 --crop 192x256 --scale 0.5,2.0 --average 0.99 --out RUN"""
    assert words == shlex.split(expected)


def test_a_run_with_usual_settings_has_a_short_command(tool: dict[str, object]) -> None:
    settings = TrainingSettings(recipe="pebal", init="default", data=("camvid=/data/camvid",), negatives=("void",))
    command = tool["command"](settings)
    assert command == "strays train pebal --init default --data camvid=CAMVID --negatives void --out RUN"


def test_a_mean_names_what_its_trainings_differ_in(tool: dict[str, object]) -> None:
    settings = TrainingSettings(recipe="pebal", init="default", data=("camvid=/data/camvid",), negatives=("void",))
    facts = load_model("default").facts
    averaged = [{"seed": 0}, {"seed": 1, "data": ["idd-lite=/data/idd"]}]
    found = tool["parts"](facts.model_copy(update={"training": {"averaged": averaged}}), settings)
    assert found == [{"seed": 0}, {"seed": 1, "data": ["idd-lite=IDD"]}]
    assert tool["told"](settings, found[:1]) == "with --seed 0; the model is their mean (strays average)"
    assert tool["told"](settings, []) == "(seed 0)"
