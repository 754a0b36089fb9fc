"""SegmentMeIfYouCan: the labelled and the hidden frames of its anomaly track and of its obstacle track."""

from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import Facts, Frame, FrameSet, Recognition, register_dataset
from strays.data.images import probe_image
from strays.data.layout import PairLayout, Pairs
from strays.data.paired import MaskedReader
from strays.data.sources import image_files
from strays.data.values import MaskMap
from strays.errors import InputError

__all__ = ["SmiycAnomaly", "SmiycObstacle"]

_PAPER = "SegmentMeIfYouCan: A Benchmark for Anomaly Segmentation"
_URL = "https://segmentmeifyoucan.com"
_VAL, _TEST = "val", "test"
_OFFICIAL = PairLayout("images", "labels_masks", map_ending="_labels_semantic")
_REPACKED = PairLayout("images", "labels_masks")
_VALUES = MaskMap(hints={2: "RoadAnomaly of 2019 marks anomalies with 2: open it as road-anomaly=PATH"})


class _Track(MaskedReader):
    """What both tracks share: labelled frames (``val``), and in the official release test frames without masks."""

    default_split: ClassVar[str | None] = _VAL
    mask_map: ClassVar[MaskMap] = _VALUES
    layouts: ClassVar[tuple[str, ...]] = (
        "images/N.* with labels_masks/N.png",
        "images/validation*.* with labels_masks/validation*_labels_semantic.png",
        "images/SCENE_*.* without masks (the split test)",
    )

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the labelled frames; of the official release those that the validation protocol names."""
        if split == _TEST:
            return None
        official = _OFFICIAL.find(folder)
        if official is None or not official.matched:
            return _REPACKED.find(folder)
        unlabelled = tuple(path for path in official.unlabelled if cls.is_validation(path.stem))
        return Pairs(official.where(cls.is_validation).matched, unlabelled, official.orphans)

    @classmethod
    def is_validation(cls, name: str) -> bool:
        """Return whether a frame of the official release belongs to the labelled validation frames."""
        return name.startswith("validation")

    @classmethod
    def is_test(cls, name: str) -> bool:
        """Return whether a frame of the official release belongs to the hidden test frames."""
        return not name.startswith("validation")

    @classmethod
    def open(cls, folder: Path, split: str | None = None) -> FrameSet:
        """Return the labelled frames, or the test frames, which have no masks: their scores are handed in.

        Raises:
            InputError: if the folder has another layout, or there is no such split.
        """
        if split != _TEST:
            return super().open(folder, split)
        frames = cls._test_frames(folder)
        if not frames:
            raise InputError(f"no test frames of {cls.name} in {folder}; expected images/SCENE_*.* as {_URL} has them")
        return cls.scenes(cls.name, cls.card, frames, split=_TEST)

    @classmethod
    def splits(cls, folder: Path) -> tuple[str | None, ...]:
        """Return the splits that are present; only the official release has test frames, copies may lack masks."""
        labelled = tuple(split for split in super().splits(folder) if split != _TEST)
        official = _OFFICIAL.find(folder)
        has_test = official is not None and bool(official.matched) and bool(cls._test_frames(folder))
        return (*labelled, _TEST) if has_test else labelled

    @classmethod
    def _test_frames(cls, folder: Path) -> list[Frame]:
        images, copied = folder / "images", _REPACKED.find(folder)
        found = image_files(images, recursive=False) if images.is_dir() and not (copied and copied.matched) else ()
        return [Frame(path.stem, path) for path in found if cls.is_test(path.stem)]

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim on the official names with this track's image format, or on a copy by its content."""
        official = _OFFICIAL.find(folder)
        pairs = None if official is None else official.where(cls.is_validation)
        if pairs is None or not pairs.matched:
            return super().recognise(folder)
        try:
            kind = probe_image(next(iter(pairs.matched.values()))[0]).format
        except InputError:
            return None
        evidence = f"{cls.layouts[1]}, {len(pairs.matched)} {kind} images"
        return Recognition(cls.name, evidence) if kind in cls.facts.formats else None


