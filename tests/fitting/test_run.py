"""Fitting a detector: one pass over scenes that goes on where it was killed, and merging of shards."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from strays.data import SceneSet, open_scenes
from strays.detectors import Detector, build_detector
from strays.detectors.combined import Combined
from strays.errors import InputError, WeightsError
from strays.fitting import FitRun, Shard, merge_shards
from strays.loading import load_model
from strays.model import Model
from strays.prediction import Prediction
from strays.scoring import Scorer, as_tensor

SPEC = "combined(energy,msp)"


@pytest.fixture
def model(tiny) -> Model:
    return load_model(tiny.spec)


@pytest.fixture
def fit(model, town, tmp_path) -> Callable[..., FitRun]:
    def build(spec: str = SPEC, out: str = "fit.safetensors", data: str | None = None, **settings) -> FitRun:
        scenes = open_scenes(data or town(), "train")
        return FitRun(model, build_detector(spec), [scenes], tmp_path / out, **settings)

    return build


def by_hand(model: Model, scenes: SceneSet, spec: str = SPEC) -> Detector:
    """Fit without a run: what it has to come out as."""
    seen: list[Prediction] = [model.predict(as_tensor(one.image), one.size) for one in scenes]
    labels: list[Tensor] = [torch.from_numpy(one.labels)[None] for one in scenes]
    return build_detector(spec).fit(seen, labels)


def state(detector: Detector) -> dict[str, list[float]]:
    return {key: value.tolist() for key, value in detector.state_dict().items()}


def test_a_run_fits_what_fit_would(fit, model, town, tmp_path) -> None:
    run = fit()
    told = []
    run.run(lambda done, total: told.append((done, total)))
    fitted = run.conclude()
    assert told == [(done, 5) for done in range(6)]
    assert state(fitted) == state(by_hand(model, open_scenes(town(), "train")))
    loaded = Detector.load(tmp_path / "fit.safetensors")
    assert state(loaded) == state(fitted)
    facts = loaded.fitted_on
    assert (facts.model, facts.weights_sha256, facts.images) == (model.name, model.sha256(), 5)
    assert facts.data == ("camvid train (5)",)
    assert [path.name for path in tmp_path.glob("*fit.safetensors*")] == ["fit.safetensors"]


def test_a_killed_run_goes_on_where_it_was(fit, monkeypatch, tmp_path) -> None:
    whole = fit(out="whole.safetensors")
    whole.run()
    whole.conclude()
    monkeypatch.setattr("strays.scoring.continuing._SAVING", 1.0)  # save after every image
    killed = fit()
    with pytest.raises(KeyboardInterrupt):
        killed.run(lambda done, total: stop() if done == 3 else None)
    again = fit()
    shown = []
    again.run(lambda done, total: shown.append(done))
    assert shown == [3, 4, 5]
    again.conclude()
    assert (tmp_path / "fit.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def stop() -> None:
    raise KeyboardInterrupt


def test_merged_shards_are_one_pass(fit, tmp_path) -> None:
    run = fit(out="whole.safetensors")
    run.run()
    whole = run.conclude()
    for part in ("2/3", "1/3", "3/3"):
        fit(out="parts.safetensors", shard=Shard.parse(part)).run()
    merged = merge_shards(tmp_path / "parts.safetensors")
    assert merged.fitted_on == whole.fitted_on
    torch.testing.assert_close(merged.state_dict(), whole.state_dict(), rtol=1e-6, atol=0)
    assert state(Detector.load(tmp_path / "parts.safetensors")) == state(merged)


def test_shards_that_do_not_belong_together_are_refused(fit, town, tmp_path) -> None:
    out = tmp_path / "parts.safetensors"
    with pytest.raises(InputError, match=r"no shards beside .*shard-1-of-8"):
        merge_shards(out)
    fit(out=out.name, shard=Shard.parse("1/2")).run()
    with pytest.raises(InputError, match=r"1 of 2 shards are missing, such as parts.shard-2-of-2"):
        merge_shards(out)
    fit("combined(energy,msp,weights=1+2)", out=out.name, shard=Shard.parse("2/2")).run()
    with pytest.raises(InputError, match="of another fit"):
        merge_shards(out)
    Shard.parse("2/2").file(out).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be read"):
        merge_shards(out)


def test_an_unfinished_shard_is_refused(fit, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("strays.scoring.continuing._SAVING", 1.0)
    for number in (1, 2):
        run = fit(out="parts.safetensors", shard=Shard(number=number, count=2))
        if number == 1:
            run.run()
        else:
            with pytest.raises(KeyboardInterrupt):
                run.run(lambda done, total: stop() if done == 1 else None)
    with pytest.raises(InputError, match=r"unfinished \(1 of 2\).*--shard 2/2"):
        merge_shards(tmp_path / "parts.safetensors")


def test_another_fit_needs_another_file(fit, town, monkeypatch) -> None:
    monkeypatch.setattr("strays.scoring.continuing._SAVING", 1.0)
    with pytest.raises(KeyboardInterrupt):
        fit().run(lambda done, total: stop() if done == 1 else None)
    with pytest.raises(InputError, match=r"of another fit .*settings was"):
        fit("combined(energy,msp,weights=1+2)")
    with pytest.raises(InputError, match="max side was None, is 20"):
        fit(max_side=20)
    with pytest.raises(InputError, match="images was"):
        fit(data=town("other", count=6))


def test_unreadable_images_are_reported_and_cost_no_other(model, town, tmp_path) -> None:
    spec = town()
    broken = tmp_path / "town" / "train" / "images" / "03.png"
    broken.write_bytes(b"")
    run = FitRun(model, build_detector(SPEC), [open_scenes(spec, "train")], tmp_path / "new.safetensors")
    run.run()
    assert list(run.gathered.unreadable) == ["camvid/03"]
    assert run.conclude().fitted_on.images == 4
    strict = FitRun(run.model, build_detector(SPEC), run.sets, tmp_path / "strict.safetensors", strict=True)
    with pytest.raises(InputError, match=r"camvid/03.*03.png"):
        strict.run()


def test_longer_images_are_shrunk(fit, tiny) -> None:
    tiny.forget()
    fit(max_side=16).run()
    assert set(tiny.seen) == {(12, 16)}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("energy", "needs no fitting"),
        ("nearest-neighbors:tap=nonsense", "has no tap 'nonsense'; its taps: "),
        ("maskomaly", "fitted on anomaly masks, and camvid has none"),
        ("distillation-comparison:tap=layer", "leave out --shard"),
    ],
)
def test_what_cannot_be_fitted_is_said_before_the_first_image(fit, spec, message, tiny) -> None:
    tiny.forget()
    with pytest.raises(InputError, match=message):
        fit(spec, shard=Shard.parse("1/2"))
    assert not tiny.seen


def test_labels_become_those_of_the_network(tiny, town, tmp_path) -> None:
    from strays.taxonomy import CAMVID, CITYSCAPES, IGNORE

    model = load_model(tiny.factory("void"))
    scenes = open_scenes(town(), "train")
    run = FitRun(model, build_detector("mahalanobis:tap=layer"), [scenes], tmp_path / "fit.safetensors")
    scene = scenes[0]
    labels = run._labels(scenes, scene)[0].numpy()
    pavement, void = CAMVID.names.index("pavement"), scene.labels == IGNORE
    assert set(labels[scene.labels == pavement]) == {CITYSCAPES.names.index("sidewalk")}
    assert (labels[void] == IGNORE).all()


def test_statistics_of_another_network_are_refused(fit, tiny, tmp_path) -> None:
    run = fit()
    run.run()
    run.conclude()
    file = f"combined@{tmp_path / 'fit.safetensors'}"
    assert list(Scorer.build(run.model, [file]).detectors) == ["combined@fit"]
    with pytest.raises(InputError, match=r"combined@fit was fitted on .*not on .*fit it anew with strays fit"):
        Scorer.build(load_model(tiny.factory("other")), [file])
    with pytest.raises(InputError, match="fitted on"):
        Scorer.build(load_model(tiny.factory("other")), [f"smoothed({file},sigma=1)"])
    with pytest.raises(InputError, match="combined has not been fitted: run `strays fit combined"):
        Scorer(run.model, {"combined": Combined()})


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "a/b"])
def test_shards_that_are_none(text) -> None:
    with pytest.raises(InputError, match="NUMBER/COUNT"):
        Shard.parse(text)
