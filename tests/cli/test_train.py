"""``strays train``: words in, a model directory out; wrong words get one line with the fix and exit code 2."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from strays.cli import app, main
from strays.detectors import build_detector
from strays.errors import InputError
from strays.model import Model
from strays.recipes import RECIPES
from strays.scoring import Scorer

Invoke = Callable[..., Result]

CHOICES = ["--scale", "0.5,1.5", "--class-weights", "none", "--encoder-rate", "0.5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames to train on and one to validate on, in CamVid's layout."""
    folder = tmp_path_factory.mktemp("data") / "camvid"
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for kind, shape, values in (("images", (32, 48, 3), 256), ("labels", (32, 48), 12)):
            (folder / split / kind).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, values, shape).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / kind / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "out"


@pytest.fixture(scope="module")
def invoke(data: Path, folder: Path) -> Invoke:
    def run(*words: str, recipe: str = "closed-set", out: Path = folder) -> Result:
        usual = ["--network", "enet", "--data", f"camvid={data}", "--out", str(out), "--device", "cpu"]
        small = ["--epochs", "1", "--batch", "2", "--crop", "16x24", "--precision", "float32"]
        return CliRunner().invoke(app, ["train", recipe, *usual, *small, *words])

    return run


@pytest.fixture(scope="module")
def done(invoke: Invoke) -> Result:
    """A run that went well, into ``folder``."""
    return invoke(*CHOICES, "--seed", "7")


def test_it_leaves_a_model_and_says_what_to_do_next(done: Result, folder: Path) -> None:
    assert done.exit_code == 0, done.output
    told = done.stderr.replace("\n", "")
    assert f"enet-camvid is in {folder}: strays score IMAGES --model {folder}" in told
    assert f"tensorboard --logdir {folder}" in told
    assert "mIoU" in told
    assert done.stdout == ""
    settings = Model.load(folder).facts.training["settings"]
    assert isinstance(settings, dict)
    wanted = {"crop": [16, 24], "scale": [0.5, 1.5], "seed": 7, "class_weights": "none", "encoder_rate": 0.5}
    assert {key: settings[key] for key in wanted} == wanted


def test_the_same_words_again_take_no_further_step_and_quiet_prints_nothing(
    done: Result, invoke: Invoke, folder: Path
) -> None:
    first = Model.load(folder).sha256()
    result = invoke(*CHOICES, "--seed", "7", "--quiet")
    assert result.exit_code == 0
    assert result.output == ""
    assert Model.load(folder).sha256() == first