@register_dataset("smiyc-anomaly")
class SmiycAnomaly(_Track):
    """RoadAnomaly21, the anomaly track: the 10 labelled frames, and the 100 of the test without masks.

    Reads the official ``dataset_AnomalyTrack``, and copies of the labelled frames with ``images/N`` and
    ``labels_masks/N.png``.

    Reference:
        Chan et al., "SegmentMeIfYouCan", NeurIPS Datasets and Benchmarks 2021.
    """

    card: ClassVar[Card] = Card(
        title="RoadAnomaly21",
        track="anomaly-track",
        summary="Web images with unusual objects anywhere; 10 labelled frames, 100 more are a hidden test.",
        paper=_PAPER,
        year=2021,
        url=_URL,
        status="read from real files, re-packed; the official layout from miniatures",
        licence="the images keep their owners' licences, for research",
        notes="0 inlier, 1 anomaly, 255 ignore; download dataset_AnomalyTrack from the website. Published are AP and "
        "FPR95 over all pixels and the component metrics sIoU, PPV and F1*; the leaderboard is that of the test "
        "frames, whose scores are handed in",
    )
    facts: ClassVar[Facts] = Facts(
        frames={_VAL: 10, _TEST: 100},
        sizes=frozenset({(720, 1280), (1024, 2048)}),
        formats=frozenset({"JPEG"}),
        shares={_VAL: {"inlier": 0.82227, "anomaly": 0.14291, "ignore": 0.03482}},
    )


@register_dataset("smiyc-obstacle")
class SmiycObstacle(_Track):
    """RoadObstacle21, the obstacle track: the 30 labelled frames, and the 327 of the test without masks.

    Reads the official ``dataset_ObstacleTrack``, and copies of the labelled frames with ``images/N`` and
    ``labels_masks/N.png``. The region of interest is the road; all else is ignored. The test are the eight scenes of
    daylight without snow.

    Reference:
        Chan et al., "SegmentMeIfYouCan", NeurIPS Datasets and Benchmarks 2021.
    """

    card: ClassVar[Card] = Card(
        title="RoadObstacle21",
        track="obstacle-track",
        summary="Obstacles on roads of many surfaces; 30 labelled frames, 327 more are a hidden test.",
        paper=_PAPER,
        year=2021,
        url=_URL,
        status="read from real files, re-packed; the official layout from miniatures",
        licence="CC BY 4.0",
        notes="0 road, 1 obstacle, 255 outside the road; download dataset_ObstacleTrack from the website. Published "
        "are AP and FPR95 over all pixels and the component metrics sIoU, PPV and F1*; the leaderboard is that of the "
        "test frames, whose scores are handed in",
    )
    facts: ClassVar[Facts] = Facts(
        frames={_VAL: 30, _TEST: 327},
        sizes=frozenset({(1080, 1920)}),
        formats=frozenset({"WEBP"}),
        shares={_VAL: {"inlier": 0.30713, "anomaly": 0.00209, "ignore": 0.69078}},
    )

    _TEST_SCENES: ClassVar[frozenset[str]] = frozenset(
        {
            "curvy-street",
            "one-way-street",
            "gravel",
            "greyasphalt",
            "motorway",
            "paving",
            "darkasphalt",
            "darkasphalt2",
        }
    )
    _EXCLUDED: ClassVar[tuple[str, ...]] = tuple(f"validation_{number}" for number in (19, *range(21, 30)))

    @classmethod
    def is_validation(cls, name: str) -> bool:
        """Return whether a frame is one of the 30 of the validation protocol, which leaves ten prefixes out."""
        return name.startswith("validation") and not name.startswith(cls._EXCLUDED)

    @classmethod
    def is_test(cls, name: str) -> bool:
        """Return whether a frame belongs to the eight scenes of the test; snow and night are evaluated apart."""
        return name.partition("_")[0] in cls._TEST_SCENES
