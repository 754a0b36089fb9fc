"""What a sweep over one data set has gathered so far, kept on disk so that a killed run goes on."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypedDict

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from strays.benchmark.measures import Gathering, Sight, State
from strays.errors import InputError
from strays.files import whole_file
from strays.scene import ANOMALY, INLIER
from strays.scoring.continuing import Pace, changes

__all__ = ["NETWORK", "FrameNotes", "Tally"]

Stamp = Sequence[int]
FrameNotes = dict[str, tuple[float | None, float | None]]
"""By detector: the median score of the anomaly pixels and the 99.9 % quantile of the inlier pixels of one frame."""


class _Facts(TypedDict):
    """What a stored tally holds beside its measures."""

    settings: dict[str, object]
    counted: dict[str, FrameNotes]
    left_out: list[str]
    stamps: dict[str, Stamp | None]
    milliseconds: list[dict[str, float]]


NETWORK = ""
"""Stands for the network where times are kept by detector."""


class Tally:
    """What was gathered so far, and which images went into it.

    Args:
        path: where it is kept.
        measures: what gathers, always in the same order.
        settings: everything that decides the numbers, ready for JSON; a stored tally with others is refused.
        stamps: by image what its files are recognised by; a stored tally that has counted others is refused.

    Attributes:
        milliseconds: by image what each detector took on top of the network, and under ``NETWORK`` the network itself.
    """

    def __init__(
        self,
        path: Path,
        measures: Iterable[Gathering],
        settings: Mapping[str, object],
        stamps: Mapping[str, Stamp] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self.measures = tuple(measures)
        self.settings = dict(settings)
        self.stamps = dict(stamps)
        self.counted: dict[str, FrameNotes] = {}
        self.left_out: list[str] = []
        self.unreadable: dict[str, str] = {}
        self.milliseconds: list[dict[str, float]] = []
        self._pace = Pace()

    def check(self) -> None:
        """Read from disk only what tells whether the tally there can be taken up.

        Raises:
            InputError: if it was gathered under other settings or from other files, or cannot be read.
        """
        if self.path.is_file():
            with self._stored() as stored:
                self._facts(stored)

    def restored(self) -> Self:
        """Take up what is on disk, if anything is, and return the tally itself; unreadable images are tried again.

        Raises:
            InputError: if it was gathered under other settings or from other files, or cannot be read.
        """
        if not self.path.is_file():
            return self
        with self._stored() as stored:
            facts = self._facts(stored)
            for index, measure in enumerate(self.measures):
                own = (key for key in stored.files if key.startswith(f"{index}/"))
                measure.restore({key.split("/", 1)[1]: stored[key] for key in own})
        self.counted, self.left_out = facts["counted"], facts["left_out"]
        self.milliseconds = facts["milliseconds"]
        return self

    def __contains__(self, name: object) -> bool:
        return name in self.counted or name in self.left_out or name in self.unreadable

    def __len__(self) -> int:
        return len(self.counted) + len(self.left_out) + len(self.unreadable)

    def count(self, name: str, sight: Sight) -> None:
        """Take in one image."""
        for measure in self.measures:
            measure.take(sight)
        self.counted[name] = {detector: _notes(values, sight.mask) for detector, values in sight.scores.items()}

    def save(self, now: bool = False) -> None:
        """Write the tally, whole or not at all: always ``now``, else as often as a tenth of the time allows."""
        if now or self._pace.due:
            with self._pace.saving():
                self._save()

    def _save(self) -> None:
        facts = {
            "settings": self.settings,
            "counted": self.counted,
            "left_out": self.left_out,
            "stamps": {name: self.stamps.get(name) for name in (*self.counted, *self.left_out)},
            "milliseconds": self.milliseconds,
        }
        arrays: State = {"facts": np.array(json.dumps(facts))}
        for index, measure in enumerate(self.measures):
            arrays |= {f"{index}/{key}": value for key, value in measure.state().items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        with whole_file(self.path) as stream:
            stream.write(buffer.getbuffer())

    @contextmanager
    def _stored(self) -> Iterator[NpzFile]:
        fix = "delete it to measure anew, or choose another --out"
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                yield stored
        except InputError:
            raise
        except Exception as error:  # a damaged archive ends in any of a dozen kinds
            raise InputError(f"{self.path} cannot be read ({type(error).__name__}: {error}): {fix}") from error

    def _facts(self, stored: NpzFile) -> _Facts:
        facts: _Facts = json.loads(str(stored["facts"]))
        fix = f"choose another --out, or delete {self.path.parent}"
        if changed := changes(facts["settings"], self.settings):
            raise InputError(f"{self.path.parent.parent} holds a benchmark with other settings ({changed}): {fix}")
        other = [name for name, stamp in facts["stamps"].items() if stamp != self.stamps.get(name)]
        if other:
            counted = f"{len(other)} images, {other[0]} first," if len(other) > 1 else f"the image {other[0]}"
            raise InputError(f"{self.path.parent.parent} has counted {counted} before the files changed: {fix}")
        return facts


_SAMPLED = 8
"""Every eighth pixel is enough to say which frames are worth showing."""


def _notes(scores: NDArray[np.float32], mask: NDArray[np.uint8]) -> tuple[float | None, float | None]:
    return _quantile(scores[mask == ANOMALY], 0.5), _quantile(scores[mask == INLIER][::_SAMPLED], 0.999)


def _quantile(values: NDArray[np.float32], level: float) -> float | None:
    return float(np.quantile(values, level)) if values.size else None
