"""One string for a data set: names, labels, paths, and what is said when it does not work out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.opening import open_scenes, parse_spec
from strays.errors import InputError

Save = Callable[..., Path]
Array = NDArray[np.uint8]
Stripes = Callable[..., Array]


@pytest.fixture
def camvid(tmp_path: Path, save: Save, photo: Array, stripes: Stripes) -> Path:
    save("sets/camvid/test/images/1.png", photo)
    save("sets/camvid/test/labels/1.png", stripes(0, 11))
    return tmp_path / "sets" / "camvid"


def test_name_label_path_and_string(camvid: Path) -> None:
    assert open_scenes(f"camvid={camvid}").name == "camvid"
    assert open_scenes(str(camvid)).name == "camvid"
    assert open_scenes(camvid).name == "camvid"
    mine = open_scenes(f"my drive={camvid}")
    assert (mine.name, mine.card.title) == ("my drive", "CamVid")


def test_a_path_may_hold_an_equals_sign(camvid: Path) -> None:
    odd = camvid.parent / "a=b"
    camvid.rename(odd)
    assert open_scenes(str(odd)).name == "camvid"
    assert open_scenes(f"camvid={odd}").name == "camvid"


def test_synthetic_needs_no_path() -> None:
    assert len(open_scenes("synthetic")) == 10
    test, train = open_scenes("synthetic=3"), open_scenes("synthetic=2", "train")
    assert (len(test), test.split, test.has_masks, test.has_labels) == (3, "test", True, True)
    assert not set(test.names) & set(train.names)
    assert test[1:].names == test.names[1:]
    assert test.taxonomy is not None
    for bad in ("synthetic=0", "synthetic=many"):
        with pytest.raises(InputError, match="expected synthetic=COUNT"):
            open_scenes(bad)
    with pytest.raises(InputError, match="synthetic has no split 'night'; splits there are: test, val, train"):
        open_scenes("synthetic", "night")


def test_one_level_too_high_or_too_deep(camvid: Path) -> None:
    with pytest.raises(InputError, match=rf"holds the folders camvid; point at {camvid}, which is camvid"):
        open_scenes(camvid.parent)
    with pytest.raises(InputError, match=rf"point at {camvid}, which is camvid"):
        open_scenes(camvid / "test")
    for other in (camvid.parent, camvid / "test", camvid / "test" / "images"):
        with pytest.raises(InputError, match=rf"no camvid data in .*; point at {camvid}: camvid={camvid}$"):
            open_scenes(f"camvid={other}")


def test_a_missing_path(camvid: Path) -> None:
    with pytest.raises(InputError, match=r"no file or folder .*camvit; did you mean .*camvid\?"):
        open_scenes(f"camvid={camvid.parent}/camvit")
    with pytest.raises(InputError, match="no file or folder"):
        open_scenes("no-such-name")
    for bad in ("=path", "name="):
        with pytest.raises(InputError, match="expected NAME=PATH or PATH"):
            parse_spec(bad)


def test_nothing_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        InputError, match=r"no known data set in .*, which holds 1 \.txt; name it as NAME=PATH with one of"
    ):
        open_scenes(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="which holds nothing; name it"):
        open_scenes(tmp_path / "empty")
    with pytest.raises(InputError, match="which holds one file"):
        open_scenes(tmp_path / "notes.txt")


def test_a_layout_with_other_content_says_what_it_is_like(
    tmp_path: Path, save: Save, photo: Array, stripes: Stripes
) -> None:
    save("images/0.png", photo)
    save("labels_masks/0.png", stripes(0, 7))
    with pytest.raises(
        InputError, match=rf"its layout is that of folder: `strays doctor {tmp_path}` says what is wrong"
    ):
        open_scenes(tmp_path)
