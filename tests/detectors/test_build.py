"""Detectors from strings, and as files: what goes wrong and what a fitted one carries along."""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from strays.cards import Card
from strays.detectors import DETECTORS, Detector, build_detector
from strays.detectors.energy import Energy
from strays.detectors.msp import Msp
from strays.errors import InputError, WeightsError
from strays.prediction import Prediction


class Centred(Detector):
    """Distance to a mean that ``fit`` estimates; the number of classes is known only then."""

    card = Card(title="Centred", summary="A detector of this test.")
    mean_: Tensor | None

    def __init__(self, power: int = 2, scale: float | None = None, robust: bool = False, mode: str = "sum") -> None:
        super().__init__()
        self.power, self.scale, self.robust, self.mode = power, scale, robust, mode
        self.head = torch.nn.Linear(2, 1)
        self.register_buffer("mean_", None)

    def settings(self) -> dict[str, float | int | str | bool | None]:
        return {"power": self.power, "scale": self.scale, "robust": self.robust, "mode": self.mode}

    def fit(self, predictions: Iterable[Prediction], labels: Iterable[Tensor]) -> Self:
        self.mean_ = torch.cat([one.logits for one in predictions]).mean(dim=(0, 2, 3))
        return self

    def score(self, prediction: Prediction) -> Tensor:
        if self.mean_ is None:
            raise InputError("fit it first")
        return (prediction.logits - self.mean_[:, None, None]).pow(self.power).sum(dim=1)


@pytest.fixture
def centred(monkeypatch: pytest.MonkeyPatch) -> Centred:
    len(DETECTORS)
    monkeypatch.setitem(DETECTORS._found, "centred", Centred)
    torch.manual_seed(3)
    return Centred()


def prediction(classes: int = 5) -> Prediction:
    return Prediction(logits=torch.randn(2, classes, 3, 4, generator=torch.Generator().manual_seed(1)), size=(3, 4))


def test_a_plain_name_gives_the_defaults() -> None:
    detector = build_detector("energy")
    assert isinstance(detector, Energy)
    assert detector.settings() == {"temperature": 1.0}


def test_settings_are_read_by_the_type_of_the_keyword(centred: Centred) -> None:
    built = build_detector(" centred: power=3, scale=0.5,robust=true , mode=2 ")
    assert built.settings() == {"power": 3, "scale": 0.5, "robust": True, "mode": "2"}
    assert build_detector("centred:scale=none,mode=none").settings() == centred.settings() | {"mode": "none"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("energi", "did you mean 'energy'"),
        ("", "no detector is called ''"),
        ("energy:temprature=2", "energy has no setting 'temprature'; did you mean 'temperature'"),
        ("smoothed(energy,sgma=2)", "smoothed has no setting 'sgma'; did you mean 'sigma'"),
        ("smoothed(energy:temperature=2,sgma=2)", "energy has no setting 'sgma'; its settings: temperature"),
        ("energy:alpha=2", "its settings: temperature"),
        ("energy:temperature", "write energy:temperature=VALUE"),
        ("energy:temperature=hot", "energy: temperature is 'hot': Input should be a valid number"),
        ("energy:temperature=none", "Input should be a valid number"),
        ("energy:temperature=-1", "expected a temperature above 0, got -1"),
        ("energy:temperature=2@file", "the file holds the settings: write energy@file"),
        ("energy@missing.safetensors", "no detector file at missing.safetensors"),
    ],
)
def test_wrong_strings_tell_the_fix(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_detector(spec)


def test_a_fitted_detector_comes_back_with_what_it_learned(centred: Centred, tmp_path: Path) -> None:
    centred.fit([prediction()], [])
    centred.save(tmp_path / "fitted@home.safetensors")
    loaded = build_detector(f"centred@{tmp_path}/fitted@home.safetensors")
    assert torch.equal(loaded(prediction()), centred(prediction()))
    state = loaded.state_dict()
    assert state.keys() == {"mean_", "head.weight", "head.bias"}
    assert all(torch.equal(state[key], value) for key, value in centred.state_dict().items())
    assert loaded.get_parameter("head.weight").requires_grad


def test_a_fitted_detector_can_be_fitted_anew_after_loading(centred: Centred, tmp_path: Path) -> None:
    centred.fit([prediction()], []).save(tmp_path / "fitted")
    loaded = Centred.load(tmp_path / "fitted").fit([prediction(classes=9)], [])
    assert loaded.mean_ is not None
    assert loaded.mean_.shape == (9,)


def test_an_unfitted_detector_stays_unfitted(centred: Centred, tmp_path: Path) -> None:
    centred.save(tmp_path / "unfitted")
    with pytest.raises(InputError, match="fit it first"):
        Centred.load(tmp_path / "unfitted")(prediction())


def test_tensors_of_another_shape_or_name_are_refused(
    centred: Centred, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old"
    centred.save(path)

    class Wider(Centred):
        def __init__(self, power: int = 2, scale: float | None = None, robust: bool = False, mode: str = "sum") -> None:
            super().__init__(power, scale, robust, mode)
            self.head = torch.nn.Linear(3, 1)

    class Renamed(Centred):
        def __init__(self, power: int = 2, scale: float | None = None, robust: bool = False, mode: str = "sum") -> None:
            super().__init__(power, scale, robust, mode)
            self.tail, self.head = self.head, None

    for kind, message in ((Wider, "size mismatch for head.weight"), (Renamed, "tail.weight")):
        monkeypatch.setitem(DETECTORS._found, "centred", kind)
        with pytest.raises(WeightsError, match=message):
            Detector.load(path)


def test_settings_of_another_version_are_refused(
    centred: Centred, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Centred, "settings", lambda self: {"gone": 1})
    centred.save(tmp_path / "old")
    with pytest.raises(WeightsError, match=r"was written by strays .* with other settings.*gone"):
        Detector.load(tmp_path / "old")


def test_a_file_of_another_detector_is_refused(tmp_path: Path) -> None:
    Msp(temperature=3).save(tmp_path / "msp.safetensors")
    with pytest.raises(WeightsError, match="holds the detector 'msp', expected Energy"):
        Energy.load(tmp_path / "msp.safetensors")
    with pytest.raises(WeightsError, match="holds the detector 'msp', expected Energy"):
        build_detector(f"energy@{tmp_path}/msp.safetensors")
    assert Detector.load(tmp_path / "msp.safetensors").settings() == {"temperature": 3.0}


def test_a_file_of_an_unknown_detector_is_refused(
    centred: Centred, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centred.save(tmp_path / "file")
    monkeypatch.delitem(DETECTORS._found, "centred")
    with pytest.raises(InputError, match="no detector is called 'centred'"):
        Detector.load(tmp_path / "file")


def test_an_unregistered_class_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Centred has no name: put @register_detector"):
        Centred().save(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_detector_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="safetensors file without a detector"):
        Detector.load(path)
    save_file({"weight": torch.zeros(2)}, path, metadata={"strays.detector": "{}"})
    with pytest.raises(WeightsError, match="cannot be read as a detector"):
        Detector.load(path)
    for content in (b"", b"not a detector", (tmp_path / "file").read_bytes()[:-4]):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as a detector"):
            Detector.load(path)
    with pytest.raises(WeightsError, match="no detector file at"):
        Detector.load(tmp_path)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_refused_and_nothing_in_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bomb").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match="cannot be read as a detector"):
        Detector.load("bomb")
    assert not Path("exploded").exists()
