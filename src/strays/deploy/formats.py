"""What benchmarks ask for: which frames, under which names, as which numbers in which kind of file."""

import io
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from strays.data.fishyscapes_files import LOST_AND_FOUND_ID
from strays.data.lost_and_found import LostAndFound
from strays.data.smiyc import SmiycObstacle
from strays.deploy.frame_list import FrameList, Track
from strays.deploy.rounding import as_float16
from strays.deploy.smiyc_frames import ANOMALY_TEST, ANOMALY_VAL, OBSTACLE_TEST
from strays.errors import InputError
from strays.model import Model
from strays.scoring import Scored
from strays.taxonomy import CITYSCAPES, IGNORE, translation

__all__ = ["FORMATS", "Arrays", "Fishyscapes", "Parts", "SegmentMeIfYouCan", "SubmissionFormat"]

Arrays = dict[str, NDArray[np.generic]]
"""File name -> what the file holds."""


Parts = Mapping[str, Set[str]]
"""Data set -> its splits."""


class SubmissionFormat(ABC):
    """What one benchmark asks for.

    Attributes:
        name: what it is called in the manifest.
        title: the benchmark.
        suffix: what the score files end in.
        tracks: the data sets it hands out.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str]
    tracks: ClassVar[tuple[Track, ...]]

    def check(self) -> None:
        """Refuse now what writing would fail for.

        Raises:
            InputError: if a library that writes the files is not installed.
        """
        return

    @abstractmethod
    def folder(self, method: str, track: Track) -> PurePosixPath:
        """Return where the files of a track lie in the submission."""

    def key(self, frame: str) -> str:
        """Return what the files of a frame are called by."""
        return frame

    def classes(self, model: Model) -> NDArray[np.uint8] | None:
        """Return what is written for each class of a model, (256,) uint8; None where no classes are handed in.

        Raises:
            InputError: if the model knows none of the benchmark's classes.
        """
        return None

    @abstractmethod
    def arrays(self, key: str, scored: Scored, classes: NDArray[np.uint8] | None) -> Arrays:
        """Return the files of a frame.

        Args:
            key: what they are called by.
            scored: scores of one detector, and predicted classes.
            classes: what ``classes`` returned for the model.

        Raises:
            InputError: if the scores do not fit the kind of number.
        """

    @abstractmethod
    def encode(self, values: NDArray[np.generic]) -> bytes:
        """Return the content of a file."""

    @abstractmethod
    def decode(self, content: bytes) -> NDArray[np.generic]:
        """Return what a file holds.

        Raises:
            InputError: if it is damaged.
        """

    @abstractmethod
    def next_steps(self, out: Path, method: str, parts: Parts) -> list[str]:
        """Return what a person does with a submission that holds some data sets, by name, in some splits."""


class SegmentMeIfYouCan(SubmissionFormat):
    """One HDF5 file per frame: a data set ``value``, float16 (H, W), larger = more anomalous.

    The files are those that the benchmark's toolkit saves, under ``anomaly_p/METHOD/TRACK/FRAME.hdf5``. Both tracks go
    into one submission; Lost and Found, whose labels are public, is for the toolkit at home.

    Reference:
        Chan et al., "SegmentMeIfYouCan", NeurIPS Datasets and Benchmarks 2021; github.com/SegmentMeIfYouCan, the
        toolkit road-anomaly-benchmark.
    """

    name: ClassVar[str] = "smiyc"
    title: ClassVar[str] = "SegmentMeIfYouCan"
    suffix: ClassVar[str] = ".hdf5"
    tracks: ClassVar[tuple[Track, ...]] = (
        Track(
            "smiyc-anomaly",
            "AnomalyTrack-all",
            {
                "test": FrameList(ANOMALY_TEST),
                "val": FrameList(ANOMALY_VAL),
                "all": FrameList(ANOMALY_TEST | ANOMALY_VAL),
            },
        ),
        Track(
            "smiyc-obstacle",
            "ObstacleTrack-all",
            {
                "test": FrameList(OBSTACLE_TEST),
                "val": FrameList(others=re.compile("validation_.+"), count=SmiycObstacle.facts.frames["val"]),
                "all": FrameList(OBSTACLE_TEST, re.compile("(validation|snowstorm[12]|driveway)_.+")),
            },
        ),
        Track(
            "lost-and-found",
            "LostAndFound-test",
            {
                split: FrameList(others=LOST_AND_FOUND_ID, count=LostAndFound.facts.frames[split])
                for split in ("test-no-known", "test")
            },
        ),
    )

    def check(self) -> None:
        """Refuse to begin without h5py.

        Raises:
            InputError: if it is not installed.
        """
        if find_spec("h5py") is None:
            raise InputError(f"{self.title} asks for HDF5 files, which need h5py: pip install 'strays[submit]'")

    def folder(self, method: str, track: Track) -> PurePosixPath:
        """Return the folder where the toolkit looks for the scores of a method."""
        return PurePosixPath("anomaly_p", method, track.folder)

    def arrays(self, key: str, scored: Scored, classes: NDArray[np.uint8] | None) -> Arrays:
        """Return the scores as float16."""
        (score,) = scored.scores.values()
        return {f"{key}.hdf5": as_float16(score)}

    def encode(self, values: NDArray[np.generic]) -> bytes:
        """Return an HDF5 file with a compressed data set ``value``; the same scores always give the same bytes."""
        import h5py

        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            file.create_dataset("value", data=values, compression="gzip")
        return stream.getvalue()

    def decode(self, content: bytes) -> NDArray[np.generic]:
        """Return the data set ``value``."""
        import h5py

        try:
            with h5py.File(io.BytesIO(content), "r") as file:
                values: NDArray[np.generic] = file["value"][()]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"no HDF5 file with a data set 'value' ({error})") from error
        return values

    def next_steps(self, out: Path, method: str, parts: Parts) -> list[str]:
        """Return how the files are packed and where they go."""
        tracks, folder = [track.dataset for track in self.tracks[:2]], shlex.quote(str(out))
        if not any(one in parts for one in tracks):
            measure = f"DIR_OUTPUTS={folder} python -m road_anomaly_benchmark metric PixBinaryClass {method}"
            return [f"{measure} LostAndFound-testNoKnown, in the benchmark's toolkit, measures them"]
        steps = [f"the same command with --data {one}=PATH adds the other track" for one in tracks if one not in parts]
        if not any({"test", "all"} & parts.get(one, set()) for one in tracks):
            steps.append("the same command with --split test adds the frames that the leaderboard is about")
        elif not all("all" in parts.get(one, {"all"}) for one in tracks):
            steps.append("--split all adds snow, night and the frames with public masks, which the toolkit takes too")
        pack = f"cd {folder} && python -m zipfile -c {method}.zip anomaly_p"
        return [*steps, pack, f"hand {method}.zip in at Codabench: https://segmentmeifyoucan.com/submit has the link"]


class Fishyscapes(SubmissionFormat):
    """Two NumPy files per frame ``DDDD_*.png``: ``DDDD_anomaly.npy`` and ``DDDD_segmentation.npy``, both (H, W).

    Scores are float32, larger = more anomalous; classes are uint8, the 19 of Cityscapes and 19 for everything else. The
    benchmark runs a container that reads ``/input`` and writes ``/output``, as its test frames are hidden.

    Reference:
        Blum et al., "The Fishyscapes Benchmark", IJCV 2021; https://fishyscapes.com/submission.
    """

    name: ClassVar[str] = "fishyscapes"
    title: ClassVar[str] = "Fishyscapes"
    suffix: ClassVar[str] = ".npy"
    tracks: ClassVar[tuple[Track, ...]] = (
        Track("fishyscapes", "", {"test": FrameList(others=re.compile(r"\d{4}_.+"))}),
    )

    def folder(self, method: str, track: Track) -> PurePosixPath:
        """Return the folder of the submission itself."""
        return PurePosixPath()

    def key(self, frame: str) -> str:
        """Return the number of a frame, which is all that its files are called by."""
        return frame[:4]

    def classes(self, model: Model) -> NDArray[np.uint8] | None:
        """Return the train ids of Cityscapes; 19 for what they have not."""
        table = translation(model.taxonomy, CITYSCAPES)
        if (table == IGNORE).all():
            raise InputError(
                f"{self.title} asks for classes of Cityscapes, and {model.name} ({model.taxonomy.name}) has none of "
                "them: name its classes with --taxonomy"
            )
        return np.minimum(table, np.uint8(len(CITYSCAPES)))

    def arrays(self, key: str, scored: Scored, classes: NDArray[np.uint8] | None) -> Arrays:
        """Return scores as float32 and classes as uint8."""
        (score,) = scored.scores.values()
        labels = scored.labels if classes is None else classes[scored.labels]
        return {f"{key}_anomaly.npy": score, f"{key}_segmentation.npy": labels}

    def encode(self, values: NDArray[np.generic]) -> bytes:
        """Return a NumPy file."""
        stream = io.BytesIO()
        np.save(stream, values, allow_pickle=False)
        return stream.getvalue()

    def decode(self, content: bytes) -> NDArray[np.generic]:
        """Return the array of a NumPy file."""
        try:
            values: NDArray[np.generic] = np.load(io.BytesIO(content), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"no NumPy array ({error})") from error
        return values

    def next_steps(self, out: Path, method: str, parts: Parts) -> list[str]:
        """Return what the files are for, and how things stand with the benchmark."""
        return [
            "Fishyscapes runs your container: let it call this command with --data fishyscapes=/input --out /output",
            "https://fishyscapes.com/submission says how; ask first, as the form was closed in February 2026",
        ]


FORMATS: Mapping[str, SubmissionFormat] = MappingProxyType(
    {one.name: one for one in (SegmentMeIfYouCan(), Fishyscapes())}
)
"""Every known format by name."""
