"""The frames that benchmarks want, and how deviations are said."""

import re

import pytest

from strays.data import DATASETS
from strays.deploy.formats import FORMATS
from strays.deploy.frame_list import Deviation, FrameList
from strays.deploy.smiyc_frames import ANOMALY_TEST, ANOMALY_VAL, OBSTACLE_TEST

SCENES = {"curvy-street", "one-way-street", "gravel", "greyasphalt", "motorway", "paving", "darkasphalt"}
"""Of ObstacleTrack-test in the benchmark's own code, with darkasphalt2."""

ERASING_20 = {
    "darkasphalt_axestump_2",
    "darkasphalt_boot_3",
    "darkasphalt_helmetO_1",
    "darkasphalt_watercanS_2",
    "darkasphalt2_dog_5",
    "gravel_bottle_4",
    "gravel_canister_4",
    "gravel_cans2_2",
    "gravel_helmetG_2",
    "gravel_log_3",
    "greyasphalt_cansA_1",
    "greyasphalt_cansB_2",
    "greyasphalt_bag_4",
    "greyasphalt_watercanB_4",
    "motorway_boot_6_and_bird",
    "motorway_bottles_k",
    "motorway_triangle_2",
    "motorway_stone_1",
    "paving_axe_2",
    "paving_axestump_2",
    "paving_bag_6",
    "paving_canister_4",
    "paving_wood_3",
}
"""Some of the frames that the benchmark's own code lists for one of its subsets."""


def test_the_anomaly_track_is_that_of_the_toolkit() -> None:
    assert len(ANOMALY_TEST) == DATASETS["smiyc-anomaly"].facts.frames["test"] == 100
    assert len(ANOMALY_VAL) == DATASETS["smiyc-anomaly"].facts.frames["val"] == 10
    animals = re.compile(
        r"(zebra|sheep|rhino|pig|lion|leopard|horse|goose|elephant|donkey|deer|cow|cock|camel|bear)\d{4}"
    )
    assert sum(animals.fullmatch(name) is not None for name in ANOMALY_TEST) == 59
    assert {"cow0013", "elephant0011", "boat_trailer0004", "carriage0000", "tent0000"} <= ANOMALY_TEST
    assert not {"cow0014", "tent0001", "validation0000"} & ANOMALY_TEST


def test_the_obstacle_track_is_that_of_the_toolkit() -> None:
    assert len(OBSTACLE_TEST) == DATASETS["smiyc-obstacle"].facts.frames["test"] == 327
    assert {name.partition("_")[0] for name in OBSTACLE_TEST} == SCENES | {"darkasphalt2"}
    assert len(ERASING_20) == 23
    assert ERASING_20 <= OBSTACLE_TEST


def test_every_track_is_a_data_set_with_those_splits() -> None:
    for kind in FORMATS.values():
        for track in kind.tracks:
            if track.dataset in DATASETS:
                assert set(track.splits) - {"all"} <= set(DATASETS[track.dataset].facts.frames)
    assert FORMATS["smiyc"].tracks[2].default_split == "test-no-known"


@pytest.mark.parametrize(
    ("frames", "found", "lost", "expected"),
    [
        (FrameList(frozenset("ab")), "ab", "", Deviation(2, 2)),
        (FrameList(frozenset("abc")), "bx", "", Deviation(2, 3, ("a", "c"), ("x",))),
        (FrameList(frozenset("a"), re.compile("[xy]")), "ay", "", Deviation(2, None)),
        (FrameList(others=re.compile("[abc]"), count=3), "ab", "cq", Deviation(2, 3, ("c",))),
    ],
)
def test_deviations(frames: FrameList, found: str, lost: str, expected: Deviation) -> None:
    assert frames.deviation(list(found), list(lost)) == expected


@pytest.mark.parametrize(
    ("deviation", "told", "complete"),
    [
        (Deviation(2, 2), "", True),
        (Deviation(5), "", True),
        (Deviation(2, 4, ("a", "b")), "missing frames (2 of 4): a, b", False),
        (Deviation(3, 2, (), ("x",)), "frames that are not in this split (1): x", True),
        (Deviation(4, 5), "expected 5 frames, found 4", False),
        (
            Deviation(2, 3, ("a", "c"), ("x",)),
            "missing frames (2 of 3): a, c; frames that are not in this split (1): x",
            False,
        ),
    ],
)
def test_deviations_in_words(deviation: Deviation, told: str, complete: bool) -> None:
    assert str(deviation) == told
    assert deviation.complete == complete