def test_other_words_do_not_get_into_the_folder(done: Result, invoke: Invoke) -> None:
    result = invoke(*CHOICES, "--seed", "8")
    assert isinstance(result.exception, InputError)
    assert "with other settings (seed was 7, is 8): choose another --out" in str(result.exception)


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with a mask of the one thing in it."""
    folder = tmp_path_factory.mktemp("data") / "cutouts"
    mask = np.zeros((60, 64), np.uint8)
    mask[4:44, 6:40] = 255
    pixels = np.random.default_rng(1).integers(0, 256, (60, 64, 3)).astype(np.uint8)
    for kind, values in (("images", pixels), ("masks", mask)):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(values).save(folder / kind / "0.png")
    return folder


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_gives_a_model_that_its_detector_reads(
    recipe: str, data: Path, cutouts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    start = ["train", recipe, "--network", "erfnet", "--data", f"camvid={data}", "--negatives", f"objects={cutouts}"]
    small = ["--epochs", "1", "--batch", "2", "--crop", "32x48", "--precision", "float32", "--colour", "0"]
    run = ["--out", str(out), "--device", "cpu", "--validate-every", "0", "--quiet"]
    done = CliRunner().invoke(app, [*start, *small, *run])
    assert done.exit_code == 0, done.output
    model = Model.load(out)
    assert (model.facts.recipe, model.facts.detector) == (recipe, RECIPES[recipe].detector)
    image = np.random.default_rng(2).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    detector = build_detector("mutual-information:samples=2" if recipe == "mc-dropout" else model.facts.detector)
    (score,) = Scorer(model, {"own": detector})(image).scores.values()
    assert score.shape == (32, 48)


def test_settings_of_a_recipe_are_words(invoke: Invoke, cutouts: Path, tmp_path: Path) -> None:
    words = ["--negatives", f"objects={cutouts}", "--negatives", "void", "--negative-share", "0.3"]
    done = invoke(*words, "--trained", "regular5_1,transposed_conv", recipe="pebal:margins=fixed", out=tmp_path / "out")
    assert done.exit_code == 0, done.output
    settings = Model.load(tmp_path / "out").facts.training["settings"]
    assert isinstance(settings, dict)
    assert (settings["recipe"], settings["schedule"], settings["negative_share"]) == (
        "pebal:margins=fixed",
        "poly",
        0.3,
    )
    assert settings["trained"] == ["regular5_1", "transposed_conv"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--negatives", "objects=/no/such/folder"], "no folder /no/such/folder: check the path behind the ="),
        (["--negatives", "things=DIR"], "no kind of negatives is called 'things'"),
        (["--negatives", "objects"], "objects needs a folder of images to cut from: write objects=DIR"),
        (["--negatives", "void", "--negative-share", "2"], "--negative-share: Input should be less than or equal to 1"),
        (["--negatives", "void", "--trained", "head"], "--trained: the network has no block 'head'; its blocks: "),
        (["--negatives", "void", "--batch", "2", "--accumulate", "3"], "a batch of 2 cannot be computed in 3 equal"),
        (["--negatives", "void", "--init", "default"], "either from a network, with random weights, or from a model"),
        (
            ["--negatives", "void", "--schedule", "plateau", "--validate-every", "2"],
            "plateau waits for validation",
        ),
        ([], "the recipe densehybrid learns from negatives, and there are none: name a folder of objects or images"),
    ],
)
def test_wrong_words_about_negatives_name_what_is_wrong(
    invoke: Invoke, tmp_path: Path, words: list[str], told: str
) -> None:
    result = invoke(*words, recipe="densehybrid", out=tmp_path / "out")
    assert isinstance(result.exception, InputError), result.output
    assert told in str(result.exception)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--crop", "256"], "--crop: expected two numbers with 'x' between them, got '256'"),
        (["--crop", "axb"], "--crop: expected two numbers"),
        (["--crop", "0x64"], "--crop: Input should be greater than or equal to 1, got 0"),
        (["--scale", "1"], "--scale: expected two numbers with ',' between them, got '1'"),
        (["--scale", "0,1"], "--scale: Input should be greater than 0, got 0"),
        (["--scale", "2,1"], "--scale: the range runs from low to high"),
        (["--scale", "nan,1"], "--scale: Input should be"),
        (["--epochs", "0"], "--epochs: Input should be greater than or equal to 1, got 0"),
        (["--batch", "-1"], "--batch: Input should be greater"),
        (["--batch", "4"], "3 scenes do not fill a batch of 4: choose a smaller --batch"),
        (["--seed", "-1"], "--seed: Input should be greater than or equal to 0, got -1"),
        (["--colour", "4"], "--colour: Input should be less than or equal to 3, got 4"),
        (["--learning-rate", "0"], "--learning-rate: Input should be greater than 0"),
        (["--learning-rate", "inf"], "--learning-rate: Input should be a finite number"),
        (["--class-weights", "log"], "--class-weights: Input should be 'none' or 'inverse-log', got 'log'"),
        (["--precision", "half"], "--precision: Input should be 'auto', 'float32' or 'bfloat16', got 'half'"),
        (["--network", "ennet"], "no network is called 'ennet'; did you mean 'enet'? (`strays networks` lists them)"),
        (["--device", "cuda:1"], "--device cuda:1: training takes one of auto, cpu, cuda"),
        (["--data", "camvid=/no/such/folder"], "/no/such/folder"),
        (["--encoder-weights", "w.pth"], "ENet has no encoder to load w.pth into: leave --encoder-weights out"),
    ],
)
def test_wrong_words_name_the_option(invoke: Invoke, words: list[str], told: str) -> None:
    result = invoke(*words)
    assert isinstance(result.exception, InputError), result.output
    assert told in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_wrong_recipe_gets_the_closest(invoke: Invoke) -> None:
    result = invoke(recipe="closed")
    assert isinstance(result.exception, InputError)
    assert "no recipe is called 'closed'; did you mean 'closed-set'" in str(result.exception)


def test_a_folder_that_cannot_be_written(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    result = invoke(out=tmp_path / "taken")
    assert isinstance(result.exception, InputError)
    assert f"cannot write to folder {tmp_path / 'taken'}" in str(result.exception)


@pytest.mark.parametrize("words", [["--workers", "-1"], ["--validate-every", "-1"], ["--epochs", "many"]])
def test_numbers_out_of_range_are_a_usage_error(invoke: Invoke, words: list[str]) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert words[0] in result.output


def test_what_only_training_needs_is_named_where_it_is_missing(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "kornia" else there(name))
    result = invoke()
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == "training needs kornia: pip install 'strays[train]'"


def test_main_ends_with_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "closed-set", "--data", "x=y", "--out", str(tmp_path), "--crop", "big"]
    monkeypatch.setattr(sys, "argv", ["strays", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told == "error: --crop: expected two numbers with 'x' between them, got 'big'\n"
