"""A benchmark as files: the same bytes whatever happened on the way, a manifest that tells the truth, clear errors."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strays.building import CONTROLS, PasteRun, pasted_kinds, read_settings
from strays.data import SceneSet, open_scenes, read_image, read_map
from strays.errors import InputError
from strays.scene import Scene

STYLES = ("fishyscapes", "cut-and-paste", "wd-pascal")


@pytest.fixture
def build(scenes: SceneSet, zoo: Path, tmp_path: Path) -> Callable[..., Path]:
    def run(name: str, advance: Callable[[], None] | None = None, data: SceneSet = scenes, **settings: object) -> Path:
        given = {"objects": f"objects:min_size=0={zoo}", **settings}
        PasteRun(data, read_settings(**given), tmp_path / name).run(advance)
        return tmp_path / name

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("style", STYLES)
def test_the_same_seed_gives_the_same_bytes(build, style: str) -> None:
    one, again, other = (contents(build(name, style=style, seed=seed)) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert one == again
    assert one.keys() == other.keys()
    images = [name for name in one if name.startswith("images/")]
    assert len(images) == 4
    assert all(one[name] != other[name] for name in images)


def test_a_killed_run_continues_and_ends_with_the_same_bytes(build, tmp_path: Path) -> None:
    whole, steps = build("whole"), []

    def dies() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build("killed", dies)
    assert not (tmp_path / "killed").exists(), "the folder appears when it is complete"
    part = tmp_path / ".killed.part"
    with (part / ".journal.jsonl").open("a") as torn:
        torn.write('{"name": "02", "files"')
    left: list[int] = []
    assert contents(build("killed", lambda: left.append(1))) == contents(whole)
    assert len(left) == 2
    assert not part.exists()


def test_files_that_went_missing_are_made_anew(build, tmp_path: Path) -> None:
    whole = contents(build("whole"))

    def dies() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build("other", dies)
    (tmp_path / ".other.part/labels_masks/00.png").unlink()
    assert contents(build("other")) == whole


def test_a_run_that_was_killed_before_the_folder_was_moved(build, tmp_path: Path) -> None:
    whole = contents(build("whole"))
    (tmp_path / "whole").rename(tmp_path / ".late.part")
    (tmp_path / ".late.part/.settings.json").write_text("{}")
    assert contents(build("late", lambda: pytest.fail("all was done"))) == whole


def test_what_is_complete_is_not_done_again(build) -> None:
    before = contents(build("out"))
    assert contents(build("out", lambda: pytest.fail("all was done"))) == before


def test_other_settings_or_files_are_not_mixed(build, tmp_path: Path) -> None:
    build("out")
    with pytest.raises(InputError, match=r"made with other settings \(seed was 0, is 1\): choose another --out"):
        build("out", seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("")
    with pytest.raises(InputError, match="mine is there already and is not ours"):
        build("mine")
    (tmp_path / "empty").mkdir()
    assert (build("empty") / "manifest.json").is_file()


def test_any_frame_can_be_rebuilt_alone(build, scenes: SceneSet, zoo: Path, tmp_path: Path) -> None:
    out = build("out")
    alone = PasteRun(scenes, read_settings(objects=f"objects:min_size=0={zoo}"), tmp_path / "unused").paste(scenes[2])
    np.testing.assert_array_equal(alone.image, read_image(out / "images/02.png"))
    np.testing.assert_array_equal(alone.mask, read_map(out / "labels_masks/02.png"))


@pytest.mark.parametrize("style", STYLES)
def test_masks_are_the_pasted_pixels(build, scenes: SceneSet, style: str) -> None:
    out = build("out", style=style, shadow=0, control="labels")
    read = open_scenes(f"x={out}")
    assert read.names == scenes.names
    for scene, pasted in zip(scenes, read, strict=True):
        control = read_map(out / CONTROLS / f"{scene.name}.png") == 1
        changed = (scene.image != pasted.image).any(-1)
        where = (pasted.mask == 1) | control
        assert (pasted.mask[control] == 0).all()
        assert not (changed & ~where).any()
        assert changed[where].mean() > 0.9
        assert (pasted.mask == 1).any()
        assert control.any()


def test_the_manifest_says_what_is_where(build, scenes: SceneSet) -> None:
    out = build("out", count=3)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["style"] == "fishyscapes"
    assert manifest["data"] == {"name": "camvid", "split": "test", "frames": 4}
    assert [frame["name"] for frame in manifest["frames"]] == ["00", "01", "02"]
    for frame in manifest["frames"]:
        assert len(frame["files"]) == 3
        for name, digest in frame["files"].items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
        assert hashlib.sha256(Path(frame["source"]).read_bytes()).hexdigest() == frame["source_sha256"]
        mask = read_map(out / f"labels_masks/{frame['name']}.png") == 1
        (anomaly,) = pasted_kinds(frame, "anomaly")
        left, top, right, bottom = anomaly["box"]
        assert mask[top:bottom, left:right].sum() == mask.sum() == anomaly["pixels"]


def test_the_folder_is_all_that_its_name_says(build) -> None:
    names = {path.name for path in build("out").iterdir()}
    assert names == {"images", "labels_masks", CONTROLS, "contact-sheet.png", "manifest.json", "strays.json"}
    names = {path.name for path in build("other", style="wd-pascal").iterdir()}
    assert CONTROLS not in names


def test_a_frame_that_cannot_be_read_costs_nothing_else(build, scenes: SceneSet, zoo: Path, tmp_path: Path) -> None:
    broken = scenes.frames[1].image
    broken.write_bytes(b"nonsense")
    out = build("out")
    frames = json.loads((out / "manifest.json").read_text())["frames"]
    assert [("error" in frame) for frame in frames] == [False, True, False, False]
    assert str(broken) in frames[1]["error"]
    assert len(open_scenes(f"x={out}")) == 3
    with pytest.raises(InputError, match=r"01\.png"):
        PasteRun(scenes, read_settings(objects=str(zoo)), tmp_path / "strict", strict=True).run()


class Bare(SceneSet):
    """Scenes without labels."""

    names = ("a", "b")
    has_labels = has_masks = False

    def __init__(self) -> None:
        super().__init__("bare", None)

    def read(self, index: int) -> Scene:
        return Scene(np.full((90, 120, 3), 50, np.uint8), name=self.names[index])

    def subset(self, indices):
        raise NotImplementedError


def test_unlabelled_frames_do_for_what_is_pasted_anywhere(build) -> None:
    out = build("out", data=Bare(), style="cut-and-paste")
    assert all(scene.has_anomaly and scene.mask.max() == 1 for scene in open_scenes(f"x={out}"))
    with pytest.raises(InputError, match="bare has no class labels, and fishyscapes stands things on the road"):
        build("two", data=Bare())
    with pytest.raises(InputError, match="bare has no class labels, so nobody knows its classes"):
        build("two", data=Bare(), style="wd-pascal", control="labels")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objects": "no/where"}, "no folder no/where with objects"),
        ({"classes": ("dog", "person")}, "person: classes of the inlier data are no anomalies"),
        ({"classes": ("gnome",)}, "has no class gnome; its classes"),
        ({"style": "wd-pascal", "classes": ("dog", "chair")}, "wd-pascal pastes bird, cat, .*, got chair"),
        ({"style": "wd-pascal", "per_frame": "2"}, "wd-pascal pastes one anomaly into a frame, got --per-frame 2"),
        ({"style": "collage"}, "--style: Input should be 'fishyscapes', 'cut-and-paste' or 'wd-pascal'"),
        ({"per_frame": "0+2"}, "--per-frame: expected LOW.HIGH"),
        ({"horizon": 40}, "--horizon: Input should be less than 1"),
        ({"count": 9}, "camvid has 4 frames, got --count 9"),
        ({"control_classes": ("unicorn",)}, "camvid has no class unicorn; its classes: sky"),
        ({"control": "no/where"}, "no folder no/where"),
    ],
)
def test_wrong_settings(build, tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("out", **settings)
    assert not list(tmp_path.glob("*out*")), "nothing is begun"


def test_objects_without_classes_are_no_animals(build, tmp_path: Path) -> None:
    (tmp_path / "cutouts").mkdir()
    layers = np.zeros((60, 60, 4), np.uint8)
    layers[5:55, 5:55] = 200
    Image.fromarray(layers).save(tmp_path / "cutouts/a.png")
    with pytest.raises(InputError, match="does not tell the classes of its objects"):
        build("out", objects=str(tmp_path / "cutouts"), style="wd-pascal")
    out = build("out", objects=str(tmp_path / "cutouts"))
    assert any(scene.has_anomaly for scene in open_scenes(f"x={out}"))


def test_nothing_fits(build, things, tmp_path: Path) -> None:
    folder = things([("dog", (0, 0, 139, 99))], name="large")
    with pytest.raises(InputError, match="nothing could be pasted into any of 4 frames: look whether any object"):
        build("out", objects=str(folder), style="wd-pascal")
    assert not list(tmp_path.glob("*out*"))


def test_controls_of_another_folder(build, scenes: SceneSet, things) -> None:
    folder = things([("car", (30, 30, 110, 70)), ("dog", (5, 5, 20, 20)), ("truck", (5, 75, 60, 95))], name="cars")
    out = build("out", control=str(folder))
    frames = json.loads((out / "manifest.json").read_text())["frames"]
    controls = [one for frame in frames for one in pasted_kinds(frame, "control")]
    assert {one["class"] for one in controls} == {"car"}, "CamVid knows no trucks"
    with pytest.raises(InputError, match="dog: no class of camvid; controls are of its own classes"):
        build("two", control=str(folder), control_classes=("dog",))
