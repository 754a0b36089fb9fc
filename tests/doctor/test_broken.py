"""Broken copies of data sets: for each the doctor names the fault and the fix."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from strays.data.base import DATASETS, Facts
from strays.doctor import Diagnosis, Problem, examine

Save = Callable[..., Path]
Array = NDArray[np.uint8]
FRAMES, SIZE = 6, (120, 160)


def scene(seed: int) -> tuple[Array, Array]:
    """A smooth picture with one bright box, and its mask: 1 on the box, 255 on the lowest rows."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(20, 90, SIZE[1])[None, :] + np.linspace(0, 60, SIZE[0])[:, None]
    picture = np.repeat((slope + rng.integers(0, 4, SIZE))[..., None], 3, axis=2).astype(np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    top, left = 8 + 14 * (seed % 3), 8 + 24 * seed
    mask[top : top + 24 + 3 * seed, left : left + 28] = 1
    mask[-20:] = 255
    picture[mask == 1] += 90
    return picture, mask


SCENES = [scene(seed) for seed in range(FRAMES)]
MASKS = np.stack([mask for _, mask in SCENES])
SHARES = {kind: float((value == MASKS).mean()) for kind, value in (("inlier", 0), ("anomaly", 1), ("ignore", 255))}


@pytest.fixture
def track(tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole copy of what RoadAnomaly21 is said to be here."""
    known = Facts({"val": FRAMES}, frozenset({SIZE}), frozenset({"PNG"}), {"val": SHARES})
    monkeypatch.setattr(DATASETS["smiyc-anomaly"], "facts", known)
    for number, (picture, mask) in enumerate(SCENES):
        save(f"track/images/{number}.png", picture)
        save(f"track/labels_masks/{number}.png", mask)
    return tmp_path / "track"


def rewrite(folder: Path, change: Callable[[Array], NDArray[np.generic]], masks: str = "labels_masks") -> None:
    """Save every mask of a folder again."""
    for number, mask in enumerate(MASKS):
        Image.fromarray(change(mask)).save(folder / masks / f"{number}.png")


def own(track: Path) -> Path:
    """Make somebody's own folder of a copy, too dissimilar from any public set to be one."""
    for part in ("images", "labels_masks"):
        (track / part / "0.png").unlink()
        (track / part / "1.png").unlink()
    (track / "labels_masks").rename(track / "masks")
    return track


def only(diagnosis: Diagnosis) -> Problem:
    assert len(diagnosis.problems) == 1, diagnosis.text()
    return diagnosis.problems[0]


def test_the_copy_is_right_before_it_is_broken(track: Path) -> None:
    diagnosis = examine(track)
    assert (diagnosis.dataset, diagnosis.healthy) == ("smiyc-anomaly", True), diagnosis.text()


def test_the_wrong_version(tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """Static of 2019 has an anomaly in every frame."""
    reader = DATASETS["fishyscapes-static"]
    known = Facts({"val": 3}, frozenset({SIZE}), without_anomaly={"val": 1}, version=reader.facts.version)
    monkeypatch.setattr(reader, "facts", known)
    for number in range(3):
        name = f"{number:04}_ulm_{number:06}_000019"
        save(f"cityscapes/leftImg8bit/val/ulm/{name[5:]}_leftImg8bit.png", SCENES[number][0])
        mask = save(f"fs/{name}_labels.png", MASKS[number])
        np.savez(mask.with_name(f"{name}_rgb.npz"), rgb=np.zeros((*SIZE, 3), np.int16))
    diagnosis = examine(tmp_path / "fs")
    assert diagnosis.evidence.endswith("0 without anomaly: version 1 or 2")
    problem = only(diagnosis)
    assert (problem.found, problem.expected) == ("another version: 0 frames without anomaly", "1")
    assert problem.fix.startswith("use version 3 (fs_val_v3.zip)")
    assert problem.fix.endswith("or say the version beside every number")
    save("fs/0002_ulm_000002_000019_labels.png", np.zeros(SIZE, np.uint8))
    diagnosis = examine(tmp_path / "fs")
    assert diagnosis.evidence.endswith("1 without anomaly: version 3")
    assert diagnosis.healthy, diagnosis.text()


def test_masks_of_two_frames_exchanged(track: Path) -> None:
    masks = track / "labels_masks"
    (masks / "1.png").rename(masks / "x")
    (masks / "4.png").rename(masks / "1.png")
    (masks / "x").rename(masks / "4.png")
    problems = examine(track).problems
    assert [Path(one.file).name for one in problems] == ["1.png", "4.png"]
    assert problems[0].found == f"a mask whose outlines fit 1.png badly; those of {masks / '4.png'} fit it well"
    assert problems[0].fix.startswith("if that is the mask of 1.png, exchange the files")


def test_all_masks_one_frame_late(track: Path, save: Save) -> None:
    for number in range(FRAMES):
        save(f"track/labels_masks/{number}.png", MASKS[number - 1])
    assert len(examine(track).problems) == FRAMES


def test_the_mask_of_another_frame_copied(track: Path) -> None:
    masks = track / "labels_masks"
    (masks / "2.png").write_bytes((masks / "5.png").read_bytes())
    problem = next(one for one in examine(f"smiyc-anomaly={track}").problems if one.file.endswith("2.png"))
    assert problem.found == f"the same mask as {masks / '5.png'}, which fits 5.png and not 2.png"
    assert problem.fix == "copy the original mask of this frame again"


def test_a_mask_of_another_size(track: Path, save: Save) -> None:
    save("track/labels_masks/2.png", np.zeros((60, 160), np.uint8))
    problems = examine(f"smiyc-anomaly={track}").problems
    (wrong,) = [one for one in problems if one.file.endswith("2.png")]
    assert wrong.found.startswith("anomaly mask of 160x60 for an image of 160x120")
    assert wrong.fix == "use the anomaly mask made for this image, maps are never resized here"


@pytest.mark.parametrize("name", ["smiyc-anomaly=", ""])
def test_missing_frames(track: Path, name: str) -> None:
    for part in ("images", "labels_masks"):
        (track / part / "3.png").unlink()
    problems = examine(f"{name}{track}").problems
    if name:
        assert any(one.found == "5 frames, number 3 missing" for one in problems)
        assert any(one.fix.startswith("complete it, or say beside every number") for one in problems)
    else:
        assert problems[0].found == "the masks of smiyc-anomaly with frames missing: number 3 of 6"
        assert problems[0].fix == "use the original files and name them smiyc-anomaly=PATH"


def test_masks_resized(track: Path) -> None:
    rewrite(track, lambda mask: mask[::2, ::2])
    problems = examine(track).problems
    small = [one for one in problems if "anomaly mask of 80x60 for an image of 160x120" in one.found]
    assert len(small) == FRAMES
    assert all("maps are never resized here" in one.fix for one in small)


def test_a_copy_resized(track: Path, save: Save) -> None:
    for number, (picture, mask) in enumerate(SCENES):
        save(f"track/images/{number}.png", picture[::2, ::2])
        save(f"track/labels_masks/{number}.png", mask[::2, ::2])
    problem = only(examine(f"smiyc-anomaly={track}"))
    assert (problem.found, problem.expected) == ("6 images of 80x60", "160x120")
    assert problem.fix == "use the original files: numbers of resized copies do not compare"
    assert only(examine(track)).found == "the masks of smiyc-anomaly in another size or format"


def test_masks_smoothly_resized(track: Path) -> None:
    def blurred(mask: Array) -> Array:
        bright = np.where(mask == 1, 128, mask).astype(np.uint8)
        small = Image.fromarray(bright).resize((80, 60), Image.Resampling.BILINEAR)
        return np.asarray(small.resize((160, 120), Image.Resampling.BILINEAR))

    rewrite(track, blurred)
    problems = [one for one in examine(f"smiyc-anomaly={track}").problems if one.file.endswith(".png")]
    assert len(problems) == FRAMES
    assert all("it was resized smoothly or saved as JPEG: use the original file" in one.fix for one in problems)


def exchanged(mask: Array) -> Array:
    return np.where(mask == 255, 255, 1 - np.minimum(mask, 1)).astype(np.uint8)


def test_inverted_masks(track: Path) -> None:
    rewrite(track, exchanged)
    problem = only(examine(f"smiyc-anomaly={track}"))
    assert problem.found.startswith("masks with inlier and anomaly exchanged")
    assert problem.fix == "save 1 for anomalies and 0 for inliers"
    unnamed = examine(track)
    assert unnamed.dataset == "folder"
    assert only(unnamed).found == "the masks of smiyc-anomaly with a mistake: masks with inlier and anomaly exchanged"


def test_inverted_masks_of_ones_own(track: Path) -> None:
    rewrite(track, exchanged)
    folder = own(track)
    problem = only(examine(folder))
    assert problem.found.endswith("% of all pixels anomalous: are inlier and anomaly exchanged?")
    assert problem.fix.startswith('then write {"values": {"inlier": [1], "anomaly": [0]}} into strays.json')
    (folder / "strays.json").write_text('{"values": {"inlier": [1], "anomaly": [0]}}')
    diagnosis = examine(folder)
    assert diagnosis.healthy, diagnosis.text()
    assert diagnosis.splits[0].mask["anomaly"] < 0.2
    (folder / "strays.json").write_text('{"values": {"inlier": [0], "anomaly": [1]}}')
    assert examine(folder).healthy


def test_one_folder_too_high_or_too_deep(track: Path) -> None:
    for wrong in (track.parent, track / "labels_masks"):
        problem = only(examine(wrong))
        assert problem.found == f"no known layout here, but smiyc-anomaly in {track}"
        assert problem.fix == f"point at {track}"
    inside = examine(track / "images")
    assert inside.dataset == "frames"
    assert inside.notes == (f"this is a part of smiyc-anomaly: point at {track} for its labels and splits",)


def test_one_folder_too_high_or_too_deep_of_ones_own(track: Path) -> None:
    folder = own(track)
    for wrong in (folder.parent, folder / "masks"):
        assert only(examine(wrong)).fix == f"point at {folder}"
    assert examine(folder / "images").notes == (f"this is a part of folder: point at {folder} for its masks",)


def test_a_tree_of_images_beside_coloured_label_maps_is_no_drive(tmp_path: Path, save: Save) -> None:
    frame = "ulm/ulm_000000_000019"
    save(f"set/leftImg8bit/val/{frame}_leftImg8bit.png", SCENES[0][0])
    save(f"set/gtFine/val/{frame}_gtFine_color.png", SCENES[0][0])
    save(f"set/gtFine/val/{frame}_gtFine_labelIds.png", np.full(SIZE, 7, np.uint8))
    assert only(examine(tmp_path)).fix == f"point at {tmp_path / 'set'}"


def changed(value: int, to: int) -> Callable[[Array], Array]:
    return lambda mask: np.where(mask == value, to, mask).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "found", "fix"),
    [
        (changed(255, 0), "masks with 0, inlier, for pixels to ignore", "save 255 for pixels to ignore"),
        (changed(255, 1), "masks with 1, anomaly, for pixels to ignore", "save 255 for pixels to ignore"),
        (changed(1, 255), "masks with 255 for anomalies, which means ignore here", "save 1 for anomalies"),
        (
            lambda mask: changed(1, 255)(changed(255, 0)(mask)),
            "masks with 255 for anomalies and 0 for pixels to ignore",
            "save 1 for anomalies, and save 255",
        ),
    ],
)
def test_void_mixed_up(track: Path, change: Callable[[Array], Array], found: str, fix: str) -> None:
    rewrite(track, change)
    problem = only(examine(f"smiyc-anomaly={track}"))
    assert problem.found.startswith(f"{found} (")
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize(("kind", "dtype", "raw"), [("TIFF", np.int32, -1), ("PNG", np.uint16, 65535)])
def test_minus_one_for_void(track: Path, kind: str, dtype: type[np.integer], raw: int) -> None:
    minus = np.where(MASKS[2] == 255, raw, MASKS[2].astype(dtype)).astype(dtype)
    Image.fromarray(minus).save(track / "labels_masks/2.png", format=kind)
    problems = examine(f"smiyc-anomaly={track}").problems
    (wrong,) = [one for one in problems if one.file.endswith("2.png")]
    assert f"value {raw} in a map" in wrong.found
    assert "save 255 in its place, as 8-bit PNG" in wrong.fix


def test_ignore_inlier_anomaly_as_zero_one_two(track: Path) -> None:
    rewrite(track, lambda mask: np.where(mask == 255, 0, mask + 1).astype(np.uint8))
    problems = examine(own(track)).problems
    assert all(one.found.startswith("undeclared value 2") for one in problems)
    assert '"inlier": [1], "anomaly": [2], "ignore": [0]' in problems[0].fix


def test_masks_saved_as_jpeg(track: Path) -> None:
    for number, mask in enumerate(MASKS):
        (track / f"labels_masks/{number}.png").unlink()
        Image.fromarray(mask).save(track / f"labels_masks/{number}.jpg", quality=85)
    problems = [one for one in examine(f"smiyc-anomaly={track}").problems if one.file.endswith(".jpg")]
    assert len(problems) == FRAMES
    assert all(one.found.startswith("an anomaly mask stored as JPEG, which changes its values") for one in problems)
    assert all(one.fix.startswith("use the original PNG file") for one in problems)
    assert any("stored as JPEG" in one.found for one in examine(track).problems)


def test_masks_that_were_jpeg_once(track: Path, tmp_path: Path) -> None:
    def through_jpeg(mask: Array) -> Array:
        Image.fromarray(mask).save(tmp_path / "x.jpg", quality=60)
        return np.asarray(Image.open(tmp_path / "x.jpg"))

    rewrite(track, through_jpeg)
    problems = [one for one in examine(f"smiyc-anomaly={track}").problems if one.file.endswith(".png")]
    assert len(problems) == FRAMES
    assert all("saved as JPEG: use the original file" in one.fix for one in problems)


def test_coloured_masks(track: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 102, 0]], np.uint8)
    rewrite(track, lambda mask: colours[(mask == 1).astype(int)])
    for spec in (track, f"smiyc-anomaly={track}"):
        problems = examine(spec).problems
        assert len(problems) == FRAMES
        assert all("expected one number per pixel, found colours (RGB)" in one.found for one in problems)
        assert all("name the maps of class numbers instead of the coloured ones" in one.fix for one in problems)


def test_255_for_anomalies_in_ones_own_masks(track: Path) -> None:
    rewrite(track, lambda mask: np.where(mask == 1, 255, 0).astype(np.uint8))
    problem = only(examine(own(track)))
    assert "hold 255 and not a single 1, and nobody declared what 255 means" in problem.found
    assert '{"values": {"anomaly": [255], "ignore": []}}' in problem.fix


def test_train_ids_that_are_label_ids(tmp_path: Path, save: Save) -> None:
    frame = "val/ulm/ulm_000000_000019"
    save(f"leftImg8bit/{frame}_leftImg8bit.png", SCENES[0][0])
    ids = np.where(MASKS[0] == 1, 26, 7).astype(np.uint8)
    path = save(f"gtFine/{frame}_gtFine_labelTrainIds.png", ids)
    (problem,) = [one for one in examine(f"cityscapes={tmp_path}").problems if one.file == str(path)]
    assert problem.fix == "labelTrainIds end at 18: these are labelIds, so call the file ..._labelIds.png"
