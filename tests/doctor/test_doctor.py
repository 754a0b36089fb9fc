"""What the doctor says about sick and healthy folders."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.base import DATASETS, Facts
from strays.doctor import Diagnosis, examine
from strays.errors import InputError

Save = Callable[..., Path]
Array = NDArray[np.uint8]
Stripes = Callable[..., Array]


@pytest.fixture
def camvid(tmp_path: Path, save: Save, photo: Array, stripes: Stripes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of CamVid with two frames per split, which is what it is said to have here."""
    monkeypatch.setattr(DATASETS["camvid"], "facts", Facts({"train": 2, "val": 2, "test": 2}, frozenset({(8, 12)})))
    for split in ("train", "val", "test"):
        for index in range(2):
            save(f"camvid/{split}/images/{index}.jpg", photo)
            save(f"camvid/{split}/labels/{index}.png", stripes(*range(12)))
    return tmp_path / "camvid"


@pytest.fixture
def own(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> Path:
    """Four images with masks: a quarter anomalous, a quarter ignored, in all but the last."""
    for index in range(4):
        save(f"own/images/{index}.png", photo)
        save(f"own/masks/{index}.png", stripes(0, 1, 255, 0) if index < 3 else stripes(0))
    return tmp_path / "own"


def only(diagnosis: Diagnosis) -> str:
    assert len(diagnosis.problems) == 1, diagnosis.text()
    assert not diagnosis.healthy
    return str(diagnosis.problems[0])


def test_a_healthy_data_set(camvid: Path) -> None:
    steps: list[tuple[int, int]] = []
    diagnosis = examine(camvid, progress=lambda done, total: steps.append((done, total)))
    assert (diagnosis.dataset, diagnosis.title, diagnosis.healthy) == ("camvid", "CamVid", True)
    assert [(split.split, split.frames, split.expected, split.readable) for split in diagnosis.splits] == [
        ("train", 2, 2, 2),
        ("val", 2, 2, 2),
        ("test", 2, 2, 2),
    ]
    test = diagnosis.splits[2]
    assert (test.sizes, test.formats, test.mask) == ({"12x8": 2}, {"JPEG": 2}, {})
    assert len(test.labels) == 12
    assert all(share == pytest.approx(1 / 12) for share in test.labels.values())
    assert steps == [(done, 6) for done in range(1, 7)]
    assert "nothing is wrong" in diagnosis.text()
    assert diagnosis.frames == 6


def test_masks_in_shares(own: Path) -> None:
    diagnosis = examine(own)
    (split,) = diagnosis.splits
    assert diagnosis.dataset == "folder"
    assert split.mask == pytest.approx({"inlier": 0.625, "anomaly": 0.1875, "ignore": 0.1875})
    assert split.without_anomaly == 1
    assert diagnosis.healthy
    assert json.loads(json.dumps(diagnosis.as_dict()))["splits"][0]["mask"]["inlier"] == pytest.approx(0.625)


def test_broken_files_are_all_named_and_the_rest_is_counted(own: Path, save: Save, stripes: Stripes) -> None:
    images, masks = own / "images", own / "masks"
    (images / "0.png").write_text("not an image")
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:100])
    (masks / "1.png").write_bytes(b"")
    save("own/masks/2.png", stripes(0, 7))
    diagnosis = examine(f"folder={own}")
    assert [Path(problem.file).relative_to(own).as_posix() for problem in diagnosis.problems] == [
        "images/0.png",
        "images/1.png",
        "masks/1.png",
        "masks/2.png",
    ]
    text, cut, empty, seven = diagnosis.problems
    assert text.found.startswith("is text (it starts with 'not an image')")
    assert text.fix.startswith("remove it from the images")
    assert cut.found.startswith("is a damaged PNG image")
    assert empty.found.startswith("is an empty file")
    assert seven.found == "undeclared value 7 (48 pixels) in the anomaly mask"
    assert seven.expected == "0 inlier, 1 anomaly, 255 ignore"
    assert "strays.json" in seven.fix
    (split,) = diagnosis.splits
    assert (split.frames, split.readable) == (4, 1)
    assert split.sizes == {"12x8": 2}


