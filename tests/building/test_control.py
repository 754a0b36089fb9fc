"""Control objects: what is pasted and belongs on the road raises no alarm in a detector worth the name."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from strays.building import PasteRun, read_settings
from strays.building.control import ControlFrame, compare_controls, control_frames
from strays.data.synthetic import SyntheticScenes, synthetic_scene
from strays.data.synthetic.dataset import Rendered, SyntheticReader
from strays.errors import InputError
from strays.scene import Scene


def frame(anomaly: float, control: float, elsewhere: float, name: str = "a") -> tuple[ControlFrame, np.ndarray]:
    """A frame of six rows, and its scores: two rows of each kind."""
    mask, controls = np.zeros((6, 4), np.uint8), np.zeros((6, 4), bool)
    mask[:2], controls[2:4] = 1, True
    scores = np.repeat([anomaly, control, elsewhere], 2)[:, None] * np.ones(4)
    return ControlFrame(Scene(np.zeros((6, 4, 3), np.uint8), mask=mask, name=name), controls), scores.astype(np.float32)


def test_the_three_kinds_are_told_apart() -> None:
    made = [frame(3, 1, 0), frame(5, 2, 0), frame(1, 1.5, 0)]
    found = compare_controls(made)
    assert (found.anomaly, found.control, found.elsewhere) == (3, 1.5, 0)
    pairs = [(a, c) for a in (3, 5, 1) for c in (1, 2, 1.5)]
    assert found.auroc == pytest.approx(np.mean([(a > c) + 0.5 * (a == c) for a, c in pairs]))
    assert found.holds


def test_a_detector_of_pasting_does_not_pass() -> None:
    assert not compare_controls([frame(3, 3.5, 0)]).holds


def test_pixels_that_count_nowhere_do_not_count() -> None:
    made, scores = frame(3, 1, 0)
    made.scene.mask[0], made.scene.mask[5] = 255, 255
    scores[0], scores[5] = 1000, 1000
    found = compare_controls([(made, scores)])
    assert (found.anomaly, found.elsewhere) == (3, 0)


def test_without_controls_nothing_can_be_said(tmp_path: Path) -> None:
    made, scores = frame(3, 1, 0)
    made.controls[:] = False
    with pytest.raises(InputError, match="expected frames with pasted anomalies and with controls"):
        compare_controls([(made, scores)])
    with pytest.raises(InputError, match="has no control_masks"):
        next(control_frames(tmp_path))


class OnceRendered(Rendered):
    """Synthetic scenes that remember what was rendered: controls are cut out of them many times."""

    read = lru_cache(Rendered.read)


@pytest.fixture
def cutouts(tmp_path: Path) -> Path:
    """The anomalies of some other synthetic scenes, as cut-outs."""
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for seed in range(100, 104):
        scene = synthetic_scene(seed, (300, 400))
        regions, _ = ndimage.label(scene.mask == 1)
        for number, box in enumerate(ndimage.find_objects(regions), start=1):
            mask = np.pad(regions[box] == number, 4)
            image = np.pad(scene.image[box], ((4, 4), (4, 4), (0, 0)))
            layers = np.dstack([image, mask.astype(np.uint8) * 255])
            if max(mask.shape) >= 50:
                Image.fromarray(layers).save(folder / f"{seed}-{number}.png")
    return folder


@pytest.fixture
def benchmark(cutouts: Path, tmp_path: Path) -> Path:
    rendered = SyntheticScenes(6, size=(180, 240), seed=3, anomalies=0)
    scenes = OnceRendered(rendered, SyntheticReader.card, "train")
    PasteRun(scenes, read_settings(objects=str(cutouts)), tmp_path / "out").run()
    return tmp_path / "out"


def test_sane_detectors_find_controls_less_anomalous_than_anomalies(benchmark: Path) -> None:
    from strays.loading import load_model
    from strays.scoring import Scorer

    frames = list(control_frames(benchmark))
    assert sum(one.scene.has_anomaly for one in frames) >= 5
    assert sum(one.controls.any() for one in frames) >= 5
    scorer = Scorer.build(load_model("default"), ["max-logit", "entropy"])
    seen = [scorer(one.scene.image).scores for one in frames]
    for name in ("max-logit", "entropy"):
        found = compare_controls((one, scores[name]) for one, scores in zip(frames, seen, strict=True))
        assert found.holds, (name, found)
        assert found.auroc > 0.7, (name, found)
