"""The rules of the three styles, frame by frame."""

from collections import Counter

import numpy as np
import pytest

from strays.building.pasted import make_paster, read_settings
from strays.data import read_image
from strays.errors import InputError
from strays.scene import Scene


def pasted_boxes(paste, scene: Scene, count: int) -> list[list[int]]:
    scenes = (Scene(scene.image, scene.labels, name=str(number)) for number in range(count))
    return [one["box"] for made in map(paste, scenes) for one in made.objects]


def test_wd_pascal_pastes_one_large_animal_as_it_is(scenes, scene, zoo) -> None:
    paste = make_paster(scenes, read_settings(style="wd-pascal", objects=str(zoo)))
    seen = Counter()
    for number in range(15):
        made = paste(Scene(scene.image, scene.labels, name=str(number)))
        (one,) = made.objects
        left, top, right, bottom = one["box"]
        where = np.zeros(scene.size, bool)
        where[top:bottom, left:right] = True  # its objects are boxes
        np.testing.assert_array_equal(made.mask == 1, where)
        assert set(np.unique(made.mask)) == {0, 1}, "what has no class counts too"
        np.testing.assert_array_equal(made.image[~where], scene.image[~where])
        content = read_image(one["image"])
        found = [
            (y, x)
            for y in range(100 - (bottom - top) + 1)
            for x in range(140 - (right - left) + 1)
            if (content[y, x] == made.image[top, left]).all()
            and (content[y : y + bottom - top, x : x + right - left] == made.image[top:bottom, left:right]).all()
        ]
        assert len(found) == 1, "it is there pixel by pixel, unscaled"
        assert where.sum() > 0.007 * where.size
        seen[one["class"]] += 1
    assert set(seen) == {"dog", "sheep"}


def test_wd_pascal_leaves_small_animals_out(scenes, scene, things) -> None:
    share = 0.007 * scene.labels.size  # 75.6 pixels
    folder = things([("dog", (10, 10, 18, 19))], [("dog", (10, 10, 19, 19))])  # 72 and 81
    paste = make_paster(scenes, read_settings(style="wd-pascal", objects=str(folder)))
    boxes = pasted_boxes(paste, scene, 12)
    assert len(boxes) == 12
    assert all((right - left) * (bottom - top) == 81 > share for left, top, right, bottom in boxes)


@pytest.mark.parametrize("style", ["wd-pascal", "cut-and-paste"])
def test_all_places_are_equally_likely(scenes, scene, things, style: str) -> None:
    folder = things([("dog", (0, 0, 118, 88))])  # three places by three in (90, 120)
    settings = read_settings(style=style, objects=f"objects:min_size=0={folder}")
    counts = Counter(tuple(box[:2]) for box in pasted_boxes(make_paster(scenes, settings), scene, 135))
    assert set(counts) == {(x, y) for x in range(3) for y in range(3)}
    chi_square = sum((count - 15) ** 2 / 15 for count in counts.values())
    assert chi_square < 26.1  # 0.1 % quantile of 8 degrees of freedom


def test_cut_and_paste_takes_all_objects_of_an_image(scenes, scene, zoo) -> None:
    paste = make_paster(scenes, read_settings(style="cut-and-paste", objects=f"objects:min_size=0={zoo}"))
    made = [paste(Scene(scene.image, scene.labels, name=str(number))) for number in range(25)]
    seen = {one["class"] for frame in made for one in frame.objects}
    assert seen == {"dog", "dog+sheep", "chair+dog"}
    assert not any("01.png" in one["image"] for frame in made for one in frame.objects), "it shows a person"
    assert made[0].mask[0, 0] in (1, 255)
    both = next(frame for frame in made if frame.objects[0]["class"] == "chair+dog")
    assert (both.mask == 1).sum() == 50 * 50 + 30 * 50


def test_fishyscapes_stands_things_on_the_road(scenes, zoo) -> None:
    paste = make_paster(scenes, read_settings(objects=str(zoo), shadow=0, per_frame="2"))
    made = [paste(scene) for scene in scenes]
    objects = [one for frame in made for one in frame.objects]
    assert Counter(one["kind"] for one in objects)["anomaly"] >= 6
    assert {one["class"] for one in objects if one["kind"] == "anomaly"} <= {"dog", "sheep", "chair"}
    assert {one["class"] for one in objects if one["kind"] == "control"} == {"car"}
    for frame, scene in zip(made, scenes, strict=True):
        assert (scene.labels == 255).any()
        assert (frame.mask[scene.labels == 255] == 255).all()
        changed = (frame.image != scene.image).any(-1)
        pasted = (frame.mask == 1) | frame.controls
        assert not (changed & ~pasted).any()
        assert changed[pasted].mean() > 0.9
        assert not ((frame.mask == 1) & frame.controls).any()
        for one in frame.objects:
            left, _, right, bottom = one["box"]
            assert (scene.labels[bottom - 3 : bottom - 1, left:right] == 3).mean() > 0.5
            assert one["frame" if one["kind"] == "control" else "image"] != scene.name


def test_a_frame_without_road_stays_as_it_is(scenes, scene, zoo) -> None:
    paste = make_paster(scenes, read_settings(objects=str(zoo)))
    made = paste(Scene(scene.image, np.zeros(scene.size, np.uint8), name="sky"))
    assert made.objects == ()
    np.testing.assert_array_equal(made.image, scene.image)


def test_anomalies_that_were_there_count_nowhere(scenes, scene, zoo) -> None:
    there = np.zeros(scene.size, np.uint8)
    there[:6, :6] = 1
    paste = make_paster(scenes, read_settings(objects=str(zoo)))
    made = paste(Scene(scene.image, scene.labels, there, name="a", outside=np.zeros(scene.size, bool)))
    assert (made.mask[:6, :6] == 255).all()


def test_a_scene_without_labels_is_refused(scenes, scene, zoo) -> None:
    paste = make_paster(scenes, read_settings(objects=str(zoo)))
    with pytest.raises(InputError, match="no labels, and fishyscapes stands things on the road"):
        paste(Scene(scene.image, name="bare"))