def test_values_of_another_set(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save("images/0.jpg", photo)
    save("labels_masks/0.png", stripes(0, 2))
    diagnosis = examine(f"smiyc-anomaly={tmp_path}")
    assert any("open it as road-anomaly=PATH" in problem.fix for problem in diagnosis.problems)
    assert examine(tmp_path).dataset == "road-anomaly"


def test_missing_and_orphaned_masks(own: Path, save: Save, stripes: Stripes) -> None:
    (own / "masks" / "2.png").rename(own / "masks" / "two.png")
    diagnosis = examine(own)
    assert [(Path(one.file).name, one.found) for one in diagnosis.problems] == [
        ("2.png", "an image without anomaly mask"),
        ("two.png", "anomaly mask without an image"),
    ]
    assert diagnosis.frames == 3
    for index in range(40):
        save(f"own/masks/extra{index}.png", stripes(0))
    orphaned = [one for one in examine(own).problems if "without an image" in one.found]
    assert len(orphaned) == 21
    assert orphaned[-1].found.startswith("21 more of the same")


def test_resized_masks(own: Path, save: Save) -> None:
    save("own/masks/1.png", np.array([[0, 1]], np.uint8))
    assert "anomaly mask of 2x1 for an image of 12x8" in only(examine(own))


def test_exchanged_folders(own: Path) -> None:
    (own / "images").rename(own / "x")
    (own / "masks").rename(own / "images")
    (own / "x").rename(own / "masks")
    assert "images and maps are swapped: exchange the two folders" in only(examine(own))


def test_one_level_too_high_or_too_deep(camvid: Path) -> None:
    for wrong in (camvid.parent, camvid / "train"):
        diagnosis = examine(wrong)
        assert diagnosis.dataset is None
        assert f"point at {camvid}" in only(diagnosis)


def test_images_of_a_data_set_alone_are_frames_with_a_note(camvid: Path) -> None:
    diagnosis = examine(camvid / "train" / "images")
    assert (diagnosis.dataset, diagnosis.frames) == ("frames", 2)
    assert diagnosis.notes == (f"this is a part of camvid: point at {camvid} for its labels and splits",)


def test_incomplete_and_resized_copies(
    camvid: Path, monkeypatch: pytest.MonkeyPatch, save: Save, photo: Array, stripes: Stripes
) -> None:
    monkeypatch.setattr(DATASETS["camvid"], "facts", Facts({"train": 9, "val": 2, "test": 3}, frozenset({(16, 24)})))
    diagnosis = examine(camvid)
    texts = [str(problem) for problem in diagnosis.problems]
    assert any("(test): 2 frames, number 2 missing; expected 3; complete it" in text for text in texts)
    assert sum("2 images of 12x8; expected 24x16; use the original files" in text for text in texts) == 3
    assert not any("(train): 2 frames" in text for text in texts)  # of no consequence for evaluations
    assert "train: 2 of 9 frames" in diagnosis.text()


def test_a_resized_copy_of_a_public_set_is_noticed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"inlier": 0.625, "anomaly": 0.1875, "ignore": 0.1875}
    facts = Facts({"val": 4}, frozenset({(80, 120)}), shares={"val": shares})
    monkeypatch.setattr(DATASETS["fishyscapes-static"], "facts", facts)
    assert "the masks of fishyscapes-static in another size or format" in only(examine(own))


def test_masks_that_differ_from_the_known_release(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "masks").rename(own / "labels_masks")
    shares = {"inlier": 0.6, "anomaly": 0.2, "ignore": 0.2}
    monkeypatch.setattr(DATASETS["fishyscapes-static"], "facts", Facts({"val": 4}, shares={"val": shares}))
    message = only(examine(f"fishyscapes-static={own}"))
    assert "masks with 62.50 % inlier, 18.75 % anomaly, 18.75 % ignore; expected 60.00 % inlier" in message


def test_undeclared_255_is_a_question(own: Path, save: Save, stripes: Stripes) -> None:
    for index in range(4):
        save(f"own/masks/{index}.png", stripes(0, 255))
    diagnosis = examine(own)
    assert "nobody declared what 255 means; " in only(diagnosis)
    assert diagnosis.splits[0].mask["ignore"] == pytest.approx(0.5)


def test_notes(own: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    save("own/images/0.png", photo, kind="JPEG")
    for index in range(4):
        save(f"own/masks/{index}.png", stripes(0, 0))
    (own / "readme.txt").write_text("hello")
    notes = " / ".join(examine(own).notes)
    assert "1 images hold JPEG under another suffix" in notes
    assert "no mask holds an anomaly; average precision is undefined without any" in notes
    assert "files that are not read: 1 .txt" in notes


def test_one_image_alone(own: Path) -> None:
    assert examine(own / "images" / "0.png").healthy
    (own / "images" / "0.png").write_bytes(b"GIF89a")
    assert "is a GIF" in only(examine(own / "images" / "0.png"))


def test_nothing_to_examine(tmp_path: Path) -> None:
    assert "holds" not in only(examine(tmp_path))
    assert examine(tmp_path).dataset is None
    with pytest.raises(InputError, match="no file or folder"):
        examine(tmp_path / "none")
    with pytest.raises(InputError, match="synthetic scenes are rendered and have no files"):
        examine("synthetic=3")
    (tmp_path / "strays.json").write_text("{")
    assert "Invalid JSON" in only(examine(tmp_path))


def test_many_problems_are_cut_in_the_text(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> None:
    for index in range(30):
        save(f"images/{index}.png", photo)
        save(f"masks/{index}.png", stripes(0, 9))
    diagnosis = examine(f"folder={tmp_path}")
    assert len(diagnosis.problems) == 30
    assert "... and 10 more problems" in diagnosis.text()
