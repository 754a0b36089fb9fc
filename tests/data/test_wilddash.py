"""WildDash 1 as it is unpacked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strays.data.base import DATASETS, Facts
from strays.data.opening import open_scenes, recognise
from strays.doctor import examine
from strays.taxonomy import CITYSCAPES

Save = Callable[..., Path]
Array = NDArray[np.uint8]


@pytest.fixture
def wild(
    tmp_path: Path, save: Save, photo: Array, stripes: Callable[..., Array], monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr(DATASETS["wilddash"], "facts", Facts({"val": 2}, frozenset({(8, 12)})))
    for name in ("cn0000", "us0043"):
        save(f"wd_val_01/{name}_100000.png", photo)
        save(f"wd_val_01/{name}_100000_labelIds.png", stripes(0, 7, 33))
        save(f"wd_val_01/{name}_100000_labelColor.png", photo)
    return tmp_path


@pytest.mark.parametrize("inside", [False, True])
def test_the_release(wild: Path, inside: bool) -> None:
    folder = wild / "wd_val_01" if inside else wild
    assert [claim.dataset for claim in recognise(folder)] == ["wilddash"]
    scenes = open_scenes(folder)
    assert (scenes.name, scenes.split, scenes.names) == ("wilddash", "val", ["cn0000", "us0043"])
    assert scenes.taxonomy == CITYSCAPES
    assert not scenes.has_masks
    labels = scenes[0].labels
    assert labels is not None
    assert labels[0, :3].tolist() == [255, 0, 18]


def test_the_doctor(wild: Path, photo: Array, save: Save) -> None:
    assert examine(wild).healthy
    (wild / "wd_val_01/us0043_100000_labelIds.png").unlink()
    found = [one.found for one in examine(f"wilddash={wild}").problems]
    assert found == ["an image without label map", "1 frames"]
